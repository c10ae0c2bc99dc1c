"""What `moeplan profile` measured on a device, as later estimates use it: the newest of its blocks in a hardware profile.

docs/hardware-profiles.md has the keys of a block. Figures that an estimate takes over are those of the machine itself:
the total that its runtime reports, and what a process takes on it before it holds a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from moeplan.core.hardware import Hardware

KIND = "profile"


class Measured(NamedTuple):
    """A figure of the machine, in bytes, with where it comes from."""

    bytes: int
    low_bytes: int
    high_bytes: int
    source: str


def newest(hardware: Hardware | None) -> Mapping[str, Any] | None:
    """The last block of that kind with the latest date; None on a device that was not profiled."""
    blocks = [block for block in hardware.measured if block.get("kind") == KIND] if hardware is not None else []
    return max(reversed(blocks), key=lambda block: str(block.get("date", "")), default=None)


def total_bytes(hardware: Hardware | None) -> Measured | None:
    """What the runtime reported as the device's total; None where it was not measured."""
    block = newest(hardware)
    device = block.get("device") if block is not None else None
    total = device.get("total_bytes") if isinstance(device, Mapping) else None
    if block is None or not _is_count(total):
        return None
    return Measured(total, total, total, _source(block, hardware))


def context_bytes(hardware: Hardware | None) -> Measured | None:
    """Bytes that a process takes before it holds a tensor; None where that was not measured."""
    block = newest(hardware)
    figures = block.get("figures") if block is not None else None
    figure = figures.get("context_bytes") if isinstance(figures, Mapping) else None
    if block is None or not isinstance(figure, Mapping) or not _is_count(figure.get("value")):
        return None
    sizes = [figure[key] if _is_count(figure.get(key)) else figure["value"] for key in ("value", "low", "high")]
    return Measured(*(round(size) for size in sizes), _source(block, hardware))


def _is_count(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _source(block: Mapping[str, Any], hardware: Hardware | None) -> str:
    device = block.get("device")
    name = device.get("name") if isinstance(device, Mapping) else None
    profile = hardware.profile if hardware is not None else None
    return f"{block.get('tool')} on {name}, {block.get('date')}; profile {profile}"
