"""Text of `profiles/kernels/ops`: what the fit found, laid out for people; the same figures give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.kernel_files import number
from benchmarks.latency_rows import PROFILES, hardware_of
from benchmarks.op_fits import SOURCE, Width
from moeplan.core.op_fit import FORMULAS
from moeplan.core.op_set import OpBand, OpSet

UNTRIED = "assumed, as far as constants of experts were off: this operation was measured {} to try"

ASSUMED = (
    ("other_architecture", 0.3, 3.5, UNTRIED.format("on too few devices")),
    ("other_backend", 0.4, 3.0, UNTRIED.format("under too few engines")),
    ("other_dtype", 0.35, 3.0, UNTRIED.format("in too few formats")),
    (
        "same_architecture",
        0.909,
        1.1,
        "assumed, as for experts: from an H100 to an H200 no further off than for a new shape",
    ),
    (
        "other_vendor",
        0.2,
        4.0,
        "assumed, wider than between architectures: devices of other makers are not yet measured",
    ),
)
"""Widths where nothing could be tried, for any operation."""

TRIED = {
    "other_architecture": "constants of the nearest other architecture, same backend and format",
    "other_backend": "constants of another backend, same device and format",
    "other_dtype": "constants of another format, same device and backend",
}


def op_files(found: Sequence[OpSet]) -> dict[str, str]:
    """Text by file name: one file per device and backend."""
    files: dict[str, list[OpSet]] = {}
    for each in found:
        files.setdefault(f"{each.hardware}-{each.backend}.yaml", []).append(each)
    return {name: _file(sets) for name, sets in sorted(files.items())}


def _file(sets: Sequence[OpSet]) -> str:
    first = sets[0]
    hardware = hardware_of(next(system for system, profile in PROFILES.items() if profile == first.hardware))
    lines = [
        f"# Constants of plain operations under {first.backend} on {hardware.name}. Written by benchmarks/fit_ops.py; what each",
        "# means stands in moeplan/core/{matmul,attention,collective}_latency.py. `band` is measured over predicted: nine of",
        "# ten rows of unseen shapes lie in it, up to a size of the operation (moeplan/core/op_set.py).",
        "schema: 1",
        f"hardware: {first.hardware}",
        f"architecture: {first.architecture}",
        f'compute_capability: "{first.compute_capability}"',
        f"link: {first.link}",
        f"backend: {first.backend}",
        f'source: "{SOURCE}"',
        "operations:",
    ]
    # Where the engine has several kernels of one format, the one with most rows comes first.
    for each in sorted(sets, key=lambda one: (one.operation, one.dtype, -sum(one.rows.values()), one.kernel)):
        rows = ", ".join(f"{name}: {count}" for name, count in each.rows.items())
        lines += [
            f"  - operation: {each.operation}",
            f'    version: "{each.version}"',
            f"    kernel: {each.kernel}",
            f"    dtype: {each.dtype}",
            *([f"    operand_dtype: {each.operand_dtype}"] if each.operand_dtype != each.dtype else []),
            *([f"    most: {each.most:g}"] if each.most < math.inf else []),
            *(["    host_bound: true"] if each.host_bound else []),
            f"    rows: {{{rows}}}",
            f'    error: {{mean: {each.mean_error:.4f}, median: {each.median_error:.4f}, judged: "{each.judged}"}}',
            "    constants:",
            *(
                f"      {name}: {f'{value:.0f}' if name in FORMULAS[each.operation].stated else number(value)}"
                for name, value in each.constants._asdict().items()
            ),
            "    band:",
            *_bands(each.bands, "      "),
        ]
    return "\n".join(lines) + "\n"


def borrowing_file(widths: Sequence[Width]) -> str:
    """Text of `borrowing.yaml`."""
    lines = [
        "# By how much a band widens where the constants are those of something else. Written by benchmarks/fit_ops.py. Where",
        "# rows and error are given, `band` is measured over predicted of 90 % of the rows, and takes the place of the set's own",
        "# band; else it is an assumption. Widths without an operation hold where the operation has none of that kind.",
        "schema: 1",
        "widths:",
    ]
    for each in widths:
        lines += [
            f"  - operation: {each.operation}",
            f"    kind: {each.kind}",
            f'    source: "{TRIED[each.kind]}, tried on the rows of benchmarks/data"',
            f"    rows: {each.rows}",
            f'    error: "mean {each.mean:.0%}, median {each.median:.0%}"',
            "    band:",
            *_bands(each.bands, "      "),
        ]
    for kind, low, high, source in ASSUMED:
        lines += [f"  - kind: {kind}", f'    source: "{source}"', f"    low: {low}", f"    high: {high}"]
    return "\n".join(lines) + "\n"


def _bands(bands: Sequence[OpBand], indent: str) -> list[str]:
    return [
        f"{indent}- {{most: {'null' if band.most == math.inf else f'{band.most:.0f}'}, low: {band.low:.3f}, high: {band.high:.3f}}}"
        for band in bands
    ]
