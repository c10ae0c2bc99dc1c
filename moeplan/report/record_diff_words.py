"""Two records in words: what fails, which settings changed and whether a cause can be named, a row per figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from moeplan.core.record_figures import Head, mean_beside
from moeplan.records.result import Change, Compared, RecordDiff, Sided
from moeplan.report.page import UNKNOWN, Column
from moeplan.report.record_words import amount, label

HEADS: tuple[Head, ...] = get_args(Head)
NONE = "in neither record"
HELD = ("better", "worse", "same")
"""Verdicts of figures that both records have."""
MANY_PER_CENT = 1e6
"""From which on digits tell nothing."""
_FAILS_TOO = "it fitted, and does not fit any more"


def side_words(letter: str, side: Sided) -> str:
    """`A: bf16.json · Qwen/Qwen3-30B-A3B · vllm 0.33.0 · 2 x NVIDIA H100 · 2026-11-22`."""
    parts = [side.file or "a record", side.model, side.engine, side.hardware or "no GPU named", side.date]
    return f"{letter}: {' · '.join(parts)}"


def verdict_words(diff: RecordDiff) -> str:
    """The outcome in one sentence, in words that need no colour."""
    if diff.passed is False:
        return f"FAILS: {'; '.join(_failures(diff))}"
    if diff.passed is None:
        return f"NOT JUDGED: {'; '.join(diff.not_judged)}"
    gated = [each for each in diff.figures if each.gated and each.counted]
    if not any(each.verdict in HELD for each in gated):
        whose = "A has no p95, p99" if gated else "neither record has a p95, a p99"
        return f"NOTHING FAILS: {whose}, share of failed requests or score of quality, so nothing is held to"
    return f"PASSES: no p95, p99, share of failed requests or score got worse by more than {_share(diff.tolerance)}" + (
        "" if not diff.quality_tolerance else f" (scores: {_share(diff.quality_tolerance)})"
    )


def _failures(diff: RecordDiff) -> Iterator[str]:
    if diff.fits_before is True and diff.fits_after is False:
        yield _FAILS_TOO
    for each in diff.figures:
        if each.fails:
            values = f"{_cell(each, each.before)} -> {_cell(each, each.after)}"
            yield f"{each.label}: worse, {values} ({change_words(each)}){_beside(diff, each)}"


def _beside(diff: RecordDiff, figure: Compared) -> str:
    """What the mean of the same time did."""
    name = mean_beside(figure.name)
    mean = next((each for each in diff.figures if each.name == name and each.known == figure.known), None)
    if mean is None:
        return ""
    match mean.verdict:
        case "better":
            return f", although the mean improves ({change_words(mean)})"
        case "same":
            return ", although the mean is the same"
        case "worse":
            return f", as the mean is ({change_words(mean)})"
        case _:
            return ""


def cause_words(diff: RecordDiff) -> str:
    """Which setting changed where it is one; why no cause can be named where it is not."""
    settings, unknown = diff.settings, diff.unknown
    may = f"{_counted(len(unknown), 'may have')} ({', '.join(each.label for each in unknown)})"
    if not settings and not unknown:
        moved = any(each.counted and each.verdict in ("better", "worse") for each in diff.figures)
        if moved:
            return "no recorded setting changed: what differs is noise, or something that the records do not hold"
        return "no recorded setting changed"
    if not settings:
        return f"no recorded setting changed, and {may}: no cause can be named"
    if len(settings) > 1:
        more = f", and {may}" if unknown else ""
        return f"{len(settings)} settings changed{more}: no cause can be named; change one at a time"
    told = f"one setting changed: {change(settings[0])}"
    if unknown:
        return f"{told}, and {may}: no cause can be named"
    match settings[0].of:
        case "model":
            return f"{told}; of two models no figure is comparable"
        case "load":
            return f"{told}; under two loads only quality is comparable"
        case _:
            return f"{told}; what differs goes with it"


def _counted(number: int, verb: str) -> str:
    return f"{number} {verb}" if number != 1 else f"one {verb}"


def change(each: Change) -> str:
    """`cache dtype bfloat16 -> fp8`."""
    return f"{each.label} {each.before or 'not set'} -> {each.after or 'not set'}"


def setting_rows(diff: RecordDiff) -> Iterator[tuple[str, Sequence[Change]]]:
    """Changes by what they mean, those that there are."""
    for title, found in (
        ("changed", diff.settings if len(diff.settings) > 1 else ()),  # of one, `cause_words` tells
        ("not told by one of the two", diff.unknown),
        ("follows from these", diff.follows),
        ("only estimates are made otherwise", diff.estimated_otherwise),
    ):
        if found:
            yield title, found


def unknown_change(each: Change) -> str:
    """`driver 580.65 -> not told`."""
    return f"{each.label} {each.before or 'not told'} -> {each.after or 'not told'}"


def shown_figures(diff: RecordDiff, head: Head) -> list[Compared]:
    """Figures of a head: no estimate where both records measured the same."""
    return [each for each in diff.figures if each.head == head and each.counted]


def columns(diff: RecordDiff, head: Head, *, short: bool = False) -> list[Column]:
    """A row per figure of a head; `short` is for a narrow page."""
    found = shown_figures(diff, head)
    return [
        Column(head, tuple(label(each.name, short=True) if short else each.label for each in found), right=False),
        Column("known", tuple(each.known for each in found), 4, right=False),
        Column("A", tuple(_cell(each, each.before) for each in found), 3),
        Column("B", tuple(_cell(each, each.after) for each in found), 2),
        Column("change", tuple(change_words(each) for each in found), 1),
        Column("", tuple(_verdict(each) for each in found), right=False),
    ]


def _verdict(each: Compared) -> str:
    if each.fails:
        return "worse: FAILS"
    return "same: noise" if each.verdict == "same" and each.why else each.verdict


def reasons(diff: RecordDiff) -> list[str]:
    """Why figures are not comparable, each reason once."""
    return list(
        dict.fromkeys(
            each.why for each in diff.figures if each.verdict == "not comparable" and each.why and each.counted
        )
    )


def _cell(each: Compared, value: float | None) -> str:
    return amount(each.unit, value, floor=each.name == "headroom_bytes")


def change_words(each: Compared) -> str:
    """`+12.5 %`; a dash where one is missing, the figures are not comparable, or A has 0."""
    if each.change_fraction is None:
        return UNKNOWN
    per_cent = each.change_fraction * 100
    if round(per_cent, 1) == 0:
        return "0.0 %" if per_cent == 0 else f"{per_cent:+.2g} %"
    return f"{per_cent:+,.1f} %" if abs(per_cent) < MANY_PER_CENT else f"{per_cent:+.2g} %"


def _share(fraction: float) -> str:
    return f"{fraction * 100:g} %"
