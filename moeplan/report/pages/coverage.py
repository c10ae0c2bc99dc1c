"""Coverage: how many of a layer's experts a step touches, over the tokens in it."""

from __future__ import annotations

from typing import Any

from moeplan.estimate.curves_result import Coverage
from moeplan.report.page import Column
from moeplan.report.pages.charts import COLOURS, INK, figure
from moeplan.report.pages.markup import Html

USED = "as experts are used"
EVEN = "all alike likely"
_BASES = {
    "assumed": "a light skew of the router, assumed",
    "stated": "the skew that was stated",
    "measured": "the counts of the routing profile",
}


def coverage_figure(coverage: Coverage, concurrency: int) -> Html:
    """The share of experts touched, between even use and twice the skew; where the asked number of requests lies."""
    experts = coverage.num_experts
    values = [
        {
            "tokens": each.tokens, "used": each.experts / experts, "even": each.even / experts,
            "least": (each.experts if each.doubled is None else each.doubled) / experts,
            "told": f"{each.tokens:,} tokens touch {_experts(each.experts)} of {experts:,} experts, {each.experts / experts:.0%}; "
            f"{'' if each.doubled is None else f'{_experts(each.doubled)} with twice the skew, '}"
            f"{_experts(each.even)} were all alike likely",
        }
        for each in coverage.points
    ]  # fmt: skip
    at = next(each for each in coverage.points if each.tokens == concurrency)
    doubled = [each.doubled for each in coverage.points if each.doubled is not None]
    guessed = bool(doubled)
    asked = {"tokens": concurrency, "told": f"asked: {concurrency:,} in flight"}
    x = {
        "field": "tokens", "type": "quantitative", "title": "tokens of a step, each of another sequence (logarithmic)",
        "scale": {"type": "log", "base": 2, "nice": False}, "axis": {"format": ",d", "values": [4**power for power in range(7)]},
    }  # fmt: skip
    y = {"type": "quantitative", "title": "experts touched", "axis": {"format": ".0%"}, "scale": {"domain": [0, 1]}}
    spec: dict[str, Any] = {
        "height": 260,
        "data": {"values": values},
        "encoding": {"x": x},
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.35, "color": COLOURS[0], "aria": False},
                "encoding": {"y": {**y, "field": "least"}, "y2": {"field": "even"}},
            },
            {"mark": {"type": "line", "aria": False}, "encoding": {"y": {**y, "field": "used"}}},
            {"mark": "point", "encoding": {"y": {**y, "field": "used"}, "description": {"field": "told"}}},
            {
                "data": {"values": [asked]},
                "mark": {"type": "rule", "strokeDash": [6, 4], "color": INK},
                "encoding": {"description": {"field": "told"}},
            },
            {
                "data": {"values": [asked]},
                "mark": {"type": "text", "align": "left", "baseline": "bottom", "dx": 6, "aria": False},
                "encoding": {"y": {"datum": 0.02, **y}, "text": {"value": "asked"}},
            },
        ],
    }
    return figure(
        spec,
        title="Experts that a step touches",
        description=f"Of {experts:,} experts in each of {coverage.num_layers:,} layers, {coverage.experts_per_token:,} for each token, "
        f"a step of {concurrency:,} tokens touches {_experts(at.experts)}: {at.experts / experts:.0%} of the experts' weights are read. By "
        f"{_BASES[coverage.basis]}; the band reaches {'from twice that skew ' if guessed else ''}to even use.",
        table=[
            Column("tokens", tuple(f"{each.tokens:,}" for each in coverage.points)),
            Column(USED, tuple(_experts(each.experts) for each in coverage.points)),
            Column("share", tuple(f"{each.experts / experts:.0%}" for each in coverage.points)),
            *([Column("with twice the skew", tuple(map(_experts, doubled)))] if guessed else []),
            Column(EVEN, tuple(_experts(each.even) for each in coverage.points)),
        ],
    )


def _experts(count: float) -> str:
    return f"{count:,.1f}"
