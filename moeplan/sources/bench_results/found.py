"""What one run told, and values of foreign JSON that may be anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.record import Run

MOST = 1e15
MOST_LETTERS = 200


class Found(NamedTuple):
    """One run: its figures by name, and for each the samples where the file has them."""

    run: Run
    figures: Mapping[str, float]
    spreads: Mapping[str, tuple[float, float]]
    """Least and most of the repeats within the run."""


def number(values: Mapping[str, Any], *keys: str) -> float | None:
    """The first of these that is a finite number of zero or more; None where there is none."""
    for key in keys:
        value = values.get(key)
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and 0 <= value < MOST
            and math.isfinite(value)
        ):
            return float(value)
    return None


def above_zero(values: Mapping[str, Any], *keys: str) -> float | None:
    """The same above zero: a time or rate of 0 is what benchmarks write where nothing was measured."""
    return number(values, *keys) or None


def count(values: Mapping[str, Any], *keys: str) -> int | None:
    """The same as a whole number."""
    value = number(values, *keys)
    return None if value is None or value != int(value) else int(value)


def text(values: Mapping[str, Any], *keys: str) -> str | None:
    """The first of these that is text, cut where it is very long."""
    for key in keys:
        value = values.get(key)
        if isinstance(value, str) and value.strip():
            return value[:MOST_LETTERS]
    return None


def mean(total: float | None, requests: float | None) -> float | None:
    """Tokens of a request; None where one of the two is not known."""
    return None if total is None or not requests else total / requests


def check_answered(completed: float | None, where: str) -> None:
    """Raise InputError where the run says that no request was answered."""
    if completed == 0:
        raise InputError(f"{where}: no request of this run was answered, so nothing was measured", hint="run it again")
