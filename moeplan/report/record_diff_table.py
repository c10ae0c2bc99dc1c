"""Two records on the screen: what fails, what was changed, a table for each of quality, latency, memory and cost."""

from __future__ import annotations

import re

from moeplan.records.result import RecordDiff
from moeplan.report.page import GAP, Column, blank_page, natural_widths, page_text, print_notes, print_prose
from moeplan.report.printable import printable_record
from moeplan.report.record_diff_words import (
    HEADS,
    NONE,
    cause_words,
    change,
    columns,
    reasons,
    setting_rows,
    side_words,
    unknown_change,
    verdict_words,
)
from moeplan.report.record_table import print_figures
from moeplan.report.workflow_commands import harmless

NO_BREAK = "\xa0"
_AMOUNT = re.compile(r"(?<=[0-9]) (?=%|[a-zµ]*s\b|[KMGT]iB)")
"""Between a figure and its unit."""
_STYLES = {True: "bold green", False: "bold red", None: "bold yellow"}


def record_diff_table(diff: RecordDiff, *, width: int, color: bool, unicode: bool) -> str:
    """The comparison as text of at most `width` columns; ASCII alone where `unicode` is False."""
    diff = printable_record(diff)
    page = blank_page(width, color=color)
    for letter, side in (("A", diff.a), ("B", diff.b)):
        print_prose(page, side_words(letter, side))
    print_prose(page, _AMOUNT.sub(NO_BREAK, verdict_words(diff)), style=_STYLES[diff.passed])
    page.print()
    print_prose(page, cause_words(diff), style="bold")
    for title, found in setting_rows(diff):
        for each in found:
            words = unknown_change(each) if found is diff.unknown else change(each)
            print_prose(page, words, f"  {title}: ")
    tables, widths = _tables(diff)
    if sum(widths) + GAP * (len(widths) - 1) > width:
        tables, widths = _tables(diff, short=True)
    for head, table in zip(HEADS, tables, strict=True):
        page.print()
        if not table[0].cells:
            print_prose(page, f"{head}: {NONE}")
            continue
        padded = [
            column._replace(
                title=column.title.rjust(width_of) if column.right else column.title.ljust(width_of),
            )
            for column, width_of in zip(table, widths, strict=True)
        ]
        print_figures(page, padded)
    for words in reasons(diff):
        page.print()
        print_prose(page, words, "not comparable: ")
    print_notes(page, diff.notes)
    return harmless(page_text(page, unicode=unicode).replace(NO_BREAK, " "))


def _tables(diff: RecordDiff, *, short: bool = False) -> tuple[list[list[Column]], list[int]]:
    """A table for each head, and the widths that their columns share, so that they read as one table."""
    tables = [columns(diff, head, short=short) for head in HEADS]
    return tables, [max(natural_widths([table[place]])[0] for table in tables) for place in range(len(tables[0]))]
