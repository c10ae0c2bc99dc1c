"""Ctrl-C waits until torch is loaded, and is not lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

import pytest

from moeplan.measure.interrupts import held_back

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):  # Python looks for signals between instructions
        pass


def interrupt_nothing() -> None:
    """A step after Ctrl-C."""


def interrupted(*steps: Callable[[], object]) -> int:
    """How many of the steps ended before the block was left by Ctrl-C."""
    done = 0
    try:
        with held_back():
            for step in steps:
                step()
                done += 1
    except KeyboardInterrupt:
        return done
    pytest.fail("it was lost")


def fail() -> None:
    raise ImportError("cut off")


def test_it_waits_for_the_end_of_the_block() -> None:
    assert interrupted(interrupt, interrupt_nothing) == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_does_not_wait() -> None:
    assert interrupted(interrupt, interrupt, interrupt_nothing) == 1


def test_it_comes_instead_of_an_error_in_the_block() -> None:
    assert interrupted(interrupt, fail) == 1


def test_nothing_changes_without_one_and_where_somebody_else_handles_it() -> None:
    with held_back():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    seen: list[int] = []
    signal.signal(signal.SIGINT, lambda *told: seen.append(told[0]))
    try:
        with held_back():
            interrupt()
            assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_another_thread_may_load_torch_too() -> None:
    done = []

    def load() -> None:
        with held_back():
            done.append(True)

    thread = threading.Thread(target=load)
    thread.start()
    thread.join()
    assert done == [True]
