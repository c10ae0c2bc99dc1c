"""Where the time of a step goes: the parts of decoding and of reading a prompt, as shares."""

from __future__ import annotations

from typing import Any

from moeplan.core.units import duration
from moeplan.estimate.speed_result import Speed
from moeplan.report.page import Column
from moeplan.report.pages.charts import COLOURS, figure
from moeplan.report.pages.markup import Html
from moeplan.report.speed_words import explained_steps


def step_parts_figure(speed: Speed) -> Html:
    """A step of decode, and one that reads a prompt beside it, as bars of the same length; bands of their parts are in the table."""
    steps = (("decode", speed.decode_step), ("prefill", speed.prefill_step))
    names = list(dict.fromkeys(str(part.name) for _, step in steps for part in step.parts))
    values = []
    for name, step in steps:
        start = 0.0
        label = f"{name}: {duration(step.seconds)}"
        for part in sorted(step.parts, key=lambda part: names.index(part.name)):
            share = part.seconds / step.seconds
            values.append({
                "step": label, "part": part.name, "from": start, "to": start + share,
                "told": f"{name}: {part.name} {duration(part.seconds)}, {share:.0%}, bound by {part.binding}, {part.basis}",
            })  # fmt: skip
            start += share
    spec: dict[str, Any] = {
        "data": {"values": values},
        "height": {"step": 42},
        "mark": {"type": "bar", "stroke": "var(--page)", "strokeWidth": 1},
        "encoding": {
            "y": {
                "field": "step", "type": "nominal", "title": None, "sort": None,
                "axis": {"labelLimit": 300}, "scale": {"paddingInner": 0.35, "paddingOuter": 0.2},
            },
            "x": {"field": "from", "type": "quantitative", "title": "share of the step", "axis": {"format": ".0%"},
                  "scale": {"domain": [0, 1]}},
            "x2": {"field": "to"},
            "color": {
                "field": "part", "type": "nominal", "title": None,
                "scale": {"domain": names, "range": [COLOURS[place % len(COLOURS)] for place in range(len(names))]},
            },
            "description": {"field": "told"},
        },
    }  # fmt: skip
    slowest = [max(step.parts, key=lambda part: part.seconds) for _, step in steps]
    told = " ".join(
        f"Of a {name} step of {duration(step.seconds)}, most goes to {part.name}: {part.seconds / step.seconds:.0%}."
        for (name, step), part in zip(steps, slowest, strict=True)
    )
    return figure(spec, title="Where the time of a step goes", description=told, table=_table(speed))


def _table(speed: Speed) -> list[Column]:
    """Parts of both steps, one under the other."""
    (name, decode), (other, prefill) = explained_steps(speed)
    parts = tuple(
        f"{step}: {cell}" for step, columns in ((name, decode), (other, prefill)) for cell in columns[0].cells
    )
    joined = [
        first._replace(title=first.title or "time", cells=first.cells + second.cells)
        for first, second in zip(decode[1:], prefill[1:], strict=True)
    ]
    return [Column("part", parts, right=False), *joined]
