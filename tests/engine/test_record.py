"""Each row goes everywhere once, also where a run was killed on its way."""

from types import SimpleNamespace

from dltrain.engine.record import Recorder
from dltrain.runs import MetricsLog


class Kept:
    def __init__(self):
        self.rows = []

    def log_scalars(self, step, scalars, wall_time):
        self.rows.append((step, scalars, wall_time))

    def log_again(self, rows):
        self.rows += rows


def test_what_was_logged_is_logged_again_to_those_that_may_not_have_it(tmp_path):
    log, first, second = MetricsLog(tmp_path / "metrics.jsonl"), Kept(), Kept()
    log.open()
    recorder = Recorder(log, {"kept": first})
    for step in (1, 2):
        trainer = SimpleNamespace(step=step, epoch=1)
        recorder.row(trainer, "train", {"loss": 0.5 / step}, lr=0.1, samples_per_sec=7.0)
    recorder.row(trainer, "val", {"loss": float("nan"), "accuracy": 0.25})
    offset = log.offset()
    recorder.row(SimpleNamespace(step=3, epoch=2), "train", {"loss": 0.1})
    log.file.write(b'[1]\n{"step": -1, "split": "x"}\n{"torn')
    log.close()
    log.open(offset)
    Recorder(log, {"kept": second, "other": object()}).log_again()
    step, scalars, time = first.rows[2]
    assert scalars.pop("loss/val") != 0.25  # a NaN is null in JSON, and no number
    assert second.rows == [*first.rows[:2], (step, scalars, time)]
    log.append({"step": 3})
    log.close()
    assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b'{"step": 3}\n')
