"""Trains as `dltrain train` does, for people who run scripts: python scripts/train.py model=cnn"""

import sys

from dltrain.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
