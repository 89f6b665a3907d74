"""What a cluster is told of a job, and what it tells: without any cluster's package."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from dltrain.commands.signals import SIGNALS
from dltrain.commands.sweep_cluster import check
from dltrain.commands.sweep_job import Outcome
from dltrain.commands.sweep_node import NodeJob, read_outcome
from dltrain.commands.sweep_tickets import Ticket
from dltrain.config.compose import compose
from dltrain.errors import UserError
from dltrain.sweeps import slurm
from dltrain.sweeps.cluster import RULES, Share, check_settings, new_place, require
from dltrain.sweeps.ledger import read_ledger
from dltrain.sweeps.ray_engine import without_good_news
from dltrain.sweeps.submitit_engine import SlurmEngine


def settings_of(launcher):
    return OmegaConf.to_container(compose([f"hydra/launcher={launcher}"]).hydra.launcher)


@pytest.mark.parametrize("launcher", RULES)
def test_the_settings_of_each_yaml_are_right_and_all_have_a_rule(launcher):
    settings = settings_of(launcher)
    check_settings(launcher, settings)
    assert {key.split(".")[0] for key in RULES[launcher]} == settings.keys() - {"_target_"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("timeout_min", 0), ("timeout_min", "1h"), ("cpus_per_task", 0), ("nodes", 2),
        ("tasks_per_node", 8), ("mem_gb", -1), ("name", ""), ("partition", "a\nb"),
        ("comment", "a\rb"), ("setup", ["module load cuda\nrm x"]), ("array_parallelism", 0),
        ("additional_parameters", {"a\nb": 1}), ("additional_parameters", {"mail-type": "a\nb"}),
        ("signal_delay_s", 3600),
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_named_with_its_rule(key, value):
    """And none becomes a second line of the script that sbatch is given."""
    with pytest.raises(UserError, match=f"^hydra.launcher.{key} is"):
        check_settings("submitit_slurm", settings_of("submitit_slurm") | {key: value})


def test_a_setting_that_does_not_exist_is_named_with_the_near_ones():
    with pytest.raises(UserError, match="timeout_mins; did you mean"):
        check_settings("submitit_local", settings_of("submitit_local") | {"timeout_mins": 3})


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(
        UserError, match=r"needs the package no_such: pip install 'dltrain\[slurm\]"
    ):
        require("no_such", "slurm", "submitit_slurm")


def test_a_folder_that_has_the_name_of_a_package_is_none(tmp_path, monkeypatch):
    (tmp_path / "ray_of_mine").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"pip install 'dltrain\[ray\]"):
        require("ray_of_mine", "ray", "ray")


def test_of_rays_tokens_only_what_is_a_danger_is_told(caplog):
    speaker = logging.getLogger("ray._private.authentication.authentication_token_setup")
    with without_good_news():
        speaker.warning("Token authentication is enabled for this Ray cluster. Set ...")
        speaker.warning("Token authentication is disabled for this Ray cluster. Anyone ...")
    assert [record.getMessage()[:31] for record in caplog.records] == [
        "Token authentication is disable"
    ]
    assert not speaker.filters


def test_slurm_is_looked_for_before_anything_is_recorded(monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="there is no sbatch and srun here"):
        check("submitit_slurm", settings_of("submitit_slurm"), dry_run=False)
    check("submitit_slurm", settings_of("submitit_slurm"), dry_run=True)


def test_a_place_is_always_a_new_folder(tmp_path):
    assert new_place(tmp_path).name == "1"
    (tmp_path / ".cluster" / "7").mkdir()
    (tmp_path / ".cluster" / "name").mkdir()
    assert new_place(tmp_path).name == "8"


def test_a_place_is_not_made_through_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".cluster").symlink_to("elsewhere")
    with pytest.raises(UserError, match="is a link"):
        new_place(tmp_path)
    assert not any((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 1),
        ("[]", 1),
        ('{"exit_code": "0"}', 1),
        ('{"exit_code": -1}', 1),
        ('{"exit_code": true}', 1),
        ('{"exit_code": 0, "result": "1", "reason": 3}', 0),
        ('{"exit_code": 4, "result": null, "reason": "nan"}', 4),
    ],
)
def test_what_a_node_has_written_may_be_anything(text, code, tmp_path):
    assert read_outcome(tmp_path, 3) is None
    (tmp_path / "3.ended.json").write_text(text)
    outcome = read_outcome(tmp_path, 3)
    assert outcome.exit_code == code
    assert outcome.result is None
    assert isinstance(outcome.reason, str)


@pytest.mark.parametrize(
    ("settings", "jobs", "gpus", "expected"),
    [
        ({}, 2, None, (2, [None, None])),
        ({"gpus_per_node": 1}, 4, "0,1", (4, ["0", "1", "0", "1"])),
        ({"gpus_per_node": 1}, "auto", "3,5", (2, ["3", "5"])),
        ({"gpus_per_node": 2}, "auto", "a,b,c,d", (2, ["a,b", "c,d"])),
        ({"gpus_per_node": 1}, 1, "", (1, [None])),
    ],
)
def test_each_job_here_gets_a_gpu_of_its_own(settings, jobs, gpus, expected, monkeypatch):
    monkeypatch.setattr("dltrain.cores.given", lambda: 8)
    if gpus is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    share = Share.of(settings, jobs)
    assert (share.at_once, [share.devices(slot) for slot in range(share.at_once)]) == expected


def test_the_cores_are_divided(monkeypatch):
    monkeypatch.setattr("dltrain.cores.given", lambda: 8)
    assert Share.of({}, 2).threads == 4
    assert Share.of({}, 16).threads == 1
    assert Share.of({"cpus_per_task": 4}, "auto").at_once == 2


def test_only_numbers_are_asked_of_slurm(monkeypatch, tmp_path):
    """An id comes from the ledger, and the ledger from anywhere."""
    asked = tmp_path / "asked"
    for name in ("squeue", "scancel", "sacct"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    hostile = ["--user=me", "1;2", "1_[0-9]", "", "12_3"]
    assert slurm.queued(hostile) == {}
    slurm.cancel(hostile, "dltrain")
    assert slurm.accounted("--user=me") == ""
    assert asked.read_text().splitlines() == [
        "--noheader --array --format=%i %T --jobs=12",
        "--quiet --name=dltrain 12_3",
    ]


def test_where_slurm_does_not_answer_no_job_is_taken_for_ended(monkeypatch, tmp_path):
    """It would be handed over a second time."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    squeue = tmp_path / "squeue"

    def answers(text):
        squeue.write_text(f"#!/bin/sh\n{text}\n")
        squeue.chmod(0o755)

    engine = SlurmEngine(settings_of("submitit_slurm"), None)
    answers("exit 1")
    with pytest.raises(UserError, match="Slurm does not answer"):
        engine.alive(["12_3"])
    answers("echo 12_3 RUNNING")
    assert engine.alive(["12_3"]) == {"12_3": "RUNNING"}
    answers("exit 1")
    with monkeypatch.context() as patch:
        patch.setattr("dltrain.sweeps.submitit_engine.ASK_EVERY_SEC", -1)
        assert engine.alive(["12_3"]) == {"12_3": "RUNNING"}, "what was known is"
    with pytest.raises(UserError, match="whether job 14 waits or runs"):
        engine.alive(["12_3", "14"])
    answers("echo slurm_load_jobs error: Invalid job id specified >&2; exit 1")
    assert engine.alive(["14"]) == {}


# ---------------------------------------------------------------------- on a node

ON_A_NODE = """
import json, sys
from dltrain.commands.sweep_node import NodeJob
sys.exit(NodeJob(**json.loads(sys.argv[1]))())
"""


@pytest.fixture
def node(three_jobs, tmp_path):
    """A function that runs job 1 of a recorded sweep in a process of its own, as a node does."""
    sweep = tmp_path / "here"
    shutil.copytree(three_jobs[0], sweep)
    shutil.rmtree(sweep / "1_lr=0.001")
    (sweep / ".cluster" / "1").mkdir(parents=True)
    started = []

    def run(**given):
        fields = {
            "sweep": str(sweep),
            "number": 1,
            "place": ".cluster/1",
            "cwd": str(tmp_path),
            "is_typed": True,
        }
        text = json.dumps(fields | {"argv": ["dltrain", "train", "-m", "as=typed"]} | given)
        environ = os.environ | {"SUBMITIT_EXECUTOR": ""}
        command = [sys.executable, "-c", ON_A_NODE, text]
        process = subprocess.Popen(command, env=environ, cwd="/", stderr=subprocess.PIPE)
        started.append(process)
        return sweep, process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_a_node_runs_the_job_that_the_ledger_has(node, three_jobs):
    sweep, process = node()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    reference = three_jobs[0] / "1_lr=0.001"
    run = sweep / "1_lr=0.001"
    assert (run / "model.safetensors").read_bytes() == (
        reference / "model.safetensors"
    ).read_bytes()
    assert json.loads((run / "run.json").read_text())["command"] == "dltrain train -m as=typed"
    best = json.loads((run / "summary.json").read_text())["best"]["value"]
    assert read_outcome(sweep / ".cluster" / "1", 1) == Outcome(0, best)
    assert "/" not in (run / "train.log").read_text().partition("run        ")[2][:4]


def test_a_node_tells_why_a_job_failed(node):
    sweep, process = node(number=7)
    process.communicate(timeout=60)
    assert process.returncode == 2
    assert read_outcome(sweep / ".cluster" / "1", 7).reason == "here has no job 7"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_node_that_is_told_to_stop_says_so(number, node):
    sweep, process = node()
    while not (sweep / ".cluster" / "1" / "1.began.json").exists():
        assert process.poll() is None, process.communicate()
    process.send_signal(number)
    process.communicate(timeout=60)
    expected = 130 if number == signal.SIGINT else 143
    outcome = read_outcome(sweep / ".cluster" / "1", 1)
    assert (process.returncode, outcome.exit_code) in ((expected, expected), (0, 0))


def test_what_a_signal_has_broken_is_no_failure_of_the_job(tmp_path, monkeypatch):
    """Its SystemExit may come out of OmegaConf as something else."""
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    work = NodeJob(str(tmp_path), 7, "place", str(tmp_path), is_typed=True)
    (tmp_path / "place").mkdir()
    assert work.run(tmp_path / "place").exit_code == 2
    monkeypatch.setattr(SIGNALS, "received", signal.SIGINT)
    assert work.run(tmp_path / "place") == Outcome(130, None, "stopped by SIGINT")


def test_a_job_that_is_to_be_stopped_saves_and_stops_after_an_evaluation(node):
    sweep, process = node()
    place = sweep / ".cluster" / "1"
    ticket = Ticket(read_ledger(sweep).jobs[1], "12", place)
    ticket.ask_to_stop("others were better")
    process.communicate(timeout=120)
    assert process.returncode == 0
    outcome = read_outcome(place, 1)
    assert (outcome.stopped, outcome.reason) == (True, "others were better")
    assert json.loads((sweep / "1_lr=0.001" / "summary.json").read_text())["status"] == "stopped"
    (row,) = [row for row in ticket.news() if row["split"] == "val"]
    assert (row["step"], row["num_steps"]) == (20, 40)
    assert ticket.news() == []


@pytest.mark.parametrize(
    "line",
    ["[]", "{", '{"split": "val"}', '{"split": "x", "step": 1, "num_steps": 2, "epoch": 1}',
     '{"split": "val", "step": "1", "num_steps": 2, "epoch": 1}', "[" * 100_000,
     '{"split": "val", "step": 1, "epoch": 1}', '{"split": "val", "step": null, "epoch": 1}'],
)  # fmt: skip
def test_what_is_told_may_be_anything_and_may_be_torn(line, tmp_path, three_jobs):
    ticket = Ticket(read_ledger(three_jobs[0]).jobs[1], "12", tmp_path)
    good = '{"split": "val", "step": 1, "num_steps": 2, "epoch": 1, "loss/val": "x"}'
    (tmp_path / "1.told.jsonl").write_text(f"{line}\n{good}\n{good[:20]}")
    assert ticket.news() == [{"split": "val", "step": 1, "num_steps": 2, "epoch": 1}]
    with (tmp_path / "1.told.jsonl").open("a") as file:
        file.write(good[20:] + "\n")
    assert len(ticket.news()) == 1


def test_a_run_that_only_time_ends_is_heard_of(tmp_path, three_jobs):
    ticket = Ticket(read_ledger(three_jobs[0]).jobs[1], "12", tmp_path)
    row = {"split": "val", "step": 1, "num_steps": None, "epoch": 1}
    (tmp_path / "1.told.jsonl").write_text(json.dumps(row) + "\n")
    assert ticket.news() == [row]
