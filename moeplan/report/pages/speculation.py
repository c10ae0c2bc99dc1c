"""Whether drafts pay, over the requests in flight: what tokens per second gain, or the acceptance from which they do."""

from __future__ import annotations

from typing import Any

from moeplan.estimate.speed_result import Speculation, Speed
from moeplan.report.pages.charts import INK, figure
from moeplan.report.pages.markup import Html
from moeplan.report.speculation_words import speculation_columns


def speculation_figure(speed: Speed, found: Speculation) -> Html:
    """Nothing where fewer than two points are known."""
    stated = found.acceptance is not None
    values = []
    for each in found.over_concurrency:
        height = each.tokens_gain if stated else each.break_even_acceptance
        if height is not None:
            words = f"{height:.2f} x" if stated else f"pays from acceptance {height:.2f}"
            room = ", more than the cache has room for" if each.fits is False else ""
            told = f"{each.concurrency:,} in flight: {words}{room}"
            values.append({"flight": each.concurrency, "figure": height, "told": told})
    if len(values) < 2:
        return Html()
    level = {"figure": 1.0}
    title = "Tokens per second with drafts over without" if stated else "Acceptance from which drafts pay"
    never = [each.concurrency for each in found.over_concurrency if each.break_even_acceptance is None]
    more = f" At {', '.join(f'{count:,}' for count in never)} in flight they never pay." if never else ""
    beyond = [each.concurrency for each in found.over_concurrency if each.fits is False]
    more += f" The cache has no room for {', '.join(f'{count:,}' for count in beyond)}." if beyond else ""
    told = (
        f"Above 1 drafts gain. {_sentence(found.why)}"
        if stated
        else f"Below the line drafts cost more than they bring. {_sentence(found.why)}"
    )
    y_scale: dict[str, Any] = {"zero": False, "padding": 12} if stated else {"domain": [0, 1]}
    spec: dict[str, Any] = {
        "height": 240,
        "encoding": {
            "x": {
                "field": "flight", "type": "quantitative", "title": "requests in flight (logarithmic)",
                "scale": {"type": "log", "base": 2, "nice": False},
                "axis": {"format": ",d", "values": [each["flight"] for each in values]},
            },
            "y": {
                "field": "figure", "type": "quantitative", "title": "times as many" if stated else "acceptance", "scale": y_scale,
                "axis": {"tickCount": 5},
            },
        },
        "layer": [
            {"data": {"values": values}, "mark": {"type": "line", "aria": False}},
            {"data": {"values": values}, "mark": "point", "encoding": {"description": {"field": "told"}}},
            *(
                [
                    {
                        "data": {"values": [level]},
                        "mark": {"type": "rule", "strokeDash": [6, 4], "color": INK, "aria": False},
                        "encoding": {"x": {"value": 0}, "x2": {"value": "width"}},
                    }
                ]
                if stated
                else []
            ),
        ],
    }  # fmt: skip
    return figure(spec, title=title, description=f"{told}{more}", table=speculation_columns(speed, found))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
