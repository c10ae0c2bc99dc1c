"""A validation as a person reads it: outcome first, then one line per figure of the log."""

from __future__ import annotations

from moeplan.report.page import Column, blank_page, page_text, print_listing, print_notes, print_prose
from moeplan.report.printable import printable_record
from moeplan.report.validate_words import HEADS, learned_words, outcome_words, rows, subject_words
from moeplan.validate.result import Validation

_STYLES = {True: "bold green", False: "bold red", None: "bold yellow"}
_RANKS = (0, 1, 3, 0, 0, 0, 2)
"""Which columns a narrow page loses first."""


def validate_table(validation: Validation, *, width: int, color: bool, unicode: bool) -> str:
    """The validation as text of at most `width` columns; ASCII alone where `unicode` is False."""
    validation = printable_record(validation)
    page = blank_page(width, color=color)
    page.print(validation.log.name, style="bold", overflow="fold")
    print_prose(page, subject_words(validation))
    if validation.command:
        print_prose(page, validation.command, "-- ")
    print_prose(page, outcome_words(validation), style=_STYLES[validation.passed])
    page.print()
    table = list(rows(validation))
    if table:
        columns = [
            Column(head, cells, rank, right=2 <= position <= 5)
            for position, (head, cells, rank) in enumerate(zip(HEADS, zip(*table, strict=True), _RANKS, strict=True))
        ]
        print_listing(page, columns)
    learned = learned_words(validation)
    if learned is not None:
        page.print()
        print_prose(page, learned)
    print_notes(page, validation.notes)
    return page_text(page, unicode=unicode)
