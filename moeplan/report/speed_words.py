"""How fast, in words and rows: the same on the screen and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moeplan.core.units import duration, per_second
from moeplan.estimate.result import Estimate
from moeplan.estimate.speed_result import ClassSpeed, Rate, Skew, Speed, Step, Time
from moeplan.report.page import UNKNOWN, Column

KEPT = {True: "kept", False: "MISSED", None: ""}


def load_words(speed: Speed) -> str:
    """`64 requests in flight, 2,000 tokens in and 500 out on average, router skew 0.3 (assumed)`."""
    load, count = speed.load, speed.concurrency
    requests = "1 request" if count == 1 else f"{count:,} requests"
    mean = " on average" if len(load.classes) > 1 else ""
    told = f"{requests} in flight, {load.input_tokens:,.0f} tokens in and {load.output_tokens:,.0f} out{mean}"
    if speed.skew is not None:
        told += f", router skew {skew_figure(speed.skew)} ({speed.skew.basis})"
    return told


def skew_figure(skew: Skew) -> str:
    """The exponent: as it was said, or to a hundredth where counts were fitted."""
    return f"{skew.exponent:.2f}" if skew.basis == "measured" else f"{skew.exponent:g}"


def figure_columns(estimate: Estimate, speed: Speed) -> list[Column]:
    """TTFT, TPOT and rates with band and basis, and whether limits are kept."""
    load, rates = speed.load, speed.output_tokens_per_s
    rows = [
        ("time to first token", *_time_cells(speed.ttft), _limit_words(load.ttft_s, speed.meets.ttft)),
        ("time per further token", *_time_cells(speed.tpot), _limit_words(load.tpot_s, speed.meets.tpot)),
        ("tokens/s per user", *_rate_cells(rates.per_user), ""),
        ("tokens/s per GPU", *_rate_cells(rates.per_gpu), ""),
    ]
    if estimate.layout.num_gpus > 1:
        rows.append(("tokens/s in all", *_rate_cells(rates.total), ""))
    if load.arrival_per_s is not None:
        answered = rates.total
        mean = load.output_tokens
        per = Rate(answered.value / mean, answered.low / mean, answered.high / mean, answered.basis)
        asked = f"{per_second(load.arrival_per_s)} come in, {KEPT[speed.meets.arrival]}"
        rows.append(("requests/s answered", *_rate_cells(per), asked))
    heads = ("speed", "", "band", "basis", "limit")
    columns = _columns(heads, rows, left=(0, 3, 4), ranks=(0, 0, 1, 0, 2))
    return columns if any(columns[4].cells) else columns[:4]


def class_columns(speed: Speed) -> list[Column]:
    """A row for each class of requests; no column where all are alike."""
    rows = [
        (each.name, f"{asked.share_fraction:.0%}", *_class_cells(each, speed, position))
        for position, (each, asked) in enumerate(zip(speed.classes, speed.load.classes, strict=False))
    ]
    if not rows:
        return []
    heads = ("class", "share", "first token", "limit", "per token", "limit")
    return _columns(heads, rows, left=(0, 3, 5), ranks=(0, 2, 0, 1, 0, 1))


def reach_columns(speed: Speed) -> list[Column]:
    """A row for each concurrency."""
    rows = [
        (
            f"{each.concurrency:,}{' (asked)' if each.concurrency == speed.concurrency else ''}",
            duration(each.ttft_s),
            duration(each.tpot_s),
            per_second(each.tokens_per_s_per_user),
            per_second(each.tokens_per_s_per_gpu),
            {True: "", False: "no room", None: UNKNOWN}[each.fits],
        )
        for each in speed.over_concurrency
    ]
    heads = ("in flight", "first token", "per token", "tokens/s user", "tokens/s GPU", "")
    columns = _columns(heads, rows, left=(0, 5), ranks=(0, 3, 0, 2, 1, 0))
    return columns if any(columns[5].cells) else columns[:5]


def bound_words(speed: Speed) -> Iterator[tuple[str, str]]:
    """What binds, what that means, and what lies outside of what was measured, each behind its lead."""
    yield "binds: ", f"{speed.binding}; {speed.regime}"
    if speed.extrapolated:
        yield "extrapolated: ", "; ".join(speed.extrapolated)


def explained_steps(speed: Speed) -> Iterator[tuple[str, list[Column]]]:
    """Each step by its parts."""
    for name, step in (("decode step", speed.decode_step), ("prefill step", speed.prefill_step)):
        yield name, _part_columns(name, step)


def explained_words(speed: Speed) -> Iterator[str]:
    """What the figures were computed with."""
    if speed.skew is not None:
        yield f"router skew: Zipf law of exponent {skew_figure(speed.skew)}, {speed.skew.basis}; {speed.skew.why}"
    yield f"one step takes at most {speed.step_tokens:,} new tokens"


def _part_columns(name: str, step: Step) -> list[Column]:
    rows: list[tuple[str, ...]] = [
        (part.name, *_time_cells(Time(part.seconds, part.low_s, part.high_s, part.basis)), str(part.binding))
        for part in step.parts
    ]
    rows.append(("all", duration(step.seconds), _band(step.low_s, step.high_s), "", ""))
    return _columns((name, "", "band", "basis", "bound by"), rows, left=(0, 3, 4), ranks=(0, 0, 2, 0, 1))


def _class_cells(each: ClassSpeed, speed: Speed, position: int) -> tuple[str, str, str, str]:
    asked, load = speed.load.classes[position], speed.load
    ttft_s = load.ttft_s if asked.ttft_s is None else asked.ttft_s
    tpot_s = load.tpot_s if asked.tpot_s is None else asked.tpot_s
    return (
        duration(each.ttft.value_s),
        _limit_words(ttft_s, each.meets.ttft),
        duration(each.tpot.value_s),
        _limit_words(tpot_s, each.meets.tpot),
    )


def _limit_words(limit_s: float | None, kept: bool | None) -> str:
    return "" if limit_s is None or kept is None else f"{duration(limit_s)} {KEPT[kept]}"


def _time_cells(time: Time) -> tuple[str, str, str]:
    return duration(time.value_s), _band(time.low_s, time.high_s), time.basis


def _rate_cells(rate: Rate) -> tuple[str, str, str]:
    return per_second(rate.value), f"{per_second(rate.low)} – {per_second(rate.high)}", rate.basis


def _band(low_s: float, high_s: float) -> str:
    """`11.7 – 23.3 ms`, or both with their units where these differ."""
    low, high = duration(low_s), duration(high_s)
    (figure, unit), (_, other) = low.split(), high.split()
    return f"{figure} – {high}" if unit == other else f"{low} – {high}"


def _columns(
    heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, left: tuple[int, ...], ranks: tuple[int, ...]
) -> list[Column]:
    """Rows as columns; `left` are the places of words, and what has the highest rank goes first on a narrow page."""
    cells = zip(*rows, strict=True)
    return [
        Column(head, column, rank, right=place not in left)
        for place, (head, column, rank) in enumerate(zip(heads, cells, ranks, strict=True))
    ]
