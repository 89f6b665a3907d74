"""A trace and a table of the steps that were asked for, also where the run is shorter."""

import gzip
import json

import pytest

from dltrain.callbacks.profiler import Profiler


def profile(run, num_steps):
    profiler = Profiler(wait=2, warmup=1, active=3)
    profiler.on_fit_start(run)
    run.train(profiler, num_steps)
    profiler.on_fit_end(run)
    return sorted(path.name for path in run.run_dir.glob("profile/*"))


@pytest.mark.parametrize(
    ("num_steps", "recorded"),
    [(0, None), (2, None), (3, None), (4, "4-4"), (6, "4-6"), (20, "4-6")],
)
def test_it_records_the_steps_there_are(run, num_steps, recorded):
    expected = [f"steps-{recorded}.json.gz", f"steps-{recorded}.txt"] if recorded else []
    assert profile(run, num_steps) == expected


def test_trace_and_table_hold_the_operations_of_those_steps(run):
    profile(run, 6)
    folder = run.run_dir / "profile"
    trace = gzip.decompress((folder / "steps-4-6.json.gz").read_bytes())
    events = json.loads(trace)["traceEvents"]
    names = [event.get("name") for event in events]
    assert names.count("aten::batch_norm") == 3
    assert "aten::native_batch_norm" in (folder / "steps-4-6.txt").read_text()


def test_it_ends_itself(run):
    profiler = Profiler(wait=0, warmup=1, active=1)
    profiler.on_fit_start(run)
    run.train(profiler, 2)
    assert profiler._profile is None
    run.train(profiler, 5)


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="active is 0; it must be >= 1"):
        Profiler(wait=0, warmup=0, active=0)
    with pytest.raises(ValueError, match="wait is -1; it must be >= 0"):
        Profiler(wait=-1, warmup=0, active=1)
