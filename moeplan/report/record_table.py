"""A record on the screen: what it is of, its figures, what they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from moeplan.core.record import Record
from moeplan.report.page import (
    GAP,
    Column,
    blank_page,
    fitting_columns,
    natural_widths,
    needed_columns,
    page_text,
    print_columns,
    print_notes,
    print_prose,
)
from moeplan.report.printable import printable_record
from moeplan.report.record_words import figure_columns, head_words, told_words, verdict_words
from moeplan.report.workflow_commands import harmless

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {True: "bold green", False: "bold red", None: "bold yellow"}
LEAST_LABEL_COLUMNS, LEAST_NARROW_COLUMNS = 24, 14
NARROW_COLUMNS = 60
"""A page narrower than this cuts names down to the second of these, so that no figure is cut."""


def record_table(record: Record, *, width: int, color: bool, unicode: bool) -> str:
    """The record as text of at most `width` columns; ASCII alone where `unicode` is False."""
    record = printable_record(record)
    page = blank_page(width, color=color)
    page.print(record.model.id, style="bold", overflow="fold")
    for words in head_words(record):
        print_prose(page, words)
    print_prose(page, verdict_words(record), style=_STYLES[record.estimates.fits])
    page.print()
    columns = figure_columns(record)
    print_figures(page, figure_columns(record, short=True) if needed_columns(columns) > width else columns)
    page.print()
    for words in told_words(record):
        print_prose(page, words, "· ")
    print_notes(page, [note for note in record.notes if note.code != "quality-not-measured"])
    return harmless(page_text(page, unicode=unicode))


def print_figures(page: Console, columns: Sequence[Column]) -> None:
    """A table of figures: a narrow page cuts labels first, then loses columns by their rank, and never cuts a figure."""
    first, *others = columns
    least = LEAST_LABEL_COLUMNS if page.width >= NARROW_COLUMNS else LEAST_NARROW_COLUMNS
    short = first._replace(title=first.title[:least], cells=tuple(cell[:least] for cell in first.cells))
    kept = fitting_columns([short, *others], page.width)[1:]
    room = page.width - sum(natural_widths(kept)) - GAP * len(kept)
    width = min(natural_widths([first])[0], max(room, least))
    print_columns(page, [first._replace(title=first.title.rstrip()), *kept], width, head_style="bold")
