"""Charts of a page: Vega-Lite specifications, drawn to SVG when the page is written.

Vega draws them by vl-convert, so that the page brings no library with it. Colours are CSS variables, so one drawing serves a
light page, a dark one and paper. Whoever does not see a chart has its text and, below it, the table of the same figures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.util import find_spec
from math import ceil, floor, log10
from typing import Any

from moeplan.core.errors import UnknownError
from moeplan.report.page import Column
from moeplan.report.pages.markup import Html, element, text, unfolding
from moeplan.report.pages.palette import KINDS
from moeplan.report.pages.tables import columns_table
from moeplan.report.printable import printable_record

WIDTH = 760
"""Of the plot alone in pixels; a page narrower than the drawing scales it down, a phone scrolls it."""
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
"""Vega measures texts by the first, which it brings along: the same drawing on every machine. The others are as wide."""
INK, QUIET, LINE, GRID, FREE = (f"var(--{name})" for name in ("ink", "quiet", "line", "grid", "free"))
COLOURS = tuple(f"var(--{name})" for name in KINDS)
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "triangle-right")
LEAST_TICKS, MOST_TICKS = 3, 12
MOST_CHARACTERS = 2000
"""Of a text in a chart, which shows some fifty; pages have the whole in their tables."""

_CONFIG: dict[str, Any] = {
    "background": None,
    "font": FONT,
    "padding": {"left": 6, "right": 28, "top": 6, "bottom": 6},
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK, "titleColor": QUIET, "tickColor": LINE, "domainColor": LINE, "gridColor": GRID,
        "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 8, "labelPadding": 5,
        "labelLimit": 220,
    },
    "legend": {
        "labelColor": INK, "titleColor": QUIET, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
        "orient": "bottom", "direction": "horizontal", "columns": 4, "labelLimit": 240, "symbolStrokeWidth": 0,
        "symbolOpacity": 1, "rowPadding": 7, "columnPadding": 28, "offset": 14,
    },
    "text": {"color": INK, "fontSize": 12},
    "range": {"category": list(COLOURS)},
    "line": {"strokeWidth": 2.5, "color": COLOURS[0]},
    "point": {"size": 60, "filled": True, "opacity": 1, "color": COLOURS[0]},
    "rule": {"color": INK},
    "bar": {"color": COLOURS[0]},
    "header": {"labelColor": INK, "titleColor": QUIET, "labelFontSize": 12},
}  # fmt: skip
_LENGTHS = re.compile(r'( (?:d|transform|x2?|y2?|width|height|opacity)=")([^"]*)')
_LONG = re.compile(r"(\.\d\d)\d+")
_AXIS, _DIGITS = re.compile(r'aria-label="[XY]-axis [^"]*"'), re.compile(r"\d+\.\d{3,}")
_ID = re.compile(r'\bid="([^"]+)"')
_REFERENCE = re.compile(r'(\bid="|url\(#)([^")]+)("|\))')


def log_ticks(values: Sequence[float]) -> list[float]:
    """Round figures to name on a logarithmic axis over these: three at least where there is a span, of the roundest that are
    so many. Vega names what has room, which leaves out 1 and 10 for 7 and 8."""
    least, most = min(values), max(values)
    powers = range(floor(log10(least)), ceil(log10(most)) + 1)
    found: list[float] = []
    for steps in ((1,), (1, 2, 5), range(1, 10), [each / 10 for each in range(10, 100)]):
        found = [float(f"{step}e{power}") for power in powers for step in steps]
        found = [each for each in found if least <= each <= most]
        if len(found) >= LEAST_TICKS:
            break
    return found[:: 1 + len(found) // MOST_TICKS] or [least]


def look_of(place: int) -> tuple[str, str]:
    """Colour and shape of a series by its number; those that share a colour have other shapes."""
    return COLOURS[place % len(COLOURS)], SHAPES[(place + place // len(COLOURS)) % len(SHAPES)]


def need_charts() -> None:
    """UnknownError where nothing is installed that draws charts."""
    if find_spec("vl_convert") is None:
        raise UnknownError(
            "vl-convert-python is not installed, so the page's charts cannot be drawn",
            hint="pip install 'moeplan[page]', or take --format markdown",
        )


def figure(
    spec: Mapping[str, Any], *, title: str, description: str, table: Sequence[Column], note: str | None = None
) -> Html:
    """A chart with its title, its text alternative and the table of its figures.

    `spec` is Vega-Lite without `$schema`, `config`, and unless it wants others, `width` and `background`. Give marks that a
    reader may look at a channel `description`: it is read out and shown below the chart where the mark is pointed at, or
    reached with the arrow keys. Leave out others with `"aria": False`. `description` says what the chart shows and what follows
    from it, for those who do not see it too. UnknownError as `need_charts`.
    """
    drawing = drawn(spec, f"{title}. {description}")
    name = f"chart-{sha256(f'{title}{drawing}'.encode()).hexdigest()[:10]}"
    return element(
        "figure",
        element("figcaption", element("h3", title), element("p", description)),
        element("div", drawing, class_="chart", tabindex=0, role="group", aria_label=f"Chart: {title}"),
        element("output", class_="readout", aria_live="polite"),
        *([element("p", note, class_="quiet")] if note else []),
        unfolding("The figures as a table", columns_table(table, title, hide_caption=True)),
        id=name,
    )


def drawn(spec: Mapping[str, Any], label: str) -> Html:
    """The chart as SVG that is as wide as its place, with names of its own for what it refers to."""
    need_charts()
    import vl_convert

    # Vega makes expressions of some texts, and reads them as an older JavaScript in which a line separator ends a string.
    whole = _cut(printable_record({"width": WIDTH, **spec, "config": _merged(_CONFIG, spec.get("config", {}))}))
    svg = vl_convert.vegalite_to_svg(whole)
    # Digits beyond a hundredth of a pixel are noise of the machine.
    svg = _LENGTHS.sub(lambda found: found[1] + _LONG.sub(r"\1", found[2]), svg)
    # What is read out of an axis has the ends of its scale, and all their digits.
    svg = _AXIS.sub(lambda axis: _DIGITS.sub(lambda found: f"{float(found[0]):.3g}", axis[0]), svg)
    own = sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:8]
    # Vega numbers what it refers to through all charts of a process.
    names = {name: f"{own}-{number}" for number, name in enumerate(dict.fromkeys(_ID.findall(svg)))}
    svg = _REFERENCE.sub(lambda found: f"{found[1]}{names.get(found[2], found[2])}{found[3]}", svg)
    opening, _, rest = svg.partition(">")
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', opening)
    assert box is not None
    width, height = round(float(box[1])), round(float(box[2]))
    return Html(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="graphics-document document" aria-roledescription="chart" aria-label="{text(label)}">{rest}'
    )


def _cut(value: Any) -> Any:
    """The same with long texts cut: Vega shortens a label letter by letter, and measures it anew each time."""
    if isinstance(value, str):
        return value if len(value) <= MOST_CHARACTERS else f"{value[:MOST_CHARACTERS]}\N{HORIZONTAL ELLIPSIS}"
    if isinstance(value, dict):
        return {_cut(name): _cut(item) for name, item in value.items()}
    return [_cut(item) for item in value] if isinstance(value, list | tuple) else value


def _merged(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """`other` laid over `base`, name by name."""
    both = dict(base)
    for name, value in other.items():
        mine = both.get(name)
        both[name] = _merged(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return both
