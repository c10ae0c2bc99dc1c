"""A profile in words: the device, its figures with their spread, kernels with their error, what could not be measured."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.core.units import gib
from moeplan.profile.result import Change, Figure, Profile
from moeplan.report.amounts import amount

FIGURE_HEADS = ("figure", "measured", "spread", "by")
KERNEL_HEADS = ("experts by", "dtype", "fitted", "judged on", "median error", "worst", "R² over distinct")
CHANGE_HEADS = ("figure", "before", "now", "change", "")


def device_words(profile: Profile) -> str:
    """`cuda · torch 2.11.0 · driver 580.1 · compute capability 9.0 · 139.7 GiB, 139.0 GiB free`."""
    device = profile.device
    parts = [device.kind, f"torch {device.torch_version}"]
    parts += [f"driver {device.driver_version}"] if device.driver_version else []
    parts += [f"compute capability {device.compute_capability}"] if device.kind == "cuda" else []
    parts += [f"{device.num_threads} threads"] if device.num_threads else []
    if device.total_bytes is not None:
        free = "" if device.free_bytes is None else f", {gib(device.free_bytes)} free"
        parts.append(f"{gib(device.total_bytes)}{free}")
    parts += [f"{device.sm_clock_mhz} MHz at most"] if device.sm_clock_mhz else []
    parts += [f"{device.power_limit_w:.0f} W at most"] if device.power_limit_w else []
    return " · ".join(parts)


def outcome_words(profile: Profile) -> str:
    """What came of it, in one sentence."""
    cases = f"{profile.num_points:,} {'case' if profile.num_points == 1 else 'cases'}"
    failed = len({(each.backend, each.problem) for each in profile.problems})
    without = (
        f", {len(profile.problems)} of them without a figure ({failed} {'reason' if failed == 1 else 'reasons'})"
        if failed
        else ""
    )
    if not profile.complete:
        return f"INTERRUPTED after {cases}{without}: they are kept, and --resume goes on"
    return f"MEASURED: {cases}{without}, effort {profile.effort}, seed {profile.seed}"


def kept_words(profile: Profile) -> list[str]:
    """Where it was written, and how it comes back."""
    told = []
    if profile.path is not None:
        told.append(f"kept in {profile.path}: --gpu {profile.profile} uses it")
    if profile.points_path is not None:
        told.append(f"every case is in {profile.points_path}")
    return told


def figure_rows(profile: Profile) -> Iterator[tuple[str, ...]]:
    """Cells as in `FIGURE_HEADS`."""
    for figure in profile.figures:
        yield figure.label, amount(figure.value, figure.unit), _spread(figure), figure.source.partition(", ")[0]


def kernel_rows(profile: Profile) -> Iterator[tuple[str, ...]]:
    """Cells as in `KERNEL_HEADS`."""
    for kernel in profile.kernels:
        squared = kernel.r_squared_distinct
        yield (
            kernel.backend,
            kernel.dtype,
            f"{kernel.num_fitted} cases",
            f"{kernel.num_held} unused",
            _percent(kernel.median_error),
            _percent(kernel.worst_error),
            "–" if squared is None else f"{squared:.3f}",
        )


def change_rows(profile: Profile) -> Iterator[tuple[str, ...]]:
    """Cells as in `CHANGE_HEADS`."""
    for change in profile.changes or ():
        verdict = "changed" if change.beyond_noise else "within the noise"
        yield change.label, *_pair(change), f"{change.change * 100:+.1f}%", verdict


def problem_words(profile: Profile) -> list[str]:
    """Each reason once, with the backends and sections that it is of."""
    told: dict[tuple[str, str], list[str]] = {}
    for each in profile.problems:
        told.setdefault((each.backend, each.problem), []).append(each.section)
    return [
        f"{backend} ({', '.join(dict.fromkeys(sections))}, {len(sections)} {'case' if len(sections) == 1 else 'cases'}): {problem}"
        for (backend, problem), sections in told.items()
    ]


def _spread(figure: Figure) -> str:
    low, high = amount(figure.low, figure.unit), amount(figure.high, figure.unit)
    return "" if low == high else f"{low} to {high}"


def _pair(change: Change) -> tuple[str, str]:
    return amount(change.before, change.unit), amount(change.now, change.unit)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.1f}%"
