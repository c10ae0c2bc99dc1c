"""What every file of fitted constants says alike: rows, error and source of a set, and constants above zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moeplan.sources.strict_yaml import Block


class Fitted(NamedTuple):
    """What a set of constants was fitted to, and how far off it is."""

    rows: Mapping[str, int]
    """Measured rows by shape."""
    mean_error: float
    median_error: float
    judged: str
    """What the errors were taken on."""


def fitted(block: Block) -> Fitted:
    """Rows and error of a set. Raises InputError for one that lacks them: constants without are not to be used."""
    rows, error = block.block("rows"), block.block("error")
    if rows is None or not rows.values or error is None:
        raise block.wrong("rows", "is missing: a set needs its rows, its error and a source", "name all three")
    counts = {str(name): rows.integer(name, minimum=1) or 0 for name in rows.values}
    mean, middle, judged = error.number("mean"), error.number("median"), error.text("judged")
    if mean is None or middle is None or judged is None or not all(counts.values()):
        raise block.wrong("error", "needs mean, median and what it was judged on")
    error.done()
    return Fitted(counts, mean, middle, judged)


def positive_constants(block: Block, names: Sequence[str]) -> list[float]:
    """The numbers of `constants` in the order of their names. Raises InputError unless all are there and above zero."""
    values = block.block("constants")
    if values is None:
        raise block.wrong("constants", "is missing")
    found = [values.number(name) for name in names]
    values.done()
    for name, value in zip(names, found, strict=True):
        if not value:
            raise values.wrong(name, "must be a number above zero")
    return [value for value in found if value]


def needed(block: Block, key: str) -> str:
    """A text that must be there."""
    value = block.text(key)
    if value is None:
        raise block.wrong(key, "is missing")
    return value
