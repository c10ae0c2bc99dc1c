"""Resident bytes of this process as the system counts them, and their peak while something runs."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

SAMPLE_S = 0.002


def resident_bytes() -> int | None:
    """Memory of this process that is in RAM, shared libraries included; None where the system has no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


class ResidentPeak:
    """The largest resident size while the block runs, sampled by a thread every 2 ms: shorter peaks may be missed."""

    def __init__(self) -> None:
        self.peak_bytes = resident_bytes()
        """None where it cannot be read."""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if self.peak_bytes is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self.peak_bytes is not None:
            self._thread.join()
            self._look()

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self._look()

    def _look(self) -> None:
        self.peak_bytes = max(self.peak_bytes or 0, resident_bytes() or 0)
