"""A placement of experts as a page: what spare slots are worth, ranks before and after, evenness layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from moeplan.core.units import gib
from moeplan.report import routing_placement_words as words
from moeplan.report.page import Column
from moeplan.report.pages.charts import COLOURS, INK, LINE, QUIET, figure
from moeplan.report.pages.loads_map import loads_figure
from moeplan.report.pages.markup import Html, listed, paragraph, shown
from moeplan.report.pages.shell import Section, Tile, headline, page_html, tiles
from moeplan.report.pages.tables import columns_table, notes_list
from moeplan.report.printable import printable_record
from moeplan.report.routing_words import figure as in_figures
from moeplan.report.routing_words import over_mean, percent
from moeplan.routing.result import PlacementReport

MOST_NAMED = 20
"""Layers along an axis."""
FULL = 2.0
"""Times the mean that a rank's cell is full at: ranks hold several experts, and differ less than these."""
BY_NUMBER, PLACED = words.BY_NUMBER, "as placed"
SHAPES = ("circle", "diamond", "square")


def routing_placement_html(report: PlacementReport) -> str:
    """The placement as one HTML file. UnknownError where the library that draws its charts is not installed."""
    whole, report = report, printable_record(report)
    before, after = report.live_before or report.before, report.live or report.after
    return page_html(
        title=f"Experts of {report.model} on {report.ranks:,} ranks",
        lead=[
            *map(paragraph, words.head_words(report)),
            headline(f"PLACED: {words.verdict_words(report)}", "good" if after.mean > before.mean else "open"),
            tiles(list(_tiles(report))),
        ],
        sections=[
            Section("spare", "What spare slots are worth", _spare(report)),
            Section("ranks", "Ranks, before and after", list(_ranks(report))),
            Section("layers", "Layer by layer", _layers(report)),
            Section("summary", "In short", _summary(report)),
            Section("notes", "Notes", [notes_list(report.notes)]),
        ],
        result=whole,
    )  # fmt: skip


def _summary(report: PlacementReport) -> list[Html]:
    return [columns_table(words.summary_columns(report), "Balancedness"), listed(words.told_words(report))]


def _tiles(report: PlacementReport) -> Iterator[Tile]:
    yield Tile(
        "balancedness by number", shown(report, "before.mean", in_figures), f"{percent(1 - report.before.mean, 0)} idle"
    )
    yield Tile("as placed", shown(report, "after.mean", in_figures), f"{percent(1 - report.after.mean, 0)} idle")
    if report.live is not None and report.live_before is not None:
        told = f"{in_figures(report.live_before.mean)} by number"
        yield Tile("as placed, on live counts", shown(report, "live.mean", in_figures), told)
    yield Tile(
        "redundant experts as placed",
        shown(report, "redundant_experts", "{:,}".format),
        f"{report.slots_per_rank:,} slots a rank",
    )
    yield Tile("advised", shown(report, "sweep.recommended", "{:,}".format), "redundant experts")
    if report.memory is not None and report.redundant_experts:
        yield Tile("memory on a rank", shown(report, "memory.per_rank_bytes", lambda size: gib(size, 2)))


# Spare slots -----------------------------------------------------------------------------------------------


def _spare(report: PlacementReport) -> list[Html]:
    """Evenness, and where times are known what steps save, by the number of copies."""
    rows = report.sweep.spare
    evenness: dict[str, list[float | None]] = {
        "what was planned on": [row.balancedness.mean for row in rows],
        f"single steps of {report.sweep.step_tokens:,} tokens": [row.step_balancedness for row in rows],
        "live counts": [None if row.live is None else row.live.mean for row in rows],
    }
    in_order = report.sweep.in_order
    saved = {
        "decode": [_saved(row.decode.seconds, in_order.decode_s) for row in rows],
        "prompts": [_saved(row.prefill.seconds, in_order.prefill_s) for row in rows],
    }
    found = []
    if len(rows) > 1:
        first, last = rows[0], rows[-1]
        told = (
            f"1 is even. With {first.redundant_experts:,} copies placements reach {in_figures(first.balancedness.mean)}, with "
            f"{last.redundant_experts:,} {in_figures(last.balancedness.mean)}; single steps have noise of their own. Advised are "
            f"{report.sweep.recommended:,}."
        )
        found += _curves(report, evenness, "Balancedness over copies", told, "balancedness")
        told = (
            "All held against experts by number, without copies; below 0 a step takes longer. The table below holds further "
            "copies against the fewest."
        )
        found += _curves(report, saved, "What a step saves", told, "% of the step's time", percents=True)
    found.append(columns_table(words.spare_columns(report), "Numbers of copies"))
    found.append(paragraph(words.spare_legend(report), "quiet"))
    return [*found, listed(words.advice_words(report))]


def _saved(seconds: float | None, in_order_s: float | None) -> float | None:
    """Percent: one base for all, so that the curve compares its points."""
    return None if seconds is None or not in_order_s else 100 * (1 - seconds / in_order_s)


def _curves(
    report: PlacementReport,
    curves: dict[str, list[float | None]],
    title: str,
    told: str,
    unit: str,
    *,
    percents: bool = False,
) -> list[Html]:
    """One chart; nothing where no curve is known."""
    copies = [row.redundant_experts for row in report.sweep.spare]
    known = {name: figures for name, figures in curves.items() if any(each is not None for each in figures)}
    if not known:
        return []
    names = list(known)
    values = [
        {
            "curve": name,
            "copies": many,
            "figure": each,
            "told": f"{name}, {many:,} copies: {each:.2f}{' %' if percents else ''}",
        }
        for name, figures in known.items()
        for many, each in zip(copies, figures, strict=True)
        if each is not None
    ]
    look = {
        channel: {"field": "curve", "title": None, "scale": {"domain": names, "range": list(looks[: len(names)])}}
        for channel, looks in (("color", COLOURS), ("shape", SHAPES))
    }
    spec = {
        "data": {"values": values},
        "height": 260,
        "encoding": {
            "x": {
                "field": "copies", "type": "quantitative", "title": "redundant experts",
                "axis": {"values": copies, "format": ",d", "grid": False, "labelOverlap": "greedy"},
            },
            "y": {"field": "figure", "type": "quantitative", "title": unit, "scale": {"zero": percents}},
        },
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5, "aria": False}, "encoding": {"color": look["color"]}},
            {"mark": {"type": "point", "size": 80, "opacity": 1}, "encoding": {**look, "description": {"field": "told"}}},
        ],
    }  # fmt: skip
    table = [
        Column("copies", tuple(f"{many:,}" for many in copies)),
        *(
            Column(f"{name}, %" if percents else name, tuple(map(in_figures, figures)))
            for name, figures in known.items()
        ),
    ]
    return [figure(spec, title=title, description=told, table=table)]


# Ranks and layers ------------------------------------------------------------------------------------------


def _ranks(report: PlacementReport) -> Iterator[Html]:
    for title, placed in (
        ("Load of each rank, experts by number", False),
        ("Load of each rank, experts as placed", True),
    ):
        rows = words.heat_rows(report, placed=placed)
        if not rows:
            return
        loads = [(row.label, over_mean(row.counts)) for row in rows]
        label, worst = max(loads, key=lambda row: max(row[1]))
        told = (
            f"The busiest rank has {max(worst):.2f} times the mean of its layer, in layer {label}. Steps wait for it."
        )
        yield loads_figure(loads, title=title, description=told, unit="rank", full=FULL)


def _layers(report: PlacementReport) -> list[Html]:
    if not report.layers:
        return []
    live = report.live is not None
    pairs = [
        (
            layer,
            (layer.live_before or layer.before) if live else layer.before,
            (layer.live or layer.after) if live else layer.after,
        )
        for layer in report.layers
    ]
    ends = [
        {
            "layer": layer.layer,
            "before": before.balancedness,
            "after": after.balancedness,
            "bound": layer.most_without_copies,
        }
        for layer, before, after in pairs
    ]
    values = [
        {"layer": layer.layer, "kind": kind, "at": each.balancedness,
         "told": f"layer {layer.layer}, {kind}: {in_figures(each.balancedness)}; bound {in_figures(layer.most_without_copies)}"}
        for layer, before, after in pairs
        for kind, each in ((BY_NUMBER, before), (PLACED, after))
    ]  # fmt: skip
    named = [layer.layer for layer in report.layers][:: 1 + len(report.layers) // MOST_NAMED]
    kinds: Sequence[str] = (BY_NUMBER, PLACED)
    look = {
        "color": {"field": "kind", "title": None, "scale": {"domain": kinds, "range": [QUIET, COLOURS[0]]}},
        "shape": {"field": "kind", "title": None, "scale": {"domain": kinds, "range": ["triangle-up", "circle"]}},
    }
    rule = {"mark": {"type": "rule", "color": LINE, "strokeWidth": 3, "aria": False}}
    tick = {"mark": {"type": "tick", "thickness": 2, "size": 14, "color": INK, "aria": False}}
    spec: dict[str, Any] = {
        "height": 260,
        "encoding": {
            "x": {"field": "layer", "type": "ordinal", "title": "layer", "axis": {"labelAngle": 0, "values": named}},
            "y": {"type": "quantitative", "title": "balancedness", "scale": {"domain": [0, 1]}},
        },
        "layer": [
            {"data": {"values": ends}, **rule, "encoding": {"y": {"field": "before"}, "y2": {"field": "after"}}},
            {"data": {"values": ends}, **tick, "encoding": {"y": {"field": "bound"}}},
            {
                "data": {"values": values},
                "mark": {"type": "point", "size": 70, "opacity": 1},
                "encoding": {"y": {"field": "at"}, **look, "description": {"field": "told"}},
            },
        ],
    }
    on = "on live counts" if live else "on the counts that it was planned on"
    worst, _, after = min(pairs, key=lambda pair: pair[2].balancedness)
    told = (
        f"Balancedness {on}: the ranks' mean load over the busiest one's. Short lines are the best without copies. Least even as placed is "
        f"layer {worst.layer}: {in_figures(after.balancedness)}."
    )
    columns = words.layer_columns(report)
    return [
        figure(spec, title="Each layer before and after", description=told, table=columns),
        paragraph(words.LEGEND, "quiet"),
    ]
