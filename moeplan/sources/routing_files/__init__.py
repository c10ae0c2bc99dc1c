"""Files that tell a model's routing: captures of choices, counts that engines dumped, and profiles folded of either."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from moeplan.core.errors import InputError
from moeplan.core.routing_profile import RoutingProfile
from moeplan.sources.routing_files.captures import CaptureWriter, read_capture, read_prompts
from moeplan.sources.routing_files.counts import read_counts, write_counts
from moeplan.sources.routing_files.profiles import read_profile, write_profile

__all__ = ["CaptureWriter", "read_prompts", "read_routing", "write_counts", "write_profile"]

_READERS: dict[str, Callable[[Path], RoutingProfile]] = {
    ".jsonl": read_capture,
    ".json": read_counts,
    ".yaml": read_profile,
    ".yml": read_profile,
}


def read_routing(path: Path) -> RoutingProfile:
    """The routing that a file tells, by its ending: a capture (.jsonl), counts (.json) or a profile (.yaml).

    Raises InputError, with the file and the line or key, for whatever is not as it must be.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path} is no file of routing by its ending",
            hint="name a capture (.jsonl), counts (.json) or a profile (.yaml); `moeplan routing import` reads dumps of engines",
        )
    return reader(path)
