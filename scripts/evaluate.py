"""Evaluates as `dltrain evaluate` does, for who runs scripts: python scripts/evaluate.py RUN"""

import sys

from dltrain.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "evaluate")
    main()
