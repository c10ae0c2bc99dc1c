"""Timed products of a run: by them the rates of the device can be seen, under its bandwidth and its matrix rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moeplan.core.measurement import Point
from moeplan.profile.result import Timed


def timed(points: Sequence[Point]) -> tuple[Timed, ...]:
    """Every product of two matrices and every pass through routed experts that was timed, in the order of the run."""
    return tuple(_timed(points))


def _timed(points: Sequence[Point]) -> Iterator[Timed]:
    for point in points:
        if point.spread is None or point.problem is not None or not {"flops_per_s", "bytes_per_s"} <= set(point.values):
            continue
        case = point.case
        if point.section == "matmul":
            told, tokens = f"n {case['n']}, k {case['k']}", int(case["m"] or 0)
        elif point.section == "experts" and case.get("part") == "routed":
            told, tokens = f"{case['shape']}, {case['routing']}", int(case["tokens"] or 0)
        else:
            continue
        yield Timed(
            section="matmul" if point.section == "matmul" else "experts",
            backend=point.backend,
            dtype=point.dtype,
            case=told,
            tokens=tokens,
            distinct=point.values.get("distinct"),
            seconds=point.spread.median_s,
            low_s=point.spread.low_s,
            high_s=point.spread.high_s,
            flops_per_s=point.values["flops_per_s"],
            bytes_per_s=point.values["bytes_per_s"],
        )
