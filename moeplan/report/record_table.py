"""A record on the screen: what it is of, its figures, what they rest on."""

from __future__ import annotations

from moeplan.core.record import Record
from moeplan.report.page import blank_page, page_text, print_listing, print_notes, print_prose
from moeplan.report.printable import printable_record
from moeplan.report.record_words import figure_columns, head_words, told_words, verdict_words
from moeplan.report.workflow_commands import harmless

_STYLES = {True: "bold green", False: "bold red", None: "bold yellow"}
LEAST_LABEL_COLUMNS = 26


def record_table(record: Record, *, width: int, color: bool, unicode: bool) -> str:
    """The record as text of at most `width` columns; ASCII alone where `unicode` is False."""
    record = printable_record(record)
    page = blank_page(width, color=color)
    page.print(record.model.id, style="bold", overflow="fold")
    for words in head_words(record):
        print_prose(page, words)
    print_prose(page, verdict_words(record), style=_STYLES[record.estimates.fits])
    page.print()
    print_listing(page, figure_columns(record), LEAST_LABEL_COLUMNS)
    page.print()
    for words in told_words(record):
        print_prose(page, words, "· ")
    print_notes(page, [note for note in record.notes if note.code != "quality-not-measured"])
    return harmless(page_text(page, unicode=unicode))
