"""A profile in words: the device, its figures with their spread, kernels with their error, what could not be measured."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.core.units import gib
from moeplan.profile.result import Figure, Problem, Profile
from moeplan.report.amounts import amount

FIGURE_HEADS = ("figure", "measured", "spread", "by")
KERNEL_HEADS = ("experts by", "dtype", "fitted", "judged on", "median error", "worst", "R² over distinct")
CHANGE_HEADS = ("changed", "before", "now", "change")


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
    real = _real(profile)
    number = profile.num_points - len(profile.problems) + len(real)
    cases = f"{number:,} {'case' if number == 1 else 'cases'}"
    reasons = len({(each.backend, each.problem) for each in real})
    without = (
        f", {len(real)} of them without a figure ({reasons} {'reason' if reasons == 1 else 'reasons'})"
        if reasons
        else ""
    )
    if not profile.complete and not profile.num_points:
        return "INTERRUPTED before the first case was measured: nothing is kept"
    if not profile.complete:
        return f"INTERRUPTED after {cases}{without}: they are kept, and --resume goes on"
    before = " EARLIER" if 0 < profile.num_taken == number - len(real) else ""
    return f"MEASURED{before}: {cases}{without}, effort {profile.effort}, seed {profile.seed}"


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


def against_words(profile: Profile) -> str | None:
    """`compared with my-h200 of 2026-11-25 12:34:56Z (moeplan 0.1.0, torch 2.11.0, driver 580.1)`; None without one."""
    older = profile.against
    if older is None:
        return None
    when = " ".join(part for part in (older.date, older.time) if part) or "an unknown day"
    tools = [older.tool] if older.tool else []
    tools += [f"torch {older.torch_version}"] if older.torch_version else []
    tools += [f"driver {older.driver_version}"] if older.driver_version else []
    told = f"compared with {older.profile} of {when}"
    return f"{told} ({', '.join(tools)})" if tools else told


def unchanged_words(profile: Profile) -> str | None:
    """How many figures lie within the noise, and by which rule; None where nothing was compared."""
    older = profile.against
    if older is None or not profile.changes:
        return None
    told = f"{older.num_unchanged} unchanged, within the spreads of both runs"
    bands: dict[float, list[str]] = {}
    for change in profile.changes:
        if change.band_fraction is not None:
            bands.setdefault(change.band_fraction, []).append(change.label)
    for band, labels in bands.items():
        told += f"; no spread is known of {', '.join(labels)}, and {band:.0%} to each side stands for it"
    others = [change.label for change in profile.changes if change.beyond_noise and not change.same_case]
    return f"{told}; of another case than then, so no plain change: {', '.join(others)}" if others else told


def change_rows(profile: Profile) -> Iterator[tuple[str, ...]]:
    """Cells as in `CHANGE_HEADS`: what has changed beyond the noise."""
    for change in profile.changes or ():
        if change.beyond_noise:
            before, now = amount(change.before, change.unit), amount(change.now, change.unit)
            yield change.label, before, now, f"{change.change * 100:+,.1f}%"


def not_here_words(profile: Profile) -> list[str]:
    """Backends that are not for this device, in one line, and for each dtype those that are not for it."""
    told: dict[str, dict[str, None]] = {}
    for each in profile.problems:
        if each.not_for is not None:
            where = "not on this device" if each.not_for == "device" else f"not in {each.dtype}"
            told.setdefault(where, {})[each.backend] = None
    return [f"{where}: {', '.join(backends)}" for where, backends in told.items()]


def problem_words(profile: Profile) -> list[str]:
    """Each reason once, with the backends and sections that it is of."""
    told: dict[tuple[str, str], list[str]] = {}
    for each in _real(profile):
        told.setdefault((each.backend, each.problem), []).append(each.section)
    return [
        f"{backend} ({', '.join(dict.fromkeys(sections))}, {len(sections)} {'case' if len(sections) == 1 else 'cases'}): {problem}"
        for (backend, problem), sections in told.items()
    ]


def _spread(figure: Figure) -> str:
    low, high = amount(figure.low, figure.unit), amount(figure.high, figure.unit)
    return "" if low == high else f"{low} to {high}"


def _real(profile: Profile) -> list[Problem]:
    """Problems of backends that are for this device and dtype."""
    return [each for each in profile.problems if each.not_for is None]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.1f}%"
