"""Fits of plain operations with shapes left out, and what their errors say: bands, and how far constants carry."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import fmean, median
from typing import Any, NamedTuple

from benchmarks.latency_fits import TAIL, quantile
from benchmarks.latency_rows import hardware_of
from benchmarks.op_rows import LEFT_OUT, SWITCHED, OpGroup, OpRow, folds_of, op_groups
from moeplan.core.collective_latency import collective_s
from moeplan.core.op_fit import FORMULAS, fit_operation, predicted_s
from moeplan.core.op_set import ALONE, OPERATIONS, SIZES, OpBand, Operation, OpSet, choose_op, link_of

POOLED_ROWS = 30
"""How many rows of its own a kernel's band needs to weigh as much as the rows of all kernels of its operation."""

FEW_FOLDS = 0.7
"""Bands of f folds are wider by this / f: the errors of one fold are alike, so those of a few others tell less of it than
as many rows of as many shapes would. Without it 81 to 86 % of the rows lie in bands of 90 % where folds are three."""

HOST_BOUND_S = 40e-6
"""A product whose quickest row takes longer was timed at the pace of the host: 57, 80 and 157 us for the least work
where the same kernels under another engine take 5 to 16. Inside a CUDA graph nobody waits for the host."""

SOURCE = (
    "ai-dynamo/aiconfigurator, aic-core/src/aiconfigurator_core/systems/data (commit 095f58a5, 2026-08-21), Apache-2.0, "
    "NVIDIA CORPORATION & AFFILIATES: the rows of benchmarks/data/ops-latency.txt.gz"
)


class OpFit(NamedTuple):
    """Constants of one kernel, and of each fold without its shapes."""

    whole: Any
    folds: tuple[Any, ...]
    """In the order of `folds_of`; empty where there is one shape."""


class Width(NamedTuple):
    """How far constants of elsewhere were off where they were tried."""

    operation: Operation
    kind: str
    bands: tuple[OpBand, ...]
    rows: int
    mean: float
    median: float


def fit_group(group: OpGroup) -> OpFit:
    """All fits of one kernel."""
    rows = op_groups()[group]
    folds = folds_of(rows)
    without = (
        [fit_to(group, [row for row in rows if row.shape not in fold]) for fold in folds] if len(folds) > 1 else []
    )
    return OpFit(fit_to(group, rows), tuple(without))


def fit_to(group: OpGroup, rows: Sequence[OpRow]) -> Any:
    """Constants fitted to some rows of a kernel."""
    if group.operation != "engine_all_reduce":
        return fit_operation(group.operation, [row.point for row in rows])
    most = _most_bytes(group, rows)
    own = [row.point for row in rows if row.size < most]
    return fit_operation(group.operation, own, most_bytes=most)


def _most_bytes(group: OpGroup, rows: Sequence[OpRow]) -> float:
    """Where NCCL takes over: the power of two at which the errors of both together are smallest."""
    nccl = nccl_of(group.system, frozenset(row.shape for row in rows))
    sizes = sorted({row.size for row in rows})
    best, least = sizes[-1] * 2, math.inf
    for most in (*sizes[len(sizes) // 2 :], sizes[-1] * 2):
        own = fit_operation(group.operation, [row.point for row in rows if row.size < most], most_bytes=most)
        off = 0.0
        for row in rows:
            found = (
                predicted_s(group.operation, own, row.point)
                if row.size < most
                else predicted_s("all_reduce", nccl, row.point)
            )
            off += min(1.0, abs(math.log(found / row.point.seconds)))
        if off < least:
            best, least = most, off
    return float(best)


@lru_cache(maxsize=64)
def nccl_of(system: str, shapes: frozenset[tuple[int, ...]]) -> Any:
    """Constants of NCCL's all-reduce on a system, from its rows of some numbers of devices."""
    rows = next(
        rows
        for each, rows in op_groups().items()
        if (each.operation, each.system, each.backend) == ("all_reduce", system, "nccl")
    )
    return fit_operation("all_reduce", [row.point for row in rows if row.shape in shapes])


def row_s(constants: Any, row: OpRow, nccl: Any = None) -> float:
    """Seconds of a row; an engine's all-reduce from its size on by NCCL."""
    if row.group.operation == "engine_all_reduce" and nccl is not None:
        if row.size >= constants.most_bytes:
            return predicted_s("all_reduce", nccl, row.point)
        gpus, _ = row.point.call
        most = collective_s(nccl, row.point.device, gpus, constants.most_bytes, passes=2)
        return min(predicted_s(row.group.operation, constants, row.point), most)
    return predicted_s(row.group.operation, constants, row.point)


Ratios = dict[int, list[float]]
"""Measured / predicted by range of sizes."""


class OpFits:
    """All fits, and the errors that they make on rows that they did not see."""

    def __init__(self, found: Mapping[OpGroup, OpFit]) -> None:
        self.found = found
        self.groups = op_groups()
        self.shapes = {group: folds_of(rows) for group, rows in self.groups.items()}
        self.off = {group: [self._fold(group, i) for i in range(len(fit.folds))] for group, fit in found.items()}

    def nccl(self, group: OpGroup, fold: int | None = None) -> Any:
        """NCCL's constants beside an engine's own, without the numbers of devices of a fold."""
        if group.operation != "engine_all_reduce":
            return None
        beside, fit = next(
            (each, fit)
            for each, fit in self.found.items()
            if (each.operation, each.system, each.backend) == ("all_reduce", group.system, "nccl")
        )
        assert self.shapes[beside] == self.shapes[group]
        return fit.whole if fold is None else fit.folds[fold]

    def _fold(self, group: OpGroup, fold: int) -> Ratios:
        constants, shapes = self.found[group].folds[fold], self.shapes[group][fold]
        found: Ratios = defaultdict(list)
        for row in self.groups[group]:
            if row.shape in shapes:
                found[row.range].append(row.point.seconds / row_s(constants, row, self.nccl(group, fold)))
        return found

    def unseen(self, group: OpGroup, hidden: int | None = None) -> Ratios:
        """Ratios of all folds of a kernel but the hidden one."""
        total: Ratios = defaultdict(list)
        for i, fold in enumerate(self.off[group]):
            if i != hidden:
                for name, some in fold.items():
                    total[name] += some
        return total

    def bands(self, group: OpGroup, hidden: int | None = None) -> tuple[OpBand, ...]:
        """Quantiles of the kernel's own ratios, drawn towards those of all kernels that are alike; without a fold."""
        own = self.unseen(group, hidden)
        pool: Ratios = defaultdict(list)
        for each in self.groups:
            if _alike(each, group):
                for name, some in self.unseen(each, hidden).items():
                    pool[name] += some
        return _bands(
            group.operation, own, pool, 1 + FEW_FOLDS / max(1, len(self.shapes[group]) - (hidden is not None))
        )

    def errors(self, group: OpGroup) -> tuple[float, float, str]:
        """Mean and median error, and what they were taken on."""
        ratios = [each for some in self.unseen(group).values() for each in some]
        told = f"rows whose {LEFT_OUT[group.operation]} the fit did not see"
        if not ratios:
            whole = self.found[group].whole
            ratios = [row.point.seconds / row_s(whole, row, self.nccl(group)) for row in self.groups[group]]
            told = "the rows of the fit: one shape alone"
        off = [abs(1 / each - 1) for each in ratios]
        return fmean(off), median(off), told

    def sets(self) -> list[OpSet]:
        """What ships."""
        return [self._set(group) for group in self.groups]

    def _set(self, group: OpGroup) -> OpSet:
        hardware = hardware_of(group.system)
        mean, middle, judged = self.errors(group)
        rows = self.groups[group]
        counts = Counter(_label(group, row) for row in rows)
        return OpSet(
            operation=group.operation,
            hardware=hardware.profile,
            architecture=hardware.architecture or "",
            compute_capability=hardware.compute_capability or "",
            backend=group.backend,
            version=group.version,
            kernel=group.kernel,
            dtype=group.dtype,
            operand_dtype=group.operand_dtype,
            link=link_of(hardware),
            most=SWITCHED.get(group.kernel, math.inf),
            host_bound=group.operation == "matmul" and min(row.point.seconds for row in rows) > HOST_BOUND_S,
            constants=self.found[group].whole,
            bands=self.bands(group),
            rows=dict(sorted(counts.items())),
            mean_error=mean,
            median_error=middle,
            judged=judged,
            source=SOURCE,
        )


def _label(group: OpGroup, row: OpRow) -> str:
    """Name of what rows are counted by: few enough to read."""
    if group.operation == "matmul":
        return f"m={row.size:g}"
    if group.operation.startswith("attention"):
        return f"kv_heads={row.shape[1]}"
    return f"gpus={row.shape[-1]}"


def _alike(one: OpGroup, other: OpGroup) -> bool:
    """Whether errors of one kernel say something of another: of the same operation; or calls of one library over links of
    the same kind."""
    if one.operation in ALONE or other.operation in ALONE:
        return one.operation == other.operation
    same_formula = FORMULAS[one.operation] is FORMULAS[other.operation]
    same_caller = (one.backend == "nccl") == (other.backend == "nccl")
    return same_formula and same_caller and link_of(hardware_of(one.system)) == link_of(hardware_of(other.system))


def _bands(operation: Operation, own: Ratios, pool: Ratios, wider: float) -> tuple[OpBand, ...]:
    found = []
    for i, reach in enumerate((*SIZES[operation][1], math.inf)):
        share = len(own[i]) / (len(own[i]) + POOLED_ROWS)
        ends = []
        for tail in (TAIL, 1 - TAIL):
            mine = math.log(quantile(own[i], tail)) if own[i] else 0.0
            ends.append(math.exp(wider * (share * mine + (1 - share) * math.log(quantile(pool[i], tail)))))
        found.append(OpBand(reach, min(ends[0], 0.99), max(ends[1], 1.01)))
    return tuple(found)


def widths(sets: Sequence[OpSet], fits: OpFits) -> list[Width]:
    """How far constants of another architecture, backend or format were off, by operation; those that could be tried."""
    found = []
    slow = {(each.hardware, each.backend, each.kernel) for each in sets if each.host_bound}
    for operation in OPERATIONS:
        for kind in ("other_architecture", "other_backend", "other_dtype"):
            ratios: Ratios = defaultdict(list)
            for group, rows in fits.groups.items():
                if (
                    group.operation == operation
                    and (hardware_of(group.system).profile, group.backend, group.kernel) not in slow
                ):
                    lent = lender(sets, group, kind)
                    nccl = fits.nccl(group)
                    for row in rows if lent is not None else ():
                        assert lent is not None
                        ratios[row.range].append(row.point.seconds / row_s(lent.constants, row, nccl))
            off = [abs(1 / each - 1) for some in ratios.values() for each in some]
            if off:
                everything = [each for some in ratios.values() for each in some]
                bands = tuple(
                    OpBand(reach, *(quantile(ratios[i] or everything, tail) for tail in (TAIL, 1 - TAIL)))
                    for i, reach in enumerate((*SIZES[operation][1], math.inf))
                )
                bands = tuple(OpBand(most, min(low, 0.95), max(high, 1.05)) for most, low, high in bands)
                found.append(Width(operation, kind, bands, len(off), fmean(off), median(off)))
    return found


def lender(sets: Sequence[OpSet], group: OpGroup, kind: str) -> OpSet | None:
    """The set that a kernel would borrow if its own, and all but one kind of others, were unknown."""
    hardware = hardware_of(group.system)
    here = hardware.profile
    alike = {
        "other_architecture": [each for each in sets if each.hardware != here and each.backend == group.backend],
        "other_backend": [each for each in sets if each.hardware == here and each.backend != group.backend],
        "other_dtype": [
            each
            for each in sets
            if each.hardware == here and each.backend == group.backend and each.dtype != group.dtype
        ],
    }[kind]
    if group.operation not in ALONE:
        alike = [each for each in alike if each.link == link_of(hardware)]
    found = choose_op(alike, group.operation, hardware, group.backend, group.dtype)
    return found[0][-1] if found is not None and found[1] == (kind,) else None
