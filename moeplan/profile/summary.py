"""The figures that a profile is asked for, out of all its points: each by a rule that is said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from moeplan.core.errors import MoeplanError
from moeplan.core.measurement import Point
from moeplan.core.profiled_figures import meaning
from moeplan.core.units import gib
from moeplan.estimate.measured_run import RunLine, estimate_of_run, lines_of_run
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


ROUTER_TOKENS = (1, 64)
"""Tokens of a step that routing is summed up at: one sequence, and a batch that decodes."""

ANY_CARD = "nvidia-h200-sxm"
"""What transformers holds beside weights and cache is the same on every card; the context, which is not, takes no part."""


def figures(points: Sequence[Point]) -> tuple[Figure, ...]:
    """Bandwidths, matrix rates, decode attention, links, routing, the fixed time of a layer, what a process takes, and the
    peaks of whole models beside their estimates."""
    found = [_best(_of(points, rate), rate.name, "bytes_per_s", "bytes/s") for rate in RATES]
    for dtype in dict.fromkeys(point.dtype for point in points if point.section == "matmul"):
        mine = [point for point in points if point.section == "matmul" and point.dtype == dtype]
        found.append(_best(mine, f"matmul_{dtype}_flops_per_s", "flops_per_s", "flop/s"))
    experts = [point for point in points if point.section == "experts" and point.case.get("part") == "routed"]
    for dtype in dict.fromkeys(point.dtype for point in experts):
        mine = [point for point in experts if point.dtype == dtype]
        found.append(_best(mine, f"experts_{dtype}_bytes_per_s", "bytes_per_s", "bytes/s"))
        found.append(_best(mine, f"experts_{dtype}_flops_per_s", "flops_per_s", "flop/s"))
    alone = [point for point in points if point.section == "links" and point.case.get("nodes") == 1]
    found.append(_best(alone, "link_bytes_per_s", "bus_bytes_per_s", "bytes/s"))
    found += [*_routers(points), _layer(points), _context(points), *_models(points)]
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


def _routers(points: Iterable[Point]) -> Iterator[Figure]:
    """Seconds of all that stands around the experts of a layer, by the routing functions of the shapes that were measured
    whole: of several shapes the slowest. The other functions are in the file of all cases."""
    routing = [point for point in points if point.section == "router" and point.spread is not None]
    whole = {point.case.get("shape") for point in routing if point.case.get("part") == "permute"}
    together = [point for point in routing if point.case.get("part") == "all" and point.case.get("shape") in whole]
    for router in dict.fromkeys(str(point.case["router"]) for point in together):
        for tokens in ROUTER_TOKENS:
            timed = [
                (point.spread, point)
                for point in together
                if point.spread is not None and (point.case["router"], point.case["tokens"]) == (router, tokens)
            ]
            if timed:
                spread, slowest = max(timed, key=lambda pair: pair[0].median_s)
                ends = spread.median_s, spread.low_s, spread.high_s
                source = f"{slowest.backend}, {slowest.dtype}, {case_words(slowest)}"
                yield _figure(f"router_{router}_{tokens}_tokens_s", "s", ends, source)


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


def _models(points: Iterable[Point]) -> Iterator[Figure]:
    """The peak of every whole model that ran to its end, and what `moeplan estimate` says of the same; all lines that the two
    have in common stand in the latter's source, with their signed errors."""
    for point in points:
        if point.section != "models" or point.problem is not None or "decode_tensor_bytes" not in point.values:
            continue
        case, layers = point.case, int(point.values["layers"])
        name = f"model_{_slug(str(case['model']))}_peak"
        tokens = int(case["prompt_tokens"] or 0) + int(case["decode_tokens"] or 0)
        ran = f"{point.backend}, {point.dtype}, {layers} layers, {case['batch']} x {tokens:,} tokens"
        lines = {line.quantity: line for line in _compared(point, layers, tokens)}
        peak = lines.get("peak_bytes")
        if peak is None:
            continue
        by = "" if "decode_peak_bytes" in point.values else ", by its tensors"
        yield _figure(f"{name}_bytes", "bytes", (peak.observed, peak.observed, peak.observed), ran + by)
        if peak.predicted is not None and peak.error is not None:
            low, high = peak.band or (peak.predicted, peak.predicted)
            told = ", ".join(
                f"{line.label.partition(':')[0]} {gib(line.predicted, 2)} of {gib(line.observed, 2)} ({line.error:+.2%})"
                for line in lines.values()
                if line.predicted is not None and line.error is not None
            )
            figure = _figure(
                f"{name}_estimate_bytes", "bytes", (peak.predicted, low, high), f"moeplan estimate, {told}"
            )
            yield figure._replace(label=f"{figure.label} {peak.error:+.1%}")


def _compared(point: Point, layers: int, tokens: int) -> Sequence[RunLine]:
    """The model beside its estimate. A peak that nobody can estimate is no reason to lose what was measured."""
    from moeplan.measure.model_build import built_config

    config = built_config(json.loads(str(point.case["config"])), layers) | {"dtype": point.dtype}
    asked: dict[str, Any] = {"context_tokens": tokens, "concurrency": int(point.case["batch"] or 0)}
    try:
        return lines_of_run(point, estimate_of_run(config, gpu=ANY_CARD, **asked))
    except MoeplanError:
        return lines_of_run(point, None)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") or "unnamed"


def _figure(name: str, unit: str, spread: tuple[float, float, float], source: str) -> Figure:
    """With its value, low and high as `spread`."""
    return Figure(name, meaning(name).label, unit, *spread, source)
