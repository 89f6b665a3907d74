"""Makes `entries` and `search_files` importable: by the tests beside it, and by the processes that
they start."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
