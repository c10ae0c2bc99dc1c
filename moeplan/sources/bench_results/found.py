"""What one run told, and the fields of a result file, read strictly.

A value that cannot be (a time below zero, a text in the place of a number, a p95 below the p50) is an error that names file and
field. What says that nothing was measured (`NaN`, a time of 0) or is no figure is left out, and told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.record import Run
from moeplan.core.record_figures import FIGURES, ROUNDING, below_a_lower_percentile
from moeplan.sources.strict_yaml import shown

LEAST, MOST = 1e-9, 1e15
"""A token in thirty years, and a time of thousands: what is beyond is no figure."""
MOST_LETTERS = 200
NOT_A_NUMBER = "NaN, so nothing was measured"
NOTHING = "0, as benchmarks write where nothing was measured"
WHOLE_FILE = "give the file as the benchmark wrote it; --set NAME=VALUE takes figures of others"


class Found(NamedTuple):
    """One run: its figures by name, and for each the samples where the file has them."""

    run: Run
    figures: Mapping[str, float]
    spreads: Mapping[str, tuple[float, float]]
    """Least and most of the repeats within the run."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Fields that were not taken, each with the reason."""


class Fields(NamedTuple):
    """An object of a result file, or a block in one."""

    values: Mapping[str, Any]
    where: str
    """The file."""
    left_out: list[tuple[str, str]]
    """What was not taken of the whole object: field, reason."""
    within: str = ""
    """Of a block its name and a dot."""

    def number(self, *keys: str) -> float | None:
        """The first of these that the file has, zero or more; None where it has none, null or NaN.

        Raises InputError where it is something else than such a number.
        """
        key = self.named(*keys)
        if key is None:
            return None
        value = self.values[key]
        if isinstance(value, float) and math.isnan(value):
            self.leave(key, NOT_A_NUMBER)
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise self.wrong(key, f"is {shown(value)}, where a number of zero or more belongs")
        if not (value == 0 or LEAST <= value < MOST):
            raise self.wrong(key, f"is {shown(value)}, too small or too large for any figure")
        return float(value)

    def above_zero(self, *keys: str) -> float | None:
        """The same of a time or a rate, of which 0 says that nothing was measured."""
        value = self.number(*keys)
        if value == 0:
            self.leave(self.named(*keys) or "", NOTHING)
        return value or None

    def whole(self, *keys: str) -> int | None:
        """The same as a whole number."""
        value = self.number(*keys)
        if value is not None and value != int(value):
            raise self.wrong(self.named(*keys) or "", f"is {value:g}, where a whole number belongs")
        return None if value is None else int(value)

    def rate(self, key: str) -> float | None:
        """A rate of requests, which only describes the run: what is none is left out and told. None also where it has no bound."""
        value = self.values.get(key)
        if value is None or value in ("inf", math.inf):
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not LEAST <= value < MOST:
            self.leave(key, f"{shown(value)} is no number above zero")
            return None
        return float(value)

    def in_flight(self, key: str) -> int | None:
        """A number of requests in flight, likewise."""
        value = self.rate(key)
        if value is None or value == int(value):
            return None if value is None else int(value)
        self.leave(key, f"{value:g} is no whole number")
        return None

    def text(self, *keys: str) -> str | None:
        """The first of these that the file has, cut where it is very long; what is no text is left out and told."""
        key = self.named(*keys)
        value = None if key is None else self.values[key]
        if key is None or (isinstance(value, str) and not value.strip()):
            return None
        if not isinstance(value, str):
            self.leave(key, f"{shown(value)} is no text")
            return None
        return value[:MOST_LETTERS]

    def block(self, key: str) -> Fields:
        """The block of that name; an empty one where there is none. Raises InputError where it is no block."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise self.wrong(key, f"is {shown(value)}, where a block of figures belongs")
        return Fields(value or {}, self.where, self.left_out, f"{self.within}{key}.")

    def named(self, *keys: str) -> str | None:
        """The first of these that the file has, and not as null."""
        return next((key for key in keys if self.values.get(key) is not None), None)

    def leave(self, key: str, why: str) -> None:
        """Remember that this field was not taken."""
        if (self.within + key, why) not in self.left_out:
            self.left_out.append((self.within + key, why))

    def wrong(self, key: str, problem: str) -> InputError:
        """An error that names the file and the field."""
        return InputError(f"{self.where}: `{self.within}{key}` {problem}", hint=WHOLE_FILE)


class Told(NamedTuple):
    """A figure as the file has it."""

    field: str
    value: float
    """In the unit of the file."""
    divisor: float
    """How many of that unit are one of the unit of the figure's name."""


class Figures:
    """Figures of a run by name; two fields that tell one figure otherwise are refused."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._told: dict[str, Told] = {}

    def add(self, name: str, field: str, value: float | None, divisor: float = 1.0) -> None:
        """Take a figure where there is one. Raises InputError where another field told another value."""
        if value is None:
            return
        before = self._told.setdefault(name, Told(field, value, divisor))
        if abs(before.value - value) > ROUNDING * value:
            raise self._wrong(f"`{field}` is {value:g}, and `{before.field}` {before.value:g}: they are one figure")

    def checked(self) -> dict[str, float]:
        """All of them in their order. Raises InputError for a percentile that is below a lower one."""
        out_of_order = below_a_lower_percentile({name: told.value / told.divisor for name, told in self._told.items()})
        if out_of_order is not None:
            higher, lower = (self._told[name] for name in out_of_order)
            raise self._wrong(
                f"`{higher.field}` is {higher.value:g}, below `{lower.field}` with {lower.value:g}, which cannot be"
            )
        return {name: self._told[name].value / self._told[name].divisor for name in FIGURES if name in self._told}

    def _wrong(self, problem: str) -> InputError:
        return InputError(f"{self._where}: {problem}", hint=WHOLE_FILE)


def mean(total: float | None, requests: float | None) -> float | None:
    """Tokens of a request; None where one of the two is not known."""
    return None if total is None or not requests else total / requests


def check_answered(completed: float | None, where: str) -> None:
    """Raise InputError where the run says that no request was answered."""
    if completed == 0:
        raise InputError(f"{where}: no request of this run was answered, so nothing was measured", hint="run it again")
