"""`dltrain compare` as it is typed: over real runs, without torch, with its errors."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy
import pytest

from dltrain.commands.compare import table_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sweep(finished_sweep):
    return finished_sweep


def test_a_sweep_in_groups_is_two_rows_of_numpys_numbers(sweep, without_torch):
    outcome = without_torch("compare", str(sweep), "--group", "seed", "--format", "json")
    assert outcome.code == 0, outcome.err
    assert not outcome.torch
    rows = json.loads(outcome.out)
    assert [row["optimizer.lr"] for row in rows] == [0.001, 0.01]
    for row in rows:
        files = sweep.glob(f"*_lr={row['optimizer.lr']},*/summary.json")
        summaries = [json.loads(file.read_text()) for file in sorted(files)]
        best = numpy.array([each["best"]["value"] for each in summaries])
        test = numpy.array([each["test"]["accuracy"] for each in summaries])
        assert row["n"] == len(best) == 3
        assert row["accuracy/val:best mean"] == best.mean()
        assert row["accuracy/val:best std"] == best.std(ddof=1)
        assert row["accuracy/test mean"] == test.mean()
        assert row["accuracy/test std"] == test.std(ddof=1)


def test_a_table_without_groups_loads_neither_torch_nor_numpy(sweep):
    code = ("import sys; from dltrain.cli import run; code = run(sys.argv[1:]); "
            "assert not {'torch', 'numpy', 'matplotlib', 'rich'} & set(sys.modules); "
            "sys.exit(code)")  # fmt: skip
    command = [sys.executable, "-c", code, "compare", str(sweep), "--at", "20", "--sort", "best"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3 + 6
    assert max(map(len, done.stdout.splitlines())) <= 80, "through a pipe"


def test_five_hundred_runs_are_compared_without_torch(finished_sweep, tmp_path):
    """What it takes is measured by scripts/bench/compare_runs.py; here, that all are right."""
    first = min(finished_sweep.glob("*_lr*"))
    texts = {n: (first / n).read_text() for n in ("config.yaml", "run.json", "summary.json")}
    summary = json.loads(texts["summary.json"])
    values = {}
    for number in range(500):
        run = tmp_path / "many" / f"run {number}"
        run.mkdir(parents=True)
        lr, seed = number // 5 / 1000, number % 5
        config = re.sub("\nseed: 0\n", f"\nseed: {seed}\n", texts["config.yaml"])
        config = re.sub(r"\n  lr: [0-9.]+\n", f"\n  lr: {lr}\n", config)
        summary["best"]["value"] = 0.5 + number / 10_000
        values.setdefault(lr, []).append(summary["best"]["value"])
        for name, text in (
            texts | {"config.yaml": config, "summary.json": json.dumps(summary)}
        ).items():
            (run / name).write_text(text)
    code = ("import sys; from dltrain.cli import run; code = run(sys.argv[1:]); "
            "assert 'torch' not in sys.modules; sys.exit(code)")  # fmt: skip
    command = [sys.executable, "-c", code, "compare", str(tmp_path / "many"), "--group", "seed"]
    done = subprocess.run(
        [*command, "--format", "json"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["optimizer.lr"] for row in rows] == list(values)
    for row in rows:
        found = numpy.array(values[row["optimizer.lr"]])
        assert (row["n"], row["accuracy/val:best mean"]) == (5, found.mean())
        assert row["accuracy/val:best std"] == found.std(ddof=1)


@pytest.mark.parametrize("width", [1, 40, 80, 200])
def test_it_is_as_wide_as_the_terminal(sweep, dltrain, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    outcome = dltrain("compare", str(sweep))
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines())) <= width


def test_without_a_path_it_is_all_below_outputs(sweep, dltrain, tmp_path):
    assert "dltrain train" in dltrain("compare").err
    outcome = dltrain("compare", cwd=sweep.parents[2])
    assert outcome.out == dltrain("compare", str(sweep)).out


def test_latest_is_the_sweep_of_the_newest_run_and_a_diff_is_of_that_run(sweep, dltrain, tmp_path):
    outputs = sweep.parents[2]
    assert dltrain("compare", "latest", cwd=outputs).out == dltrain("compare", str(sweep)).out
    newest = max(sweep.glob("*/run.json"), key=lambda path: path.lstat().st_mtime).parent
    outcome = dltrain("compare", "--diff", "latest", str(newest), cwd=outputs)
    assert "0 settings differ" in outcome.err
    alone = tmp_path / "outputs" / "x" / newest.name
    shutil.copytree(newest, alone)
    assert dltrain("compare", "latest", cwd=tmp_path).out.count("completed") == 1


@pytest.mark.parametrize(("name", "begins"), [
    ("x.md", "| run |"), ("x.csv", "run,"), ("x.json", "["), ("x.txt", " "),
])  # fmt: skip
def test_the_files_ending_says_the_format(sweep, dltrain, tmp_path, name, begins):
    outcome = dltrain("compare", str(sweep), "--output", name)
    assert outcome.code == 0
    assert f" {name}: 6 rows\n" in outcome.out
    assert (tmp_path / name).read_text().startswith(begins)


def test_a_diff_names_what_differs(sweep, dltrain):
    first, *_, last = sorted(sweep.glob("*_lr*"))
    outcome = dltrain("compare", "--diff", str(first), str(last))
    lines = [line.split() for line in outcome.out.splitlines()[2:]]
    assert lines == [["seed", "0", "2"], ["optimizer.lr", "0.001", "0.01"]]
    assert "2 settings differ" in outcome.err
    assert "holds 6 runs" in dltrain("compare", "--diff", str(sweep), str(last)).err


def test_runs_of_a_diff_can_be_named_as_the_table_does(sweep, dltrain):
    first, *_, last = sorted(path.name for path in sweep.glob("*_lr*"))
    outcome = dltrain("compare", str(sweep), "--diff", first, last, "--format", "csv")
    assert outcome.code == 0, outcome.err
    header, *rows = csv.reader(outcome.out.splitlines())
    assert header == ["setting", first, last]
    assert sorted(row[0] for row in rows) == ["optimizer.lr", "seed"]
    numbers = [name.partition("_")[0] for name in (first, last)]
    assert dltrain("compare", str(sweep), "--diff", *numbers, "--format", "csv").out == outcome.out
    refused = dltrain("compare", str(sweep), "--diff", first, "nothing_such")
    assert (refused.code, refused.out) == (2, "")
    assert "`nothing_such` is neither a directory nor a run in the table" in refused.err


def test_a_run_does_not_differ_from_itself(sweep, dltrain):
    first = str(min(sweep.glob("*_lr*")))
    for kind in ("csv", "json", "markdown", "table"):
        outcome = dltrain("compare", "--diff", first, first, "--format", kind)
        assert outcome.code == 0, outcome.err
        assert "0 settings differ" in outcome.err


def test_files_for_machines_say_where_each_run_is(sweep, dltrain):
    outcome = dltrain("compare", str(sweep), "--format", "csv")
    header, *rows = csv.reader(outcome.out.splitlines())
    assert header[-1] == "path"
    assert all(Path(row[-1]).is_dir() for row in rows)


def test_a_plot_and_a_map_are_drawn(sweep, dltrain, tmp_path):
    for options in (["--group", "seed"], ["--heatmap"], ["--heatmap", "lr", "seed"], ["--x", "lr"]):
        outcome = dltrain("compare", *options, "--plot", "x.png", str(sweep))
        assert outcome.code == 0, outcome.err
        assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
        (tmp_path / "x.png").unlink()


def test_foreign_and_damaged_folders_are_named(finished_run, dltrain, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.yaml").write_text("model: [")
    (tmp_path / "torn" / "summary.json").write_text("{}")
    outcome = dltrain("compare", str(finished_run), "notes", "torn")
    assert outcome.code == 0
    assert [line.split()[-1] for line in outcome.out.splitlines()[3:]] != []
    assert "notes is foreign: it holds no run" in outcome.err
    assert "torn is damaged: config.yaml cannot be read" in outcome.err
    assert dltrain("compare", "notes").code == 2


@pytest.mark.parametrize(("argv", "message"), [
    (["nowhere"], "`nowhere` does not exist"), (["--wher", "x"], "--wher"),
    (["--at", "-5"], "whole number"), (["--at", "1e9"], "whole number"),
    (["--smooth", "1"], "number >= 0 and < 1"), (["--format", "xml"], "xml"),
    (["--plot", "x.gif"], ".png, .svg, .pdf"), (["--plot"], "expected one argument"),
    (["--heatmap", "lr", "seed"], "--heatmap needs --plot"), (["--port", "1"], "--tensorboard"),
    (["--heatmap", "lr", "--plot", "x.png"], "two settings"), (["--diff", "a"], "2 arguments"),
    (["--diff", "a", "b", "--tensorboard"], "two things"),
    (["--diff", "a", "b", "."], "no run in ."),
    (["--output", "r.xlsx"], "r.xlsx: the file must end in .md, .csv, .json, .txt"),
    (["--smooth", "0.5"], "--plot"), (["--descending"], "--descending needs --sort"),
    (["--columns", "lr", "--metrics", "best"], "--columns names every column"),
    (["--diff", "a", "b", "--where", "seed == 1"], "--where says nothing together with --diff"),
    (["--plot", "x.png", "--at", "5"], "--at says nothing together with --plot"),
    (["--x", "lr"], "--x KEY needs --plot"), (["--color", "lr"], "--color KEY needs --x"),
    (["--plot", "x.png", "--x", "lr", "--heatmap"], "two pictures"),
    (["--plot", "x.png", "--x", "lr", "--group", "seed"], "nothing together with --x"),
    (["--plot", "x.png", "--format", "csv"], "--format says nothing together with --plot"),
    (["--plot", "x.png", "--heatmap", "--smooth", "0"], "together with --heatmap"),
    (["--tensorboard", "--group", "seed"], "--group says nothing together with --tensorboard"),
    (["."], "no run in ."), ([""], "`` does not exist"), (["x" * 5000], "does not exist"),
])  # fmt: skip
def test_a_mistake_is_explained_in_a_few_lines(dltrain, argv, message):
    outcome = dltrain("compare", *argv)
    assert outcome.code == 2
    assert outcome.err.startswith("dltrain: error: ")
    assert message in outcome.err
    assert len(outcome.err.splitlines()) <= 6
    assert len(outcome.err) < 1000


def test_what_cannot_be_written_is_named(finished_run, dltrain, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for option in (["--output", "folder.csv"], ["--output", "no/x.csv"], ["--plot", "no/x.png"]):
        outcome = dltrain("compare", str(finished_run), *option)
        assert outcome.code == 2
        assert "cannot write" in outcome.err


def test_help_has_every_option(dltrain):
    outcome = dltrain("compare", "--help")
    assert outcome.code == 0
    for name in ("--group", "--where", "--diff", "--plot", "--heatmap", "--tensorboard"):
        assert name in outcome.out


def test_a_table_can_be_had_as_text(sweep):
    text = table_of([str(sweep)], group="seed", width=80)
    assert len(text.splitlines()) == 3 + 2


def test_the_script_is_the_command(sweep):
    script = ROOT / "scripts" / "compare.py"
    done = subprocess.run(
        [sys.executable, script, sweep], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("completed") == 6


@pytest.mark.slow
def test_tensorboard_shows_the_selected_runs_until_it_is_stopped(sweep, tmp_path):
    """The real TensorBoard, at a port that it finds free."""
    command = [sys.executable, "-m", "dltrain", "compare", str(sweep), "--where", "lr==0.01"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [*command, "--tensorboard"], stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        line = next(line for line in process.stderr if "http://localhost:" in line)
        url = line.split()[3]
        for _ in range(60):
            names = json.load(urllib.request.urlopen(f"{url}data/runs"))
            if len(names) == 3:
                break
            time.sleep(1)
        assert sorted(names) == sorted(path.name for path in sweep.glob("*_lr=0.01,*"))
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.stderr.close()
    assert not list(tmp_path.glob("dltrain-*"))
