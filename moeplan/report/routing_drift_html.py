"""Drift of routing as a page: how far each layer moved beside what noise does, and how many tokens have the same experts."""

from __future__ import annotations

from typing import Any

from moeplan.report import routing_drift_words as words
from moeplan.report.page import Column
from moeplan.report.pages.charts import COLOURS, FREE, INK, QUIET, figure
from moeplan.report.pages.markup import Html, listed, paragraph, shown
from moeplan.report.pages.shell import Section, State, Tile, headline, page_html, tiles
from moeplan.report.pages.tables import columns_table, notes_list
from moeplan.report.printable import printable_record
from moeplan.report.routing_words import counted, legend_words, percent
from moeplan.report.routing_words import figure as in_figures
from moeplan.routing.result import Drift

MOST_NAMED = 20
"""Layers along an axis."""
STATES: dict[bool | None, State] = {True: "good", False: "bad", None: "open"}
MOVED, NOISE = "moved", "noise explains it"


def routing_drift_html(drift: Drift) -> str:
    """The drift as one HTML file. UnknownError where the library that draws its charts is not installed."""
    whole, drift = drift, printable_record(drift)
    beyond = words.beyond_words(drift)
    state = "open" if drift.bound is None and drift.above_noise else STATES[drift.passed]
    columns = words.layer_columns(drift)
    table = columns_table(columns, "Layer by layer")
    return page_html(
        title=f"Drift of the experts of {drift.a.model}",
        lead=[
            *map(paragraph, words.head_words(drift)),
            headline(words.verdict_words(drift), state, [beyond] if beyond else []),
            tiles(_tiles(drift)),
        ],
        sections=[
            Section("distance", "How far each layer moved", [_distances(drift), listed(words.told_words(drift))]),
            Section("agreement", "Same tokens, same experts", _agreement(drift)),
            Section("layers", "All figures", [table, paragraph(legend_words(words.LEGEND, columns), "quiet")]),
            Section("notes", "Notes", [notes_list(drift.notes)]),
        ],
        result=whole,
    )


def _tiles(drift: Drift) -> list[Tile]:
    place = next(number for number, layer in enumerate(drift.layers) if layer.layer == drift.farthest[0])
    farthest = drift.layers[place]
    noise = f"; noise goes to {in_figures(farthest.noise, 3)}" if farthest.noise else ""
    found = [
        Tile(
            "layers that moved",
            shown(drift, "above_noise", lambda moved: f"{len(moved):,}"),
            f"of {counted(len(drift.layers), 'layer', 'layers')}",
        ),
        Tile(
            "farthest",
            shown(drift, f"layers.{place}.distance", lambda value: in_figures(value, 3)),
            f"layer {farthest.layer}{noise}",
        ),
        Tile("tokens of A", shown(drift, "layers.0.a_tokens", "{:,}".format)),
        Tile("tokens of B", shown(drift, "layers.0.b_tokens", "{:,}".format)),
    ]
    if drift.agreement is not None:
        told = f"of {drift.agreement.tokens:,}"
        found.append(Tile("tokens with equal sets", shown(drift, "agreement.equal_fraction", percent), told))
    return found


def _distances(drift: Drift) -> Html:
    values = [
        {
            "layer": layer.layer, "distance": layer.distance, "floor": layer.floor, "noise": layer.noise,
            "kind": MOVED if layer.above_noise else NOISE,
            "told": f"layer {layer.layer}: {in_figures(layer.distance, 3)}, noise goes to {in_figures(layer.noise, 3)}",
        }
        for layer in drift.layers
    ]  # fmt: skip
    kinds = [MOVED, NOISE]
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "bar", "width": 14, "color": FREE, "aria": False}, "encoding": {"y": {"field": "noise"}}},
        {
            "mark": {"type": "point", "size": 80, "opacity": 1},
            "encoding": {
                "y": {"field": "distance"},
                "color": {"field": "kind", "title": None, "scale": {"domain": kinds, "range": [COLOURS[0], QUIET]}},
                "shape": {"field": "kind", "title": None, "scale": {"domain": kinds, "range": ["circle", "triangle-down"]}},
                "description": {"field": "told"},
            },
        },
    ]  # fmt: skip
    bound = ""
    if drift.bound is not None:
        bound = f" The dashed line is the bound of {drift.bound:g}."
        layers.append(
            {
                "data": {"values": [{"distance": drift.bound}]},
                "mark": {"type": "rule", "strokeDash": [6, 4], "color": INK, "aria": False},
                "encoding": {"x": None, "y": {"field": "distance"}},
            }
        )
    spec = {
        "data": {"values": values},
        "height": 260,
        "encoding": {"x": _layers(drift), "y": {"type": "quantitative", "title": "Jensen-Shannon distance", "scale": {"zero": True}}},
        "layer": layers,
    }  # fmt: skip
    paired = not any(layer.noise for layer in drift.layers)
    noise = (
        "Both files are of the same prompts, so nothing of it is noise"
        if paired
        else "Bars reach as far as noise alone goes"
    )
    return figure(
        spec,
        title="Distance of each layer's use of experts",
        description=f"0 is the same use of experts, 1 none in common. {noise}. {_farthest(drift)}.{bound}",
        table=words.layer_columns(drift)[:4],
    )


def _farthest(drift: Drift) -> str:
    farthest = next(layer for layer in drift.layers if layer.layer == drift.farthest[0])
    noise = f", where noise goes to {in_figures(farthest.noise, 3)}" if farthest.noise else ""
    return f"Farthest is layer {farthest.layer} with {in_figures(farthest.distance, 3)}{noise}"


def _agreement(drift: Drift) -> list[Html]:
    values = [
        {
            "layer": layer.layer, "kind": kind, "share": 100 * share,
            "told": f"layer {layer.layer}: {percent(share)} {kind}",
        }
        for layer in drift.layers
        if layer.agreement is not None
        for kind, share in (("tokens with equal sets", layer.agreement.equal_fraction), ("experts shared", layer.agreement.shared_fraction))
    ]  # fmt: skip
    both = drift.agreement
    if not values or both is None:
        return []
    kinds = list(dict.fromkeys(str(value["kind"]) for value in values))
    look = {"field": "kind", "title": None}
    spec = {
        "data": {"values": values},
        "height": 240,
        "encoding": {
            "x": _layers(drift),
            "y": {"field": "share", "type": "quantitative", "title": "%", "scale": {"zero": False}},
            "color": look | {"scale": {"domain": kinds, "range": list(COLOURS[: len(kinds)])}},
        },
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5, "aria": False}},
            {
                "mark": {"type": "point", "size": 60, "opacity": 1},
                "encoding": {
                    "shape": look | {"scale": {"domain": kinds, "range": ["circle", "diamond"]}},
                    "description": {"field": "told"},
                },
            },
        ],
    }
    known = [(layer.layer, layer.agreement) for layer in drift.layers if layer.agreement is not None]
    return [
        figure(
            spec,
            title="Tokens of the same prompts in both files",
            description=(
                f"{percent(both.equal_fraction)} of the tokens have the same experts, {percent(both.shared_fraction)} of the experts "
                f"are shared; fewest in layer {both.worst_layer}."
            ),
            table=[
                Column("layer", tuple(str(layer) for layer, _ in known)),
                Column("equal sets", tuple(percent(each.equal_fraction) for _, each in known)),
                Column("experts shared", tuple(percent(each.shared_fraction) for _, each in known)),
                Column("tokens", tuple(f"{each.tokens:,}" for _, each in known)),
            ],
        )
    ]


def _layers(drift: Drift) -> dict[str, Any]:
    """The axis of layers, of which at most twenty are named."""
    named = [layer.layer for layer in drift.layers][:: 1 + len(drift.layers) // MOST_NAMED]
    return {"field": "layer", "type": "ordinal", "title": "layer", "axis": {"labelAngle": 0, "values": named}}
