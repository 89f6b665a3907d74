"""How many jobs run at once, and what is each one's."""

import os

import pytest

from dltrain import cores
from dltrain.sweeps.ledger import JobRecord
from dltrain.sweeps.slots import choose_slots, gpu_names, too_many_threads


def job(number=0, device="auto", threads="auto"):
    config = {"trainer": {"device": device, "threads": threads}}
    return JobRecord(number, [], {}, str(number), config, {}, {})


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(cores, "given", lambda: 8)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("wanted", "num_jobs", "count", "share"),
    [("auto", 20, 8, 1), ("auto", 4, 4, 2), (3, 20, 3, 2), (1, 20, 1, 8), (16, 20, 16, 1)],
)
def test_the_cores_are_divided(wanted, num_jobs, count, share):
    slots = choose_slots(wanted, [job()] * num_jobs, [])
    assert (slots.count, slots.share) == (count, share)


@pytest.mark.usefixtures("eight_cores")
def test_jobs_that_are_to_come_have_their_share():
    slots = choose_slots("auto", [job()], [], 20)
    assert (slots.count, slots.share) == (8, 1)


@pytest.mark.usefixtures("eight_cores")
def test_a_gpu_each_and_round_robin_where_more_are_wanted():
    jobs = [job(number) for number in range(20)]
    slots = choose_slots("auto", jobs, ["0", "2"])
    assert (slots.count, slots.share) == (2, 4)
    slots = choose_slots(5, jobs, ["0", "2"])
    assert [slots.gpu(slot, jobs[0]) for slot in range(5)] == ["0", "2", "0", "2", "0"]


@pytest.mark.usefixtures("eight_cores")
def test_who_names_a_device_gets_it():
    slots = choose_slots(2, [job()] * 3, ["0", "1"])
    assert [slots.gpu(0, job(device=device)) for device in ("cpu", "cuda:1")] == [None, None]
    assert choose_slots("auto", [job(device="cpu")] * 9, ["0"]).count == 8


def test_what_stands_for_a_gpu(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_names(2) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-8f1a")
    assert gpu_names(2) == ["3", "GPU-8f1a"]


@pytest.mark.usefixtures("eight_cores")
def test_threads_that_were_given_are_warned_of_and_kept():
    jobs = [job(threads=4)] * 20
    line = too_many_threads(choose_slots(4, jobs, []), jobs)
    assert line == (
        "4 jobs at once with trainer.threads=4 on 8 cores wait for each other: "
        "trainer.threads=auto gives each its share, 2"
    )
    assert too_many_threads(choose_slots(2, jobs, []), jobs) is None
    assert too_many_threads(choose_slots(8, [job()], []), [job()]) is None


def test_a_share_is_what_a_process_may_use(monkeypatch):
    monkeypatch.setattr(cores, "_share", None)
    assert cores.available() == cores.given()
    cores.take_share(1)
    assert cores.available() == 1
    from dltrain.data.workers import suitable_workers

    assert suitable_workers() == 1
    if hasattr(os, "sched_getaffinity"):
        assert cores.given() == len(os.sched_getaffinity(0))


def test_a_run_takes_no_more_threads_than_its_share(monkeypatch):
    import torch

    from dltrain.data.batch import Batch
    from dltrain.engine import device

    before = torch.get_num_threads()
    monkeypatch.setattr(device, "MAX_THREADS", 8)
    monkeypatch.setattr(cores, "given", lambda: 8)
    monkeypatch.setattr(cores, "_share", None)
    model = torch.nn.Linear(4096, 4096)
    batch = Batch(torch.zeros(64, 4096), torch.zeros(64), torch.arange(64))
    try:
        for share in (5, 2, 1):
            cores.take_share(share)
            device.set_suitable_threads(model, batch, 1)
            assert torch.get_num_threads() == share
    finally:
        torch.set_num_threads(before)
