"""What `moeplan profile` measured on a device, as later estimates use it: the newest of its blocks in a hardware profile.

docs/hardware-profiles.md has the keys of a block. Figures that an estimate takes over are those of the machine itself:
the total that its runtime reports, and what a process takes on it before it holds a tensor.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

KIND = "profile"


class Measured(NamedTuple):
    """A figure of the machine, in bytes, with where it comes from."""

    bytes: int
    low_bytes: int
    high_bytes: int
    source: str


Blocks = Sequence[Mapping[str, Any]]
"""The blocks of a hardware profile, as they stand in its file (`Hardware.measured`)."""


def newest(blocks: Blocks) -> Mapping[str, Any] | None:
    """The last block of that kind with the latest date and time; None on a device that was not profiled."""
    mine = [block for block in blocks if block.get("kind") == KIND]
    return max(reversed(mine), key=lambda block: (str(block.get("date", "")), str(block.get("time", ""))), default=None)


def total_bytes(blocks: Blocks) -> Measured | None:
    """What the runtime reported as the device's total; None where it was not measured."""
    block = newest(blocks)
    device = block.get("device") if block is not None else None
    total = _count(device.get("total_bytes")) if isinstance(device, Mapping) else None
    if block is None or total is None:
        return None
    return Measured(total, total, total, _source(block))


def context_bytes(blocks: Blocks) -> Measured | None:
    """Bytes that a process takes before it holds a tensor; None where that was not measured."""
    # A later profile of other sections alone takes nothing back.
    block = newest([block for block in blocks if _figure(block, "context_bytes") is not None])
    figure = _figure(block, "context_bytes") if block is not None else None
    if block is None or figure is None:
        return None
    value = round(figure["value"])
    low, high = _count(figure.get("low")) or value, _count(figure.get("high")) or value
    return Measured(value, low, high, _source(block))


def _figure(block: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """A figure of a block, where it is a positive number; None otherwise."""
    figures = block.get("figures")
    figure = figures.get(name) if isinstance(figures, Mapping) else None
    return figure if isinstance(figure, Mapping) and _count(figure.get("value")) is not None else None


def _count(value: object) -> int | None:
    """A positive number as whole bytes; None for anything else that may stand in a file."""
    return round(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _source(block: Mapping[str, Any]) -> str:
    device = block.get("device")
    name = device.get("name") if isinstance(device, Mapping) else None
    return f"{block.get('tool')} on {name}, {block.get('date')}"
