"""What drafts cost and give, in words and rows: the same on the screen and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.core.units import duration, per_second
from moeplan.estimate.speed_result import DecodeStep, Gain, Needed, Speculation, SpeculationAt, Speed, Time
from moeplan.report.page import UNKNOWN, Column

BY = {
    "own_layers": "by the model's own draft layers",
    "lookup": "by looking them up in the text, taken as free",
    "other_model": "by another model, which is not read",
}


def speculation_words(found: Speculation) -> Iterator[tuple[str, str]]:
    """What is drafted, and whether it pays, each behind its lead."""
    tokens = "1 token" if found.draft_tokens == 1 else f"{found.draft_tokens} tokens"
    told = f"{tokens} drafted a step {BY[found.draft_kind]}"
    if found.verify_tokens != found.draft_tokens + 1:
        told += f", {found.verify_tokens} verified"
    if found.acceptance is not None and found.tokens_per_step is not None:
        told += f", acceptance {found.acceptance:.2f}: {found.tokens_per_step:.2f} tokens a step"
    else:
        told += ", acceptance not stated"
    if not found.in_figures:
        told += "; the times and rates above are without"
    yield "speculation: ", told
    yield "", found.why
    yield "", f"bands of gains cover {found.band_covers}"


def step_columns(found: Speculation) -> list[Column]:
    """The steps: plain, verifying, drafting; and what follows of them."""
    rows = [
        ("plain step", *_step_cells(found.plain)),
        ("step that verifies", *_step_cells(found.verify)),
        ("drafting", *(_time_cells(found.draft) if found.draft is not None else (UNKNOWN, "")), ""),
    ]
    gain, bound = found.speed_up, found.draft is None
    if gain is not None:
        label = "steps of decode, at most" if bound else "steps of decode"
        rows.append((label, f"{gain.value:.2f} x", _gain_band(gain), ""))
    least = "load pays from acceptance, at least" if bound else "load pays from acceptance"
    rows.append((least, _needed(found.break_even_acceptance.value), *_needed_band(found), ""))
    heads = ("speculation", "", "band", "experts of a layer" if found.plain.experts is not None else "")
    columns = [
        Column(head, cells, rank, right=place > 0)
        for place, (head, cells, rank) in enumerate(zip(heads, zip(*rows, strict=True), (0, 0, 1, 2), strict=True))
    ]
    return columns if found.plain.experts is not None else columns[:3]


def load_columns(speed: Speed, found: Speculation) -> list[Column]:
    """The load without drafts and with them; nothing without an acceptance."""
    gain, without, rates = found.under_load, found.without, speed.output_tokens_per_s
    if gain is None:
        return []
    # A draft that takes time of its own makes times longer, and brings fewer tokens.
    most, least = ("", "") if found.in_figures else ("at most ", "at least ")
    rows = [
        ("time to first token", duration(without.ttft.value_s), duration(speed.ttft.value_s), least, gain.ttft),
        ("time per further token", duration(without.tpot.value_s), duration(speed.tpot.value_s), least, gain.tpot),
        (
            "tokens/s in all",
            per_second(without.output_tokens_per_s.total.value),
            per_second(rates.total.value),
            most,
            gain.output_tokens_per_s,
        ),
    ]
    cells = [
        (name, before, now if found.in_figures else UNKNOWN, f"{bound}{change.value:.2f} x", _gain_band(change))
        for name, before, now, bound, change in rows
    ]
    heads = ("under this load", "without drafts", "with", "change", "band")
    return [
        Column(head, column, rank, right=place > 0)
        for place, (head, column, rank) in enumerate(zip(heads, zip(*cells, strict=True), (0, 1, 0, 0, 2), strict=True))
    ]


def speculation_columns(speed: Speed, found: Speculation) -> list[Column]:
    """A row for each concurrency."""
    rows = [_at_cells(each, speed.concurrency) for each in found.over_concurrency]
    stated = found.under_load is not None
    heads = ("in flight", "experts, plain", "verified", "step", "tokens/s", "pays from", "")
    columns = [
        Column(head, cells, rank, right=place not in (0, 6))
        for place, (head, cells, rank) in enumerate(
            zip(heads, zip(*rows, strict=True), (0, 3, 2, 1, 0, int(stated), 0), strict=True)
        )
    ]
    without = {
        1: found.plain.experts is None,
        2: found.plain.experts is None,
        4: not stated,
        6: not any(columns[6].cells),
    }
    return [column for place, column in enumerate(columns) if not without.get(place, False)]


def _at_cells(each: SpeculationAt, asked: int) -> tuple[str, ...]:
    return (
        f"{each.concurrency:,}{' (asked)' if each.concurrency == asked else ''}",
        _count(each.plain_experts),
        _count(each.verify_experts),
        f"{each.step_ratio:.2f} x",
        UNKNOWN if each.tokens_gain is None else f"{each.tokens_gain:.2f} x",
        _needed(each.break_even_acceptance),
        {True: "", False: "no room", None: UNKNOWN}[each.fits],
    )


def _step_cells(step: DecodeStep) -> tuple[str, str, str]:
    experts = _count(step.experts)
    low, high = _count(step.experts_low), _count(step.experts_high)
    if low != high:
        experts += f" ({low} – {high})"
    return *_time_cells(step.time), experts


def _gain_band(gain: Gain) -> str:
    low, high = f"{gain.low:.2f}", f"{gain.high:.2f}"
    return "" if low == high else f"{low} – {high} x"


def _time_cells(time: Time) -> tuple[str, str]:
    if not time.high_s:
        return "0", ""
    low, high = duration(time.low_s), duration(time.high_s)
    (figure, unit), (_, other) = low.split(), high.split()
    return duration(time.value_s), f"{figure} – {high}" if unit == other else f"{low} – {high}"


def _count(experts: float | None) -> str:
    return "" if experts is None else f"{experts:.1f}"


def _needed(acceptance: float | None) -> str:
    return "never" if acceptance is None else f"{acceptance:.2f}"


def _needed_band(found: Speculation) -> tuple[str]:
    needed: Needed = found.break_even_acceptance
    low, high = _needed(needed.low), _needed(needed.high)
    return ("" if low == high else f"{low} – {high}",)
