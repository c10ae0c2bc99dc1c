"""An estimate as a person reads it: shape, total beside active, verdict; then the ledger, and what to do.

Words carry the verdict, colour only repeats it. No cell wraps: columns are as wide as their content, and prose is
wrapped by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from textwrap import wrap
from typing import TYPE_CHECKING

from moeplan.core.ledger import Line
from moeplan.core.units import gib, gib_floor, params
from moeplan.estimate.result import Estimate, Rank
from moeplan.report.words import shape_words, verdict_words

if TYPE_CHECKING:
    from rich.console import Console

NAIVE = "naive-active"
"""The note on what the sum over active parameters would give; it stands beside the ledger, not among the notes."""

BAR_COLUMNS = 16
LEAST_BAR_COLUMNS = 6
"""Bars shrink to this and then go, so that figures stay whole."""


def estimate_table(estimate: Estimate, *, width: int, color: bool, unicode: bool, explain: bool = False) -> str:
    """The estimate as text of at most `width` columns; ASCII alone where `unicode` is False."""
    from rich.console import Console

    page = StringIO()
    console = Console(
        file=page,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    _head(console, estimate)
    for rank in estimate.ranks:
        _ledger(console, estimate, rank)
    if not estimate.ranks:
        _needs(console, estimate)
    _naive(console, estimate)
    _capacity(console, estimate)
    _ways_out(console, estimate)
    if explain:
        _explained(console, estimate)
    _notes(console, estimate)
    text = "\n".join(row.rstrip() for row in page.getvalue().splitlines()) + "\n"
    return text if unicode else text.translate(_ASCII)


_ASCII = str.maketrans({"·": "-", "█": "#", "▌": "=", "–": "-", "×": "x", "─": "-", "…": "~"})
_STYLES = {True: "bold green", False: "bold red", None: "bold yellow"}


def _head(console: Console, estimate: Estimate) -> None:
    model, counts = estimate.model, estimate.parameters
    console.print(model.id, style="bold", overflow="fold")
    _prose(console, shape_words(model))
    active = f"{params(counts.active)} active per token"
    if counts.active == counts.text_total:
        active = "all of them active per token"
    elif counts.active_low != counts.active_high:
        active += f" ({params(counts.active_low)} to {params(counts.active_high)})"
    console.print(f"{params(counts.total)} parameters · {active}", style="bold")
    _parts(console, _setting(estimate))
    console.print(verdict_words(estimate), style=_STYLES[estimate.verdict.fits], overflow="fold")
    console.print()


def _setting(estimate: Estimate) -> list[str]:
    layout, asked = estimate.layout, estimate.request
    formats = sorted(estimate.weights.by_format.items(), key=lambda item: -item[1])
    parts = [f"{layout.engine} {layout.engine_version}", f"weights {formats[0][0]}", f"cache {estimate.kv_cache.dtype}"]
    if estimate.hardware is not None:
        parts.insert(0, f"{estimate.hardware.num_devices} x {estimate.hardware.name}")
    sequences = "1 sequence" if asked.concurrency == 1 else f"{asked.concurrency:,} sequences"
    return [*parts, f"{sequences} of {asked.context_tokens:,} tokens"]


def _ledger(console: Console, estimate: Estimate, rank: Rank) -> None:
    from rich.table import Table

    several = len(rank.ranks) > 1
    entries = list(_grouped(rank))
    figures = sum(max(len(cell(entry)) for entry in entries) + 1 for cell in (_label, _size, _band, _basis))
    bar_columns = min(BAR_COLUMNS, console.width - figures - 1)
    bars = bar_columns >= LEAST_BAR_COLUMNS
    budget = rank.free_bytes + sum(entry.bytes for entry in rank.lines)
    scale = max(budget, budget - rank.free_bytes, 1)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=True, header_style="")
    table.add_column(f"per GPU, {len(rank.ranks)} alike" if several else "memory", no_wrap=True, overflow="ellipsis")
    table.add_column("", no_wrap=True, justify="right")
    if bars:
        table.add_column("", no_wrap=True, min_width=bar_columns)
    table.add_column("band", no_wrap=True, justify="right")
    table.add_column("basis", no_wrap=True)
    for entry in entries:
        bar = [_bar(entry.bytes / scale, bar_columns)] if bars else []
        table.add_row(_label(entry), _size(entry), *bar, _band(entry), _basis(entry))
    used = sum(entry.bytes for entry in rank.lines)
    blank = [""] if bars else []
    table.add_row("needed", gib(used), *blank, "", "", style="bold")
    basis = estimate.hardware.usable_basis if estimate.hardware else None
    table.add_row(f"{estimate.layout.engine} may use", gib(budget), *blank, "", basis or "")
    left = "free" if rank.free_bytes >= 0 else "missing"
    size = gib_floor(rank.free_bytes) if rank.free_bytes >= 0 else gib(-rank.free_bytes)
    table.add_row(left, size, *blank, "", "", style="bold")
    console.print(table)
    console.print()


def _grouped(rank: Rank) -> Iterator[Line]:
    """The lines, largest weights first; weights below a hundredth of all are summed into one line."""
    weights = sorted((entry for entry in rank.lines if entry.code.startswith("weights.")), key=lambda entry: -entry.bytes)
    small = [entry for entry in weights if entry.bytes * 200 < rank.weights_bytes]
    for entry in weights:
        if entry not in small or len(small) == 1:
            yield entry._replace(label=f"weights: {entry.label}")
    if len(small) > 1:
        size = sum(entry.bytes for entry in small)
        label = f"weights: {small[0].label}, {len(small) - 1} more"
        yield small[0]._replace(label=label, bytes=size, low_bytes=size, high_bytes=size)
    yield from (entry for entry in rank.lines if not entry.code.startswith("weights."))


def _label(entry: Line) -> str:
    return entry.label


def _size(entry: Line) -> str:
    return gib(entry.bytes)


def _basis(entry: Line) -> str:
    return entry.basis


def _bar(share: float, columns: int) -> str:
    halves = round(share * columns * 2)
    return "█" * (halves // 2) + "▌" * (halves % 2)


def _band(entry: Line) -> str:
    if entry.low_bytes == entry.high_bytes:
        return ""
    return f"{gib(entry.low_bytes).split()[0]} – {gib(entry.high_bytes)}"


def _needs(console: Console, estimate: Estimate) -> None:
    cache = estimate.kv_cache
    console.print(f"weights   {gib(estimate.weights.resident_bytes)}")
    console.print(f"KV cache  {gib(cache.bytes_total)}")
    console.print()


def _naive(console: Console, estimate: Estimate) -> None:
    for note in estimate.notes:
        if note.code == NAIVE:
            _prose(console, note.message, "not so: ")


def _capacity(console: Console, estimate: Estimate) -> None:
    cache, capacity = estimate.kv_cache, estimate.capacity
    per_token = f"{cache.bytes_per_token:,.10g} B"
    fixed = f", and {gib(cache.bytes_per_sequence)} per sequence that do not grow" if cache.bytes_per_sequence else ""
    _prose(console, f"cache: {per_token} per token{fixed}")
    if len(cache.alternatives) > 1:
        told = {"ideal": "ideal", "hybrid_manager": "engine's hybrid manager", "manager_off": "manager off"}
        ways = ", ".join(
            f"{told.get(name, name)} {cost.bytes_per_token:,.10g} B per token + {gib(cost.bytes_per_sequence)}"
            for name, cost in cache.alternatives.items()
        )
        _prose(console, f"window layers, per sequence: {ways}; used above: {told.get(cache.accounting, cache.accounting)}")
    if capacity is not None and capacity.max_concurrency is not None and estimate.verdict.fits is not None:
        asked = estimate.request
        _prose(
            console,
            f"room: {capacity.max_concurrency:,} sequences of {asked.context_tokens:,} tokens, or {asked.concurrency:,} of "
            f"{capacity.max_context_tokens or 0:,} tokens",
        )


def _ways_out(console: Console, estimate: Estimate) -> None:
    if estimate.verdict.fits is not False:
        return
    console.print()
    if not estimate.verdict.ways_out:
        console.print("No single change that was tried makes it fit.")
        return
    console.print("It fits with any one of")
    for way in estimate.verdict.ways_out:
        console.print(f"  {way.change}   leaves {gib_floor(way.headroom_bytes)} per GPU", overflow="fold")


def _explained(console: Console, estimate: Estimate) -> None:
    console.print()
    console.print("Why", style="bold")
    for rank in estimate.ranks:
        for entry in rank.lines:
            console.print(f"{entry.label}: {gib(entry.bytes, 3)} ({entry.bytes:,} B), {entry.basis}", overflow="fold")
            _prose(console, entry.why.formula, "  = ")
            if entry.why.inputs:
                _prose(console, ", ".join(f"{name} = {value}" for name, value in entry.why.inputs.items()), "  with ")
            _prose(console, entry.why.source, "  source: ")


def _notes(console: Console, estimate: Estimate) -> None:
    notes = [note for note in estimate.notes if note.code != NAIVE]
    if notes:
        console.print()
    for note in notes:
        mark = "! " if note.severity == "warning" else "· "
        _prose(console, note.message, mark, style="yellow" if note.severity == "warning" else "")


def _parts(console: Console, parts: list[str]) -> None:
    """Parts joined by dots, broken between parts alone."""
    row = ""
    for part in parts:
        joined = f"{row} · {part}" if row else part
        if row and len(joined) > console.width:
            console.print(f"{row} ·")
            joined = part
        row = joined
    console.print(row, overflow="fold")


def _prose(console: Console, text: str, lead: str = "", style: str = "") -> None:
    for number, row in enumerate(wrap(text, max(20, console.width - len(lead)), break_on_hyphens=False) or [""]):
        console.print(f"{lead if number == 0 else ' ' * len(lead)}{row}", style=style, overflow="fold")
