"""A progress bar on stderr for a person who watches: after half a second, gone at the end; nothing in a pipe or in CI."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE_S = 0.5
"""How long a wait may be before a person asks what is going on."""


@contextmanager
def watching(what: str = "reading headers", *, quiet: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """A function to be told `done` of `total`; None where nobody watches or HF_HUB_DISABLE_PROGRESS_BARS forbids bars.

    The bar is gone when the block ends, whether by a result, an error or Ctrl-C.
    """
    forbidden = os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS", "").lower() in ("1", "true", "yes", "on")
    if quiet or forbidden or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    bar = _Bar(what)
    try:
        yield bar.told
    finally:
        bar.close()


@contextmanager
def working(what: str, *, quiet: bool = False) -> Iterator[Callable[[float, float, str], None] | None]:
    """A function to be told seconds done of seconds expected, and what runs now; None where nobody watches.

    The bar shows the time that is left. It is gone when the block ends.
    """
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        task = drawn.add_task(what)

        def told(done_s: float, total_s: float, now: str) -> None:
            drawn.update(task, completed=done_s, total=total_s, description=now or what)

        yield told


class _Bar:
    """Drawn by rich, which is loaded only once it is needed.

    By a timer: who waits for one slow file is told nothing new.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.done = self.total = 0
        self.timer: threading.Timer | None = None
        self.drawn: Any = None
        self.over = False
        self.lock = threading.Lock()

    def told(self, done: int, total: int) -> None:
        with self.lock:
            self.done, self.total = done, total
            if done >= total:
                self._wipe()
            elif self.drawn is not None:
                self.drawn.update(self.drawn.task_ids[0], completed=done, total=total)
            elif self.timer is None:
                self.timer = threading.Timer(PATIENCE_S, self._draw)
                self.timer.daemon = True
                self.timer.start()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.timer is not None:
            self.timer.cancel()
        with self.lock:
            self.over = True
            self._wipe()

    def _draw(self) -> None:
        with self.lock:
            if self.over or self.done >= self.total:
                return
            from rich.console import Console
            from rich.progress import Progress

            self.drawn = Progress(console=Console(stderr=True), transient=True)
            self.drawn.add_task(self.what, completed=self.done, total=self.total)
            self.drawn.start()

    def _wipe(self) -> None:
        if self.drawn is not None:
            self.drawn.stop()
            self.drawn = None
