"""A report of routing on the screen: the verdict, the worst layers, the map, and a row per layer."""

from __future__ import annotations

from moeplan.report.heat_map import grid, map_words, print_heat_map
from moeplan.report.page import blank_page, fitting_columns, page_text, print_listing, print_notes, print_prose
from moeplan.report.printable import printable_record
from moeplan.report.routing_report_words import head_words, heat_rows, sections, verdict_words, worst_columns
from moeplan.report.routing_words import legend_words
from moeplan.routing.result import Report


def routing_report_table(report: Report, *, width: int, color: bool, unicode: bool) -> str:
    """The report as text of at most `width` columns; ASCII alone where `unicode` is False."""
    report = printable_record(report)
    page = blank_page(width, color=color)
    page.print(report.source.model, style="bold", overflow="fold")
    for words in head_words(report):
        print_prose(page, words)
    print_prose(page, verdict_words(report), style="bold yellow" if report.uneven_layers else "bold green")
    page.print()
    print_listing(page, worst_columns(report), 1)
    rows = heat_rows(report)
    shape = grid(rows, page.width)
    page.print()
    page.print("Map of the load", style="bold")
    print_heat_map(page, rows, shape)
    print_prose(page, map_words("expert", "experts", shape))
    for section in sections(report):
        page.print()
        page.print(section.title, style="bold", overflow="fold")
        print_listing(page, section.columns, 1)
        print_prose(page, legend_words(section.told, fitting_columns(section.columns, page.width)))
    print_notes(page, report.notes)
    return page_text(page, unicode=unicode)
