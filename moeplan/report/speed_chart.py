"""Tokens per second over requests in flight as a chart on the screen: where more of them stop paying, and the cache ends."""

from __future__ import annotations

from moeplan.core.units import per_second
from moeplan.estimate.result import Estimate
from moeplan.estimate.speed_result import AtConcurrency, Speed
from moeplan.report.terminal_chart import Axis, Chart, Guide, Mark

HELD, ASKED, ASKED_TOO_MANY = "●", "◆", "◇"


def reach_chart(estimate: Estimate, speed: Speed) -> Chart:
    """The rows of `over_concurrency`, the asked one with a sign of its own, and how many requests the cache has room for."""
    each_rank = estimate.capacity.max_concurrency
    room = None if each_rank is None else each_rank * estimate.layout.dp
    reach = speed.over_concurrency
    # The asked point comes first, so that it is the one that keeps its place.
    marks = [
        Mark(each.concurrency, each.tokens_per_s_per_gpu, _sign(each, speed), "bold" if _asked(each, speed) else "cyan")
        for each in sorted(reach, key=lambda each: not _asked(each, speed))
    ]
    meaning = {ASKED: "asked", ASKED_TOO_MANY: "asked, no room in the cache"}
    return Chart(
        x=Axis("requests in flight", lambda value: f"{value:,.0f}", tuple(each.concurrency for each in reach), True),
        y=Axis("tokens/s per GPU", per_second),
        marks=tuple(marks),
        lines=(tuple((each.concurrency, each.tokens_per_s_per_gpu) for each in reach),),
        # A cache for far more requests than anybody looked at would squeeze the curve.
        guides=() if not room or room >= 4 * reach[-1].concurrency else (_room(room),),
        legend=tuple((sign, told) for sign, told in meaning.items() if any(mark.sign == sign for mark in marks)),
    )


def _room(room: int) -> Guide:
    return Guide(room, f"the cache ends: room for {room:,}", reached=True)


def _asked(each: AtConcurrency, speed: Speed) -> bool:
    return each.concurrency == speed.concurrency


def _sign(each: AtConcurrency, speed: Speed) -> str:
    if not _asked(each, speed):
        return HELD
    return ASKED_TOO_MANY if each.fits is False else ASKED
