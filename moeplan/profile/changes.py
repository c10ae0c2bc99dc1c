"""Figures of a profile beside those of an older one of the same device.

A figure has changed where the two intervals do not meet: tenth to ninetieth percentile of its repeats, then and now. An
interval that is not known (a figure that was read once, a profile that does not tell) is the value with the band of `BANDS`
to each side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware
from moeplan.core.measurement import MeasuredDevice
from moeplan.core.profiled import newest
from moeplan.profile.result import Against, Change, Figure

BANDS: Mapping[str, float] = {"bytes": 0.01}
"""Half width of the interval of a figure without repeats, as a share of it, by unit. Bytes: what eight fresh processes took on
a CPU lay within 0.1 % (2026-11, torch 2.13); ten times that, since nobody has tried many machines."""
BAND = 0.1
"""Of every other unit: a clock under load that falls by less than this is not told (`measure.throttling`), so a rate may."""


def older_block(before: Hardware, device: MeasuredDevice) -> Mapping[str, Any]:
    """The newest run of the older profile. Raises InputError where it holds none, or one of another device."""
    block = newest(before.measured)
    foreign = None
    if block is None:
        foreign = "holds no block that `moeplan profile` wrote"
    elif str(_device(block).get("name")) != device.name:
        foreign = f"was measured on {_device(block).get('name')}, and this is {device.name}"
    if block is None or foreign is not None:
        raise InputError(
            f"{Path(before.path).name} {foreign}", hint="name with --against a profile of this very device"
        )
    return block


def against(profile: str, block: Mapping[str, Any], found: Sequence[Change]) -> Against:
    """Who measured the older figures, when and with what, and how many have changed."""
    device = _device(block)
    changed = sum(change.beyond_noise for change in found)
    return Against(
        profile=profile,
        date=_text(block.get("date")),
        time=_text(block.get("time")),
        tool=_text(block.get("tool")),
        torch_version=_text(device.get("torch_version")),
        driver_version=_text(device.get("driver_version")),
        num_changed=changed,
        num_unchanged=len(found) - changed,
    )


def changes(block: Mapping[str, Any], now: Sequence[Figure]) -> tuple[Change, ...]:
    """Every figure that the block has too, with both intervals; see the head of this file for when it has changed."""
    return tuple(
        change for figure in now if (change := _change(figures_of(block).get(figure.name), figure)) is not None
    )


def figures_of(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """The figures of a block by name; nothing where somebody wrote something else there."""
    figures = block.get("figures")
    return figures if isinstance(figures, Mapping) else {}


def _change(old: object, figure: Figure) -> Change | None:
    value = _number(old.get("value")) if isinstance(old, Mapping) else None
    if not isinstance(old, Mapping) or value is None or value <= 0:
        return None
    band = BANDS.get(figure.unit, BAND)
    before = _interval(value, _number(old.get("low")), _number(old.get("high")), band)
    now = _interval(figure.value, figure.low, figure.high, band)
    known = before[2] and now[2]
    return Change(
        name=figure.name,
        label=figure.label,
        unit=figure.unit,
        before=value,
        now=figure.value,
        change=figure.value / value - 1,
        beyond_noise=now[0] > before[1] or now[1] < before[0],
        band_fraction=None if known else band,
        same_case=old.get("source") == figure.source,
    )


def _interval(value: float, low: float | None, high: float | None, band: float) -> tuple[float, float, bool]:
    """From, to, and whether repeats told so."""
    if low is None or high is None or not low <= value <= high or low == high:
        return value * (1 - band), value * (1 + band), False
    return low, high, True


def _device(block: Mapping[str, Any]) -> Mapping[str, Any]:
    device = block.get("device")
    return device if isinstance(device, Mapping) else {}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
