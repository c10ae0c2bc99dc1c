"""Text of `profiles/kernels`: what the fit found, laid out for people; the same figures give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import NamedTuple

from benchmarks.latency_rows import PROFILES, RANGES, Group, hardware_of
from moeplan.core.latency import Band, KernelConstants

SOURCE = (
    "ai-dynamo/aiconfigurator, aic-core/src/aiconfigurator_core/systems/data (commit 095f58a5, 2026-08-21), Apache-2.0, "
    "NVIDIA CORPORATION & AFFILIATES: the rows of benchmarks/data/moe-latency.txt.gz with up to 8 expert ranks"
)

UNSEEN = "shapes that the fit did not see"
ALONE = "the rows of the fit: one shape alone"


class Fitted(NamedTuple):
    """One set as it goes to a file."""

    group: Group
    constants: KernelConstants
    rows: Mapping[str, int]
    ratios: Mapping[str, Sequence[float]]
    """Measured / predicted by range of tokens, on unseen shapes; on the fit's own where it has but one."""
    bands: tuple[Band, ...]
    ranks: frozenset[int]
    """Sizes of the expert group among the rows."""


class Width(NamedTuple):
    """How far a set that is borrowed was off where it was tried."""

    kind: str
    bands: tuple[Band, ...]
    source: str
    rows: int = 0
    error: str | None = None


def errors(ratios: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """Mean and median of |predicted / measured - 1| over all ranges."""
    off = [abs(1 / each - 1) for some in ratios.values() for each in some]
    return fmean(off), median(off)


def kernel_files(found: Sequence[Fitted]) -> dict[str, str]:
    """Text by file name: one file per device and backend."""
    files: dict[str, list[Fitted]] = {}
    for each in found:
        files.setdefault(f"{PROFILES[each.group.system]}-{each.group.backend}.yaml", []).append(each)
    return {name: _file(sets) for name, sets in files.items()}


def _file(sets: Sequence[Fitted]) -> str:
    group = sets[0].group
    hardware = hardware_of(group.system)
    lines = [
        f"# The latency model's constants for experts under {group.backend} {group.version} on {hardware.name}. Written by",
        "# benchmarks/fit_latency.py; what each constant means stands in moeplan/core/latency.py. `band` is measured over",
        "# predicted: nine of ten rows of unseen shapes lie in it, up to a number of tokens.",
        "schema: 1",
        f"hardware: {hardware.profile}",
        f"architecture: {hardware.architecture}",
        f'compute_capability: "{hardware.compute_capability}"',
        f"backend: {group.backend}",
        f'version: "{group.version}"',
        f'source: "{SOURCE}"',
        "kernels:",
    ]
    # Where the engine chooses between kernels of one format, the one with most shapes comes first.
    for each in sorted(sets, key=lambda one: (one.group.dtype, -len(one.rows), one.group.kernel)):
        mean, middle = errors(each.ratios)
        judged = UNSEEN if len(each.rows) > 1 else ALONE
        rows = ", ".join(f"{model}: {count}" for model, count in sorted(each.rows.items()))
        lines += [
            f"  - kernel: {each.group.kernel}",
            f"    dtype: {each.group.dtype}",
            *_expert_parallel(each, sets),
            f"    rows: {{{rows}}}",
            f'    error: {{mean: {mean:.4f}, median: {middle:.4f}, judged: "{judged}"}}',
            "    constants:",
            *(f"      {name}: {number(value)}" for name, value in each.constants._asdict().items()),
            "    band:",
            *_bands(each.bands, "      "),
        ]
    return "\n".join(lines) + "\n"


def _expert_parallel(each: Fitted, sets: Sequence[Fitted]) -> list[str]:
    """A line where the engine runs one kernel with expert parallelism and another without."""
    rest = [one for one in sets if one.group.dtype == each.group.dtype and one is not each]
    if any(one.ranks & each.ranks for one in rest) or not rest:
        return []
    return [f"    expert_parallel: {str(1 not in each.ranks).lower()}"]


def borrowing_file(widths: Sequence[Width]) -> str:
    """Text of `borrowing.yaml`."""
    lines = [
        "# By how much a band widens where the constants are those of something else. Written by benchmarks/fit_latency.py.",
        "# Where rows and error are given, `band` is measured over predicted of 90 % of the rows, and takes the place of the",
        "# set's own band; else it is an assumption and comes on top of that. Several add up as independent errors do.",
        "schema: 1",
        "kinds:",
    ]
    for each in widths:
        lines += [f"  {each.kind}:", f'    source: "{each.source}"']
        if each.error is not None:
            lines += [f"    rows: {each.rows}", f'    error: "{each.error}"']
        lines += ["    band:", *_bands(each.bands, "      ")]
    return "\n".join(lines) + "\n"


def _bands(bands: Sequence[Band], indent: str) -> list[str]:
    return [
        f"{indent}- {{most_tokens: {'null' if band.most_tokens == float('inf') else int(band.most_tokens)}, "
        f"low: {band.low:.3f}, high: {band.high:.3f}}}"
        for band in bands
    ]


def number(value: float) -> str:
    """Four digits. YAML reads an exponent as one only behind a point."""
    mantissa, sign, exponent = f"{value:.4g}".partition("e")
    return (mantissa if "." in mantissa or not sign else f"{mantissa}.0") + sign + exponent


def reaches() -> list[float]:
    """Ends of the ranges of tokens, the last one open."""
    return [*(float(most) for most in list(RANGES.values())[:-1]), float("inf")]
