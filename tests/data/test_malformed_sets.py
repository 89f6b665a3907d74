"""Data sets that cannot be read: each is refused by a message that names it, and left as it was."""

from pathlib import Path

import pytest
from data_files import peak_memory
from malformed_run import TABLES, in_process, snapshot

LONG = "cifar: hostile pickle, a million lists"  # 4 s; test_malformed_command.py has it
CASES = {
    f"{table}: {name}": case
    for table, cases in TABLES.items()
    for name, case in cases.items()
    if f"{table}: {name}" != LONG
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_by_name_and_left_as_it_was(tmp_path, name):
    case, root = CASES[name], tmp_path / "root"
    case.make(root)
    before = snapshot(root)
    dataset = in_process(case.dataset, root)
    refused = pytest.raises((ValueError, FileNotFoundError), match=case.found)
    with peak_memory(64 << 20), refused as caught:
        dataset.load()
    message = str(caught.value)
    assert str(root / case.at) in message
    assert message.count("\n") < 6
    assert "expected" in message or "must" in message or isinstance(caught.value, FileNotFoundError)
    assert snapshot(root) == before
    assert not Path(root, "was_run").exists()
