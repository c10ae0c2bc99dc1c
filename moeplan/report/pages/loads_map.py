"""Layers by experts as a heat map: how often each expert is chosen, over the mean of its layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moeplan.report.page import Column
from moeplan.report.pages.charts import COLOURS, WIDTH, figure
from moeplan.report.pages.markup import Html

FULL = 4.0
"""Times the mean from which a cell is full: beyond it, how far is in the table."""
LEAST_ROW_PIXELS, MOST_ROW_PIXELS = 8, 18


def loads_figure(
    rows: Sequence[tuple[str, Sequence[float]]],
    *,
    title: str,
    description: str,
    unit: str = "expert",
    full: float = FULL,
) -> Html:
    """A row for each layer with its label and loads over their mean, where `full` is the strongest colour; the table has the
    extremes of each layer."""
    experts = max(len(loads) for _, loads in rows)
    pixels = max(LEAST_ROW_PIXELS, min(MOST_ROW_PIXELS, 480 // len(rows)))
    values = [
        {"layer": place, "expert": expert, "load": min(load, full)}
        for place, (_, loads) in enumerate(rows)
        for expert, load in enumerate(loads)
    ]
    busiest = [
        {
            "layer": place,
            "expert": most,
            "told": f"layer {label}: {unit} {most:,} has most, {loads[most]:.2f} times the mean",
        }
        for place, (label, loads) in enumerate(rows)
        for most in (_busiest(loads),)
    ]
    labelled = range(0, len(rows), max(1, -(-12 // pixels)))
    spec: dict[str, Any] = {
        "height": pixels * len(rows),
        "width": WIDTH,
        "encoding": {
            "x": {
                "field": "expert", "type": "ordinal", "title": unit, "scale": {"padding": 0},
                "axis": {"values": list(range(0, experts, max(1, experts // 8))), "labelAngle": 0, "grid": False},
            },
            "y": {
                "field": "layer", "type": "ordinal", "title": "layer", "scale": {"padding": 0},
                "axis": {
                    "values": list(labelled), "grid": False, "labelExpr": _labels(rows),
                    "description": f"Y-axis: {len(rows)} layers, from {rows[0][0]} above to {rows[-1][0]} below",
                },
            },
        },
        "layer": [
            {
                "data": {"values": values},
                "mark": {"type": "rect", "aria": False, "color": COLOURS[0]},
                "encoding": {
                    "opacity": {
                        "field": "load", "type": "quantitative", "title": "load over the layer's mean",
                        "scale": {"domain": [0, full], "range": [0.03, 1]},
                        "legend": {
                            "type": "symbol", "symbolType": "square", "symbolSize": 260, "columns": 6, "format": "~g",
                            "values": [0, *(full * part for part in (0.125, 0.25, 0.5, 0.75, 1))], "symbolFillColor": COLOURS[0],
                            "labelExpr": f"datum.value == {full:g} ? '{full:g} and more' : datum.label",
                        },
                    },
                },
            },
            # Seen only where it is looked at: of each layer the busiest cell says which it is.
            {
                "data": {"values": busiest},
                "mark": {"type": "rect", "color": COLOURS[0], "fillOpacity": 0},
                "encoding": {"description": {"field": "told"}},
            },
        ],
    }  # fmt: skip
    return figure(spec, title=title, description=description, table=_table(rows, unit))


def _labels(rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Names of the layers as Vega looks them up; numbers alone go into its expression."""
    numbers = [int("".join(filter(str.isdigit, label)) or 0) for label, _ in rows]
    return f"{numbers}[datum.value]"


def _busiest(loads: Sequence[float]) -> int:
    return max(range(len(loads)), key=loads.__getitem__)


def _table(rows: Sequence[tuple[str, Sequence[float]]], unit: str) -> list[Column]:
    busiest = [_busiest(loads) for _, loads in rows]
    return [
        Column("layer", tuple(label for label, _ in rows), right=False),
        Column(f"busiest {unit}", tuple(f"{place:,}" for place in busiest)),
        Column("its load", tuple(f"{max(loads):.2f}" for _, loads in rows)),
        Column("least load", tuple(f"{min(loads):.2f}" for _, loads in rows)),
        Column("never chosen", tuple(f"{sum(load == 0 for load in loads):,}" for _, loads in rows)),
    ]
