"""A map of how loaded each expert of each layer is: a row per layer, a column per expert or per few of them.

Signs of growing darkness tell the load, so that it reads without colour; colour repeats them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from moeplan.report.page import GAP

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

SIGNS = (" ", "░", "▒", "▓", "█")
"""Of an expert that no token came to, and of the loads between the bounds."""
Bounds = tuple[float, float, float]
EXPERTS: Bounds = (0.7, 1.5, 3.0)
RANKS: Bounds = (0.9, 1.1, 1.5)
"""Loads over the mean of their layer, at which the sign turns darker: ranks hold several experts, and differ less."""
STYLES = ("", "blue", "", "yellow", "red")
WIDEST_CELL = 6
"""Columns of one expert, where there are few of them."""


class HeatRow(NamedTuple):
    """One layer."""

    label: str
    counts: tuple[float, ...]
    """Tokens of each expert, or of each rank."""
    tail: str = ""
    """What stands behind its row."""


class Grid(NamedTuple):
    """How experts become columns."""

    together: int
    """Experts of one cell, which shows the busiest of them."""
    cell_columns: int
    bounds: Bounds


def grid(rows: Sequence[HeatRow], width: int, bounds: Bounds = EXPERTS) -> Grid:
    """The grid of the rows on a page that is `width` columns wide: as wide as there is room for, the same for all rows."""
    most = max(len(row.counts) for row in rows)
    room = max(1, width - _beside(rows))
    together = -(-most // room)
    cells = -(-most // together)
    return Grid(together, max(1, min(WIDEST_CELL, room // cells)), bounds)


def levels(counts: Sequence[float], shape: Grid) -> list[int]:
    """Which sign each cell has: that of its busiest expert."""
    mean = sum(counts) / len(counts)
    groups = (counts[first : first + shape.together] for first in range(0, len(counts), shape.together))
    return [_level(max(group), mean, shape.bounds) for group in groups]


def map_words(name: str, names: str, shape: Grid) -> str:
    """What the signs mean; `name` and `names` are what has a column each."""
    low, middle, high = (f"{bound:g}" for bound in shape.bounds)
    each = (
        f"each sign one {name}" if shape.together == 1 else f"each sign {shape.together} {names}, the busiest of them"
    )
    _, light, even, dark, full = SIGNS
    return (
        f"{each}; tokens over the layer's mean: blank none, {light} below {low}, {even} to {middle}, {dark} to {high}, "
        f"{full} above"
    )


def print_heat_map(page: Console, rows: Sequence[HeatRow], shape: Grid) -> None:
    """All rows, none wider than the page."""
    for line in heat_lines(rows, shape):
        page.print(line, no_wrap=True, overflow="crop")


def heat_lines(rows: Sequence[HeatRow], shape: Grid) -> Iterator[Text]:
    """Each row with its label before it and its tail behind it."""
    from rich.text import Text

    label = max(len(row.label) for row in rows)
    most = max(-(-len(row.counts) // shape.together) for row in rows) * shape.cell_columns
    for row in rows:
        found = levels(row.counts, shape)
        text = Text(f"{row.label:>{label}}{' ' * GAP}")
        for level, run in groupby(found):
            text.append(SIGNS[level] * shape.cell_columns * len(list(run)), STYLES[level])
        text.append(" " * (most - len(found) * shape.cell_columns))
        text.append(f"{' ' * GAP}{row.tail}" if row.tail else "")
        yield text


def _level(count: float, mean: float, bounds: Bounds) -> int:
    if count == 0:
        return 0
    return 1 + sum(count >= bound * mean for bound in bounds)


def _beside(rows: Sequence[HeatRow]) -> int:
    """Columns that the longest label and the longest tail take."""
    tail = max(len(row.tail) for row in rows)
    return max(len(row.label) for row in rows) + GAP + (tail + GAP if tail else 0)
