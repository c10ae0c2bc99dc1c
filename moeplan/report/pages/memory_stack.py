"""The memory of every rank as bars: what lies in it, side by side, up to what the engine may use and beyond."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from moeplan.core.ledger import Line, band_bytes, total_bytes
from moeplan.core.units import GIB, gib
from moeplan.report.page import Column
from moeplan.report.pages.charts import COLOURS, FREE, INK, figure
from moeplan.report.pages.markup import Html
from moeplan.report.words import band_words, gib_signed

ROW_PIXELS = 58
_EXPERTS, _ATTENTION, _DENSE, _OTHER = (
    "routed experts",
    "attention and states",
    "shared and dense layers",
    "other weights",
)
_RUNTIME, _CACHE, _FREE = "activations and runtime", "KV cache", "free"
GROUPS = (_EXPERTS, _DENSE, _ATTENTION, _OTHER, _RUNTIME, _CACHE, _FREE)
"""What lines are coloured by, in the order of the bars."""
_COLOURS = {
    _EXPERTS: COLOURS[0], _DENSE: COLOURS[5], _ATTENTION: COLOURS[3], _OTHER: COLOURS[4], _RUNTIME: COLOURS[6],
    _CACHE: COLOURS[1], _FREE: FREE,
}  # fmt: skip
_ROLES = {
    "routed_experts": _EXPERTS, "moe_latent": _EXPERTS, "attention": _ATTENTION, "indexer": _ATTENTION, "recurrent": _ATTENTION,
    "shared_experts": _DENSE, "dense_mlp": _DENSE,
}  # fmt: skip


class Stack(NamedTuple):
    """One bar: ranks that hold the same, or the memory of a deployment's fullest rank."""

    label: str
    lines: Sequence[Line]
    free_bytes: int | None
    """Negative where it does not fit; None where nobody knows how much memory there is."""


def memory_figure(stacks: Sequence[Stack], *, title: str, description: str, may_use: str) -> Html:
    """The bars with their figures; `may_use` says whose limit the mark at the end of the memory is."""
    segments = [segment for stack in stacks for segment in _segments(stack)]
    groups = [group for group in GROUPS if any(each["group"] == group for each in segments)]
    told = {group: group for group in groups}
    if len(stacks) == 1:  # the legend then has room for the sizes
        told = {group: f"{group}: {_sum_words(stacks[0], group)}" for group in groups}
    for segment in segments:
        segment["group"] = told[segment["group"]]
    y = {"field": "stack", "type": "nominal", "sort": [stack.label for stack in stacks], "title": None}
    # What is left or missing is written behind the bars, so there is room for it.
    most = max(*(each["to"] for each in segments), *(band_bytes(stack.lines)[1] / GIB for stack in stacks))
    x = {
        "type": "quantitative",
        "title": "GiB",
        "scale": {"domain": [0, most * 1.16], "nice": False},
        "axis": {"tickCount": 8},
    }
    spec: dict[str, Any] = {
        "height": {"step": ROW_PIXELS},
        "encoding": {"y": {**y, "scale": {"paddingInner": 0.5, "paddingOuter": 0.35}}},
        "layer": [
            {
                "data": {"values": segments},
                "mark": {"type": "bar", "stroke": "var(--page)", "strokeWidth": 1},
                "encoding": {
                    "x": {**x, "field": "from"},
                    "x2": {"field": "to"},
                    "color": {
                        "field": "group",
                        "type": "nominal",
                        "title": None,
                        "scale": {"domain": list(told.values()), "range": [_COLOURS[group] for group in groups]},
                    },
                    "description": {"field": "told"},
                },
            },
            *_limits(stacks, x, may_use),
            *_bands(stacks, x),
        ],
    }
    return figure(spec, title=title, description=description, table=_table(stacks))


def group_of(line: Line) -> str:
    """The colour's name of a line of the ledger."""
    if line.code.startswith("kv_cache"):
        return _CACHE
    if line.code.startswith("weights."):
        return _ROLES.get(line.role or "", _OTHER)
    return _RUNTIME


def _segments(stack: Stack) -> Iterator[dict[str, Any]]:
    end = 0
    lines = sorted((line for line in stack.lines if line.bytes), key=lambda line: GROUPS.index(group_of(line)))
    for line in lines:
        band = band_words(line.low_bytes, line.high_bytes)
        told = f"{stack.label}: {line.label}, {gib(line.bytes)}{f' ({band})' if band else ''}, {line.basis}"
        yield _segment(stack, group_of(line), end, end + line.bytes, told)
        end += line.bytes
    if stack.free_bytes is not None and stack.free_bytes > 0:
        told = f"{stack.label}: {gib_signed(stack.free_bytes, floor=True)} free"
        yield _segment(stack, _FREE, end, end + stack.free_bytes, told)


def _segment(stack: Stack, group: str, start: int, end: int, told: str) -> dict[str, Any]:
    return {"stack": stack.label, "group": group, "from": start / GIB, "to": end / GIB, "told": told}


def _limits(stacks: Sequence[Stack], x: dict[str, Any], may_use: str) -> list[dict[str, Any]]:
    """Where the memory ends, and what is left or missing there."""
    known = [(stack, total_bytes(stack.lines) + stack.free_bytes) for stack in stacks if stack.free_bytes is not None]
    if not known:
        return []
    values = [
        {
            "stack": stack.label,
            "limit": limit / GIB,
            "told": f"{stack.label}: {may_use} {gib(limit)}",
            "left": gib_signed(stack.free_bytes or 0, floor=True) + (" free" if (stack.free_bytes or 0) >= 0 else ""),
            "end": max(limit, band_bytes(stack.lines)[1]) / GIB,
            "limit_words": f"{may_use} {gib(limit)}",
        }
        for stack, limit in known
    ]
    at = {**x, "field": "limit"}
    limit = {"data": {"values": values}, "encoding": {"x": at, "description": {"field": "told"}}}
    text = {
        "data": {"values": values},
        "mark": {"type": "text", "align": "left", "dx": 8, "aria": False, "fontWeight": "bold"},
        "encoding": {"x": {**x, "field": "end"}, "text": {"field": "left"}},
    }
    halo = {"type": "tick", "color": "var(--page)", "thickness": 7, "size": ROW_PIXELS * 0.6, "aria": False}
    mark = {"type": "tick", "color": INK, "thickness": 2.5, "size": ROW_PIXELS * 0.66}
    whose = {"type": "text", "dy": -ROW_PIXELS * 0.45, "fontSize": 11, "aria": False}
    words = {**limit, "mark": whose, "encoding": {"x": at, "text": {"field": "limit_words"}}}
    return [{**limit, "mark": halo}, {**limit, "mark": mark}, words, text]


def _bands(stacks: Sequence[Stack], x: dict[str, Any]) -> list[dict[str, Any]]:
    """How far all that is needed may be off to either side."""
    values = []
    for stack in stacks:
        low, high = band_bytes(stack.lines)
        if low != high:
            told = f"{stack.label}: needed {gib(total_bytes(stack.lines))}, between {gib(low)} and {gib(high)}"
            values.append({"stack": stack.label, "low": low / GIB, "high": high / GIB, "told": told})
    if not values:
        return []
    ends = [
        {
            "data": {"values": values},
            "mark": {"type": "tick", "color": INK, "thickness": 1.5, "size": 9, "aria": False},
            "encoding": {"x": {**x, "field": end}},
        }
        for end in ("low", "high")
    ]
    rule = {
        "data": {"values": values},
        "mark": {"type": "rule", "color": INK, "strokeWidth": 1.5},
        "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "description": {"field": "told"}},
    }
    return [rule, *ends]


def _sum_words(stack: Stack, group: str) -> str:
    if group == _FREE:
        return gib_signed(stack.free_bytes or 0, floor=True)
    return gib(total_bytes(line for line in stack.lines if group_of(line) == group))


def _table(stacks: Sequence[Stack]) -> list[Column]:
    """A row for each line that any of the stacks has, a column for each stack."""
    labels = list(dict.fromkeys(line.label for stack in stacks for line in stack.lines))
    columns = [Column("memory", (*labels, "needed", "left"))]
    for stack in stacks:
        sizes = {line.label: gib(line.bytes) for line in stack.lines}
        left = "" if stack.free_bytes is None else gib_signed(stack.free_bytes, floor=True)
        cells = (*(sizes.get(label, "") for label in labels), gib(total_bytes(stack.lines)), left)
        columns.append(Column(stack.label, cells))
    return [columns[0]._replace(right=False), *columns[1:]]
