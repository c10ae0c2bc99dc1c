"""The figures that a profile is asked for, out of all its points: each by a rule that is said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from moeplan.core.measurement import Point
from moeplan.core.profiled_figures import meaning
from moeplan.profile.result import Figure, Problem


class Rate(NamedTuple):
    """Which points make up a figure, and its name; `core.profiled_figures` says what that is called."""

    section: str
    what: str | None
    """`what` of the case; None takes all."""
    pinned: bool | None
    name: str


RATES = (
    Rate("bandwidth", "read", None, "read_bytes_per_s"),
    Rate("bandwidth", "copy", None, "copy_bytes_per_s"),
    Rate("host", "host_to_device", True, "host_to_device_pinned_bytes_per_s"),
    Rate("host", "host_to_device", False, "host_to_device_pageable_bytes_per_s"),
    Rate("host", "device_to_host", True, "device_to_host_pinned_bytes_per_s"),
    Rate("host", "device_to_host", False, "device_to_host_pageable_bytes_per_s"),
    Rate("host", "host_read", None, "host_read_bytes_per_s"),
    Rate("host", "host_copy", None, "host_copy_bytes_per_s"),
    Rate("attention", None, None, "attention_bytes_per_s"),
    Rate("links", "all_reduce", None, "all_reduce_bytes_per_s"),
    Rate("links", "all_gather", None, "all_gather_bytes_per_s"),
    Rate("links", "reduce_scatter", None, "reduce_scatter_bytes_per_s"),
    Rate("links", "all_to_all", None, "all_to_all_bytes_per_s"),
)
"""The best case of each counts, for it is what the part can do."""


def figures(points: Sequence[Point]) -> tuple[Figure, ...]:
    """Bandwidths, matrix rates, decode attention, links, the fixed time of a layer, and what a process takes."""
    found = [_best(_of(points, rate), rate.name, "bytes_per_s", "bytes/s") for rate in RATES]
    for dtype in dict.fromkeys(point.dtype for point in points if point.section == "matmul"):
        mine = [point for point in points if point.section == "matmul" and point.dtype == dtype]
        found.append(_best(mine, f"matmul_{dtype}_flops_per_s", "flops_per_s", "flop/s"))
    experts = [point for point in points if point.section == "experts" and point.case.get("part") == "routed"]
    for dtype in dict.fromkeys(point.dtype for point in experts):
        mine = [point for point in experts if point.dtype == dtype]
        found.append(_best(mine, f"experts_{dtype}_bytes_per_s", "bytes_per_s", "bytes/s"))
        found.append(_best(mine, f"experts_{dtype}_flops_per_s", "flops_per_s", "flop/s"))
    found += [_layer(points), _context(points)]
    return tuple(figure for figure in found if figure is not None)


def coldest(points: Iterable[Point]) -> list[Point]:
    """Bandwidths of the largest size alone: smaller ones may be partly those of the cache."""
    mine = [point for point in points if point.section == "bandwidth" and "bytes_per_s" in point.values]
    largest = max((int(point.case["bytes"] or 0) for point in mine), default=0)
    return [point for point in mine if point.case["bytes"] == largest]


def _of(points: Iterable[Point], rate: Rate) -> list[Point]:
    return [
        point
        for point in (coldest(points) if rate.section == "bandwidth" else points)
        if point.section == rate.section
        and (rate.what is None or point.case.get("what") == rate.what)
        and (rate.pinned is None or point.case.get("pinned") == rate.pinned)
    ]


def problems(points: Iterable[Point]) -> tuple[Problem, ...]:
    """The cases without a figure, each with its reason."""
    return tuple(
        Problem(point.section, point.backend, case_words(point), point.problem)
        for point in points
        if point.problem is not None
    )


def case_words(point: Point) -> str:
    """`tokens 64, distinct 8`: what identifies a case."""
    return ", ".join(f"{name} {value}" for name, value in point.case.items() if value is not None)


def _best(points: Iterable[Point], name: str, value: str, unit: str) -> Figure | None:
    """The highest rate, with the rates of its slow and its fast repeats."""
    mine = [point for point in points if value in point.values and point.problem is None]
    if not mine:
        return None
    best = max(mine, key=lambda point: point.values[value])
    rate, spread = best.values[value], best.spread
    low, high = rate, rate
    if spread is not None and spread.low_s > 0:
        low, high = rate * spread.median_s / spread.high_s, rate * spread.median_s / spread.low_s
    return _figure(name, unit, (rate, low, high), f"{best.backend}, {best.dtype}, {case_words(best)}")


def _layer(points: Iterable[Point]) -> Figure | None:
    """Seconds of an MoE layer that has next to nothing to do, in a graph where there is one."""
    timed = [
        (point.spread, point)
        for point in points
        if point.section == "layer" and point.case.get("what") == "moe_layer" and point.spread is not None
    ]
    if not timed:
        return None
    spread, least = min(timed, key=lambda pair: pair[0].median_s)
    source = f"{least.backend}, {least.dtype}, {case_words(least)}"
    return _figure("layer_fixed_s", "s", (spread.median_s, spread.low_s, spread.high_s), source)


def _context(points: Iterable[Point]) -> Figure | None:
    """What a process takes on the device before it holds a tensor."""
    for point in points:
        if point.section == "memory" and "context_bytes" in point.values:
            size = point.values["context_bytes"]
            return _figure("context_bytes", "bytes", (size, size, size), f"{point.backend}, one process")
    return None


def _figure(name: str, unit: str, spread: tuple[float, float, float], source: str) -> Figure:
    """With its value, low and high as `spread`."""
    return Figure(name, meaning(name).label, unit, *spread, source)
