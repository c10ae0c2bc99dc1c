"""A file of routing that was written, on the screen."""

from __future__ import annotations

from moeplan.report.page import blank_page, page_text, print_notes, print_prose
from moeplan.report.printable import printable_record
from moeplan.report.routing_written_words import written_words
from moeplan.routing.result import Written


def routing_written_table(result: Written, *, width: int, color: bool, unicode: bool) -> str:
    """What was written as text of at most `width` columns; ASCII alone where `unicode` is False."""
    result = printable_record(result)
    page = blank_page(width, color=color)
    for number, words in enumerate(written_words(result)):
        print_prose(page, words, style="" if number else "bold")
    print_notes(page, result.notes)
    return page_text(page, unicode=unicode)
