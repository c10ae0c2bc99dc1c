"""The throughput frontier: what each GPU brings against what each user gets, from one request in flight to as many as fit."""

from __future__ import annotations

from typing import Any

from moeplan.core.units import duration, per_second
from moeplan.estimate.speed_result import Speed
from moeplan.report.pages.charts import COLOURS, INK, QUIET, figure
from moeplan.report.pages.markup import Html
from moeplan.report.speed_words import reach_columns


def frontier_figure(speed: Speed) -> Html:
    """The frontier, with the load that was asked and a limit on the time per token where one was stated."""
    values = [
        {
            "user": each.tokens_per_s_per_user,
            "gpu": each.tokens_per_s_per_gpu,
            "flight": each.concurrency,
            "label": f"{each.concurrency:,}",
            "kind": _kind(each.concurrency == speed.concurrency, each.fits),
            "told": f"{each.concurrency:,} in flight: {per_second(each.tokens_per_s_per_user)} tokens/s per user, "
            f"{per_second(each.tokens_per_s_per_gpu)} per GPU{'; no room for so many' if each.fits is False else ''}",
        }
        for each in speed.over_concurrency
    ]
    limit_s = speed.load.tpot_s
    limits = (
        [] if limit_s is None else [{"user": 1 / limit_s, "told": f"{per_second(1 / limit_s)} tokens/s: the limit"}]
    )
    shown = dict.fromkeys(str(each["kind"]) for each in values)
    shapes = {
        kind: look
        for kind, look in {
            _FITS: ("circle", COLOURS[0]), _ASKED: ("diamond", COLOURS[1]),
            _ASKED_NO_ROOM: ("triangle-down", COLOURS[1]), _NO_ROOM: ("cross", QUIET), _UNKNOWN: ("circle", COLOURS[0]),
        }.items()
        if kind in shown
    }  # fmt: skip
    scale = {"domain": list(shapes)}
    spec: dict[str, Any] = {
        "height": 320,
        "encoding": {
            "x": {
                "field": "user",
                "type": "quantitative",
                "title": "tokens/s of each user",
                "scale": {"zero": True},
                "axis": {"tickCount": 8},
            },
            "y": {
                "field": "gpu",
                "type": "quantitative",
                "title": "tokens/s of each GPU",
                "scale": {"zero": True},
                "axis": {"tickCount": 6},
            },
        },
        "layer": [
            {
                "data": {"values": values},
                "mark": {"type": "line", "aria": False, "opacity": 0.7},
                "encoding": {"order": {"field": "flight", "type": "quantitative"}},
            },
            *(
                [
                    {
                        "data": {"values": limits},
                        "mark": {"type": "rule", "strokeDash": [6, 4], "color": INK},
                        "encoding": {"y": {"value": 0}, "y2": {"value": 320}, "description": {"field": "told"}},
                    },
                    {
                        "data": {"values": limits},
                        "mark": {"type": "text", "align": "left", "dx": 6, "baseline": "top", "aria": False},
                        "encoding": {"y": {"value": 4}, "text": {"value": f"limit: {duration(limit_s or 0)} a token"}},
                    },
                ]
                if limits
                else []
            ),
            {
                "data": {"values": values},
                "mark": {"type": "point", "size": 110, "opacity": 1},
                "encoding": {
                    "shape": {
                        "field": "kind",
                        "type": "nominal",
                        "title": None,
                        "scale": {**scale, "range": [shape for shape, _ in shapes.values()]},
                    },
                    "color": {
                        "field": "kind",
                        "type": "nominal",
                        "title": None,
                        "scale": {**scale, "range": [colour for _, colour in shapes.values()]},
                    },
                    "description": {"field": "told"},
                },
            },
            {
                "data": {"values": values},
                "mark": {"type": "text", "align": "left", "dx": 9, "dy": -7, "aria": False, "fontSize": 11},
                "encoding": {"text": {"field": "label"}},
            },
        ],
    }
    at = next(each for each in speed.over_concurrency if each.concurrency == speed.concurrency)
    return figure(
        spec,
        title="The frontier: each GPU against each user",
        description=f"Points are requests in flight. At {at.concurrency:,} each user gets {per_second(at.tokens_per_s_per_user)} tokens/s "
        f"and each GPU brings {per_second(at.tokens_per_s_per_gpu)}; {_most(speed)}. The middle of the band.",
        table=reach_columns(speed),
    )


_FITS, _ASKED, _NO_ROOM, _ASKED_NO_ROOM, _UNKNOWN = (
    "there is room", "asked", "no room", "asked, no room", "whether there is room is not known",
)  # fmt: skip


def _kind(asked: bool, fits: bool | None) -> str:
    if fits is False:
        return _ASKED_NO_ROOM if asked else _NO_ROOM
    return _ASKED if asked else _UNKNOWN if fits is None else _FITS


def _most(speed: Speed) -> str:
    """What brings most of all that there is room for."""
    room = [each for each in speed.over_concurrency if each.fits]
    if not room:
        return (
            "there is room for none of them" if any(each.fits is False for each in speed.over_concurrency) else _UNKNOWN
        )
    best = max(room, key=lambda each: each.tokens_per_s_per_gpu)
    return (
        f"of what fits, {best.concurrency:,} bring most: {per_second(best.tokens_per_s_per_gpu)} per GPU at "
        f"{per_second(best.tokens_per_s_per_user)} per user"
    )
