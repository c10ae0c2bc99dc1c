"""The roofline: steps as operations per byte and per second, under what memory and matrix units allow.

After Williams, Waterman and Patterson, Roofline: an insightful visual performance model for multicore architectures (2009).
"""

from __future__ import annotations

from math import log10
from typing import Any

from moeplan.core.units import duration, gib, per_second
from moeplan.estimate.curves_result import OperatingPoint, Roofline
from moeplan.report.page import Column
from moeplan.report.pages.charts import COLOURS, INK, QUIET, figure
from moeplan.report.pages.markup import Html

TERA = 1e12
_TENS = [10.0**power for power in range(-3, 7)]
_DECODE, _ASKED, _PREFILL = "decode", "decode as asked", "a prompt"


def roofline_figure(roofline: Roofline, concurrency: int, *, where: str) -> Html:
    """Operating points under the roofs; `where` says whose step it is: `each GPU`, `the busiest GPU of the first stage`."""
    bandwidth, highest = roofline.bandwidth_bytes_per_s, roofline.roofs[-1]
    ratios = [point.operations_per_byte for point in roofline.points]
    least, most = min(1.0, *ratios) / 1.5, max(highest.flops_per_s / bandwidth * 4, *ratios) * 1.2
    roofs: list[dict[str, Any]] = []
    for roof in roofline.roofs:
        for ratio in (least, roof.flops_per_s / bandwidth, most):
            rate = min(roof.flops_per_s, bandwidth * ratio)
            roofs.append({"roof": roof.format, "ratio": ratio, "rate": rate / TERA})
    ends = [
        {"ratio": most, "rate": roof.flops_per_s / TERA, "label": f"{roof.format}: {roof.flops_per_s / TERA:,.0f} Tflop/s"}
        for roof in roofline.roofs
    ]  # fmt: skip
    middle = (least * highest.flops_per_s / bandwidth) ** 0.5
    slope = {"ratio": middle, "rate": bandwidth * middle / TERA, "label": f"memory: {bandwidth / TERA:.3g} TB/s"}
    lowest = min(bandwidth * least, *(point.operations_per_s for point in roofline.points)) / TERA
    heights = [lowest / 1.5, highest.flops_per_s / TERA * 1.8]
    values = [
        {
            "ratio": point.operations_per_byte,
            "rate": point.operations_per_s / TERA,
            "kind": _kind(point, concurrency),
            "label": label,
            "told": f"{_name(point)}: {_ratio(point)} operations per byte, {_rate(point)} Tflop/s in {duration(point.seconds)}, "
            f"{point.of_roof_fraction:.0%} of what the roofs allow",
        }
        for point, label in zip(roofline.points, _labels(roofline, concurrency), strict=True)
    ]
    looks = {_DECODE: ("circle", COLOURS[0]), _ASKED: ("diamond", COLOURS[1]), _PREFILL: ("square", COLOURS[2])}
    looks = {kind: look for kind, look in looks.items() if any(each["kind"] == kind for each in values)}
    scale = {"domain": list(looks)}
    log = {"type": "log", "nice": False}
    spec: dict[str, Any] = {
        "height": 340,
        "encoding": {
            "x": {
                "field": "ratio", "type": "quantitative", "title": "operations per byte read from memory (logarithmic)",
                "scale": {**log, "domain": [least, most]}, "axis": {"format": ",~g", "values": _TENS},
            },
            "y": {
                "field": "rate", "type": "quantitative", "title": "Tflop/s of one GPU (logarithmic)", "scale": {**log, "domain": heights},
                "axis": {"format": ",~g", "values": _TENS},
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
                "data": {"values": [slope]},
                "mark": {"type": "text", "align": "right", "dx": -8, "dy": -8, "aria": False, "color": QUIET},
                "encoding": {"text": {"field": "label"}},
            },
            {
                "data": {"values": values},
                "mark": {"type": "point", "size": 110, "opacity": 1},
                "encoding": {
                    "shape": {
                        "field": "kind", "type": "nominal", "title": None,
                        "scale": {**scale, "range": [shape for shape, _ in looks.values()]},
                    },
                    "color": {
                        "field": "kind", "type": "nominal", "title": None,
                        "scale": {**scale, "range": [colour for _, colour in looks.values()]},
                    },
                    "description": {"field": "told"},
                },
            },
            {
                "data": {"values": values},
                "mark": {"type": "text", "align": "left", "dx": 10, "dy": 5, "aria": False, "fontSize": 11},
                "encoding": {"text": {"field": "label"}},
            },
        ],
    }  # fmt: skip
    asked = next(
        (point for point in roofline.points if point.kind == "decode" and point.sequences == concurrency), None
    )
    told = "" if asked is None else (
        f" Decode at {concurrency:,} in flight has {_ratio(asked)} operations for each byte."
    )  # fmt: skip
    ridges = " and ".join(f"{per_second(roof.flops_per_s / bandwidth)} ({roof.format})" for roof in roofline.roofs)
    return figure(
        spec,
        title="The roofline",
        description=f"One step of {where}: what it computes for each byte that it reads, and how fast, under what memory and matrix "
        f"units allow.{told} From {ridges} on, matrix units bound a step; below, memory does.",
        table=_table(roofline),
        note="Operations are those that the result needs, bytes are weights, touched experts and cache; times are the estimate's.",
    )


def _table(roofline: Roofline) -> list[Column]:
    points = roofline.points
    return [
        Column("step", tuple(map(_name, points)), right=False),
        Column("Tflop", tuple(per_second(point.operations / TERA) for point in points)),
        Column("read", tuple(gib(point.bytes) for point in points)),
        Column("operations per byte", tuple(map(_ratio, points))),
        Column("time", tuple(duration(point.seconds) for point in points)),
        Column("Tflop/s", tuple(map(_rate, points))),
        Column("of what the roofs allow", tuple(f"{point.of_roof_fraction:.0%}" for point in points)),
    ]


def _labels(roofline: Roofline, concurrency: int) -> list[str]:
    """What stands beside the points: nothing where it would stand over that of another; the asked one goes first."""
    order = sorted(roofline.points, key=lambda point: (_kind(point, concurrency) == _DECODE, point.sequences))
    shown: list[OperatingPoint] = []
    for point in order:
        if all(_apart(point, other) for other in shown):
            shown.append(point)
    return [
        "" if point not in shown else f"{point.sequences:,}" if point.kind == "decode" else f"{point.tokens:,} tokens"
        for point in roofline.points
    ]


def _apart(one: OperatingPoint, other: OperatingPoint) -> bool:
    """Whether labels have room, on axes of logarithms."""
    return abs(log10(one.operations_per_byte / other.operations_per_byte)) > 0.15 or (
        abs(log10(one.operations_per_s / other.operations_per_s)) > 0.15
    )


def _kind(point: OperatingPoint, concurrency: int) -> str:
    if point.kind == "prefill":
        return _PREFILL
    return _ASKED if point.sequences == concurrency else _DECODE


def _name(point: OperatingPoint) -> str:
    return f"decode, {point.sequences:,} in flight" if point.kind == "decode" else f"a prompt, {point.tokens:,} tokens"


def _ratio(point: OperatingPoint) -> str:
    return per_second(point.operations_per_byte)


def _rate(point: OperatingPoint) -> str:
    return per_second(point.operations_per_s / TERA)
