"""What takes long or fails elsewhere neither stops a run nor goes unsaid."""

import logging
import threading

import pytest

from dltrain.loggers.background import Background, require


def test_calls_are_made_in_their_order():
    seen, background = [], Background("loggers.x")
    for number in range(100):
        background.call(seen.append, number)
    assert background.finish(10)
    assert seen == list(range(100))


def test_a_failure_is_said_once_and_the_rest_is_done(caplog):
    def fail():
        raise OSError("no network")

    seen, background = [], Background("loggers.x")
    with caplog.at_level(logging.WARNING, "dltrain"):
        for call in (fail, fail, lambda: seen.append(1)):
            background.call(call)
        assert not background.finish(10)
    assert seen == [1]
    first, total = caplog.messages
    assert first.startswith("loggers.x: no network; the run goes on")
    assert total == "loggers.x: 2 calls have failed in all"


def test_what_hangs_is_not_waited_for(caplog):
    release, background = threading.Event(), Background("loggers.x")
    background.call(release.wait)
    with caplog.at_level(logging.WARNING, "dltrain"):
        assert not background.finish(0.01)
    assert "the rest is lost there" in caplog.text
    release.set()


def test_a_missing_library_is_named_with_its_extra():
    with pytest.raises(ImportError, match=r"loggers.x needs no_such: pip install 'dltrain\[no_"):
        require("no_such", "loggers.x")
