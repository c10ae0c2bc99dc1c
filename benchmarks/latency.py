"""The latency model of experts against public measurements, on model shapes that its constants were not fitted to.

    python benchmarks/latency.py    prints the tables; exit 1 where a bound of BOUNDS is broken

One shape at a time is left out of a kernel (system, backend, version, format, kernel), the constants are fitted to the
others, and the rows of that shape are predicted; bands are calibrated without it too (`fit_latency.py`, which wrote the
fits to data/latency-folds.json; `fit_latency.py check` does them again). Kernels of three shapes and more count, with up
to 8 expert ranks. Shown, and counted for nothing: kernels of two shapes, 16 ranks, constants that are carried to another
architecture, as they are and refitted to a few points of it, and what a refit to few points gains by where it starts.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.latency_rows import DATA, MOST_RANKS, PROFILES, RANGES, Group, Row, groups, hardware_of, models_of, rows  # noqa: E402
from moeplan.core.kernel_set import KernelSet, choose  # noqa: E402
from moeplan.core.latency import KernelConstants, seconds  # noqa: E402
from moeplan.core.latency_fit import REFIT_SPREAD, REFITTED, START, Point, fit_constants  # noqa: E402
from moeplan.sources.kernel_constants import all_sets  # noqa: E402
from moeplan.sources.profile_folders import builtin_folder  # noqa: E402

FOLDS = DATA / "latency-folds.json"
LEAST_SHAPES = 3

MOST_MEAN, MOST_MEDIAN = 0.19, 0.095
LEAST_COVERED, MOST_COVERED, WIDEST = 0.87, 0.93, 2.0
"""What the counted rows have to keep: errors, share of rows in their band, median of high / low."""

FEW = (12, 40)
"""Points of the target that carried constants are refitted to."""


class Fold(NamedTuple):
    """Constants of a kernel, and the factors of its bands, without one shape."""

    constants: KernelConstants
    bands: dict[str, tuple[float, float]]


class Judged(NamedTuple):
    """One row as predicted without its shape."""

    row: Row
    predicted_s: float
    low: float
    high: float
    num_shapes: int
    """Of its kernel."""

    @property
    def error(self) -> float:
        """Predicted / measured - 1."""
        return self.predicted_s / self.row.seconds - 1

    @property
    def covered(self) -> bool:
        """Whether the measurement lies in the band."""
        return self.low <= self.row.seconds / self.predicted_s <= self.high

    @property
    def counted(self) -> bool:
        """Whether it counts for the bounds."""
        return self.num_shapes >= LEAST_SHAPES and self.row.ranks <= MOST_RANKS


class Score(NamedTuple):
    """What some rows come to; errors and coverage are shares."""

    rows: int
    mean: float
    median: float
    covered: float
    ratio: float
    """Median of high / low."""


@lru_cache(maxsize=1)
def folds() -> dict[tuple[Group, str], Fold]:
    """Every fold by kernel and the shape that is left out."""
    found = {}
    for each in json.loads(FOLDS.read_text(encoding="utf-8")):
        bands = {name: (low, high) for name, (low, high) in zip(RANGES, each["bands"], strict=True)}
        found[Group(*each["group"]), each["without"]] = Fold(KernelConstants(*each["constants"]), bands)
    return found


@lru_cache(maxsize=1)
def judged() -> tuple[Judged, ...]:
    """Every row whose kernel knows another shape."""
    shapes: dict[Group, set[str]] = defaultdict(set)
    for group, model in folds():
        shapes[group].add(model)
    found = []
    for row in rows():
        fold = folds().get((row.group, row.model))
        if fold is not None:
            predicted = seconds(fold.constants, row.device, row.work)
            found.append(Judged(row, predicted, *fold.bands[row.range], len(shapes[row.group])))
    return tuple(found)


def counted() -> list[Judged]:
    """The rows that count for the bounds."""
    return [each for each in judged() if each.counted]


def score(some: Sequence[Judged]) -> Score:
    """Errors and coverage of some rows."""
    off = [abs(each.error) for each in some]
    ratio = median(each.high / each.low for each in some)
    return Score(len(off), fmean(off), median(off), fmean(each.covered for each in some), ratio)


def passes(found: Score) -> bool:
    """Whether the bounds are kept."""
    return (
        found.mean <= MOST_MEAN
        and found.median <= MOST_MEDIAN
        and LEAST_COVERED <= found.covered <= MOST_COVERED
        and found.ratio <= WIDEST
    )


def by(some: Iterable[Judged], key: Callable[[Judged], str]) -> dict[str, Score]:
    """Scores of rows that belong together, in the order in which they come."""
    parts: dict[str, list[Judged]] = {}
    for each in some:
        parts.setdefault(key(each), []).append(each)
    return {name: score(part) for name, part in parts.items()}


def by_range(some: Sequence[Judged]) -> dict[str, Score]:
    """Scores by range of tokens, in their order."""
    found = by(some, lambda each: each.row.range)
    return {name: found[name] for name in RANGES if name in found}


# Carried constants --------------------------------------------------------------------------------------------


class Carried(NamedTuple):
    """Constants of one device on the rows of another, same backend and format: mean and median error."""

    source: str
    target: str
    rows: int
    untouched: tuple[float, float]
    refitted: dict[int, tuple[float, float]]
    """By the number of points of the target; on its other rows."""


def carried() -> list[Carried]:
    """Every pair of systems; where either has several kernels of a format, its first one, as the reader takes it."""
    sets = {
        (each.hardware, each.kernel, each.dtype, each.backend): each for each in all_sets(builtin_folder("kernels"))
    }
    first: dict[tuple[str, str, str], KernelSet] = {}
    for each in sets.values():
        first.setdefault((each.hardware, each.backend, each.dtype), each)
    errors: dict[tuple[str, str], list[list[float]]] = defaultdict(lambda: [[] for _ in (0, *FEW)])
    for group, some in groups().items():
        for system, profile in PROFILES.items():
            lent = first.get((profile, group.backend, group.dtype))
            if system == group.system or lent is None:
                continue
            columns = errors[system, group.system]
            columns[0] += [_off(lent.constants, row) for row in some]
            for column, count in zip(columns[1:], FEW, strict=True):
                taken = few(some, count)
                points = [Point(row.device, row.work, row.seconds) for row in taken]
                own = fit_constants(points, lent.constants, REFITTED, REFIT_SPREAD)
                column += [_off(own, row) for row in some if row not in taken]
    return [
        Carried(
            source, target, len(columns[0]), _both(columns[0]), dict(zip(FEW, map(_both, columns[1:]), strict=True))
        )
        for (source, target), columns in errors.items()
    ]


STARTS = ("other_architecture", "other_backend")
FEW_OF_START = (12, 24, 40)


class Started(NamedTuple):
    """Refits to so many points of a kernel, on its other rows: mean and median error from `START`, and from elsewhere."""

    kind: str
    """One of `STARTS`: what the constants are of that it starts from."""
    one_rank: bool
    """Only rows without parallelism, as a profile measures them."""
    points: int
    kernels: int
    generic: tuple[float, float]
    borrowed: tuple[float, float]
    better: int
    """Kernels whose median error is lower with the borrowed start."""


def starts() -> list[Started]:
    """Every kernel whose format the nearest other architecture, or another backend on its own device, has a set of."""
    found = []
    for kind in STARTS:
        for one_rank in (False, True):
            for count in FEW_OF_START:
                pairs = [
                    (_few_off(some, START, count), _few_off(some, lent, count))
                    for group, some in _rows_to_start(one_rank=one_rank)
                    if len(some) >= 2 * count and (lent := _lent(group, kind)) is not None
                ]
                generic, borrowed = ([off for each in side for off in each] for side in zip(*pairs, strict=True))
                better = sum(median(other) < median(own) for own, other in pairs)
                found.append(Started(kind, one_rank, count, len(pairs), _both(generic), _both(borrowed), better))
    return found


def _rows_to_start(*, one_rank: bool) -> Iterator[tuple[Group, list[Row]]]:
    for group, some in groups().items():
        yield group, [row for row in some if not one_rank or row.ranks == row.tp == 1]


@lru_cache(maxsize=256)
def _lent(group: Group, kind: str) -> KernelConstants | None:
    """Constants that a kernel would borrow, were its own unknown."""
    here, foreign = hardware_of(group.system), kind == "other_architecture"
    others = [
        each
        for each in all_sets(builtin_folder("kernels"))
        if (each.hardware != here.profile) == foreign and (each.backend == group.backend) == foreign
    ]
    found = choose(others, here, group.backend, group.dtype)
    return found[0].constants if found is not None and found[1] == (kind,) else None


def _few_off(some: Sequence[Row], start: KernelConstants, count: int) -> list[float]:
    """Errors on the rows that a refit to so many did not see."""
    taken = few(some, count)
    own = fit_constants([Point(row.device, row.work, row.seconds) for row in taken], start, REFITTED, REFIT_SPREAD)
    return [_off(own, row) for row in some if row not in taken]


def few(some: Sequence[Row], count: int) -> list[Row]:
    """So many rows, evenly over what takes little and what takes long: in the order of weights and rows."""
    ordered = sorted(some, key=lambda row: (row.tokens, row.work.weight_bytes, row.work.rows))
    return [ordered[round(i * (len(ordered) - 1) / (count - 1))] for i in range(count)]


def _off(constants: KernelConstants, row: Row) -> float:
    return abs(seconds(constants, row.device, row.work) / row.seconds - 1)


def _both(off: Sequence[float]) -> tuple[float, float]:
    return fmean(off), median(off)


# Tables -------------------------------------------------------------------------------------------------------

HEAD = f"{'rows':>7} {'mean':>7} {'median':>7} {'in band':>8} {'high/low':>9}"


def tables() -> Iterator[str]:
    """The lines that `main` prints."""
    some = counted()
    total = score(some)
    width = max(len(group.name) for group in groups()) + 2
    sections = [
        ("Kernels of three shapes and more", by(some, lambda each: each.row.group.name)),
        ("By tokens", by_range(some)),
        ("By shape that was left out", dict(sorted(by(some, lambda each: each.row.model).items()))),
        ("All counted rows", {"": total}),
    ]
    two = [each for each in judged() if each.num_shapes < LEAST_SHAPES and each.row.ranks <= MOST_RANKS]
    many = [each for each in judged() if each.num_shapes >= LEAST_SHAPES and each.row.ranks > MOST_RANKS]
    sections += [
        ("Shown: kernels of two shapes", by(two, lambda each: each.row.group.name)),
        ("Shown: 16 expert ranks, in no fit", by_range(many)),
    ]
    for title, scores in sections:
        yield f"{title:<{width}} {HEAD}"
        for name, each in scores.items():
            yield f"{name:<{width}} {_line(each)}"
        yield ""
    alone = [group.name for group, part in groups().items() if len(models_of(part)) == 1]
    yield f"{len(alone)} kernels of one shape are not judged: {'; '.join(alone)}"
    yield ""
    yield f"{'Shown: constants carried to another architecture':<{width}} {'rows':>7} {'as they are':>15} " + " ".join(
        f"{f'{count} points':>15}" for count in FEW
    )
    for found in carried():
        cells = " ".join(
            f"{f'{mean:.0%} / {middle:.0%}':>15}" for mean, middle in (found.untouched, *found.refitted.values())
        )
        yield f"{found.source + ' -> ' + found.target:<{width}} {found.rows:>7,} {cells}"
    yield ""
    yield f"{'Shown: refits to few points, by where they start':<{width}} {'kernels':>7} {'START':>15} {'borrowed':>15} {'better':>7}"
    for one in starts():
        name = f"{one.points} points{', one rank' if one.one_rank else ''}, START or {one.kind.replace('_', ' ')}"
        cells = " ".join(f"{f'{mean:.1%} / {middle:.1%}':>15}" for mean, middle in (one.generic, one.borrowed))
        yield f"{name:<{width}} {one.kernels:>7} {cells} {one.better:>7}"
    yield ""
    yield (
        f"mean {total.mean:.1%} (at most {MOST_MEAN:.0%}), median {total.median:.1%} (at most {MOST_MEDIAN:.1%}), "
        f"in band {total.covered:.1%} ({LEAST_COVERED:.0%} to {MOST_COVERED:.0%}), high/low {total.ratio:.2f} "
        f"(at most {WIDEST:g}): {'kept' if passes(total) else 'BROKEN'}"
    )


def _line(found: Score) -> str:
    return f"{found.rows:>7,} {found.mean:>7.1%} {found.median:>7.1%} {found.covered:>8.1%} {found.ratio:>9.2f}"


def main() -> int:
    """Print the tables; 1 where a bound is broken."""
    for line in tables():
        print(line)
    return int(not passes(score(counted())))


if __name__ == "__main__":
    sys.exit(main())
