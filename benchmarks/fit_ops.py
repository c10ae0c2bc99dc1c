"""Fits the formulas of plain operations to the public rows, and writes what comes out.

    python benchmarks/fit_ops.py rows    writes the compact rows of benchmarks/data from ../shared
    python benchmarks/fit_ops.py fit     writes profiles/kernels/ops and benchmarks/data/ops-folds.json
    python benchmarks/fit_ops.py check   fits again and compares; exit 1 where the files say something else

It needs nothing but moeplan, and takes about a minute on two cores. `rows` needs the shared table beside the checkout; the
other two work in a lone clone.

For each kernel, shapes are dealt into at most six folds (`op_rows.LEFT_OUT` says what a shape is), and the constants are
fitted without each fold: these are what `benchmarks/ops.py` judges, with bands that did not see the fold either. What ships
is fitted to all rows, with bands of the errors of all folds.
"""

from __future__ import annotations

import argparse
import json
import sys
from multiprocessing import Pool
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.fit_latency import same  # noqa: E402
from benchmarks.latency_rows import DATA  # noqa: E402
from benchmarks.op_files import borrowing_file, op_files  # noqa: E402
from benchmarks.op_fits import OpFits, fit_group, widths  # noqa: E402
from benchmarks.op_rows import ROWS, compact, op_groups, read_shared  # noqa: E402

SHARED = ROOT.parent / "shared" / "data" / "ops-latency-dev.csv"
FOLDS = DATA / "ops-folds.json"
OPS = ROOT / "profiles" / "kernels" / "ops"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rows", "fit", "check"])
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    if asked.what == "rows":
        ROWS.write_bytes(compact(read_shared(SHARED)))
        return 0
    files = results(asked.processes)
    if asked.what == "check":
        wrong = [path for path, text in files.items() if not path.exists() or not same(path, text)]
        for path in wrong:
            print(f"{path.relative_to(ROOT)} is not what the fit says")
        print("every file is what the fit says" if not wrong else "run python benchmarks/fit_ops.py fit")
        return int(bool(wrong))
    OPS.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return 0


def results(processes: int) -> dict[Path, str]:
    """Text of every file that the fit writes."""
    todo = list(op_groups())
    with Pool(processes) as pool:
        fits = OpFits(dict(zip(todo, pool.map(fit_group, todo, chunksize=1), strict=True)))
    sets = fits.sets()
    files = {OPS / name: text for name, text in op_files(sets).items()}
    files[OPS / "borrowing.yaml"] = borrowing_file(widths(sets, fits))
    files[FOLDS] = folds(fits)
    return files


def folds(fits: OpFits) -> str:
    """Constants and bands of every kernel without each fold, for `benchmarks/ops.py`."""
    found = []
    for group, fit in fits.found.items():
        for i, constants in enumerate(fit.folds):
            values = [float(f"{value:.10g}") for value in constants]
            bands = [[round(band.low, 4), round(band.high, 4)] for band in fits.bands(group, i)]
            found.append({"group": list(group), "fold": i, "constants": values, "bands": bands})
    lines = ",\n".join(json.dumps(each) for each in found)
    return f"[\n{lines}\n]\n"


if __name__ == "__main__":
    sys.exit(main())
