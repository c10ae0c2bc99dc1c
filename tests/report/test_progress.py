"""The bar for who waits, on a pseudo-terminal."""

from __future__ import annotations

import os
import sys
import time
from typing import Self

import pytest

from moeplan.report.progress import PATIENCE_S, watching

if os.name != "posix":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

LONG_S = PATIENCE_S + 0.4
HIDDEN, SHOWN_AGAIN, ERASED = "\x1b[?25l", "\x1b[?25h", "\x1b[2K"


class Terminal:
    """A terminal in place of stderr, for as long as the block lasts. pytest's own stderr comes after its fixtures."""

    def __enter__(self) -> Self:
        self.ours, theirs = os.openpty()
        os.set_blocking(self.ours, False)
        self.stderr = os.fdopen(theirs, "w", encoding="utf-8")
        self.before, sys.stderr = sys.stderr, self.stderr
        return self

    def __exit__(self, *_: object) -> None:
        sys.stderr = self.before
        self.stderr.close()
        os.close(self.ours)

    def drawn(self) -> str:
        """What was written to it since it was last asked."""
        self.stderr.flush()
        try:
            return os.read(self.ours, 2**20).decode()
        except BlockingIOError:
            return ""


@pytest.fixture(autouse=True)
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that can erase lines."""
    monkeypatch.setenv("TERM", "xterm")


def test_a_long_wait_draws_a_bar_and_wipes_it() -> None:
    with Terminal() as terminal:
        with watching("reading shards") as told:
            assert told is not None
            told(0, 4)
            time.sleep(LONG_S)
            told(1, 4)
            waiting = terminal.drawn()
            told(4, 4)
        assert "reading shards" in waiting
        assert HIDDEN in waiting
        assert ERASED in terminal.drawn()


def test_one_slow_file_is_enough() -> None:
    with Terminal() as terminal, watching() as told:
        assert told is not None
        told(0, 1)
        time.sleep(LONG_S)
        assert "0%" in terminal.drawn()


def test_a_short_wait_draws_nothing() -> None:
    with Terminal() as terminal:
        with watching() as told:
            assert told is not None
            for done in range(4):
                told(done, 3)
        time.sleep(LONG_S)  # nor later
        assert terminal.drawn() == ""


def test_an_end_before_all_is_done_draws_nothing_later() -> None:
    with Terminal() as terminal:
        with watching() as told:
            assert told is not None
            told(0, 3)
        time.sleep(LONG_S)
        assert terminal.drawn() == ""


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_no_bar_and_gives_the_cursor_back(error: type[BaseException]) -> None:
    def fail(terminal: Terminal) -> None:
        with watching() as told:
            assert told is not None
            told(1, 3)
            time.sleep(LONG_S)
            assert HIDDEN in terminal.drawn()
            raise error

    with Terminal() as terminal:
        with pytest.raises(error):
            fail(terminal)
        after = terminal.drawn()
    assert ERASED in after
    assert SHOWN_AGAIN in after


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_no_bar_where_the_hub_client_would_draw_none(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", value)
    with Terminal(), watching() as told:
        assert told is None


def test_no_bar_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with Terminal(), watching(quiet=True) as told:
        assert told is None
    with watching() as told:  # pytest's stderr is a file
        assert told is None
    monkeypatch.setenv("TERM", "dumb")
    with Terminal(), watching() as told:
        assert told is None
