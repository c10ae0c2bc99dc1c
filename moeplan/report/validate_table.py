"""A validation as a person reads it: outcome first, then one line per figure of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from moeplan.report.page import (
    GAP,
    LEAST_NAME_COLUMNS,
    Column,
    blank_page,
    needed_columns,
    page_text,
    print_listing,
    print_notes,
    print_prose,
)
from moeplan.report.printable import printable_record
from moeplan.report.validate_words import (
    command_words,
    heads,
    learned_words,
    legend,
    outcome_words,
    rows,
    subject_words,
)
from moeplan.validate.result import Validation

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {True: "bold green", False: "bold red", None: "bold yellow"}
_LINE = 2
"""The column that a narrow page loses; no other one goes."""


def validate_table(validation: Validation, *, width: int, color: bool, unicode: bool) -> str:
    """The validation as text of at most `width` columns; ASCII alone where `unicode` is False."""
    validation = printable_record(validation)
    page = blank_page(width, color=color)
    page.print(validation.log.name, style="bold", overflow="fold")
    print_prose(page, subject_words(validation))
    lead = command_words(validation)
    if lead is not None:
        print_prose(page, lead)
        print_prose(page, validation.command, "  ")
    print_prose(page, outcome_words(validation), style=_STYLES[validation.passed])
    page.print()
    table = list(rows(validation))
    if table:
        _figures(page, table, heads(validation))
        page.print()
        for words in legend(validation):
            print_prose(page, words)
    learned = learned_words(validation)
    if learned is not None:
        page.print()
        print_prose(page, learned)
    print_notes(page, validation.notes)
    return page_text(page, unicode=unicode)


def _figures(page: Console, table: Sequence[tuple[str, ...]], titles: Sequence[str]) -> None:
    """As a table, whose labels give way before its figures do; where these do not fit either, figure by figure."""
    columns = [
        Column(head, cells, right=2 <= position <= 5)
        for position, (head, cells) in enumerate(zip(titles, zip(*table, strict=True), strict=True))
    ]
    if needed_columns(columns) > page.width:
        del columns[_LINE]
    room = page.width - needed_columns(columns[1:]) - GAP
    if room >= min(LEAST_NAME_COLUMNS, needed_columns(columns[:1])):
        print_listing(page, columns)
        return
    print_prose(page, f"figure: {titles[3]} -> moeplan, error", style="bold")
    for label, where, line, told, mine, error, judged in table:
        place = f", {where}" if where else ""
        print_prose(page, f"{label}{place}{f', line {line}' if line else ''}")
        print_prose(page, "  ".join(part for part in (f"{told} -> {mine}", error, judged) if part), "  ")
