"""Context against concurrency: how many sequences there is room for, over their length."""

from __future__ import annotations

from typing import Any

from moeplan.estimate.result import Estimate
from moeplan.report.page import Column
from moeplan.report.pages.charts import COLOURS, INK, figure
from moeplan.report.pages.markup import Html

TITLE = "Context against concurrency"


def room_figure(estimate: Estimate) -> Html:
    """The curve, and where what was asked lies; nothing where nothing fits or nothing is known."""
    points = [each for each in estimate.capacity.over_context if each.max_concurrency]
    if len(points) < 2:
        return Html()
    per_rank = estimate.capacity.per == "attention_dp_rank"
    asked = estimate.request
    held = -(-asked.concurrency // estimate.layout.dp)
    values = [
        {
            "context": each.context_tokens,
            "sequences": each.max_concurrency,
            "told": f"{each.context_tokens:,} tokens: room for {each.max_concurrency:,} "
            f"{'sequence' if each.max_concurrency == 1 else 'sequences'}",
        }
        for each in points
    ]
    told = f"asked: {held:,} {'sequence' if held == 1 else 'sequences'} of {asked.context_tokens:,} tokens"
    x: dict[str, Any] = {
        "field": "context",
        "type": "quantitative",
        "title": "tokens of each sequence (logarithmic)",
        "scale": {"type": "log", "base": 2, "nice": False},
        "axis": {"format": ",d", "values": _ticks([each.context_tokens for each in points], 4), "labelFlush": False},
    }
    y: dict[str, Any] = {
        "field": "sequences",
        "type": "quantitative",
        "title": f"sequences {'of a rank' if per_rank else 'at once'} (logarithmic)",
        "scale": {"type": "log", "base": 2, "domainMin": 1, "nice": False},
        "axis": {"format": ",d", "values": _ticks([1, max(held, *(each.max_concurrency for each in points))], 4)},
    }
    spec = {
        "height": 280,
        "encoding": {"x": x, "y": y},
        "layer": [
            {
                "data": {"values": values},
                "mark": {"type": "area", "color": COLOURS[0], "opacity": 0.22, "aria": False},
                "encoding": {"y2": {"datum": 1}},
            },
            {"data": {"values": values}, "mark": {"type": "line", "aria": False}},
            {"data": {"values": values}, "mark": "point", "encoding": {"description": {"field": "told"}}},
            {
                "data": {"values": [{"context": asked.context_tokens, "sequences": held, "told": told}]},
                "layer": [
                    {
                        "mark": {
                            "type": "point", "shape": "diamond", "size": 170, "filled": True, "fill": COLOURS[1], "opacity": 1,
                            "stroke": INK, "strokeWidth": 1.5,
                        },
                        "encoding": {"description": {"field": "told"}},
                    },
                    {
                        "mark": {"type": "text", "align": "left", "dx": 12, "dy": -10, "aria": False},
                        "encoding": {"text": {"value": "asked"}},
                    },
                ],
            },
        ],
    }  # fmt: skip
    none = [each.context_tokens for each in estimate.capacity.over_context if not each.max_concurrency]
    beyond = f" From {none[0]:,} tokens on there is room for none." if none else ""
    return figure(
        spec,
        title=TITLE,
        description=f"What lies on the line or below it fits{', on each data-parallel rank' if per_rank else ''}; {told}.{beyond}",
        table=[
            Column(
                "tokens of each sequence", tuple(f"{each.context_tokens:,}" for each in estimate.capacity.over_context)
            ),
            Column("room for sequences", tuple(f"{each.max_concurrency:,}" for each in estimate.capacity.over_context)),
        ],
    )


def _ticks(values: list[int], step: int) -> list[int]:
    """Powers of `step` between the least and the largest, one beyond where there is no other."""
    least, most = min(values), max(values)
    found, tick = [], 1
    while tick <= most:
        if tick >= least:
            found.append(tick)
        tick *= step
    return found
