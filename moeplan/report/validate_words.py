"""A validation in words: what was compared, the outcome, one row per figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moeplan.core.units import GIB, KIB, MIB, gib
from moeplan.validate.result import Comparison, Validation

HEADS = ("figure", "where", "line", "log", "moeplan", "band", "error", "")
RUN_HEADS = ("figure", "", "", "measured", "moeplan", "band", "error", "")
BAND, LINE = 5, 2
"""Columns that a narrow page loses."""


def heads(validation: Validation) -> tuple[str, ...]:
    """Of the table, all of it: a run on this machine has no lines."""
    return RUN_HEADS if is_run(validation) else HEADS


def shown_columns(validation: Validation) -> list[int]:
    """Numbers of the columns that say something: no band where every figure is exact, no lines of a run."""
    table = list(rows(validation))
    return [
        place
        for place, head in enumerate(heads(validation))
        if any(row[place] for row in table) or (head and place != BAND)
    ]


def is_run(validation: Validation) -> bool:
    """True where a model was run here, and no log was read."""
    return validation.log.engine == "transformers"


SIGN = "error is (moeplan - log) / log, less what the log's rounding hides: with + moeplan says more"
RUN_SIGN = "error is (moeplan - measured) / measured: with + moeplan says more"
BAND_SIGN = "band: from the least to the most that the estimate reckons with, in the unit of its figure"
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
    bars = " / ".join(percent(bar) for bar in sorted({each.tolerance or 0 for each in beyond or judged}))
    if beyond:
        return f"BEYOND {bars}: {len(beyond)} of {lead}{tail}"
    if validation.passed is False:
        return f"CONTRADICTS: {start}; within {bars}: {lead}"
    return f"WITHIN {bars}: {lead}{tail}"


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
            band(each),
            signed(each.error),
            mark(each),
        )


def band(each: Comparison) -> str:
    """`0.31–0.62`, in the unit of the prediction; blank for what is no guess, and where both ends read alike."""
    if each.predicted is None or each.predicted_low is None or each.predicted_high is None:
        return ""
    unit = figure(each.predicted, each.unit).rpartition(" ")[2]
    size, digits = {"GiB": (GIB, 2), "MiB": (MIB, 1), "KiB": (KIB, 1)}.get(unit, (1, 0))
    low, high = (f"{end / size:,.{digits}f}" for end in (each.predicted_low, each.predicted_high))
    return "" if low == high else f"{low}–{high}"


def mark(each: Comparison) -> str:
    """`ok`, `BEYOND`, or `shown` for what is not judged."""
    if not each.judged:
        return "shown"
    return "ok" if each.within else "BEYOND"


def legend(validation: Validation) -> Iterator[str]:
    """What the signs of the table mean, which figures are held to which bar, and why others are not judged, each once."""
    if any(each.error is not None for each in validation.comparisons):
        yield RUN_SIGN if is_run(validation) else SIGN
    if any(band(each) for each in validation.comparisons):
        yield BAND_SIGN
    if any(not each.judged and each.why_not is None for each in validation.comparisons):
        yield SHOWN
    reasons: dict[str, list[str]] = {}
    for each in validation.comparisons:
        if each.why_not is not None:
            reasons.setdefault(each.why_not, []).append(each.label)
    bars: dict[float, list[str]] = {}
    for each in validation.comparisons:
        if each.tolerance is not None:
            bars.setdefault(each.tolerance, []).append(each.label)
    if len(bars) > 1:
        yield "judged " + "; ".join(f"within {percent(bar)}: {_listed(labels)}" for bar, labels in sorted(bars.items()))
    for why, labels in reasons.items():
        yield f"not judged, because {why}: {_listed(labels)}"


def _listed(labels: Sequence[str]) -> str:
    """Labels, each once: they have commas and colons of their own."""
    return " · ".join(dict.fromkeys(labels))


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
