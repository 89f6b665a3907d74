"""Compares as `dltrain compare` does, for people who run scripts: python scripts/compare.py PATH"""

import sys

from dltrain.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "compare")
    main()
