"""How the process ends."""

import subprocess
import sys

PROGRAM = """
import atexit, sys, types
from concurrent.futures import ThreadPoolExecutor
sys.modules["torch"] = types.ModuleType("torch")
pool = ThreadPoolExecutor()
pool.submit(int).result()
atexit.register(print, "at exit", flush=True)
sys.argv = ["dltrain", "nope"]
from dltrain.__main__ import main
main()
"""


def test_idle_threads_of_an_executor_do_not_keep_it_alive():
    """torch.compile leaves some behind where it has compiled something new."""
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, "at exit\n")
