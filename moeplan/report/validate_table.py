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
    BAND,
    BAND_SIGN,
    LINE,
    command_words,
    heads,
    learned_words,
    legend,
    outcome_words,
    rows,
    shown_columns,
    subject_words,
)
from moeplan.validate.result import Validation

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {True: "bold green", False: "bold red", None: "bold yellow"}


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
        whole = _figures(page, table, heads(validation), shown_columns(validation))
        page.print()
        for words in legend(validation):
            if whole or words != BAND_SIGN:
                print_prose(page, words)
    learned = learned_words(validation)
    if learned is not None:
        page.print()
        print_prose(page, learned)
    print_notes(page, validation.notes)
    return page_text(page, unicode=unicode)


def _figures(page: Console, table: Sequence[tuple[str, ...]], titles: Sequence[str], shown: Sequence[int]) -> bool:
    """As a table, which loses bands, then lines of the log, then ends of labels; where figures do not fit either, figure
    by figure. Whether bands are shown."""
    cells = list(zip(*table, strict=True))
    columns = {place: Column(titles[place], cells[place], right=3 <= place <= 6 or place == LINE) for place in shown}
    for place in (BAND, LINE):
        if needed_columns(list(columns.values())) > page.width:
            columns.pop(place, None)
    label, *others = columns.values()
    room = page.width - needed_columns(others) - GAP
    if room >= min(LEAST_NAME_COLUMNS, needed_columns([label])):
        print_listing(page, [label, *others])
        return BAND in columns
    print_prose(page, f"figure: {titles[3]} -> moeplan, error", style="bold")
    for name, where, line, told, mine, band, error, judged in table:
        place_words = f", {where}" if where else ""
        print_prose(page, f"{name}{place_words}{f', line {line}' if line else ''}")
        print_prose(page, "  ".join(part for part in (f"{told} -> {mine}", error, judged) if part), "  ")
        if band:
            print_prose(page, f"band {band}", "  ")
    return True
