"""Fits the latency model of experts to the public rows, and writes what comes out.

    python benchmarks/fit_latency.py rows    writes the compact rows of benchmarks/data from ../shared, and their routings
    python benchmarks/fit_latency.py fit     writes profiles/kernels and benchmarks/data/latency-folds.json
    python benchmarks/fit_latency.py check   fits again and compares; exit 1 where the files say something else

It needs nothing but moeplan, and takes about two minutes on two cores: some 560 fits. `rows` needs the shared table beside
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
from multiprocessing import Pool
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.collector_routing import Case, routed, router_of  # noqa: E402
from benchmarks.kernel_files import borrowing_file, kernel_files  # noqa: E402
from benchmarks.latency_fits import Fits, fitted, jobs, shipped, widths  # noqa: E402
from benchmarks.latency_rows import DATA, ROUTING, ROWS  # noqa: E402

SHARED = ROOT.parent / "shared" / "data" / "moe-latency-dev.csv"
FOLDS = DATA / "latency-folds.json"
KERNELS = ROOT / "profiles" / "kernels"

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


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
        wrong = [path for path, text in files.items() if not path.exists() or not same(path, text)]
        for path in wrong:
            print(f"{path.relative_to(ROOT)} is not what the fit says")
        print("every file is what the fit says" if not wrong else "run python benchmarks/fit_latency.py fit")
        return int(bool(wrong))
    KERNELS.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return 0


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
        cases[group][row["model"], row["tp"], row["ep"], row["distribution"]].append(
            (int(row["tokens"]), f"{float(row['latency_ms']) * 1e3:.5g}")
        )
        ranks = int(row["ep"])
        router = router_of(row["model"], row["backend"], row["backend_version"], ranks)
        routings.add(
            Case(int(row["experts"]), int(row["topk"]), router, ranks, int(row["tokens"]), row["distribution"])
        )
    for kernel, layouts in sorted(cases.items()):
        lines.append("\t".join(("group", *kernel)))
        for layout, measured in sorted(layouts.items()):
            times = " ".join(f"{tokens}:{micros}" for tokens, micros in sorted(measured))
            lines.append("\t".join(("case", *layout, times)))
    ROWS.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0))
    with ROUTING.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*Case._fields, "tokens_seen", "distinct", "rows"])
        with Pool() as pool:
            ordered = sorted(routings)
            for case, found in zip(ordered, pool.map(routed, ordered, chunksize=8), strict=True):
                writer.writerow([*case, *(f"{value:.8g}" for value in found)])
    print(f"{len(table):,} rows, {len(routings):,} routings")
    return 0


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


def same(path: Path, text: str) -> bool:
    """Equal but for the last digits, which another machine's mathematics may turn."""
    old = path.read_text(encoding="utf-8")
    if NUMBER.split(old) != NUMBER.split(text):
        return False
    pairs = zip(map(float, NUMBER.findall(old)), map(float, NUMBER.findall(text)), strict=True)
    return all(math.isclose(one, other, rel_tol=0.01, abs_tol=1e-3 if one > 1e-3 else 0) for one, other in pairs)


if __name__ == "__main__":
    sys.exit(main())
