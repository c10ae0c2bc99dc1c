"""The latency model's constants of this machine, from its points of the section `experts`.

Per backend and dtype: at most `MOST_FITTED` points, spread evenly, are fitted, and the error is that on the others. With
fewer points each is predicted by a fit of three quarters of the rest (`core/latency_fit.refit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import correlation, median

from moeplan.core.latency import VALUE_BYTES, Device, ExpertShape, Load, seconds, work
from moeplan.core.latency_fit import REFIT_SPREAD, REFITTED, START, fit_constants, refit
from moeplan.core.latency_fit import Point as Row
from moeplan.core.measurement import Point
from moeplan.profile.result import KernelFit
from moeplan.profile.summary import coldest

MOST_FITTED = 40
FEWEST = 12
FORMATS = {"bfloat16": "bfloat16", "float16": "float16", "float32": "float32", "float8_e4m3fn": "fp8"}
"""torch's dtypes to formats of the latency model. In float8 there is a scale for each row of either operand, 4 bytes for
hundreds of values: they count for nothing."""
REFERENCES = ("loop", "batched")
"""Backends that the model does not describe: one waits for the host at every expert, the other reads all experts always."""
FEWEST_DISTINCT = 3
"""Points that vary distinct experts alone, for a line through them to mean something."""


def kernel_fits(points: Sequence[Point]) -> tuple[KernelFit, ...]:
    """One per backend and dtype with at least `FEWEST` timed points; bandwidth and rate are the machine's measured ones."""
    timed = [
        point
        for point in points
        if point.section == "experts" and point.spread is not None and point.backend not in REFERENCES
    ]
    groups = dict.fromkeys((point.backend, point.dtype) for point in timed)
    found = []
    for backend, dtype in groups:
        device = _device(points, dtype)
        mine = [
            point
            for point in timed
            if (point.backend, point.dtype, point.case.get("part")) == (backend, dtype, "routed")
        ]
        if device is not None and dtype in FORMATS and len(mine) >= FEWEST:
            found.append(_fit(backend, dtype, mine, device))
    return tuple(found)


def _device(points: Sequence[Point], dtype: str) -> Device | None:
    """Best measured bandwidth, and best measured matrix rate of this dtype or else of any: what kernels can hope for."""
    bandwidths = [point.values["bytes_per_s"] for point in coldest(points)]
    rates = {
        point.dtype: max(
            other.values.get("flops_per_s", 0)
            for other in points
            if other.section == "matmul" and other.dtype == point.dtype
        )
        for point in points
        if point.section == "matmul" and "flops_per_s" in point.values
    }
    if not bandwidths or not rates:
        return None
    return Device(max(bandwidths), rates.get(dtype) or max(rates.values()))


def _row(point: Point, device: Device) -> Row:
    case = point.case
    shape = ExpertShape(
        hidden=int(case["latent_size"] or case["hidden_size"] or 0),
        width=int(case["expert_width"] or 0),
        experts=int(case["num_experts"] or 0),
        experts_on_rank=int(case["num_experts"] or 0),
        experts_per_token=int(case["experts_per_token"] or 0),
        value_bytes=VALUE_BYTES[FORMATS[point.dtype]],
        gated=bool(case["gated"]),
    )
    tokens = int(case["tokens"] or 0)
    load = Load(tokens, point.values["distinct"], tokens * shape.experts_per_token)
    assert point.spread is not None
    return Row(device, work(shape, load), point.spread.median_s)


def _fit(backend: str, dtype: str, mine: Sequence[Point], device: Device) -> KernelFit:
    rows = [_row(point, device) for point in mine]
    # Routings are given to the kernel, so that choosing experts takes no part in these times.
    start = START._replace(routing_factor=0.0)
    if len(rows) > MOST_FITTED:
        chosen = {round(i * (len(rows) - 1) / (MOST_FITTED - 1)) for i in range(MOST_FITTED)}
        constants = fit_constants([row for i, row in enumerate(rows) if i in chosen], start, REFITTED, REFIT_SPREAD)
        held = [row for i, row in enumerate(rows) if i not in chosen]
        errors = [seconds(constants, row.device, row.work) / row.seconds - 1 for row in held]
        fitted = len(rows) - len(held)
    else:
        found = refit(rows, start)
        constants, errors, fitted = found.constants, list(found.errors), len(rows)
    return KernelFit(
        backend=backend,
        dtype=dtype,
        bandwidth_bytes_per_s=device.bandwidth_bytes_per_s,
        flops_per_s=device.flops_per_s,
        constants=constants._asdict(),
        num_fitted=fitted,
        num_held=len(errors),
        median_error=median(abs(each) for each in errors),
        worst_error=max(abs(each) for each in errors),
        r_squared_distinct=_r_squared(mine),
    )


def _r_squared(mine: Sequence[Point]) -> float | None:
    """Of time over distinct experts at fixed tokens: the worst shape's; None where too few points vary them alone."""
    groups: dict[tuple[object, ...], list[Point]] = {}
    for point in mine:
        routing = str(point.case["routing"])
        if routing.startswith("distinct:") and "/" not in routing:
            groups.setdefault((point.case["shape"], point.case["tokens"]), []).append(point)
    found = []
    for group in groups.values():
        distinct = [point.values["distinct"] for point in group]
        times = [point.spread.median_s for point in group if point.spread is not None]
        if len(set(distinct)) >= FEWEST_DISTINCT and len(set(times)) > 1:
            found.append(correlation(distinct, times) ** 2)
    return min(found, default=None)
