"""One figure of two records: by how much it changed, and whether that is better, worse, the same, or no comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from moeplan.core.record import Figure, Record, Score
from moeplan.core.record_figures import FIGURES, Better, FigureKind
from moeplan.records.result import Compared, Known, Verdict

Reason = Callable[[str, str, Known], str | None]
"""Why a figure is not comparable, by its name, its head and how it is known; None where it is."""

ROUNDING = 1e-12
"""102 ms are 2 % more than 100 ms, and as floats a little more than that."""
WITHIN_RUNS = "runs of both overlap"
WITHIN_NOISE = "within the scores' own noise"


def compared(a: Record, b: Record, reason: Reason, tolerance: float, quality_tolerance: float) -> Iterator[Compared]:
    """Scores, then measured and estimated figures by head, in the order of `core/record_figures`."""
    yield from _scores(a, b, reason, quality_tolerance)
    sides = [(a.measured.figures, b.measured.figures), (a.estimates.figures, b.estimates.figures)]
    measured, estimated = ([{figure.name: figure for figure in figures} for figures in pair] for pair in sides)
    for name, kind in FIGURES.items():
        of_runs = [figures.get(name) for figures in measured]
        of_moeplan = [figures.get(name) for figures in estimated]
        if of_runs != [None, None]:
            yield _figure(name, kind, "measured", of_runs, reason, tolerance, counted=True)
        if of_moeplan != [None, None]:
            yield _figure(name, kind, "estimated", of_moeplan, reason, tolerance, counted=None in of_runs)


def _figure(
    name: str,
    kind: FigureKind,
    known: Known,
    pair: list[Figure | None],
    reason: Reason,
    tolerance: float,
    *,
    counted: bool,
) -> Compared:
    before, after = pair
    why = reason(name, kind.head, known) if before is not None and after is not None else None
    ends = [(None, None) if figure is None else (figure.low, figure.high) for figure in pair]
    gated = kind.gated and known == "measured"
    verdict: Verdict
    if before is None or after is None:
        verdict, change = ("not in A" if before is None else "not in B"), None
    elif why is not None:
        verdict, change = "not comparable", None
    else:
        verdict, change = _judged(before.value, after.value, kind.better, tolerance)
        # Bands of estimates share their causes, so that they say nothing about a difference; those of runs do.
        if verdict in ("better", "worse") and known == "measured" and _overlap(ends[0], ends[1]):
            verdict, why = "same", WITHIN_RUNS
    return Compared(
        kind.head, name, kind.label, kind.unit, kind.better, known,
        None if before is None else before.value, None if after is None else after.value,
        *ends[0], *ends[1], change, verdict, gated, gated and verdict == "worse", counted, why,
    )  # fmt: skip


def _scores(a: Record, b: Record, reason: Reason, tolerance: float) -> Iterator[Compared]:
    before, after = ({score.name: score for score in record.quality} for record in (a, b))
    for name in sorted(before.keys() | after.keys()):
        yield _score(name, before.get(name), after.get(name), reason, tolerance)


def _score(name: str, before: Score | None, after: Score | None, reason: Reason, tolerance: float) -> Compared:
    ends = [_noise(before), _noise(after)]
    better = (before or after or _nothing(name)).better
    why, change = None, None
    verdict: Verdict
    if before is None or after is None:
        verdict = "not in A" if before is None else "not in B"
    else:
        why = reason(name, "quality", "scored") or _other_score(before, after)
        verdict = "not comparable"
        if why is None:
            verdict, change = _judged(before.value, after.value, better, tolerance)
            if verdict in ("better", "worse") and _overlap(ends[0], ends[1]):
                verdict, why = "same", WITHIN_NOISE
    return Compared(
        "quality", name, name, "score", better, "scored",
        None if before is None else before.value, None if after is None else after.value,
        *ends[0], *ends[1], change, verdict, True, verdict == "worse", True, why,
    )  # fmt: skip


def _nothing(name: str) -> Score:
    raise AssertionError(f"{name} is a score of neither record")


def _noise(score: Score | None) -> tuple[float | None, float | None]:
    if score is None or score.spread is None:
        return None, None
    return score.value - score.spread, score.value + score.spread


def _other_score(before: Score, after: Score) -> str | None:
    if before.better != after.better:
        return f"A takes it as better when {before.better}, B when {after.better}"
    if before.unit != after.unit:
        return f"A has it in {before.unit or 'no unit'}, B in {after.unit or 'no unit'}"
    if before.how != after.how:
        return f"measured otherwise: {before.how or 'not said how'}; {after.how or 'not said how'}"
    return None


def _judged(before: float, after: float, better: Better, tolerance: float) -> tuple[Verdict, float | None]:
    """The verdict, and the change as a share of what was before; None where only that was 0, or next to it."""
    change: float | None = 0.0 if before == after else None
    if before != 0 and math.isfinite(share := (after - before) / abs(before)):
        change = share
    if change is not None and abs(change) <= tolerance + ROUNDING:
        return "same", change
    return ("better" if (after > before) == (better == "higher") else "worse"), change


def _overlap(before: tuple[float | None, float | None], after: tuple[float | None, float | None]) -> bool:
    (least, most), (low, high) = before, after
    if least is None or most is None or low is None or high is None:
        return False
    return low <= most and least <= high
