"""What the project aims at on a GPU, and of each aim whether a run kept it, missed it, or did not measure it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from moeplan.core.measurement import Point
from moeplan.estimate.measured_run import BARS
from moeplan.profile.result import KernelFit
from moeplan.validate.result import Comparison

DECODE_TOKENS, PREFILL_TOKENS = 64, 16_384
DTYPE = "bfloat16"
ENGINES = ("vllm",)
"""Backends whose kernels are an engine's and not torch's, by how their names begin."""

GPUS = ("cuda", "rocm")

Kept = Literal["kept", "missed", "not measured", "not measured on a GPU"]


class Bar(NamedTuple):
    """One aim: a share that is reached at least, or an error that is not exceeded."""

    what: str
    bound: float
    at_least: bool


DECODE = Bar(
    f"decode: weights of experts at {DECODE_TOKENS} tokens, of the measured copy bandwidth", 0.75, at_least=True
)
PREFILL = Bar(
    f"prefill: experts in {DTYPE} at {PREFILL_TOKENS:,} tokens, of the measured matmul rate", 0.5, at_least=True
)
UNUSED = Bar("latency model: median error on unused points", 0.08, at_least=False)
LINE = Bar("latency model: R² of time over distinct experts", 0.98, at_least=True)
WEIGHTS = Bar("whole models: error of the weights", BARS["weights_bytes"], at_least=False)
PEAK = Bar("whole models: error of the peak", BARS["peak_bytes"], at_least=False)


class Outcome(NamedTuple):
    """A bar, what was reached by whom, and what that comes to."""

    bar: Bar
    reached: float | None
    by: str
    kept: Kept
    why: str = ""
    """What was missing for a figure."""


def outcomes(
    kind: str,
    figures: Mapping[str, float],
    points: Sequence[Point],
    kernels: Iterable[KernelFit],
    models: Mapping[str, Sequence[Comparison]],
) -> tuple[Outcome, ...]:
    """Every bar at least once, in their order: once for each kernel, and for the worst of the models.

    Decode and prefill are judged on the best of torch's backends on the best shape; the other shapes are told. On anything
    but a GPU nothing is judged.
    """
    fits = list(kernels)
    found = [
        _share(DECODE, points, "bytes_per_s", DECODE_TOKENS, figures.get("copy_bytes_per_s")),
        _share(PREFILL, points, "flops_per_s", PREFILL_TOKENS, figures.get(f"matmul_{DTYPE}_flops_per_s")),
        *_each(UNUSED, {f"{fit.backend}, {fit.dtype}": fit.median_error for fit in fits}),
        *_each(LINE, {f"{fit.backend}, {fit.dtype}": fit.r_squared_distinct for fit in fits}),
        _worst(WEIGHTS, models, ("weights_bytes", "loaded_bytes")),
        _worst(PEAK, models, ("peak_bytes",)),
    ]
    if kind in GPUS:
        return tuple(found)
    return tuple(each._replace(kept="not measured on a GPU", why="") for each in found)


def missed(found: Iterable[Outcome]) -> bool:
    """Whether a bar that was measured was not kept."""
    return any(each.kept == "missed" for each in found)


def _judged(bar: Bar, reached: float | None, by: str, why: str = "") -> Outcome:
    if reached is None:
        return Outcome(bar, None, by, "not measured", why)
    # No number is no success.
    good = reached >= bar.bound if bar.at_least else abs(reached) <= bar.bound
    return Outcome(bar, reached, by, "kept" if good else "missed")


def _share(bar: Bar, points: Sequence[Point], value: str, tokens: int, whole: float | None) -> Outcome:
    mine = [
        point
        for point in points
        if (point.section, point.dtype, point.case.get("tokens")) == ("experts", DTYPE, tokens)
        and point.case.get("part") == "routed"
        and point.problem is None
        and value in point.values
        and not point.backend.startswith(ENGINES)
    ]
    if not mine or not whole:
        return _judged(
            bar, None, "", "no such case has a figure" if whole else "what it is a share of was not measured"
        )
    best: dict[str, Point] = {}
    for point in sorted(mine, key=lambda each: each.values[value]):
        best[str(point.case["shape"])] = point
    ordered = sorted(best.values(), key=lambda each: -each.values[value])
    told = [f"{point.case['shape']} {point.values[value] / whole:.2f}" for point in ordered[1:]]
    first = ordered[0]
    by = f"{first.backend}, {first.case['shape']}, {first.case['routing']}"
    return _judged(bar, first.values[value] / whole, f"{by}; {', '.join(told)}" if told else by)


def _each(bar: Bar, reached: Mapping[str, float | None]) -> list[Outcome]:
    if not reached:
        return [_judged(bar, None, "", "no kernel was fitted")]
    return [_judged(bar, value, by, "too few points") for by, value in reached.items()]


def _worst(bar: Bar, models: Mapping[str, Sequence[Comparison]], quantities: tuple[str, ...]) -> Outcome:
    errors = [
        (abs(row.error), row.error, name)
        for name, rows in models.items()
        for row in rows
        if row.quantity in quantities and row.judged and row.error is not None
    ]
    if not errors:
        return _judged(bar, None, "", "no model ran with such a figure")
    _, error, name = max(errors)
    count = len({each[2] for each in errors})
    return _judged(bar, error, f"{name}, the worst of {count}" if count > 1 else name)


# Words -------------------------------------------------------------------------------------------------------


def bar_lines(found: Sequence[Outcome]) -> list[str]:
    """One line each, and how many came to what."""
    width = max(len(each.kept) for each in found) + 2
    lines = [f"{each.kept + ':':<{width}}{each.bar.what}: {_reached(each)}" for each in found]
    counts = Counter(each.kept for each in found)
    return [*lines, f"bars: {', '.join(f'{count} {kept}' for kept, count in counts.items())}"]


def bar_table(found: Sequence[Outcome]) -> list[str]:
    """The same as lines of Markdown."""
    lines = ["| bar | reached | bound | | by |", "|---|---:|---:|---|---|"]
    for each in found:
        bound = f"{'at least' if each.bar.at_least else 'at most'} {_number(each.bar, each.bar.bound)}"
        reached = "–" if each.reached is None else _number(each.bar, each.reached)
        kept = f"{each.kept}: {each.why}" if each.why else each.kept
        lines.append(f"| {each.bar.what} | {reached} | {bound} | {kept} | {each.by or '–'} |")
    return lines


def _reached(each: Outcome) -> str:
    bound = f"{'at least' if each.bar.at_least else 'at most'} {_number(each.bar, each.bar.bound)}"
    told = [bound, *([each.by] if each.by else []), *([each.why] if each.why else [])]
    return f"{'–' if each.reached is None else _number(each.bar, each.reached)} ({'; '.join(told)})"


def _number(bar: Bar, value: float) -> str:
    """Errors in percent, shares as they are."""
    return f"{value:.3f}" if bar.at_least else f"{value * 100:.2f}%"
