"""The figures that a profile is asked for, out of all its points: each by a rule that is said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from moeplan.core.measurement import Point
from moeplan.profile.result import Figure, Problem

RATES = {
    # section and case key: name, label
    ("bandwidth", "read"): ("read_bytes_per_s", "memory, read"),
    ("bandwidth", "copy"): ("copy_bytes_per_s", "memory, copy (read and written)"),
    ("bandwidth", "write"): ("write_bytes_per_s", "memory, write"),
    ("host", "to_device_pinned"): ("host_to_device_pinned_bytes_per_s", "host to device, pinned"),
    ("host", "to_device_pageable"): ("host_to_device_pageable_bytes_per_s", "host to device, pageable"),
    ("host", "from_device_pinned"): ("device_to_host_pinned_bytes_per_s", "device to host, pinned"),
    ("host", "from_device_pageable"): ("device_to_host_pageable_bytes_per_s", "device to host, pageable"),
    ("host", "memory_copy"): ("host_copy_bytes_per_s", "host memory, copy"),
}
"""Bandwidths: the best case of each kind counts, for it is what the link can do."""


def figures(points: Sequence[Point]) -> tuple[Figure, ...]:
    """Bandwidths, matrix rates, decode attention, the fixed time of a layer, and memory beside tensors."""
    found = [
        _best(points, section, kind, name, label, "bytes_per_s", "bytes/s") for (section, kind), (name, label) in RATES.items()
    ]
    dtypes = dict.fromkeys(point.dtype for point in points if point.section == "matmul")
    found += [
        _best(
            [point for point in points if point.dtype == dtype], "matmul", None,
            f"matmul_{dtype}_flops_per_s", f"matmul, {dtype}", "flops_per_s", "flop/s",
        )
        for dtype in dtypes
    ]  # fmt: skip
    found.append(
        _best(points, "attention", None, "attention_bytes_per_s", "decode attention, cache read", "bytes_per_s", "bytes/s")
    )
    found.append(_layer(points))
    found += [_value(points, "memory", name, label, unit) for name, label, unit in MEMORY]
    return tuple(figure for figure in found if figure is not None)


MEMORY = (
    ("device_context_bytes", "device context and libraries", "bytes"),
    ("allocator_waste_fraction", "allocator, reserved beyond tensors", "fraction"),
)


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


def _best(
    points: Iterable[Point], section: str, kind: str | None, name: str, label: str, value: str, unit: str
) -> Figure | None:
    """The highest rate, with the rates of its slow and its fast repeats."""
    mine = [
        point
        for point in points
        if point.section == section and value in point.values and (kind is None or point.case.get("kind") == kind)
    ]
    if not mine:
        return None
    best = max(mine, key=lambda point: point.values[value])
    rate, spread = best.values[value], best.spread
    low, high = rate, rate
    if spread is not None and spread.low_s > 0:
        low, high = rate * spread.median_s / spread.high_s, rate * spread.median_s / spread.low_s
    return Figure(name, label, unit, rate, low, high, f"{best.backend}, {best.dtype}, {case_words(best)}")


def _layer(points: Iterable[Point]) -> Figure | None:
    timed = [point for point in points if point.section == "layer" and "seconds_per_layer" in point.values]
    if not timed:
        return None
    least = min(timed, key=lambda point: point.values["seconds_per_layer"])
    values = [point.values["seconds_per_layer"] for point in timed]
    source = f"{least.backend}, {least.dtype}, {case_words(least)}"
    return Figure("layer_fixed_s", "fixed time of a layer", "s", min(values), min(values), max(values), source)


def _value(points: Iterable[Point], section: str, name: str, label: str, unit: str) -> Figure | None:
    values = [(point.values[name], point) for point in points if point.section == section and name in point.values]
    if not values:
        return None
    sizes = sorted(value for value, _ in values)
    middle, point = sorted(values, key=lambda pair: pair[0])[len(values) // 2]
    return Figure(name, label, unit, middle, sizes[0], sizes[-1], f"{point.backend}, {case_words(point)}")
