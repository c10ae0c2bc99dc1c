"""Ctrl-C while torch is loaded: it waits until that is done, because it would be lost in it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_back() -> Iterator[None]:
    """Ctrl-C in this block is a KeyboardInterrupt at its end; a second one does not wait.

    torch's extension imports numpy while it is loaded itself, and takes whatever ends that import for "there is no numpy": a
    KeyboardInterrupt in it is lost (seen with torch 2.13). Where the process has another handler, or ignores the signal, and
    outside the main thread nothing changes.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    came = False

    def wait(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:
            signal.default_int_handler(number, frame)
        came = True

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if came:
            raise KeyboardInterrupt
