"""The same data sets, and settings that no machine can bear, each in a process of its own."""

import json
import re
import subprocess
import sys
import time

import pytest
from malformed_run import TABLES, snapshot

# A small process, because a child's peak begins with that of the one it was forked from
KEEPER = """
import json, os, subprocess, sys, time
COMMAND = '''
import atexit, os, sys
atexit.register(lambda: os.write(1, b"torch was imported") if "torch" in sys.modules else None)
from dltrain.__main__ import main
main()
'''
for line in sys.stdin:
    job = json.loads(line)
    files = [open(job["streams"] + "." + name, "w+") for name in ("out", "err")]
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *job["argv"]], cwd=job["cwd"], stdout=files[0],
        stderr=files[1], stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    for file in files: file.seek(0)
    answer = {"code": process.returncode, "peak_mb": usage.ru_maxrss / 1024,
              "seconds": time.monotonic() - began, "out": files[0].read(), "err": files[1].read()}
    for file in files: file.close()
    print(json.dumps(answer), flush=True)
"""
# What is asked for beside the data set, and what is said of it
TOO_MUCH = r"GiB of memory; this machine has|it must be|must be a whole number"
SETTINGS = {
    "dataset=synthetic dataset.num_samples=1000000000000": TOO_MUCH,
    "dataset=synthetic dataset.num_samples=1000000000": TOO_MUCH,
    "dataset=synthetic dataset.num_val=1000000000000": TOO_MUCH,
    "dataset=synthetic dataset.num_test=9223372036854775807": TOO_MUCH,
    "dataset=synthetic dataset.image_shape=[1000000,1000000,1000000]": TOO_MUCH,
    "dataset=synthetic dataset.image_shape=[3,100000,100000]": TOO_MUCH,
    "dataset=synthetic dataset.image_shape=[1000000000000]": TOO_MUCH,
    "dataset=synthetic dataset.num_classes=1000000000000": TOO_MUCH,
    "dataset=synthetic dataset.num_classes=900000 dataset.image_shape=[3,224,224]": TOO_MUCH,
    "dataset=circles dataset.num_samples=1000000000000": TOO_MUCH,
    "dataset=circles dataset.num_samples=900000000": TOO_MUCH,
    "dataset=circles dataset.num_test=1000000000000": TOO_MUCH,
    """dataset=mnist 'dataset.root="~nobody_of_that_name/data"'""": "~nobody_of_that_name/data",
    """dataset=mnist 'dataset.root="~/no/such/data"'""": r"looked in /.*/no/such/data/MNIST/raw",
    """dataset=cifar10 'dataset.root="$HOME/data"'""": r"looked in .*\$HOME/data",
    """dataset=svhn 'dataset.root="données/数据"'""": "looked in .*données/数据",
    """dataset=mnist 'dataset.root=""'""": "dataset.root is empty|looked in",
    f"dataset=cifar100 dataset.root={'a' * 300}": "a{200}.*: File name too long; expected a",
    f"dataset=mnist dataset.root={'a/' * 3000}": r"(a/){90}.*: File name too long; expected a",
    "dataset=kmnist dataset.root=/proc/self/fd": "looked in /proc/self/fd",
    "dataset=cifar10 dataset.root=/dev/null": "/dev/null: it is a device; expected a folder",
}


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """A function: `dltrain train ...` in a fresh process and an empty folder."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    keeper = subprocess.Popen([sys.executable, "-c", KEEPER], **pipes)

    def run(*argv: str) -> dict:
        folder = tmp_path_factory.mktemp("empty")
        streams = str(tmp_path_factory.mktemp("streams") / "of")
        every = ["train", "model=linear", "trainer.max_steps=2", *argv]
        job = {"argv": every, "cwd": str(folder), "streams": streams}
        keeper.stdin.write(json.dumps(job) + "\n")
        keeper.stdin.flush()
        return json.loads(keeper.stdout.readline()) | {"left": sorted(map(str, folder.iterdir()))}

    yield run
    keeper.stdin.close()
    keeper.wait()
    keeper.stdout.close()


def complaints(outcome: dict, found: str, at: str) -> list[str]:
    """What a refusal must be and this one is not."""
    lines = outcome["err"].splitlines()
    promises = {
        f"exit code {outcome['code']}, not 2": outcome["code"] == 2,
        f"{len(lines)} lines": 1 <= len(lines) <= 6,
        "another beginning": outcome["err"].startswith("dltrain: error: "),
        "a traceback": "Traceback" not in outcome["err"],
        f"something on stdout: {outcome['out']}": not outcome["out"],
        f"a folder that holds {outcome['left']}": not outcome["left"],
        "no path": at in outcome["err"],
        f"not {found}": re.search(found, outcome["err"]) is not None,
        f"a line of {max(map(len, lines), default=0)} characters": all(len(x) < 800 for x in lines),
        f"{outcome['peak_mb']:.0f} MB": outcome["peak_mb"] < 256,
        f"{outcome['seconds']:.0f} seconds": outcome["seconds"] < 30,
    }
    return [complaint for complaint, kept in promises.items() if not kept]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("table", TABLES)
def test_every_malformed_set_is_refused_by_the_command(tmp_path, command, table):
    failed, peaks, began = {}, [], time.monotonic()
    for number, (name, case) in enumerate(TABLES[table].items()):
        root = tmp_path / str(number)
        case.make(root)
        before = snapshot(root)
        outcome = command(f"dataset={case.dataset}", f"dataset.root={root}", "dataset.num_val=5")
        peaks.append(outcome["peak_mb"])
        wrong = complaints(outcome, case.found, str(root / case.at))
        if snapshot(root) != before:
            wrong.append("data that were changed")
        if wrong:
            failed[name] = (wrong, outcome["err"])
    seconds = time.monotonic() - began
    print(
        f"\n{table}: {len(peaks)} malformed data sets, {len(failed)} not refused as they should, "
    )
    print(f"at most {max(peaks):.0f} MB, {seconds / len(peaks):.2f} s each")
    assert not failed, json.dumps(failed, indent=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_impossible_setting_is_refused_by_the_command(command):
    import shlex

    outcomes = {typed: command(*shlex.split(typed)) for typed in SETTINGS}
    failed = {
        typed: (wrong, outcome["err"])
        for typed, outcome in outcomes.items()
        if (wrong := complaints(outcome, SETTINGS[typed], ""))
    }
    print(f"\n{len(SETTINGS)} impossible settings, {len(failed)} not refused as they should")
    assert not failed, json.dumps(failed, indent=1)
