"""Drift of routing on the screen: the verdict, where it moved, a row per layer."""

from __future__ import annotations

from moeplan.report.page import blank_page, fitting_columns, page_text, print_listing, print_notes, print_prose
from moeplan.report.printable import printable_record
from moeplan.report.routing_drift_words import (
    LEGEND,
    beyond_words,
    head_words,
    layer_columns,
    told_words,
    verdict_words,
)
from moeplan.report.routing_words import legend_words
from moeplan.routing.result import Drift


def routing_drift_table(drift: Drift, *, width: int, color: bool, unicode: bool) -> str:
    """The drift as text of at most `width` columns; ASCII alone where `unicode` is False."""
    drift = printable_record(drift)
    page = blank_page(width, color=color)
    page.print(drift.a.model, style="bold", overflow="fold")
    for words in head_words(drift):
        print_prose(page, words)
    style = "bold yellow" if drift.passed is None else "bold green" if drift.passed else "bold red"
    print_prose(page, verdict_words(drift), style=style)
    beyond = beyond_words(drift)
    told = ([beyond] if beyond else []) + list(told_words(drift))
    page.print()
    for words in told:
        print_prose(page, words, "· ")
    if told:
        page.print()
    columns = layer_columns(drift)
    print_listing(page, columns, 1)
    print_prose(page, legend_words(LEGEND, fitting_columns(columns, page.width)))
    print_notes(page, drift.notes)
    return page_text(page, unicode=unicode)
