"""Fits of the latency model with shapes left out, and what their errors say: bands, and how far constants carry."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import NamedTuple

from benchmarks.kernel_files import Fitted, Width, errors, reaches
from benchmarks.latency_rows import RANGES, Group, Row, groups, hardware_of, models_of
from moeplan.core.kernel_set import KernelSet, choose
from moeplan.core.latency import Band, KernelConstants, seconds
from moeplan.core.latency_fit import Point, fit_constants

POOLED_ROWS = 100
"""How many rows of its own a kernel's band needs to weigh as much as the rows of all kernels together. From 30 to 300
the coverage moves by one point."""

TAIL = 0.05
"""Left out on each side: bands of 90 %."""

ASSUMED = (
    Width(
        "same_architecture",
        (Band(float("inf"), 1 / 1.1, 1.1),),
        "assumed: untouched constants were 15 to 16 % off from an H100 to an H200 and from a B200 to a GB300, no more than for a new shape",
    ),
    Width(
        "other_version",
        (Band(64, 1 / 1.1, 1.1), Band(512, 1 / 1.2, 1.2), Band(float("inf"), 1 / 1.35, 1.35)),
        "assumed: vLLM moved by 10 % at 1 to 64 tokens and by 38 % above 512 from 0.14 to 0.19 on an H100, SGLang by 4 to 8 % "
        "and 31 % from 0.5.10 to 0.5.14, vLLM by 1 to 4 % from 0.18 to 0.22",
    ),
    Width(
        "other_vendor",
        (Band(float("inf"), 0.2, 4.0),),
        "assumed, wider than between architectures: kernels on devices of other makers are not yet measured",
    ),
)


class Job(NamedTuple):
    """One fit: the shapes of a kernel that it sees."""

    group: Group
    models: tuple[str, ...]


def jobs() -> list[Job]:
    """Every fit: all shapes, all but one, all but two, and one alone."""
    found = []
    for group, rows in groups().items():
        models = models_of(rows)
        sizes = {1, len(models) - 2, len(models) - 1, len(models)}
        seen = {kept for size in sizes if size > 0 for kept in combinations(models, size)}
        found += [Job(group, kept) for kept in sorted(seen)]
    return found


def fitted(job: Job) -> KernelConstants:
    """The constants of one fit."""
    return fit_to(row for row in groups()[job.group] if row.model in job.models)


def fit_to(rows: Iterable[Row]) -> KernelConstants:
    """Constants fitted to some rows."""
    return fit_constants([Point(row.device, row.work, row.seconds) for row in rows])


class Fits:
    """The results of all fits, and the errors that they make on rows that they did not see."""

    def __init__(self, found: Mapping[Job, KernelConstants]) -> None:
        self.found = found
        self.groups = groups()
        self.models = {group: tuple(models_of(rows)) for group, rows in self.groups.items()}
        self.pools: dict[str | None, dict[str, list[float]]] = {}

    def of(self, group: Group, *left_out: str) -> KernelConstants:
        """Constants of a kernel without some shapes."""
        return self.found[Job(group, tuple(model for model in self.models[group] if model not in left_out))]

    def ratios(self, group: Group, model: str, constants: KernelConstants) -> dict[str, list[float]]:
        """Measured / predicted of one shape's rows, by range of tokens."""
        found: dict[str, list[float]] = defaultdict(list)
        for row in self.groups[group]:
            if row.model == model:
                found[row.range].append(row.seconds / seconds(constants, row.device, row.work))
        return found

    def unseen(self, group: Group, hidden: str | None = None) -> dict[str, list[float]]:
        """Ratios of all shapes of a kernel, each by a fit without it; `hidden` has no part in anything."""
        total: dict[str, list[float]] = defaultdict(list)
        for model in self.models[group]:
            left_out = {model, hidden} - {None}
            kept = [each for each in self.models[group] if each not in left_out]
            if model != hidden and kept:
                constants = self.of(group, *sorted(str(each) for each in left_out))
                for name, ratios in self.ratios(group, model, constants).items():
                    total[name] += ratios
        return total

    def unseen_by_one(self) -> dict[str, list[float]]:
        """Ratios of all other shapes where a kernel's constants know a single one."""
        total: dict[str, list[float]] = defaultdict(list)
        for group, models in self.models.items():
            for known in models:
                for other in models:
                    if other != known:
                        for name, ratios in self.ratios(group, other, self.found[Job(group, (known,))]).items():
                            total[name] += ratios
        return total

    def bands(self, group: Group, hidden: str | None = None) -> tuple[Band, ...]:
        """A band for each range: quantiles of the kernel's own ratios, drawn towards those of all kernels together.

        Without the shape `hidden` everywhere. A kernel of one shape has no ratios of its own: it takes those of all
        kernels where one shape was known.
        """
        own = self.unseen(group, hidden)
        pool = self.pool(hidden) if len(self.models[group]) > 1 else self.unseen_by_one()
        found = []
        for reach, name in zip(reaches(), RANGES, strict=True):
            share = len(own[name]) / (len(own[name]) + POOLED_ROWS)
            ends = []
            for tail in (TAIL, 1 - TAIL):
                mine = math.log(quantile(own[name], tail)) if own[name] else 0.0
                ends.append(math.exp(share * mine + (1 - share) * math.log(quantile(pool[name], tail))))
            found.append(Band(reach, *ends))
        return tuple(found)

    def pool(self, hidden: str | None) -> dict[str, list[float]]:
        """Ratios of all kernels together on unseen shapes."""
        if hidden not in self.pools:
            total: dict[str, list[float]] = defaultdict(list)
            for group in self.groups:
                for name, ratios in self.unseen(group, hidden).items():
                    total[name] += ratios
            self.pools[hidden] = total
        return self.pools[hidden]


def shipped(fits: Fits, group: Group) -> Fitted:
    """The set of a kernel, fitted to all its shapes."""
    rows, models, constants = fits.groups[group], fits.models[group], fits.of(group)
    ratios = fits.unseen(group) or fits.ratios(group, models[0], constants)
    counts = {model: sum(row.model == model for row in rows) for model in models}
    ranks = frozenset(row.ranks for row in rows)
    return Fitted(group, constants, counts, ratios, fits.bands(group), ranks)


def widths(sets: list[Fitted], fits: Fits) -> list[Width]:
    """How far constants are off under another backend, for another format, on another architecture; and what is assumed."""
    known = [_as_set(each) for each in sets]
    trials: dict[str, dict[str, list[float]]] = {
        kind: defaultdict(list) for kind in ("other_architecture", "other_backend", "other_dtype")
    }
    for target, rows in fits.groups.items():
        for kind, total in trials.items():
            lent = lender(known, target, kind)
            for row in rows if lent is not None else ():
                assert lent is not None
                total[row.range].append(row.seconds / seconds(lent.constants, row.device, row.work))
    told = {
        "other_architecture": "constants of the nearest other architecture, same backend and format",
        "other_backend": "constants of another backend, same device and format",
        "other_dtype": "constants of another format, same device and backend",
    }
    found = []
    for kind, ratios in trials.items():
        mean, middle = errors(ratios)
        bands = tuple(
            Band(reach, quantile(ratios[name], TAIL), quantile(ratios[name], 1 - TAIL))
            for reach, name in zip(reaches(), RANGES, strict=True)
        )
        count = sum(len(each) for each in ratios.values())
        error = f"mean {mean:.0%}, median {middle:.0%}"
        found.append(Width(kind, bands, f"{told[kind]}, tried on the rows of benchmarks/data", count, error))
    return [*found, *ASSUMED]


def lender(known: list[KernelSet], target: Group, kind: str) -> KernelSet | None:
    """The set that would be borrowed for a kernel if that kernel's own, and all but one kind of others, were unknown."""
    hardware = hardware_of(target.system)
    here = hardware.profile
    alike = {
        "other_architecture": [each for each in known if each.hardware != here and each.backend == target.backend],
        "other_backend": [each for each in known if each.hardware == here and each.backend != target.backend],
        "other_dtype": [
            each
            for each in known
            if each.hardware == here and each.backend == target.backend and each.dtype != target.dtype
        ],
    }[kind]
    found = choose(alike, hardware, target.backend, target.dtype)
    return found[0] if found is not None and found[1] == (kind,) else None


def quantile(values: Iterable[float], share: float) -> float:
    """Between the two nearest ranks, in a straight line."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _as_set(each: Fitted) -> KernelSet:
    hardware = hardware_of(each.group.system)
    return KernelSet(
        hardware.profile, hardware.architecture or "", hardware.compute_capability or "", each.group.backend,
        each.group.version, each.group.kernel, each.group.dtype, None, each.constants, each.bands, each.rows, 0, 0, "", "",
    )  # fmt: skip
