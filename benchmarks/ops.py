"""The formulas of plain operations against public measurements, on shapes that their constants were not fitted to.

    python benchmarks/ops.py    prints the tables; exit 1 where a bound of an operation is broken that is not in `MISSED`

Shapes are left out in folds (`op_rows.LEFT_OUT`), the constants are fitted to the others, and the rows of the fold are
predicted; bands are calibrated without it too (`fit_ops.py`, which wrote the fits to data/ops-folds.json; `fit_ops.py check`
does them again).
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.fit_ops import FOLDS  # noqa: E402
from benchmarks.op_fits import row_s  # noqa: E402
from benchmarks.op_rows import LEFT_OUT, OpGroup, OpRow, folds_of, op_groups, range_names  # noqa: E402
from moeplan.core.op_fit import FORMULAS  # noqa: E402
from moeplan.core.op_set import OPERATIONS, OpBand, Operation  # noqa: E402
from moeplan.sources.op_constants import op_borrowing  # noqa: E402
from moeplan.sources.profile_folders import builtin_folder  # noqa: E402

MOST_MEAN, MOST_MEDIAN = 0.20, 0.10
LEAST_COVERED, MOST_COVERED, WIDEST = 0.87, 0.93, 2.0
"""What the rows of each operation have to keep: errors, share of rows in their band, median of high / low."""

MISSED: dict[Operation, str] = {
    "all_reduce": "mean error: SGLang and TensorRT-LLM over the PCIe bus of an L40S, where 2, 4 and 8 GPUs are three "
    "topologies and two tell little of the third; NCCL alone keeps it",
    "all_gather": "bands are a little too wide, those of small messages, where two numbers of GPUs say enough of the third",
    "all_to_all": "bands are too narrow, most on an L40S, and at small messages of an H100, of which neighbours take 7 and 17 us",
}
"""Operations that break a bound, and why."""


Fold = tuple[Any, tuple[OpBand, ...]]
"""Constants and bands of a kernel without some shapes."""


class Judged(NamedTuple):
    """One row as predicted without its shape."""

    row: OpRow
    predicted_s: float
    band: OpBand

    @property
    def error(self) -> float:
        """Predicted / measured - 1."""
        return self.predicted_s / self.row.point.seconds - 1

    @property
    def covered(self) -> bool:
        """Whether the measurement lies in the band."""
        return self.band.low <= self.row.point.seconds / self.predicted_s <= self.band.high


class Score(NamedTuple):
    """What some rows come to; errors and coverage are shares."""

    rows: int
    mean: float
    median: float
    covered: float
    ratio: float
    """Median of high / low."""


@lru_cache(maxsize=1)
def judged() -> tuple[Judged, ...]:
    """Every row whose kernel knows another shape."""
    folds: dict[OpGroup, dict[int, Fold]] = defaultdict(dict)
    for each in json.loads(FOLDS.read_text(encoding="utf-8")):
        group = OpGroup(*each["group"])
        constants = type(FORMULAS[group.operation].start)(*each["constants"])
        folds[group][each["fold"]] = constants, tuple(OpBand(0, low, high) for low, high in each["bands"])
    found = []
    for group, rows in op_groups().items():
        shapes = folds_of(rows)
        for fold, (constants, bands) in folds[group].items():
            beside = _nccl(folds, group, fold)
            found += [
                Judged(row, row_s(constants, row, beside), bands[row.range])
                for row in rows
                if row.shape in shapes[fold]
            ]
    return tuple(found)


def _nccl(folds: Mapping[OpGroup, Mapping[int, Fold]], group: OpGroup, fold: int) -> Any:
    """NCCL's constants beside an engine's own, without the same numbers of devices."""
    if group.operation != "engine_all_reduce":
        return None
    return next(
        some[fold][0]
        for each, some in folds.items()
        if (each.operation, each.system, each.backend) == ("all_reduce", group.system, "nccl")
    )


def score(some: Sequence[Judged]) -> Score:
    """Errors and coverage of some rows."""
    off = [abs(each.error) for each in some]
    ratio = median(each.band.high / each.band.low for each in some)
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


def of(operation: Operation) -> list[Judged]:
    """Judged rows of an operation."""
    return [each for each in judged() if each.row.group.operation == operation]


def by_operation() -> dict[Operation, Score]:
    """Scores by operation, in their order."""
    return {operation: score(of(operation)) for operation in OPERATIONS}


def by_size(some: Sequence[Judged]) -> dict[str, Score]:
    """Scores by range of sizes, in their order; the rows of one operation."""
    names = range_names(some[0].row.group.operation)
    found = by(some, lambda each: names[each.row.range])
    return {name: found[name] for name in names if name in found}


def by_system(some: Sequence[Judged]) -> dict[str, Score]:
    """Scores by system."""
    return dict(sorted(by(some, lambda each: each.row.group.system).items()))


HEAD = f"{'rows':>7} {'mean':>7} {'median':>7} {'in band':>8} {'high/low':>9}"
WIDTH = 78


def tables() -> Iterator[str]:
    """The lines that `main` prints."""
    for operation in OPERATIONS:
        some = of(operation)
        total = score(some)
        yield f"{f'{operation}, {LEFT_OUT[operation]} left out':<{WIDTH}} {HEAD}"
        sections = (by(some, lambda each: each.row.group.name), by_system(some), by_size(some), {"all": total})
        for scores in sections:
            for name, each in scores.items():
                yield f"{name:<{WIDTH}} {line(each)}"
        yield ("kept" if passes(total) else f"BROKEN: {MISSED.get(operation, 'nobody says why')}") + "\n"
    yield "Shown: constants of elsewhere, as they are"
    for (operation_, kind), bands in op_borrowing(builtin_folder("kernels") / "ops" / "borrowing.yaml").items():
        ends = "  ".join(f"{band.low:.2f} to {band.high:.2f}" for band in bands)
        yield f"{(operation_ or 'any') + ' ' + kind:<{WIDTH}} {ends}"


def line(found: Score) -> str:
    """A row of a table."""
    return f"{found.rows:>7,} {found.mean:>7.1%} {found.median:>7.1%} {found.covered:>8.1%} {found.ratio:>9.2f}"


def main() -> int:
    """Print the tables; 1 where a bound is broken that is not known to be."""
    for each in tables():
        print(each)
    return int({name for name, found in by_operation().items() if not passes(found)} != set(MISSED))


if __name__ == "__main__":
    sys.exit(main())
