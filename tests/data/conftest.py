"""Lets the tests of this folder import `data_files`, which writes the published formats."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # pytest's importlib mode leaves that to us
