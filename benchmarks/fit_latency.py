"""Fits the latency model of experts to the public rows, and writes what comes out.

    python benchmarks/fit_latency.py rows    writes the compact rows of benchmarks/data from ../shared, and their routings
    python benchmarks/fit_latency.py fit     writes profiles/kernels and benchmarks/data/latency-folds.json
    python benchmarks/fit_latency.py check   fits again and compares; exit 1 where the files say something else

It needs nothing but moeplan, and takes a few minutes on two cores: some 600 fits. `rows` needs the shared table beside
the checkout; the other two work in a lone clone.

Shapes are left out in turn. For each kernel and each shape of it the constants are fitted to the other shapes: these
folds are what `benchmarks/latency.py` judges. Their bands are calibrated without that shape too: on the errors of the
third shapes, each predicted by a fit that saw neither. What ships in `profiles/kernels` is fitted to all shapes, and its
bands are calibrated on the errors of the folds.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from multiprocessing import Pool
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.collector_routing import Case, routed  # noqa: E402
from benchmarks.kernel_files import Fitted, Width, borrowing_file, errors, kernel_files, reaches  # noqa: E402
from benchmarks.latency_rows import (  # noqa: E402
    DATA,
    PROFILES,
    RANGES,
    ROUTING,
    ROWS,
    Group,
    Row,
    grouped,
    groups,
    models_of,
)
from moeplan.core.latency import Band, KernelConstants, KernelSet, seconds  # noqa: E402
from moeplan.core.latency_fit import Point, fit_constants  # noqa: E402
from moeplan.sources.hardware_profiles import read_hardware  # noqa: E402
from moeplan.sources.kernel_constants import choose  # noqa: E402
from moeplan.sources.profile_folders import builtin_folder  # noqa: E402

SHARED = ROOT.parent / "shared" / "data" / "moe-latency-dev.csv"
FOLDS = DATA / "latency-folds.json"
KERNELS = ROOT / "profiles" / "kernels"

POOLED_ROWS = 100
"""How many rows of its own a kernel's band needs to weigh as much as the rows of all kernels together. From 30 to 300
the coverage moves by one point."""

TAIL = 0.05
"""Left out on each side: bands of 90 %."""

NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")

ASSUMED = (
    Width(
        "same_architecture",
        (Band(float("inf"), 1 / 1.1, 1.1),),
        "assumed: untouched constants were 15 to 16 % off from an H100 to an H200 and from a B200 to a GB300, no more than for a new shape",
    ),
    Width(
        "other_version",
        (Band(64, 1 / 1.1, 1.1), Band(512, 1 / 1.2, 1.2), Band(float("inf"), 1 / 1.35, 1.35)),
        "assumed: vLLM moved by 10 % at 1 to 64 tokens and by 38 % above 512 from 0.14 to 0.19 on an H100, SGLang by 4 to 8 % and 31 % from 0.5.10 to 0.5.14, vLLM by 1 to 4 % from 0.18 to 0.22",
    ),
    Width(
        "other_vendor",
        (Band(float("inf"), 0.4, 2.5),),
        "assumed: kernels on devices of other makers are not yet measured",
    ),
)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rows", "fit", "check"])
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    if asked.what == "rows":
        return write_rows()
    files = results(asked.processes)
    if asked.what == "check":
        wrong = [path for path, text in files.items() if not path.exists() or not _same(path, text)]
        for path in wrong:
            print(f"{path.relative_to(ROOT)} is not what the fit says")
        print("every file is what the fit says" if not wrong else "run python benchmarks/fit_latency.py fit")
        return int(bool(wrong))
    KERNELS.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return 0


# Rows ---------------------------------------------------------------------------------------------------------


def write_rows() -> int:
    """The compact table, and a routing for each of its cases."""
    with SHARED.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    models = {row["model"]: (row["hidden"], row["inter"], row["experts"], row["topk"]) for row in table}
    lines = ["\t".join(("model", name, *models[name])) for name in sorted(models)]
    cases: dict[tuple[str, ...], dict[tuple[str, ...], list[tuple[int, str]]]] = defaultdict(lambda: defaultdict(list))
    routings = set()
    for row in table:
        group = (row["system"], row["backend"], row["backend_version"], row["dtype"], row["kernel"])
        case = (row["model"], row["tp"], row["ep"], row["distribution"])
        cases[group][case].append((int(row["tokens"]), f"{float(row['latency_ms']) * 1e3:.5g}"))
        limited = grouped(row["model"], row["backend"], row["backend_version"])
        shape = (int(row["experts"]), int(row["topk"]))
        routings.add(Case(*shape, limited, int(row["ep"]), int(row["tokens"]), row["distribution"]))
    for group in sorted(cases):
        lines.append("\t".join(("group", *group)))
        for case in sorted(cases[group]):
            times = " ".join(f"{tokens}:{micros}" for tokens, micros in sorted(cases[group][case]))
            lines.append("\t".join(("case", *case, times)))
    ROWS.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0))
    with ROUTING.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["experts", "experts_per_token", "grouped", "ranks", "tokens", "distribution", "distinct", "rows"])
        with Pool() as pool:
            ordered = sorted(routings)
            for case, found in zip(ordered, pool.map(routed, ordered, chunksize=8), strict=True):
                writer.writerow([*case[:2], int(case.grouped), *case[3:], f"{found.distinct:g}", f"{found.rows:.7g}"])
    print(f"{len(table):,} rows, {len(routings):,} routings")
    return 0


# Fits ---------------------------------------------------------------------------------------------------------


class Job(NamedTuple):
    """One fit: the shapes of a kernel that it sees."""

    group: Group
    models: tuple[str, ...]


def jobs() -> list[Job]:
    """Every fit: all shapes, all but one, all but two, and one alone."""
    found = []
    for group, rows in groups().items():
        models = models_of(rows)
        seen = {tuple(models)}
        for left_out in (1, 2):
            seen |= {kept for kept in combinations(models, len(models) - left_out) if kept}
        seen |= {(model,) for model in models}
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


def results(processes: int) -> dict[Path, str]:
    """Text of every file that the fit writes."""
    todo = jobs()
    with Pool(processes) as pool:
        fits = Fits(dict(zip(todo, pool.map(fitted, todo, chunksize=1), strict=True)))
    sets = [shipped(fits, group) for group in fits.groups]
    files = {KERNELS / name: text for name, text in kernel_files(sets).items()}
    files[KERNELS / "borrowing.yaml"] = borrowing_file(widths(sets, fits))
    files[FOLDS] = folds(fits)
    return files


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
    hardware = read_hardware(builtin_folder("hardware") / f"{PROFILES[target.system]}.yaml")
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


def folds(fits: Fits) -> str:
    """Constants and bands of every kernel without each of its shapes, for `benchmarks/latency.py`."""
    found: list[Any] = []
    for group, models in fits.models.items():
        for model in models if len(models) > 1 else ():
            constants = [float(f"{value:.6g}") for value in fits.of(group, model)]
            bands = [[round(band.low, 4), round(band.high, 4)] for band in fits.bands(group, model)]
            found.append({"group": list(group), "without": model, "constants": constants, "bands": bands})
    lines = ",\n".join(json.dumps(each) for each in found)
    return f"[\n{lines}\n]\n"


def quantile(values: Iterable[float], share: float) -> float:
    """Between the two nearest ranks, in a straight line."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _as_set(each: Fitted) -> KernelSet:
    hardware = read_hardware(builtin_folder("hardware") / f"{PROFILES[each.group.system]}.yaml")
    return KernelSet(
        hardware.profile, hardware.architecture or "", hardware.compute_capability or "", each.group.backend,
        each.group.version, each.group.kernel, each.group.dtype, None, each.constants, each.bands, each.rows, 0, 0, "", "",
    )  # fmt: skip


def _same(path: Path, text: str) -> bool:
    """Equal but for the last digits, which another machine's libm may turn."""
    old, new = (NUMBER.split(each) for each in (path.read_text(encoding="utf-8"), text))
    if old != new:
        return False
    pairs = zip(NUMBER.findall(path.read_text(encoding="utf-8")), NUMBER.findall(text), strict=True)
    return all(abs(float(a) - float(b)) <= 2e-3 * max(abs(float(a)), abs(float(b)), 0.1) for a, b in pairs)


if __name__ == "__main__":
    sys.exit(main())
