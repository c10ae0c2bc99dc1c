"""A capture on the screen."""

from __future__ import annotations

from moeplan.report.page import blank_page, page_text, print_notes, print_prose
from moeplan.report.printable import printable_record
from moeplan.report.routing_captured_words import file_words, notes_words, run_words, verdict_words
from moeplan.routing.result import Captured


def routing_captured_table(result: Captured, *, width: int, color: bool, unicode: bool) -> str:
    """What was captured as text of at most `width` columns; ASCII alone where `unicode` is False."""
    result = printable_record(result)
    page = blank_page(width, color=color)
    good = result.complete and result.written is not None
    print_prose(page, verdict_words(result), style="bold green" if good else "bold yellow")
    print_prose(page, run_words(result))
    for words in file_words(result):
        print_prose(page, words)
    print_notes(page, notes_words(result))
    return page_text(page, unicode=unicode)
