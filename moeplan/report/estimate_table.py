"""An estimate as a person reads it: shape, total beside active, verdict; then the ledger, and what to do.

Words carry the verdict, colour only repeats it. No cell wraps: columns are as wide as their content, and prose is
wrapped by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from moeplan.core.ledger import Line, band_bytes, total_bytes
from moeplan.core.units import gib, gib_floor, params
from moeplan.estimate.result import Estimate, Rank
from moeplan.report.page import (
    NO_BREAK,
    Column,
    blank_page,
    natural_widths,
    needed_columns,
    page_text,
    print_columns,
    print_listing,
    print_notes,
    print_prose,
)
from moeplan.report.printable import printable_record
from moeplan.report.words import (
    NAIVE,
    NOTHING_HELPS,
    active_words,
    band_words,
    explained_ranks,
    further_reasons,
    ledger_words,
    rank_rows,
    reach_words,
    setting_words,
    shape_words,
    verdict_words,
    worst_rank,
)

if TYPE_CHECKING:
    from rich.console import Console

    from moeplan.estimate.speed_result import Speculation, Speed

LEDGER_GAP = 1
BAR_COLUMNS = 16
LEAST_BAR_COLUMNS = 6
"""Bars shrink to this and then go, so that figures stay whole."""
LEAST_LABEL_COLUMNS = 24
"""Where a label would be cut below this, the bands go instead."""

_STYLES = {True: "bold green", False: "bold red", None: "bold yellow"}


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
    estimate = printable_record(estimate)
    page = blank_page(width, color=color)
    _head(page, estimate)
    worst = worst_rank(estimate)
    if worst is None:
        _needs(page, estimate)
    else:
        _ledger(page, estimate, worst)
        _other_ranks(page, estimate)
    for note in estimate.notes:
        if note.code == NAIVE:
            print_prose(page, note.message, "not so: ")
    for sentence in reach_words(estimate):
        print_prose(page, sentence)
    _ways_out(page, estimate)
    if estimate.speed is not None:
        _speed(page, estimate, estimate.speed, explain=explain)
    if explain:
        _explained(page, estimate)
    print_notes(page, [note for note in estimate.notes if note.code != NAIVE])
    return page_text(page, unicode=unicode)


def _head(page: Console, estimate: Estimate) -> None:
    model, counts = estimate.model, estimate.parameters
    page.print(model.id, style="bold", overflow="fold")
    print_prose(page, shape_words(model))
    page.print(f"{params(counts.total)} parameters · {active_words(counts)}", style="bold")
    _parts(page, setting_words(estimate))
    page.print(verdict_words(estimate), style=_STYLES[estimate.verdict.fits], overflow="fold")
    for reason in further_reasons(estimate):
        print_prose(page, reason, "  also: ")
    page.print()


def _ledger(page: Console, estimate: Estimate, rank: Rank) -> None:
    """Lines, sums and bars. Figures are never cut: a narrow page loses the bars first, then the bands, then ends of labels."""
    entries = list(_grouped(rank))
    used = sum(entry.bytes for entry in rank.lines)
    free = rank.free_bytes or 0
    budget = used + free
    left = ("free", gib_floor(free)) if free >= 0 else ("missing", gib(-free))
    basis = estimate.hardware.usable_basis if estimate.hardware else None
    rows = [
        Row(entry.label, gib(entry.bytes), entry.bytes, band_words(entry.low_bytes, entry.high_bytes), entry.basis, "")
        for entry in entries
    ]
    rows.append(Row("needed", gib(used), 0, "", "", "bold"))
    rows.append(Row(f"{estimate.layout.engine} may use", gib(budget), 0, "", basis or "", ""))
    rows.append(Row(*left, 0, "", "", "bold"))
    heads = (ledger_words(estimate, rank), "", "band", "basis")
    texts = zip(*(row.texts() for row in rows), strict=True)
    labels, sizes, bands, bases = (
        Column(head, cells, right=head in {"", "band"}) for head, cells in zip(heads, texts, strict=True)
    )

    figures = [sizes, bands, bases]
    (label,) = natural_widths([labels])
    if page.width < min(label, LEAST_LABEL_COLUMNS) + LEDGER_GAP + needed_columns(figures, LEDGER_GAP):
        figures.remove(bands)
    room = page.width - needed_columns(figures, LEDGER_GAP) - LEDGER_GAP
    label = min(label, room)
    bar = min(BAR_COLUMNS, room - label - LEDGER_GAP)
    if bar >= LEAST_BAR_COLUMNS:
        scale = max(used, budget, 1)
        bars = Column("", tuple(_bar(row.bytes / scale, bar) for row in rows), right=False)
        figures.insert(1, bars)
    styles = [row.style for row in rows]
    print_columns(page, [labels, *figures], label, gap=LEDGER_GAP, row_styles=styles)
    page.print()


def _other_ranks(page: Console, estimate: Estimate) -> None:
    """All ranks in a line each, where they differ."""
    rows = list(rank_rows(estimate))
    if len(rows) < 2:
        return
    heads = ("ranks", "weights", "needed", "left")
    columns = [
        Column(head, cells, right=position > 0)
        for position, (head, cells) in enumerate(zip(heads, zip(*rows, strict=True), strict=True))
    ]
    print_listing(page, columns)
    page.print()


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
        size, (low, high) = total_bytes(small), band_bytes(small)
        label = f"{small[0].label}, {len(small) - 1} more"
        yield small[0]._replace(label=label, bytes=size, low_bytes=low, high_bytes=high)
    yield from (entry for entry in rank.lines if not entry.code.startswith("weights."))


def _bar(share: float, columns: int) -> str:
    """Always `columns` wide, so that the columns behind it stand still."""
    halves = round(share * columns * 2)
    return ("█" * (halves // 2) + "▌" * (halves % 2)).ljust(columns)


def _needs(page: Console, estimate: Estimate) -> None:
    cache = estimate.kv_cache
    page.print(f"weights   {gib(estimate.weights.resident_bytes)}")
    page.print(f"KV cache  {gib(cache.bytes_total)}")
    page.print()


def _ways_out(page: Console, estimate: Estimate) -> None:
    if estimate.verdict.fits is not False:
        return
    page.print()
    if not estimate.verdict.ways_out:
        page.print(NOTHING_HELPS)
        return
    page.print("It fits with any one of")
    ways = estimate.verdict.ways_out
    longest = max(len(way.change) for way in ways)
    most = max(len(gib_floor(way.headroom_bytes)) for way in ways)
    for way in ways:
        less = "" if way.gives_up is None else f": {way.gives_up}"
        left = f"leaves {gib_floor(way.headroom_bytes):>{most}} per GPU{less}"
        page.print(f"  {way.change:<{longest}}   {left}", overflow="fold")


def _speed(page: Console, estimate: Estimate, speed: Speed, *, explain: bool) -> None:
    from moeplan.report.speed_chart import reach_chart
    from moeplan.report.speed_words import (
        bound_words,
        class_columns,
        explained_steps,
        explained_words,
        figure_columns,
        load_words,
        reach_columns,
    )
    from moeplan.report.terminal_chart import print_chart, worth_a_chart

    page.print()
    if estimate.verdict.fits is False:
        print_prose(page, "Speed, if it fitted", style="bold")
    print_prose(page, load_words(speed))
    print_listing(page, figure_columns(estimate, speed))
    for lead, text in bound_words(speed):
        print_prose(page, text, lead)
    for columns in (class_columns(speed), reach_columns(speed)):
        if columns:
            page.print()
            print_listing(page, columns)
    if worth_a_chart(len(speed.over_concurrency), page.width):
        print_chart(page, reach_chart(estimate, speed))
    if speed.speculation is not None:
        _speculation(page, speed, speed.speculation)
    if explain:
        for _, columns in explained_steps(speed):
            page.print()
            print_listing(page, columns)
        for text in explained_words(speed):
            print_prose(page, text)


def _speculation(page: Console, speed: Speed, found: Speculation) -> None:
    from moeplan.report.speculation_words import load_columns, speculation_columns, speculation_words, step_columns

    page.print()
    for lead, text in speculation_words(found):
        print_prose(page, text, lead)
    for number, columns in enumerate(
        (load_columns(speed, found), step_columns(found), speculation_columns(speed, found))
    ):
        if columns:
            if number:
                page.print()
            print_listing(page, columns)


def _explained(page: Console, estimate: Estimate) -> None:
    page.print()
    page.print("Why", style="bold")
    for rank in explained_ranks(estimate):
        for entry in rank.lines:
            page.print(f"{entry.label}: {gib(entry.bytes, 3)} ({entry.bytes:,} B), {entry.basis}", overflow="fold")
            print_prose(page, entry.why.formula, "  = ")
            if entry.why.inputs:
                print_prose(page, ", ".join(f"{name} = {value}" for name, value in entry.why.inputs.items()), "  with ")
            print_prose(page, entry.why.source, "  source: ")


def _parts(page: Console, parts: list[str]) -> None:
    """Parts joined by dots, broken between parts alone."""
    row = ""
    for number, part in enumerate(parts, 1):
        joined = f"{row} · {part}" if row else part
        # All but the last row end with a dot, which needs its place too.
        if row and len(joined) + (0 if number == len(parts) else len(" ·")) > page.width:
            print_prose(page, f"{row}{NO_BREAK}·")
            joined = part
        row = joined
    print_prose(page, row)
