"""The bar for who waits, on a pseudo-terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import TextIO

import pytest

from moeplan.report.progress import PATIENCE_S, watching

if os.name != "posix":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

LONG_S = PATIENCE_S + 0.4
HIDDEN, SHOWN_AGAIN = "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """A terminal in place of stderr."""

    def __init__(self) -> None:
        self.ours, theirs = os.openpty()
        os.set_blocking(self.ours, False)
        self.stderr: TextIO = os.fdopen(theirs, "w", encoding="utf-8")

    def drawn(self) -> str:
        """All that was written to it."""
        self.stderr.flush()
        try:
            return os.read(self.ours, 2**20).decode()
        except BlockingIOError:
            return ""

    def close(self) -> None:
        self.stderr.close()
        os.close(self.ours)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made.stderr)
    monkeypatch.setenv("TERM", "xterm")
    yield made
    made.close()


def test_a_long_wait_draws_a_bar_and_wipes_it(terminal: Terminal) -> None:
    with watching("reading shards") as told:
        assert told is not None
        told(0, 4)
        time.sleep(LONG_S)
        told(1, 4)
        waiting = terminal.drawn()
        told(4, 4)
    assert "reading shards" in waiting
    assert HIDDEN in waiting
    assert "\x1b[2K" in terminal.drawn()


def test_one_slow_file_is_enough(terminal: Terminal) -> None:
    with watching() as told:
        assert told is not None
        told(0, 1)
        time.sleep(LONG_S)
        assert "0%" in terminal.drawn()


def test_a_short_wait_draws_nothing(terminal: Terminal) -> None:
    with watching() as told:
        assert told is not None
        for done in range(4):
            told(done, 3)
    time.sleep(LONG_S)  # nor later
    assert terminal.drawn() == ""


def test_an_end_before_all_is_done_draws_nothing_later(terminal: Terminal) -> None:
    with watching() as told:
        assert told is not None
        told(0, 3)
    time.sleep(LONG_S)
    assert terminal.drawn() == ""


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_no_bar_and_gives_the_cursor_back(error: type[BaseException], terminal: Terminal) -> None:
    with pytest.raises(error), watching() as told:
        assert told is not None
        told(1, 3)
        time.sleep(LONG_S)
        assert HIDDEN in terminal.drawn()
        raise error
    after = terminal.drawn()
    assert "\x1b[2K" in after
    assert SHOWN_AGAIN in after


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_no_bar_where_the_hub_client_would_draw_none(
    value: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", value)
    with watching() as told:
        assert told is None


def test_no_bar_for_nobody(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    with watching(quiet=True) as told:
        assert told is None
    monkeypatch.setenv("TERM", "dumb")
    with watching() as told:
        assert told is None
    monkeypatch.setenv("TERM", "xterm")
    with open(os.devnull, "w", encoding="utf-8") as elsewhere:
        monkeypatch.setattr(sys, "stderr", elsewhere)
        with watching() as told:
            assert told is None
