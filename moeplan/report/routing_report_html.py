"""A report of routing as a page: a map of layers by experts, evenness beside chance, how many experts a batch touches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

from moeplan.report import routing_report_words as words
from moeplan.report.page import Column
from moeplan.report.pages.charts import COLOURS, INK, LINE, QUIET, figure
from moeplan.report.pages.loads_map import loads_figure
from moeplan.report.pages.markup import Html, paragraph, shown, unfolding
from moeplan.report.pages.shell import Section, State, Tile, headline, page_html, tiles
from moeplan.report.pages.tables import columns_table, notes_list
from moeplan.report.printable import printable_record
from moeplan.report.routing_words import counted, legend_words, over_mean, percent, times
from moeplan.report.routing_words import figure as in_figures
from moeplan.routing.result import DistinctAt, LayerReport, Report

MOST_NAMED = 20
"""Layers along an axis."""
BEYOND, CHANCE = "less even than chance", "chance explains it"


def routing_report_html(report: Report) -> str:
    """The report as one HTML file. UnknownError where the library that draws its charts is not installed."""
    whole, report = report, printable_record(report)
    state: State = "open" if report.uneven_layers else "good"
    return page_html(
        title=f"Experts of {report.source.model}",
        lead=[
            *map(paragraph, words.head_words(report)),
            headline(words.verdict_words(report), state),
            tiles(list(_tiles(report))),
        ],
        sections=[
            Section("load", "Layers by experts", [_map(report)]),
            Section("evenness", "How even each layer is", [_evenness(report), _worst(report)]),
            Section("coverage", "How many experts a batch touches", list(_coverage(report))),
            Section("layers", "All figures, layer by layer", [_table(section) for section in words.sections(report)]),
            Section("notes", "Notes", [notes_list(report.notes)]),
        ],
        result=whole,
    )  # fmt: skip


def _tiles(report: Report) -> Iterator[Tile]:
    yield Tile(
        "layers beyond chance",
        shown(report, "uneven_layers", str),
        f"of {counted(len(report.layers), 'layer', 'layers')}",
    )
    yield Tile("tokens", shown(report, "tokens", "{:,}".format), "of the layer that saw most")
    for place, worst in enumerate(report.worst):
        label, told = words.METRICS[worst.metric]
        if worst.metric in _MAIN:
            yield Tile(
                label, shown(report, f"worst.{place}.value", told), f"layer {worst.layer}; median {told(worst.median)}"
            )


_MAIN = ("busiest_over_mean", "effective_experts_fraction", "dead_experts", "in_sequence_growth")
"""Metrics that stand at the top of the page."""


def _map(report: Report) -> Html:
    most = max(report.layers, key=lambda layer: layer.busiest_over_mean)
    dead = sum(len(layer.dead.experts) for layer in report.layers)
    none = "no expert is without a token" if not dead else f"{counted(dead, 'expert', 'experts')} without a token"
    return loads_figure(
        [(str(layer.layer), over_mean(layer.tokens_by_expert)) for layer in report.layers],
        title="Tokens of each expert over the mean of its layer",
        description=(
            f"The busiest expert has {times(most.busiest_over_mean)} the mean, in layer {most.layer}; in all layers {none}. "
            "The stronger the colour, the busier."
        ),
    )


def _worst(report: Report) -> Html:
    return columns_table(words.worst_columns(report), "Layers that stand out")


def _evenness(report: Report) -> Html:
    layers = report.layers
    values = [
        {
            "layer": layer.layer, "spread": layer.load_cv, "floor": layer.load_cv_floor, "kind": BEYOND if layer.uneven else CHANCE,
            "told": f"layer {layer.layer}: spread {in_figures(layer.load_cv)}, by chance {in_figures(layer.load_cv_floor)}",
        }
        for layer in layers
    ]  # fmt: skip
    named = [layer.layer for layer in layers][:: 1 + len(layers) // MOST_NAMED]
    spec = {
        "data": {"values": values},
        "height": 240,
        "encoding": {
            "x": {"field": "layer", "type": "ordinal", "title": "layer", "axis": {"labelAngle": 0, "values": named}},
            "y": {"type": "quantitative", "title": "spread (deviation over mean)", "scale": {"zero": True}},
        },
        "layer": [
            {
                "mark": {"type": "rule", "color": LINE, "strokeWidth": 3, "aria": False},
                "encoding": {"y": {"field": "floor"}, "y2": {"field": "spread"}},
            },
            {"mark": {"type": "tick", "thickness": 2, "size": 14, "color": INK, "aria": False}, "encoding": {"y": {"field": "floor"}}},
            {
                "mark": {"type": "point", "size": 70, "opacity": 1},
                "encoding": {
                    "y": {"field": "spread"},
                    "color": {"field": "kind", "title": None, "scale": {"domain": [BEYOND, CHANCE], "range": [COLOURS[0], QUIET]}},
                    "shape": {"field": "kind", "title": None, "scale": {"domain": [BEYOND, CHANCE], "range": ["circle", "triangle-down"]}},
                    "description": {"field": "told"},
                },
            },
        ],
    }  # fmt: skip
    widest = max(layers, key=lambda layer: layer.load_cv)
    return figure(
        spec,
        title="Spread of each layer beside what chance gives",
        description=(
            f"Standard deviation of tokens by expert over their mean; short lines are what chance alone would give. "
            f"Widest is layer {widest.layer} with {in_figures(widest.load_cv)} where chance gives {in_figures(widest.load_cv_floor)}."
        ),
        table=[
            Column("layer", tuple(str(layer.layer) for layer in layers)),
            Column("spread", tuple(in_figures(layer.load_cv) for layer in layers)),
            Column("by chance", tuple(in_figures(layer.load_cv_floor) for layer in layers)),
            Column("", tuple(BEYOND if layer.uneven else CHANCE for layer in layers), right=False),
        ],
    )


# Coverage --------------------------------------------------------------------------------------------------

Curve = Callable[[LayerReport], Sequence[DistinctAt]]


def _coverage(report: Report) -> Iterator[Html]:
    curves = {
        name: _medians(report.layers, curve, figure_of)
        for name, curve, figure_of in (
            ("neighbours of one sequence", _in_sequence, _counted),
            ("tokens of different sequences", _across, _counted),
            ("independent, as often as counted", _any, _by_counts),
            ("independent, all alike", _any, _uniform),
        )
    }
    curves = {name: curve for name, curve in curves.items() if curve}
    sizes = sorted({tokens for curve in curves.values() for tokens in curve})
    if len(sizes) < 2:
        return
    names = list(curves)
    values = [
        {"curve": name, "tokens": tokens, "share": 100 * curve[tokens],
         "told": f"{name}, {tokens:,} tokens: {percent(curve[tokens], 0)} of the experts"}
        for name, curve in curves.items()
        for tokens in curve
    ]  # fmt: skip
    dashes = {"domain": names, "range": [[1, 0] if "independent" not in name else [5, 4] for name in names]}
    colours = {"domain": names, "range": list(COLOURS[: len(names)])}
    spec = {
        "data": {"values": values},
        "height": 300,
        "encoding": {
            "x": {
                "field": "tokens", "type": "quantitative", "title": "tokens of a step (logarithmic)",
                "scale": {"type": "log", "base": 2, "nice": False, "padding": 14}, "axis": {"values": sizes, "format": ",d", "grid": False},
            },
            "y": {"field": "share", "type": "quantitative", "title": "experts of a layer that are touched (%)", "scale": {"zero": True}},
            "color": {"field": "curve", "title": None, "scale": colours, "legend": {"columns": 2, "labelLimit": 300}},
        },
        "layer": [
            {"mark": {"type": "line", "aria": False}, "encoding": {"strokeDash": {"field": "curve", "title": None, "scale": dashes}}},
            {"mark": {"type": "point", "size": 50, "opacity": 1}, "encoding": {"description": {"field": "told"}}},
        ],
    }  # fmt: skip
    most = sizes[-1]
    ends = ", ".join(f"{name} {percent(curve[most], 0)}" for name, curve in curves.items() if most in curve)
    yield figure(
        spec,
        title="Share of a layer's experts that a batch touches",
        description=(
            f"Median of all layers. {most:,} tokens touch: {ends}. Fewer experts than independent tokens touch are fewer bytes "
            "to read."
        ),
        table=[
            Column("tokens", tuple(f"{tokens:,}" for tokens in sizes)),
            *(Column(name, tuple(percent(curve.get(tokens)) for tokens in sizes)) for name, curve in curves.items()),
        ],
    )  # fmt: skip


def _medians(layers: Sequence[LayerReport], curve: Curve, figure_of: Callable[[DistinctAt], float]) -> dict[int, float]:
    """Share of the experts by tokens, the median of all layers that have such a figure."""
    found: dict[int, list[float]] = {}
    for layer in layers:
        for each in curve(layer):
            found.setdefault(each.tokens, []).append(figure_of(each) / layer.num_experts)
    return {tokens: median(shares) for tokens, shares in sorted(found.items())}


def _in_sequence(layer: LayerReport) -> Sequence[DistinctAt]:
    return layer.in_sequence


def _any(layer: LayerReport) -> Sequence[DistinctAt]:
    return layer.in_sequence or layer.across


def _across(layer: LayerReport) -> Sequence[DistinctAt]:
    return layer.across


def _counted(each: DistinctAt) -> float:
    return each.distinct


def _by_counts(each: DistinctAt) -> float:
    return each.by_counts


def _uniform(each: DistinctAt) -> float:
    return each.uniform


def _table(section: Any) -> Html:
    columns = list(section.columns)
    return unfolding(
        section.title,
        columns_table(columns, section.title, hide_caption=True),
        paragraph(legend_words(section.told, columns), "quiet"),
    )
