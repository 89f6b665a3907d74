"""What a run left behind, and what it was like while it ran, for the tests of these commands."""

import json
import time
from collections import Counter

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event

from dltrain.loggers.events import event_files, read_records

TIMES = ("time", "samples_per_sec", "data_share")


def newest_step(run_dir):
    steps = [int(path.name[5:]) for path in run_dir.glob("checkpoints/step-*")]
    return max(steps, default=0)


def wait_for_step(process, run_dir, step):
    """Until a checkpoint of `step` or later is there; False if the run is over before."""
    while process.poll() is None:
        if newest_step(run_dir) >= step:
            return True
        time.sleep(0.002)
    return False


def metrics(run_dir):
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def results(sweep):
    """Of each run of a sweep what it came to: every row, its best weights and its newest ones."""
    found = {}
    for run in sorted(path.parent for path in sweep.glob("*/run.json")):
        newest = run / "checkpoints" / f"step-{newest_step(run):08}"
        weights = [folder / "model.safetensors" for folder in (run, newest)]
        found[run.name] = metrics(run), [path.read_bytes() for path in weights if path.exists()]
    return found


def points(run_dir):
    """(tag, step) -> value, of all scalars in all event files, as they lie on the disk."""
    found = Counter()
    values = {}
    for path in event_files(run_dir):
        for _, data in read_records(path):
            event = Event.FromString(data)
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    found[value.tag, event.step] += 1
                    values[value.tag, event.step] = value.simple_value
    assert set(found.values()) == {1}, "doubled points"
    return {key: value for key, value in values.items() if not key[0].startswith("time/")}


def curves(run_dir):
    """The same, as TensorBoard shows them."""
    accumulator = EventAccumulator(str(run_dir), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        (tag, scalar.step): scalar.value
        for tag in accumulator.Tags()["scalars"]
        for scalar in accumulator.Scalars(tag)
        if not tag.startswith("time/")
    }


def assert_same(run_dir, reference):
    weights = [(folder / "model.safetensors").read_bytes() for folder in (run_dir, reference)]
    assert weights[0] == weights[1]
    assert metrics(run_dir) == metrics(reference)
    assert points(run_dir) == points(reference) == curves(run_dir)
    checkpoints = [
        {p.relative_to(f): p.read_bytes() for p in f.glob("checkpoints/step-*/model.safetensors")}
        for f in (run_dir, reference)
    ]
    assert checkpoints[0] == checkpoints[1]
    summaries = [json.loads((f / "summary.json").read_text()) for f in (run_dir, reference)]
    for name in ("status", "step", "epoch", "best", "last", "test", "num_parameters"):
        assert summaries[0][name] == summaries[1][name], name


def summary_of(run_dir):
    return json.loads((run_dir / "summary.json").read_text())
