"""The one table of what a key can change names keys that there are."""

from pathlib import Path

import pytest
import yaml

from dltrain import effects
from dltrain.commands.rerun import HELP

CONFIGS = Path(__file__).parents[1] / "configs"
ALL = sorted({*effects.NO_RESULT, *effects.MAY_GO_ON, *effects.MAY_BE_REMADE})


@pytest.mark.parametrize("key", ALL)
def test_every_key_of_the_table_is_one_of_the_menu(key):
    group, _, rest = key.partition(".")
    files = [CONFIGS / "train.yaml", *(CONFIGS / group).glob("*.yaml")]
    wanted = rest or group
    found = [file for file in files if wanted in (yaml.safe_load(file.read_text()) or {})]
    assert found or (not rest and (CONFIGS / group).is_dir())


def test_the_help_of_rerun_has_every_key_that_may_be_typed():
    assert [key for key in effects.MAY_BE_REMADE if key not in HELP] == []


def test_a_name_stands_for_itself_and_what_is_below_it():
    assert effects.covers(effects.NO_RESULT, "loggers.tensorboard.charts")
    assert effects.covers(effects.NO_RESULT, "trainer.device")
    assert not effects.covers(effects.NO_RESULT, "trainer.device_name")
    assert not effects.covers(effects.NO_RESULT, "optimizer.lr")
