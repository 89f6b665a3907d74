"""What is written is a file of that name and nothing else; numbers of a stranger break nothing."""

import json
import os

import pytest

from dltrain.commands.compare import main
from dltrain.errors import UserError


@pytest.fixture
def here(make_run, tmp_path, monkeypatch):
    make_run("runs/a")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("option", [["--output", "x.md"], ["--plot", "x.svg"]])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_not_replaced(here, option, kind):
    if "--plot" in option:
        pytest.importorskip("matplotlib")
    file, victim = here / option[1], here / "victim"
    victim.write_text("mine")
    if kind == "link":
        file.symlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    before = os.lstat(file)
    with pytest.raises(UserError, match="cannot write"):
        main(["runs", *option, "--metrics", "accuracy/val"])
    assert os.lstat(file).st_ino == before.st_ino
    assert os.lstat(file).st_mode == before.st_mode
    assert victim.read_text() == "mine"


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(here):
    (here / "victim").write_text("mine")
    (here / ".x.md.tmp").symlink_to(here / "victim")
    assert main(["runs", "--output", "x.md"]) == 0
    assert (here / "x.md").read_text().startswith("| run |")
    assert not (here / "x.md").is_symlink()
    assert (here / "victim").read_text() == "mine"


def test_numbers_that_no_run_has_are_none(here, make_run, capsys):
    pytest.importorskip("matplotlib")
    huge = 1.7e308
    points = [(-1, huge), (1, 0.5), (2, huge), (3, -huge), (4, 0.25), (1 << 62, 0.75)]
    rows = [{"step": step, "split": "val", "accuracy": value} for step, value in points]
    for seed in range(2):
        run = make_run(f"runs/{seed}", seed=seed, rows=rows, accuracy=huge, **{"model.gain": huge})
        summary = json.loads((run / "summary.json").read_text())
        summary |= dict.fromkeys(("wall_time_sec", "samples_per_sec", "epoch"), huge)
        (run / "summary.json").write_text(json.dumps(summary))
    for words in (
        ["--group", "seed"],
        ["--group", "seed", "--sort", "epoch", "--format", "json"],
        ["--where", "model.gain > 1"],
        ["--metrics", "accuracy/val:max"],
        ["--metrics", "accuracy/val", "--group", "seed", "--plot", "x.svg"],
    ):
        assert main(["runs", *words]) == 0
    out = capsys.readouterr().out
    assert "inf" not in out.lower()
    assert "e+30" not in out.replace("1.7e+308", "")  # but for the setting
