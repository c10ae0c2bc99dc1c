"""Constants of the latency model from measured points: all of them, or the few that a machine can tell from few points.

Errors are reported on points that took no part: the points are dealt into folds, and each is predicted by a fit of the
others. The constants that come back are fitted to all points.
"""

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple

from moeplan.core.latency import Device, KernelConstants, Work, seconds
from moeplan.core.robust_fit import fit

START = KernelConstants(
    fixed_s=20e-6,
    expert_s=0.05e-6,
    memory_fraction=0.85,
    startup_bytes=2e6,
    cache_speedup=3.0,
    cache_fraction=0.8,
    compute_fraction=0.5,
    tile_rows=128.0,
    overlap=0.7,
    traffic_factor=2.0,
    remote_fraction=0.3,
    routing_factor=10.0,
)
"""A kernel of which nothing is known: the middle of what kernels of the field do (facts on kernels, section 2).

Refits start here, too, and not from a set of `profiles/kernels`. Refitted to 12, 24 and 40 points of a public kernel, its
other rows are 8.5, 7.4 and 6.7 % off at the median from here, and 8.5, 7.1 and 6.4 % from the constants of the same
engine on the nearest other architecture. On one rank, as a profile measures, it is 5.7, 5.0 and 4.8 % against 6.1, 5.2
and 4.8 %; from another engine's on the same device, which is all that torch's kernels could borrow, 6.9, 6.3 and 6.6 %
against 7.4, 6.5 and 6.3 % (`benchmarks/latency.py` prints the table).
"""

SPREAD = KernelConstants(
    fixed_s=0.3,
    expert_s=0.6,
    memory_fraction=0.1,
    startup_bytes=0.8,
    cache_speedup=0.3,
    cache_fraction=0.12,
    compute_fraction=0.3,
    tile_rows=0.4,
    overlap=0.3,
    traffic_factor=0.3,
    remote_fraction=0.6,
    routing_factor=0.6,
)
"""How firmly each is held there, as a natural logarithm: a deviation of one spread weighs as one row that is 14 % off.
Hundreds of rows move every constant that they can tell: with all of them twice or half as wide, the mean error on unseen
shapes of the public rows moves by 0.2 points."""

CEILING = KernelConstants(*(math.inf,) * len(START))._replace(memory_fraction=1.0, compute_fraction=1.0)
"""Nothing achieves more than the specification."""

REFIT_SPREAD = KernelConstants(*(2 * each for each in SPREAD))
"""Constants of elsewhere are a looser start. Carried to another architecture and refitted to 12 points of it, the public
rows are 15 % off with this, 18 % with half and 14 % with twice as much."""

REFITTED = (
    "fixed_s", "expert_s", "memory_fraction", "compute_fraction", "traffic_factor", "tile_rows", "overlap",
)  # fmt: skip
"""What differs most between a kernel's constants elsewhere and on the machine at hand. Without the last two, refits from
`START` to 12, 24 and 40 points are off by 13.8, 13.3 and 12.2 % in the mean instead of 13.7, 13.0 and 12.0 %."""

FOLDS = 4


class Point(NamedTuple):
    """One measurement."""

    device: Device
    work: Work
    seconds: float


class Refit(NamedTuple):
    """Constants of a machine, and how far off the model is on points that it was not fitted to."""

    constants: KernelConstants
    names: tuple[str, ...]
    """Those that were fitted."""
    num_points: int
    errors: tuple[float, ...]
    """Predicted / measured - 1 of every point, each by a fit without it; in the order of the points."""

    @property
    def mean_error(self) -> float:
        """Of the sizes."""
        return fmean(abs(each) for each in self.errors)

    @property
    def median_error(self) -> float:
        """Of the sizes."""
        return median(abs(each) for each in self.errors)

    @property
    def worst_error(self) -> float:
        """Of the sizes."""
        return max(abs(each) for each in self.errors)


def fit_constants(
    points: Sequence[Point],
    start: KernelConstants = START,
    names: Sequence[str] = KernelConstants._fields,
    spread: KernelConstants = SPREAD,
) -> KernelConstants:
    """`start` with the named constants fitted to the points; `core/robust_fit` says what is minimised."""
    chosen = [start._fields.index(name) for name in names]
    calls = [(point.device, point.work) for point in points]
    values = list(start)

    def predict(trial: list[float]) -> list[float]:
        for index, value in zip(chosen, trial, strict=True):
            values[index] = value
        constants = KernelConstants(*values)
        return [seconds(constants, device, work) for device, work in calls]

    measured = [point.seconds for point in points]
    found = fit(predict, measured, *([each[i] for i in chosen] for each in (start, spread, CEILING)))
    return start._replace(**dict(zip(names, found, strict=True)))


def refit(
    points: Sequence[Point], start: KernelConstants = START, names: Sequence[str] = REFITTED, folds: int = FOLDS
) -> Refit:
    """The named constants from the points of one machine, with the error on points that each fit did not use.

    Points are dealt into the folds in turn, so those that lie side by side (one more token count, one more shape) come
    to lie in different ones. ValueError for fewer points than constants and folds.
    """
    least = max(folds, len(names) + 1)
    if len(points) < least:
        raise ValueError(f"{len(points)} points do not determine {len(names)} constants: {least} are needed")
    errors = [0.0] * len(points)
    for fold in range(folds):
        rest = [point for i, point in enumerate(points) if i % folds != fold]
        without = fit_constants(rest, start, names, REFIT_SPREAD)
        for i in range(fold, len(points), folds):
            point = points[i]
            errors[i] = seconds(without, point.device, point.work) / point.seconds - 1
    return Refit(fit_constants(points, start, names, REFIT_SPREAD), tuple(names), len(points), tuple(errors))
