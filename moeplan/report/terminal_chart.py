"""A chart on the screen: marks and joined points on two axes, in signs of text.

Drawn here: plot libraries for terminals would come to every user, and know neither our ASCII page nor our widths.
Marks are signs that tell series apart by themselves; colour repeats them. Lines between them are dots of braille signs,
two columns and four rows to a sign; `page.py` writes them in ASCII where the page has no more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from math import ceil, floor, inf, isfinite, log10
from typing import TYPE_CHECKING, NamedTuple

from moeplan.report.page import GAP

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

ROWS = 10
MOST_COLUMNS = 80
"""A wider chart would only be flatter."""
LEAST_COLUMNS = 60
"""A narrower page is a log, and gets figures in rows alone."""
LEAST_POINTS = 3
"""Of fewer a table says as much."""
LEAST_PLOT_COLUMNS = 12
LOG_SPAN = 8
"""An axis is logarithmic where its highest figure is this many times its lowest."""
MOST_ASIDE = 5
"""Columns that a mark may give way to others."""
STEPS = (1, 2, 5)
"""Of round numbers."""
SAME = 1e-9
"""Relative distance below which figures are alike."""
UPRIGHT, LEVEL = "┊", "╌"
"""Signs of guides."""

# Dots of a braille sign, a row for each of its two columns (The Unicode Standard, Braille Patterns).
_BRAILLE = 0x2800
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_NOUGHTS = re.compile(r"\.0+(?!\d)")
"""Behind the point of a round number."""
_FAINT = "bright_black"

Figure = float | None
"""None and what is not finite are left out."""
Point = tuple[float, float]
Plot = list[list[tuple[str, str]]]
"""Signs with their styles."""


class Axis(NamedTuple):
    """What is counted along one side."""

    label: str
    words: Callable[[float], str]
    """A figure with its unit, as the rest of the page writes it."""
    ticks: tuple[float, ...] = ()
    """Figures to name in place of round ones; the axis then ends where the figures do."""
    log: bool = False
    """Logarithmic however little it spans, where its figures are multiples of each other."""


class Mark(NamedTuple):
    """One point, with the sign that says which it is."""

    x: Figure
    y: Figure
    sign: str
    style: str = ""


class Guide(NamedTuple):
    """A line across the chart at one figure."""

    value: float
    words: str
    upright: bool = True
    """At a figure of x; else at one of y."""
    reached: bool = False
    """The axis goes on to it; else it is left out where it lies beyond the points."""


class Chart(NamedTuple):
    """What is drawn."""

    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    """Where two fall on one place, the earlier has it."""
    lines: tuple[tuple[tuple[Figure, Figure], ...], ...] = ()
    guides: tuple[Guide, ...] = ()
    legend: tuple[tuple[str, str], ...] = ()
    """Signs and what they mean."""


class Scale(NamedTuple):
    """How figures lie along one axis, in cells of a few dots each."""

    low: float
    high: float
    log: bool
    cells: int
    dots_per_cell: int

    def dot(self, value: float) -> int:
        """Which dot, from 0 at the low end."""
        low, at, high = map(log10, (self.low, value, self.high)) if self.log else (self.low, value, self.high)
        return round(min(1.0, max(0.0, (at - low) / (high - low))) * (self.cells * self.dots_per_cell - 1))

    def cell(self, value: float) -> int:
        """Which cell, from 0 at the low end."""
        return self.dot(value) // self.dots_per_cell


def worth_a_chart(points: int, width: int) -> bool:
    """Whether a page of this width gets a chart of so many points beside their figures."""
    return points >= LEAST_POINTS and width >= LEAST_COLUMNS


def print_chart(page: Console, chart: Chart) -> None:
    """The chart and its legend behind a blank line."""
    page.print()
    for line in chart_lines(chart, min(page.width, MOST_COLUMNS)):
        page.print(line, no_wrap=True, overflow="crop")


def chart_lines(chart: Chart, width: int, rows: int = ROWS) -> Iterator[Text]:
    """Title, `rows` rows of the plot, axis, ticks and legend, none wider than `width`; nothing where no point is known."""
    marks = [(*point, mark) for mark in chart.marks for point in _known([(mark.x, mark.y)])]
    lines = [_known(line) for line in chart.lines]
    points = [(x, y) for x, y, _ in marks] + [point for line in lines for point in line]
    if not points:
        return
    up = _scale(chart.y, [y for _, y in points], _reached(chart, upright=False), rows, len(_DOTS[0]))
    named = dict(_ticks(chart.y, up, stacked=True))
    gutter = max(map(len, named.values())) + GAP
    if width - gutter < LEAST_PLOT_COLUMNS:
        return
    across = _scale(chart.x, [x for x, _ in points], _reached(chart, upright=True), width - gutter, len(_DOTS))
    guides = [guide for guide in chart.guides if _inside(guide, across, up)]

    plot = [[(" ", "")] * across.cells for _ in range(rows)]
    _put_guides(plot, guides, across, up)
    _put_lines(plot, lines, across, up)
    _put_marks(plot, marks, across, up)
    yield from _wrapped([_title(chart, across, up)], width, "bold")
    for row in reversed(range(rows)):
        words = named.get(row, "")
        text = _text(f"{words:>{gutter - GAP}} {'┤' if words else '│'}")
        for sign, style in plot[row]:
            text.append(sign, style)
        text.rstrip()
        yield text
    yield from _foot(chart.x, across, gutter)
    signs = [(UPRIGHT if guide.upright else LEVEL, guide.words) for guide in guides]
    yield from _wrapped([f"{sign} {words}" for sign, words in (*chart.legend, *signs)], width, "")


def _known(points: Iterable[tuple[Figure, Figure]]) -> list[Point]:
    return [(x, y) for x, y in points if x is not None and y is not None and isfinite(x) and isfinite(y)]


def _reached(chart: Chart, *, upright: bool) -> list[float]:
    return [
        guide.value for guide in chart.guides if guide.reached and guide.upright is upright and isfinite(guide.value)
    ]


def _inside(guide: Guide, across: Scale, up: Scale) -> bool:
    scale = across if guide.upright else up
    return scale.low <= guide.value <= scale.high


def _title(chart: Chart, across: Scale, up: Scale) -> str:
    both = across.log and up.log
    words = [
        f"{axis.label}{' (logarithmic)' if scale.log and not both else ''}"
        for axis, scale in ((chart.y, up), (chart.x, across))
    ]
    return f"{' over '.join(words)}{' (both logarithmic)' if both else ''}"


# Scales and ticks ------------------------------------------------------------------------------------------


def _scale(axis: Axis, values: Sequence[float], reached: Sequence[float], cells: int, dots: int) -> Scale:
    """From the least figure to the most; without own ticks and logarithms between round numbers around them."""
    low, high = min(*values, *reached, inf), max(*values, *reached, -inf)
    if high - low <= SAME * max(abs(low), abs(high)):
        around = abs(low) / 2 or 1.0
        return Scale(low - around, high + around, False, cells, dots)
    log = low > 0 and (axis.log or high / low >= LOG_SPAN)
    if not log and not axis.ticks:
        step = _round_above((high - low) / 5)
        low, high = floor(low / step + SAME) * step, ceil(high / step - SAME) * step
    return Scale(low, high, log, cells, dots)


def _round_above(value: float) -> float:
    power = floor(log10(value))
    return min(each for each in (_round(step, up) for up in (power, power + 1) for step in STEPS) if each >= value)


def _round(step: int, exponent: int) -> float:
    return float(f"{step}e{exponent}")


def _ticks(axis: Axis, scale: Scale, *, stacked: bool) -> list[tuple[int, str]]:
    """Cells and words of the finest ticks that stand clear of each other: in a row, or one above the other."""
    found: list[tuple[int, str]] = []
    for values in _finest_first(axis, scale):
        words = ["0" if value == 0 else _NOUGHTS.sub("", axis.words(value)) for value in values]
        found = [(scale.cell(value), told) for value, told in zip(values, words, strict=True)]
        clear = all(
            right > left + (not scale.log)
            if stacked
            else _start(right, after, scale) >= _start(left, before, scale) + len(before) + GAP
            for (left, before), (right, after) in pairwise(found)
        )
        if clear and len(set(words)) == len(words):
            break
    return found


def _start(cell: int, words: str, scale: Scale) -> int:
    """Where words begin that stand below a cell, and not beyond the last one."""
    return max(0, min(cell - len(words) // 2, scale.cells - len(words)))


def _finest_first(axis: Axis, scale: Scale) -> Iterator[list[float]]:
    """Figures to name, ever fewer of them, and one at last."""
    if axis.ticks:
        inside = [value for value in axis.ticks if scale.low <= value <= scale.high]
        for every in range(1, len(inside) + 1):
            yield inside[::every]
    elif scale.log:
        powers = range(floor(log10(scale.low)), ceil(log10(scale.high)) + 1)
        for every, steps in ((1, STEPS), *((every, STEPS[:1]) for every in range(1, len(powers) + 1))):
            rounds = [_round(step, power) for power in powers[::every] for step in steps]
            yield [value for value in rounds if scale.low <= value <= scale.high] or [scale.low]
    else:
        step = _round_above((scale.high - scale.low) / 6)
        while step <= scale.high - scale.low:
            first, last = ceil(scale.low / step - SAME), floor(scale.high / step + SAME)
            yield [number * step for number in range(first, last + 1)] or [scale.low]
            step = _round_above(1.5 * step)
    yield [scale.low]


def _foot(axis: Axis, scale: Scale, gutter: int) -> Iterator[Text]:
    """The axis below the plot, and its ticks."""
    line, below = ["─"] * scale.cells, [" "] * scale.cells
    for cell, words in _ticks(axis, scale, stacked=False):
        line[cell] = "┬"
        start = _start(cell, words, scale)
        below[start : start + len(words)] = words[: scale.cells - start]
    yield _text(f"{' ' * (gutter - 1)}└{''.join(line)}")
    yield _text(f"{' ' * gutter}{''.join(below)}".rstrip())


# Plot: rows of cells from the lowest up --------------------------------------------------------------------


def _put_guides(plot: Plot, guides: Sequence[Guide], across: Scale, up: Scale) -> None:
    for guide in guides:
        if guide.upright:
            for row in plot:
                row[across.cell(guide.value)] = (UPRIGHT, _FAINT)
        else:
            plot[up.cell(guide.value)] = [(LEVEL, _FAINT)] * across.cells


def _put_lines(plot: Plot, lines: Sequence[Sequence[Point]], across: Scale, up: Scale) -> None:
    found: dict[tuple[int, int], int] = {}
    for start, end in (ends for line in lines for ends in pairwise(line)):
        for column, row in _way(*((across.dot(x), up.dot(y)) for x, y in (start, end))):
            cell = row // up.dots_per_cell, column // across.dots_per_cell
            found[cell] = found.get(cell, 0) | _DOTS[column % across.dots_per_cell][-1 - row % up.dots_per_cell]
    for (row, column), dots in found.items():
        plot[row][column] = (chr(_BRAILLE | dots), _FAINT)


def _way(start: tuple[int, int], end: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """All dots of the straight way from one to the other."""
    across, up = end[0] - start[0], end[1] - start[1]
    steps = max(abs(across), abs(up), 1)
    for step in range(steps + 1):
        yield start[0] + round(across * step / steps), start[1] + round(up * step / steps)


def _put_marks(plot: Plot, marks: Sequence[tuple[float, float, Mark]], across: Scale, up: Scale) -> None:
    taken: dict[tuple[int, int], str] = {}
    for x, y, mark in marks:
        row, wanted = up.cell(y), across.cell(x)
        near = (wanted + side * aside for aside in range(MOST_ASIDE + 1) for side in (1, -1))
        column = next(
            (each for each in near if 0 <= each < across.cells and taken.get((row, each), mark.sign) == mark.sign), None
        )
        # Where no place nearby is free, the sign is left out: the first ones are those that matter most.
        if column is not None:
            taken[row, column] = mark.sign
            plot[row][column] = (mark.sign, mark.style)


# Words -----------------------------------------------------------------------------------------------------


def _wrapped(parts: Sequence[str], width: int, style: str) -> Iterator[Text]:
    """Parts side by side; each that has no room begins a new line, and is broken where it is longer than one."""
    from textwrap import wrap

    row = ""
    for part in parts:
        for number, piece in enumerate(wrap(part, width) or [""]):
            joined = f"{row}{' ' * (GAP + 1)}{piece}" if row else piece
            if row and (number or len(joined) > width):
                yield _text(row, style)
                joined = piece
            row = joined
    if row:
        yield _text(row, style)


def _text(words: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(words, style=style)
