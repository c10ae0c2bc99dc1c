"""A validation in words: what was compared, the outcome, one row per figure."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.core.units import gib
from moeplan.validate.result import Comparison, Validation

HEADS = ("figure", "where", "line", "log", "moeplan", "error", "")
RUN_HEADS = ("figure", "", "", "measured", "moeplan", "error", "")


def heads(validation: Validation) -> tuple[str, ...]:
    """Of the table: a run on this machine has no lines."""
    return RUN_HEADS if is_run(validation) else HEADS


def is_run(validation: Validation) -> bool:
    """True where a model was run here, and no log was read."""
    return validation.log.engine == "transformers"


SIGN = "error is (moeplan - log) / log, less what the log's rounding hides: with + moeplan says more"
RUN_SIGN = "error is (moeplan - measured) / measured: with + moeplan says more"
SHOWN = "shown: not judged, because its band is wide"


def subject_words(validation: Validation) -> str:
    """`vllm 0.19.0 · Qwen/Qwen3-30B-A3B · NVIDIA H100 SXM5 80GB`."""
    log = validation.log
    parts = [f"{log.engine} {_version_words(validation)}", validation.model, validation.hardware or ""]
    return " · ".join(part for part in parts if part)


def _version_words(validation: Validation) -> str:
    """The log's version, with that of the estimate where they are not the same."""
    told, used = validation.log.engine_version, validation.engine_version
    if told is None:
        why = "as was said" if validation.version_stated else "moeplan's default"
        return f"{used} ({why}; the log does not tell)"
    return told if told.removeprefix("v") == used.removeprefix("v") else f"{told} (estimated as {used})"


def command_words(validation: Validation) -> str | None:
    """What the command line shown below is; None where there is none."""
    if not validation.command:
        return None
    if not validation.given:
        return "flags, as the log tells them:"
    only = validation.given == validation.command
    return "flags, as you gave them:" if only else f"flags, as the log tells them, and yours ({validation.given}):"


def outcome_words(validation: Validation) -> str:
    """The outcome in one sentence, in words that need no colour."""
    judged = [each for each in validation.comparisons if each.judged]
    start = _start_words(validation)
    if not judged:
        if validation.passed is None:
            return f"NOT JUDGED: the log has no figure that can be held against the estimate{start and f'; {start}'}"
        return f"{'AGREES' if validation.passed else 'CONTRADICTS'}: {start}; no figure of the log can be judged"
    beyond = [each for each in judged if not each.within]
    worst = max(judged, key=lambda each: abs(each.error or 0))
    figures = "1 figure" if len(judged) == 1 else f"{len(judged)} figures"
    lead = f"{figures} judged, the worst {signed(worst.error)} ({worst.label})"
    tail = f"; {start}" if start else ""
    if beyond:
        return f"BEYOND {percent(validation.tolerance)}: {len(beyond)} of {lead}{tail}"
    if validation.passed is False:
        return f"CONTRADICTS: {start}; within {percent(validation.tolerance)}: {lead}"
    return f"WITHIN {percent(validation.tolerance)}: {lead}{tail}"


def _start_words(validation: Validation) -> str:
    """What became of the start, where it failed or the estimate says otherwise; empty for one that went as it should."""
    agrees = validation.start_agrees
    if validation.log.started:
        return "the engine started, but the estimate says that it would not" if agrees is False else ""
    if validation.log.started is None:
        return ""
    if agrees is None:
        return "the engine did not start"
    return f"the engine did not start, {'and the estimate agrees' if agrees else 'but the estimate says that it would'}"


def percent(share: float) -> str:
    """`5%`, `0.5%`."""
    return f"{share * 100:.3g}%"


def signed(error: float | None) -> str:
    """`+1.2%`; blank where there is no error to name."""
    if error is None:
        return ""
    return "0.00%" if abs(error) < 0.00005 else f"{error * 100:+.2f}%"


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
            str(each.line_number) if each.line_number else "",
            figure(each.observed, each.unit),
            figure(each.predicted, each.unit),
            signed(each.error),
            mark(each),
        )


def mark(each: Comparison) -> str:
    """`ok`, `BEYOND`, or `shown` for what is not judged."""
    if not each.judged:
        return "shown"
    return "ok" if each.within else "BEYOND"


def legend(validation: Validation) -> Iterator[str]:
    """What the signs of the table mean, and why figures are not judged, each once."""
    if any(each.error is not None for each in validation.comparisons):
        yield RUN_SIGN if is_run(validation) else SIGN
    if any(not each.judged and each.why_not is None for each in validation.comparisons):
        yield SHOWN
    reasons: dict[str, list[str]] = {}
    for each in validation.comparisons:
        if each.why_not is not None:
            reasons.setdefault(each.why_not, []).append(each.label)
    for why, labels in reasons.items():
        yield f"not judged: {', '.join(dict.fromkeys(labels))}: {why}"


def learned_words(validation: Validation) -> str | None:
    """What was stored, and where; None where nothing was."""
    learned = validation.learned
    if learned is None:
        return None
    more = "more" if learned.residual_bytes >= 0 else "less"
    size = gib(abs(learned.residual_bytes), 2)
    return (
        f"learned: the engine holds {size} {more} than was estimated; kept in {learned.path}, "
        f"so --gpu {learned.profile} counts it; `moeplan gpus {learned.profile}` shows it and how to undo it"
    )
