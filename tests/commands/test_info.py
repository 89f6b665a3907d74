"""`dltrain info`: what can be chosen, and what this machine has."""

import pytest

from dltrain.config.compose import config_dir

GROUPS = sorted(path.name for path in config_dir().iterdir() if path.is_dir())


@pytest.mark.parametrize("group", [name for name in GROUPS if name != "hydra"])
def test_every_choice_is_listed_with_a_line_of_its_own(group, without_torch):
    outcome = without_torch("info", group)
    assert (outcome.code, outcome.err, outcome.torch) == (0, "", False)
    heading, *lines = outcome.out.splitlines()
    assert heading == group
    listed = {line.split()[0]: line.split()[1:] for line in lines if line[2:3].strip()}
    assert set(listed) == {path.stem for path in (config_dir() / group).glob("*.yaml")}
    assert all(listed.values()), "a choice without its line"


def test_several_groups_in_the_order_asked_for(without_torch):
    outcome = without_torch("info", "scheduler", "model")
    assert [x for x in outcome.out.splitlines() if not x.startswith(" ")] == ["scheduler", "model"]


def test_alone_it_lists_all_groups_and_the_machine(dltrain):
    outcome = dltrain("info")
    assert outcome.code == 0
    headings = [line for line in outcome.out.splitlines() if not line.startswith(" ")]
    assert headings[0] == "dataset"
    assert headings[-1] == "machine"
    assert set(headings) == {*GROUPS, "machine"} - {"hydra"}
    machine = outcome.out.partition("machine\n")[2]
    for what in ("python", "dltrain", "hydra-core", "tensorboard", "cpu", "torch", "torchvision"):
        assert f"  {what} " in machine
