"""Figures of a profile beside those of an older one of the same device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware
from moeplan.core.measurement import MeasuredDevice
from moeplan.core.profiled import newest
from moeplan.profile.result import Change, Figure


def changes(before: Hardware, device: MeasuredDevice, now: Sequence[Figure]) -> tuple[Change, ...]:
    """Every figure that both have. Raises InputError where the older file holds no profile, or one of another device."""
    block = newest(before.measured)
    foreign = None
    if block is None:
        foreign = "holds no block that `moeplan profile` wrote"
    elif str((block.get("device") or {}).get("name")) != device.name:
        foreign = f"was measured on {(block.get('device') or {}).get('name')}, and this is {device.name}"
    if block is None or foreign is not None:
        raise InputError(
            f"{Path(before.path).name} {foreign}", hint="name with --against a profile of this very device"
        )
    figures = block.get("figures") or {}
    found = []
    for figure in now:
        old = figures.get(figure.name)
        if isinstance(old, dict) and isinstance(old.get("value"), int | float) and old["value"] > 0:
            value, low, high = (float(old.get(key) or old["value"]) for key in ("value", "low", "high"))
            beyond = figure.low > high or figure.high < low
            found.append(
                Change(figure.name, figure.label, figure.unit, value, figure.value, figure.value / value - 1, beyond)
            )
    return tuple(found)
