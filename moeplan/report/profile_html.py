"""A profile as a page: what was measured beside the specification, products under the roofs, seconds of experts over tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from moeplan.core.units import duration, per_second
from moeplan.profile.result import Figure, Profile, Timed
from moeplan.report import profile_words as words
from moeplan.report.amounts import amount
from moeplan.report.page import UNKNOWN, Column
from moeplan.report.pages.charts import INK, QUIET, figure, log_ticks, look_of
from moeplan.report.pages.markup import Html, listed, paragraph, shown, unfolding
from moeplan.report.pages.shell import Section, State, Tile, headline, page_html, tiles
from moeplan.report.pages.tables import columns_table, notes_list, rows_table
from moeplan.report.printable import printable_record

TERA = 1e12
BAR, BARS = 30, 460
"""Pixels: height of a bar with its gap, width of a whole one."""
MAIN = (
    "read_bytes_per_s",
    "copy_bytes_per_s",
    "attention_bytes_per_s",
    "link_bytes_per_s",
    "layer_fixed_s",
    "context_bytes",
)
"""Figures at the top of the page, beside the matrix rates."""
EVEN = "uniform"
"""The routing whose times are drawn over tokens: the others stand in the table of points."""


def profile_html(profile: Profile) -> str:
    """The profile as one HTML file. UnknownError where the library that draws its charts is not installed."""
    whole, profile = profile, printable_record(profile)
    state: State = "good" if profile.complete and profile.figures else "open"
    return page_html(
        title=profile.device.name,
        lead=[
            paragraph(words.device_words(profile)),
            headline(words.outcome_words(profile), state, words.kept_words(profile)),
            tiles(list(_tiles(profile))),
        ],
        sections=[
            Section("figures", "What was measured", [*_beside(profile), *_figures(profile)]),
            Section("roofline", "Products under the roofs", list(_roofline(profile))),
            Section("latency", "Experts over tokens", list(_latency(profile))),
            Section("kernels", "The latency model, fitted to this device", _kernels(profile)),
            Section("changes", "Since the older profile", list(_changes(profile))),
            Section("problems", "Without a figure", _problems(profile)),
            Section("notes", "Notes", [notes_list(profile.notes)]),
        ],
        result=whole,
    )


def _tiles(profile: Profile) -> Iterator[Tile]:
    for place, each in enumerate(profile.figures):
        if each.name in MAIN or each.name.startswith("matmul_"):
            told = shown(profile, f"figures.{place}.value", partial(_amount, each.unit))
            yield Tile(each.label, told, _share(each) if each.nominal else "")


def _amount(unit: str, value: float) -> str:
    return amount(value, unit)


def _share(each: Figure) -> str:
    if not each.nominal:
        return UNKNOWN
    return f"{each.value / each.nominal:.0%} of {amount(each.nominal, each.unit)}"


# Figures beside the specification --------------------------------------------------------------------------


def _beside(profile: Profile) -> list[Html]:
    known = [each for each in profile.figures if each.nominal]
    if not known:
        return []
    values = [
        {"label": each.label, "share": 100 * each.value / (each.nominal or 1), "text": _share(each),
         "told": f"{each.label}: {amount(each.value, each.unit)}, {_share(each)}"}
        for each in known
    ]  # fmt: skip
    spec = {
        "data": {"values": values},
        "height": BAR * len(known),
        "width": BARS,
        "padding": {"left": 40, "right": 60, "top": 6, "bottom": 6},
        "encoding": {
            "y": {
                "field": "label", "type": "nominal", "title": None, "sort": [each.label for each in known],
                "axis": {"labelLimit": 260}, "scale": {"paddingInner": 0.3},
            },
            "x": {"field": "share", "type": "quantitative", "title": "% of the specification"},
        },
        "layer": [
            {"mark": "bar", "encoding": {"description": {"field": "told"}}},
            # Behind the widest bar, where no line crosses the words.
            {
                "mark": {"type": "text", "align": "left", "aria": False},
                "encoding": {"x": {"value": BARS + 12}, "text": {"field": "text"}},
            },
            {
                "data": {"values": [{"share": 100}]},
                "mark": {"type": "rule", "strokeDash": [6, 4], "color": INK, "aria": False},
                "encoding": {"y": None},
            },
        ],
    }  # fmt: skip
    best = max(known, key=lambda each: each.value / (each.nominal or 1))
    least = min(known, key=lambda each: each.value / (each.nominal or 1))
    return [
        figure(
            spec,
            title="Measured beside the specification",
            description=(
                f"The dashed line is what the maker promises. Most of that reaches {best.label}: {_share(best)}; least "
                f"{least.label}: {_share(least)}."
            ),
            table=[
                Column("figure", tuple(each.label for each in known), right=False),
                Column("measured", tuple(amount(each.value, each.unit) for each in known)),
                Column("specification", tuple(amount(each.nominal or 0, each.unit) for each in known)),
                Column("share", tuple(f"{each.value / (each.nominal or 1):.0%}" for each in known)),
            ],
        )
    ]


def _figures(profile: Profile) -> list[Html]:
    rows = [
        (label, value, spread, UNKNOWN if each.nominal is None else amount(each.nominal, each.unit), by)
        for (label, value, spread, by), each in zip(words.figure_rows(profile), profile.figures, strict=True)
    ]
    if not rows:
        return []
    cases = [(each.label, each.source) for each in profile.figures]
    told = "The case that each figure is of"
    return [
        rows_table(("figure", "measured", "spread", "specification", "by"), "<>>><", rows, "All figures"),
        unfolding(told, rows_table(("figure", "case"), "<<", cases, told, hide_caption=True)),
    ]


# Products --------------------------------------------------------------------------------------------------


def _roofline(profile: Profile) -> Iterator[Html]:
    """Each timed product by its operations per byte, under the best bandwidth and the best rate of each dtype."""
    bandwidth = max(
        (each.value for each in profile.figures if each.name in {"read_bytes_per_s", "copy_bytes_per_s"}), default=None
    )
    rates = {
        each.name.removeprefix("matmul_").removesuffix("_flops_per_s"): each.value
        for each in profile.figures
        if each.name.startswith("matmul_")
    }
    if bandwidth is None or not rates or not profile.timed:
        return
    points = profile.timed
    ratios = [each.flops_per_s / each.bytes_per_s for each in points]
    top = max(rates.values())
    least, most = min(ratios) / 1.5, max(*ratios, 3 * top / bandwidth)
    roofs: list[dict[str, Any]] = [
        {"roof": dtype, "ratio": ratio, "rate": min(rate, bandwidth * ratio) / TERA}
        for dtype, rate in rates.items()
        for ratio in (least, rate / bandwidth, most)
    ]
    ends = [
        {"ratio": most, "rate": rate / TERA, "label": f"{dtype}: {amount(rate, 'flop/s')}"}
        for dtype, rate in rates.items()
    ]
    slope = (least * top / bandwidth) ** 0.5
    memory = [{"ratio": slope, "rate": bandwidth * slope / TERA, "label": f"memory: {amount(bandwidth, 'bytes/s')}"}]
    kinds = list(dict.fromkeys(map(_kind, points)))
    values: list[dict[str, Any]] = [
        {"kind": _kind(each), "ratio": ratio, "rate": each.flops_per_s / TERA, "told": _told(each)}
        for each, ratio in zip(points, ratios, strict=True)
    ]
    ends_of_axis = {"domain": [least, most], "type": "log", "nice": False}
    log = {"type": "log", "nice": False, "padding": 12}
    heights = [each["rate"] for each in (*roofs, *values)]
    spec: dict[str, Any] = {
        "height": 360,
        "encoding": {
            "x": {
                "field": "ratio", "type": "quantitative", "title": "operations per byte (logarithmic)", "scale": ends_of_axis,
                "axis": {"format": ",~g", "values": log_ticks([least, most]), "grid": False},
            },
            "y": {
                "field": "rate", "type": "quantitative", "title": "TFLOP/s (logarithmic)", "scale": log,
                "axis": {"format": ",~g", "values": log_ticks(heights)},
            },
        },
        "layer": [
            {
                "data": {"values": roofs},
                "mark": {"type": "line", "color": INK, "strokeWidth": 1.75, "aria": False},
                "encoding": {"detail": {"field": "roof"}},
            },
            {
                "data": {"values": ends},
                "mark": {"type": "text", "align": "right", "dy": -8, "dx": -4, "aria": False},
                "encoding": {"text": {"field": "label"}},
            },
            {
                "data": {"values": memory},
                "mark": {"type": "text", "align": "right", "dx": -8, "dy": -8, "color": QUIET, "aria": False},
                "encoding": {"text": {"field": "label"}},
            },
            {
                "data": {"values": values},
                "mark": {"type": "point", "size": 55, "opacity": 0.85},
                "encoding": {**_look(kinds), "description": {"field": "told"}},
            },
        ],
    }  # fmt: skip
    best = max(points, key=lambda each: each.flops_per_s)
    yield figure(
        spec,
        title="Timed products under the roofs of this device",
        description=(
            f"Roofs are the best measured bandwidth, {amount(bandwidth, 'bytes/s')}, and the best measured rates. Products of one row "
            f"and experts of few tokens lie left, where memory bounds them. The fastest is {_told(best)}."
        ),
        table=_timed_table(points),
        note="Bytes of experts are the weights that were touched; of a product of two matrices input and output count too.",
    )


def _latency(profile: Profile) -> Iterator[Html]:
    """Seconds over tokens of even routing; of several shapes the one with most points, of the others the table tells."""
    even = [each for each in profile.timed if each.section == "experts" and each.case.endswith(f", {EVEN}")]
    cases = dict.fromkeys(each.case for each in even)
    if not cases:
        return
    case = max(cases, key=lambda case: sum(each.case == case for each in even))
    points = [each for each in even if each.case == case]
    tokens = sorted({each.tokens for each in points})
    kinds = list(dict.fromkeys(map(_kind, points)))
    if len(tokens) < 2:
        return
    values = [
        {"kind": _kind(each), "tokens": each.tokens, "at": 1e3 * each.seconds, "low": 1e3 * each.low_s, "high": 1e3 * each.high_s,
         "told": _told(each)}
        for each in points
    ]  # fmt: skip
    colour = _look(kinds)["color"]
    log = {"type": "log", "nice": False, "padding": 14}
    spec = {
        "data": {"values": values},
        "height": 320,
        "encoding": {
            "x": {
                "field": "tokens", "type": "quantitative", "title": "tokens (logarithmic)", "scale": {**log, "base": 2},
                "axis": {"values": tokens, "format": ",d", "grid": False},
            },
            "y": {
                "field": "at", "type": "quantitative", "title": "milliseconds (logarithmic)", "scale": log,
                "axis": {"format": ",~g", "values": log_ticks([1e3 * end for each in points for end in (each.low_s, each.high_s)])},
            },
        },
        "layer": [
            {"mark": {"type": "line", "aria": False}, "encoding": {"color": colour}},
            {"mark": {"type": "rule", "aria": False}, "encoding": {"y": {"field": "low"}, "y2": {"field": "high"}, "color": colour}},
            {"mark": {"type": "point", "size": 80, "opacity": 1}, "encoding": {**_look(kinds), "description": {"field": "told"}}},
        ],
    }  # fmt: skip
    fastest = min(points, key=lambda each: each.seconds / each.tokens)
    yield figure(
        spec,
        title=f"Seconds of the routed experts of a layer: {case}",
        description=(
            f"Upright lines are the tenth and the ninetieth percentile. Least per token has {_kind(fastest)} at {fastest.tokens:,} tokens: "
            f"{duration(fastest.seconds)}."
        ),
        table=_timed_table(points),
        note=None if len(cases) == 1 else f"{len(cases)} shapes were measured: the table of the roofline has all.",
    )  # fmt: skip


def _kind(each: Timed) -> str:
    return f"{each.backend}, {each.dtype}"


def _told(each: Timed) -> str:
    distinct = "" if each.distinct is None else f", {per_second(each.distinct)} experts"
    return (
        f"{_kind(each)}, {each.case}, {each.tokens:,} tokens{distinct}: {duration(each.seconds)}, "
        f"{amount(each.flops_per_s, 'flop/s')}, {amount(each.bytes_per_s, 'bytes/s')}"
    )


def _look(kinds: Sequence[str]) -> dict[str, Any]:
    """Colour and shape of each backend and dtype."""
    return {
        name: {
            "field": "kind", "type": "nominal", "title": None,
            "scale": {"domain": list(kinds), "range": list(looks)},
        }
        for name, looks in zip(("color", "shape"), zip(*map(look_of, range(len(kinds))), strict=True), strict=True)
    }  # fmt: skip


def _timed_table(points: Sequence[Timed]) -> list[Column]:
    return [
        Column("by", tuple(map(_kind, points)), right=False),
        Column("case", tuple(each.case for each in points), right=False),
        Column("tokens", tuple(f"{each.tokens:,}" for each in points)),
        Column("experts", tuple(UNKNOWN if each.distinct is None else per_second(each.distinct) for each in points)),
        Column("time", tuple(duration(each.seconds) for each in points)),
        Column("rate", tuple(amount(each.flops_per_s, "flop/s") for each in points)),
        Column("read", tuple(amount(each.bytes_per_s, "bytes/s") for each in points)),
    ]


# Tables ----------------------------------------------------------------------------------------------------


def _kernels(profile: Profile) -> list[Html]:
    rows = list(words.kernel_rows(profile))
    found = (
        [rows_table(words.KERNEL_HEADS, "<<>>>>>", rows, "Error of the model on cases that it was not fitted to")]
        if rows
        else []
    )
    for kernel in profile.kernels:
        constants = [
            Column("constant", tuple(kernel.constants), right=False),
            Column("value", tuple(f"{value:.4g}" for value in kernel.constants.values())),
        ]
        name = f"Constants of {kernel.backend}, {kernel.dtype}"
        found.append(unfolding(name, columns_table(constants, name, hide_caption=True)))
    return found


def _changes(profile: Profile) -> Iterator[Html]:
    against = words.against_words(profile)
    if against is None:
        return
    yield paragraph(against)
    rows = list(words.change_rows(profile))
    if rows:
        yield rows_table(words.CHANGE_HEADS, "<>>>", rows, "Beyond the noise")
    unchanged = words.unchanged_words(profile)
    if unchanged is not None:
        yield paragraph(unchanged, "quiet")


def _problems(profile: Profile) -> list[Html]:
    return [listed([*words.problem_words(profile), *words.not_here_words(profile)])]
