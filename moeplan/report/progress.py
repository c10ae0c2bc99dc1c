"""A progress bar on stderr for a person who watches: after half a second, gone at the end; nothing in a pipe or in CI."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 0.5


def watch(what: str = "reading headers") -> Callable[[int, int], None] | None:
    """A function to be told `done` of `total`; None where nobody watches or HF_HUB_DISABLE_PROGRESS_BARS forbids bars."""
    forbidden = os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS", "").lower() in ("1", "true", "yes", "on")
    if forbidden or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return None
    return _Bar(what).told


class _Bar:
    """Drawn by rich once the wait is long enough to ask what is going on."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.began_s = time.monotonic()
        self.drawn: Any = None

    def told(self, done: int, total: int) -> None:
        if self.drawn is None and done < total and time.monotonic() - self.began_s > PATIENCE_S:
            from rich.console import Console
            from rich.progress import Progress

            self.drawn = Progress(console=Console(stderr=True), transient=True)
            self.drawn.start()
            self.drawn.add_task(self.what)
        if self.drawn is not None:
            self.drawn.update(self.drawn.task_ids[0], completed=done, total=total)
            if done >= total:
                self.drawn.stop()
