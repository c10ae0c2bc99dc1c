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
from moeplan.core.model import Remark
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
    found = []
    for (backend, dtype), mine in _kernels(points).items():
        device = _device(points, dtype)
        if device is not None and len(mine) >= FEWEST:
            found.append(_fit(backend, dtype, mine, device))
    return tuple(found)


def kernel_notes(points: Sequence[Point]) -> tuple[Remark, ...]:
    """Why experts that were timed have no constants, and what would give them some."""
    kernels = _kernels(points)
    if not kernels:
        return ()
    wanted = {"bandwidth": ("the bandwidth of its memory", _bandwidths), "matmul": ("its matrix rate", _rates)}
    missing = [section for section, (_, of) in wanted.items() if not of(points)]
    if missing:
        what = " and ".join(wanted[section][0] for section in missing)
        ways = " ".join(f"--section {section}" for section in missing)
        told = f"experts were timed, but the latency model is not fitted to this machine without {what}: add {ways}"
        return (Remark("kernels-not-fitted", "info", told),)
    few = [
        f"{backend} in {dtype} ({len(mine)} timed {'case' if len(mine) == 1 else 'cases'})"
        for (backend, dtype), mine in kernels.items()
        if len(mine) < FEWEST
    ]
    if not few:
        return ()
    told = f"the latency model is not fitted to {', '.join(few)}: it takes {FEWEST}; without --quick there are more, with --full most"
    return (Remark("kernels-not-fitted", "info", told),)


def _kernels(points: Sequence[Point]) -> dict[tuple[str, str], list[Point]]:
    """Timed points of routed experts by backend and dtype."""
    found: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        routed = point.section == "experts" and point.case.get("part") == "routed" and point.spread is not None
        if routed and point.backend not in REFERENCES and point.dtype in FORMATS:
            found.setdefault((point.backend, point.dtype), []).append(point)
    return found


def _device(points: Sequence[Point], dtype: str) -> Device | None:
    """Best measured bandwidth, and best measured matrix rate of this dtype or else of any: what kernels can hope for."""
    bandwidths, rates = _bandwidths(points), _rates(points)
    if not bandwidths or not rates:
        return None
    return Device(max(bandwidths), rates.get(dtype) or max(rates.values()))


def _bandwidths(points: Sequence[Point]) -> list[float]:
    return [point.values["bytes_per_s"] for point in coldest(points)]


def _rates(points: Sequence[Point]) -> dict[str, float]:
    """The best by dtype."""
    found: dict[str, float] = {}
    for point in points:
        if point.section == "matmul" and "flops_per_s" in point.values:
            found[point.dtype] = max(found.get(point.dtype, 0), point.values["flops_per_s"])
    return found


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
