"""TensorBoard sees the selected runs and nothing else, and leaves nothing behind."""

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from dltrain.compare import tensorboard
from dltrain.compare.find import find_runs
from dltrain.compare.tensorboard import link_events, projected, serve
from dltrain.errors import UserError
from dltrain.loggers.projector import write_projector

EVENTS = "events.out.tfevents.1.host.1.0"


@pytest.fixture
def found(sweep):
    for run in sweep.iterdir():
        (run / EVENTS).write_bytes(b"events")
        (run / "below").mkdir()
        (run / "below" / EVENTS.replace(".1.", ".2.")).write_bytes(b"another's")
    return find_runs([str(sweep)])


def test_exactly_the_events_of_these_runs_are_linked(found, tmp_path):
    secret = found[1].path / "events.out.tfevents.2.host.1.0"
    secret.symlink_to("/etc/passwd")
    assert link_events(found[:2], tmp_path / "logdir") == 2
    links = [p for p in (tmp_path / "logdir").rglob("*") if p.is_symlink()]
    assert {str(p.parent.relative_to(tmp_path / "logdir")) for p in links} == {
        run.name for run in found[:2]
    }
    assert sorted(os.readlink(p) for p in links) == [str(r.path / EVENTS) for r in found[:2]]


def test_the_projector_is_linked_and_no_link_is_followed(found, tmp_path):
    first, second = found[0].path, found[1].path
    vectors = np.zeros((2, 3), np.float32)
    write_projector(first, vectors, ["a", "b"], None)
    (first / "projector" / "secret").symlink_to("/etc/passwd")
    (second / "projector").symlink_to(first / "projector")
    link_events(found[:2], tmp_path / "logdir")
    place = tmp_path / "logdir" / found[0].name
    config = (place / "projector_config.pbtxt").read_text()
    for line in config.splitlines():
        if "_path" in line:
            assert (place / line.split('"')[1]).read_bytes(), "named from where the config lies"
    assert not (place / "projector" / "secret").is_symlink()
    assert not (tmp_path / "logdir" / found[1].name / "projector").exists()


@pytest.mark.parametrize("line", [
    '  metadata_path: "/etc/passwd"', "  metadata_path: '/etc/passwd'", '  x_path: "projector/a.b"',
    '  metadata_path: "projector/../../x"', '  metadata_path: "a" metadata_path: "/etc/passwd"',
])  # fmt: skip
def test_a_projector_that_names_other_files_is_not_shown(found, tmp_path, line):
    run = found[0].path
    write_projector(run, np.zeros((2, 3), np.float32), ["a", "b"], np.zeros((2, 4, 4, 1), np.uint8))
    assert len(projected(run)) == 4
    with open(run / "projector_config.pbtxt", "a") as file:
        file.write(f"{line}\n")
    assert projected(run) == []


def test_runs_without_events_are_refused(sweep):
    with pytest.raises(UserError, match="none of these runs has events"):
        serve(find_runs([str(sweep)]), None, lambda stop: None)


def test_a_signal_ends_it_and_nothing_stays(found, tmp_path, monkeypatch):
    """The real process, without its start of seconds: what it is given, and how it ends."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    started, popen = [], subprocess.Popen

    def sleep(command, **options):
        folder = Path(command[command.index("--logdir") + 1])
        assert len(list(folder.iterdir())) == 2
        assert command[command.index("--host") + 1] == "localhost"
        assert command[command.index("--port") + 1] == "default", "the next that is free"
        assert "-P" in command
        started.append(popen(["sleep", "60"], **options))
        return started[0]

    monkeypatch.setattr(tensorboard.subprocess, "Popen", sleep)
    assert serve(found[:2], None, lambda stop: stop(2)) == 0
    assert started[0].returncode == -15
    assert not list((tmp_path / "tmp").iterdir())
