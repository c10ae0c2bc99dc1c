"""A validation in words: what was compared, the outcome, one row per figure."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.core.units import gib
from moeplan.validate.result import Comparison, Validation

HEADS = ("figure", "where", "line", "log", "moeplan", "error", "")


def subject_words(validation: Validation) -> str:
    """`vllm 0.19.0 · Qwen/Qwen3-30B-A3B · NVIDIA H100 SXM5 80GB`."""
    log = validation.log
    parts = [f"{log.engine} {log.engine_version or '(version not told)'}", validation.model, validation.hardware or ""]
    return " · ".join(part for part in parts if part)


def outcome_words(validation: Validation) -> str:
    """The outcome in one sentence, in words that need no colour."""
    judged = [each for each in validation.comparisons if each.judged]
    if validation.passed is None:
        return "NOT JUDGED: the log has no figure that can be held against the estimate"
    beyond = [each for each in judged if not each.within]
    worst = max(judged, key=lambda each: abs(each.error or 0))
    figures = "1 figure" if len(judged) == 1 else f"{len(judged)} figures"
    lead = f"{figures} judged, the worst {signed(worst.error)} ({worst.label})"
    if not beyond:
        return f"WITHIN {percent(validation.tolerance)}: {lead}"
    return f"BEYOND {percent(validation.tolerance)}: {len(beyond)} of {lead}"


def percent(share: float) -> str:
    """`5%`, `0.5%`."""
    return f"{share * 100:.3g}%"


def signed(error: float | None) -> str:
    """`+1.2%`; blank where there is no error to name."""
    return "" if error is None else f"{error * 100:+.2f}%"


def figure(value: float | None, unit: str) -> str:
    """A figure in its unit: `14.25 GiB`, `635,648`, `77.59x`."""
    if value is None:
        return "–"
    if unit == "bytes":
        return gib(value, 2)
    return f"{value:,.2f}x" if unit == "sequences" else f"{value:,.0f}"


def rows(validation: Validation) -> Iterator[tuple[str, ...]]:
    """One row per figure, in the order of the log."""
    for each in validation.comparisons:
        where = " ".join(part for part in (each.rank, each.device) if part)
        yield (
            each.label,
            where,
            str(each.line_number),
            figure(each.observed, each.unit),
            figure(each.predicted, each.unit),
            signed(each.error),
            judgement(each),
        )


def judgement(each: Comparison) -> str:
    """`ok`, `beyond`, or why it is not judged."""
    if each.why_not is not None:
        return each.why_not
    if not each.judged:
        return "shown, not judged"
    return "ok" if each.within else "BEYOND"


def learned_words(validation: Validation) -> str | None:
    """What was stored, and where; None where nothing was."""
    learned = validation.learned
    if learned is None:
        return None
    more = "more" if learned.residual_bytes >= 0 else "less"
    size = gib(abs(learned.residual_bytes), 2)
    return (
        f"learned: the engine holds {size} {more} than was estimated; kept in {learned.path}, "
        f"so --gpu {learned.profile} counts it"
    )
