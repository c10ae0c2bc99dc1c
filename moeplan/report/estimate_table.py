"""An estimate as a person reads it: shape, total beside active, verdict; then the ledger, and what to do.

Words carry the verdict, colour only repeats it. No cell wraps: columns are as wide as their content, and prose is
wrapped by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

from moeplan.core.ledger import Line
from moeplan.core.units import gib, gib_floor, params
from moeplan.estimate.result import Estimate, Rank
from moeplan.report.printable import printable_record
from moeplan.report.words import NAIVE, active_words, band_words, reach_words, setting_words, shape_words, verdict_words

if TYPE_CHECKING:
    from rich.console import Console

BAR_COLUMNS = 16
LEAST_BAR_COLUMNS = 6
"""Bars shrink to this and then go, so that figures stay whole."""
LEAST_LABEL_COLUMNS = 24
"""Where a label would be cut below this, the bands go instead."""


class Row(NamedTuple):
    """One row of the ledger as it is shown; `bytes` is what its bar stands for."""

    label: str
    size: str
    bytes: int
    band: str
    basis: str
    style: str

    def texts(self) -> tuple[str, str, str, str]:
        """The cells that hold text."""
        return self.label, self.size, self.band, self.basis


def estimate_table(estimate: Estimate, *, width: int, color: bool, unicode: bool, explain: bool = False) -> str:
    """The estimate as text of at most `width` columns; ASCII alone where `unicode` is False."""
    from rich.console import Console

    estimate = printable_record(estimate)
    page = StringIO()
    console = Console(
        file=page,
        width=width,
        height=25,  # a console without a height takes 80 columns where TERM says dumb
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
    _reach(console, estimate)
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
    console.print(f"{params(counts.total)} parameters · {active_words(counts)}", style="bold")
    _parts(console, setting_words(estimate))
    console.print(verdict_words(estimate), style=_STYLES[estimate.verdict.fits], overflow="fold")
    console.print()


def _ledger(console: Console, estimate: Estimate, rank: Rank) -> None:
    """Lines, sums and bars. Figures are never cut: a narrow page loses the bars first, then the bands, then ends of labels."""
    from rich.table import Table
    from rich.text import Text

    several = len(rank.ranks) > 1
    entries = list(_grouped(rank))
    used = sum(entry.bytes for entry in rank.lines)
    budget = used + rank.free_bytes
    left = ("free", gib_floor(rank.free_bytes)) if rank.free_bytes >= 0 else ("missing", gib(-rank.free_bytes))
    basis = estimate.hardware.usable_basis if estimate.hardware else None
    rows = [
        Row(entry.label, gib(entry.bytes), entry.bytes, band_words(entry.low_bytes, entry.high_bytes), entry.basis, "")
        for entry in entries
    ]
    rows.append(Row("needed", gib(used), 0, "", "", "bold"))
    rows.append(Row(f"{estimate.layout.engine} may use", gib(budget), 0, "", basis or "", ""))
    rows.append(Row(*left, 0, "", "", "bold"))
    title = Row(f"per GPU, {len(rank.ranks)} alike" if several else "memory", "", 0, "band", "basis", "")

    widths = [
        max(len(text) for text in column) for column in zip(*(row.texts() for row in [title, *rows]), strict=True)
    ]
    label, size, band, known = widths
    if console.width < min(label, LEAST_LABEL_COLUMNS) + size + band + known + 3:
        band = 0
    figures = size + known + 2 + (band + 1 if band else 0)
    label = min(label, console.width - figures)
    bar = min(BAR_COLUMNS, console.width - label - figures - 1)
    scale = max(used, budget, 1)

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=True, header_style="")
    table.add_column(title.label, no_wrap=True, overflow="ellipsis", width=label)
    table.add_column("", no_wrap=True, justify="right", width=size)
    if bar >= LEAST_BAR_COLUMNS:
        table.add_column("", no_wrap=True, width=bar)
    if band:
        table.add_column(title.band, no_wrap=True, justify="right", width=band)
    table.add_column(title.basis, no_wrap=True, width=known)
    for row in rows:
        bars = [_bar(row.bytes / scale, bar)] if bar >= LEAST_BAR_COLUMNS else []
        # Cells carry the style, so that no blank is bold.
        label_cell, size_cell = (Text(text, style=row.style) for text in (row.label, row.size))
        table.add_row(label_cell, size_cell, *bars, *([row.band] if band else []), row.basis)
    console.print(table)
    console.print()


def _grouped(rank: Rank) -> Iterator[Line]:
    """The lines, largest weights first; weights below half a percent of all are summed into one line."""
    weights = sorted(
        (entry for entry in rank.lines if entry.code.startswith("weights.")), key=lambda entry: -entry.bytes
    )
    small = [entry for entry in weights if entry.bytes * 200 < rank.weights_bytes]
    for entry in weights:
        if entry not in small or len(small) == 1:
            yield entry
    if len(small) > 1:
        size = sum(entry.bytes for entry in small)
        label = f"{small[0].label}, {len(small) - 1} more"
        yield small[0]._replace(label=label, bytes=size, low_bytes=size, high_bytes=size)
    yield from (entry for entry in rank.lines if not entry.code.startswith("weights."))


def _bar(share: float, columns: int) -> str:
    halves = round(share * columns * 2)
    return "█" * (halves // 2) + "▌" * (halves % 2)


def _needs(console: Console, estimate: Estimate) -> None:
    cache = estimate.kv_cache
    console.print(f"weights   {gib(estimate.weights.resident_bytes)}")
    console.print(f"KV cache  {gib(cache.bytes_total)}")
    console.print()


def _naive(console: Console, estimate: Estimate) -> None:
    for note in estimate.notes:
        if note.code == NAIVE:
            _prose(console, note.message, "not so: ")


def _reach(console: Console, estimate: Estimate) -> None:
    for sentence in reach_words(estimate):
        _prose(console, sentence)


def _ways_out(console: Console, estimate: Estimate) -> None:
    if estimate.verdict.fits is not False:
        return
    console.print()
    if not estimate.verdict.ways_out:
        console.print("No single change that was tried makes it fit.")
        return
    console.print("It fits with any one of")
    ways = estimate.verdict.ways_out
    longest = max(len(way.change) for way in ways)
    most = max(len(gib_floor(way.headroom_bytes)) for way in ways)
    for way in ways:
        left = f"leaves {gib_floor(way.headroom_bytes):>{most}} per GPU"
        console.print(f"  {way.change:<{longest}}   {left}", overflow="fold")


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
