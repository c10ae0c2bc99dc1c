"""A placement of experts on the screen: what it is worth, numbers of spare slots, maps of ranks, a row per layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moeplan.report.heat_map import RANKS, grid, map_words, print_heat_map
from moeplan.report.page import blank_page, fitting_columns, page_text, print_listing, print_notes, print_prose
from moeplan.report.printable import printable_record
from moeplan.report.routing_placement_words import (
    LEGEND,
    advice_words,
    head_words,
    heat_rows,
    layer_columns,
    spare_columns,
    spare_legend,
    summary_columns,
    told_words,
    verdict_words,
)
from moeplan.routing.result import PlacementReport

if TYPE_CHECKING:
    from rich.console import Console


def routing_placement_table(report: PlacementReport, *, width: int, color: bool, unicode: bool) -> str:
    """The placement as text of at most `width` columns; ASCII alone where `unicode` is False."""
    report = printable_record(report)
    page = blank_page(width, color=color)
    page.print(report.model, style="bold", overflow="fold")
    for words in head_words(report):
        print_prose(page, words)
    print_prose(page, verdict_words(report), style="bold")
    page.print()
    print_listing(page, summary_columns(report), 1)
    page.print()
    for words in told_words(report):
        print_prose(page, words, "· ")
    page.print()
    page.print("Spare slots", style="bold", overflow="fold")
    columns = fitting_columns(spare_columns(report), page.width)
    print_listing(page, columns, 1)
    print_prose(page, spare_legend(report, columns))
    page.print()
    for words in advice_words(report):
        print_prose(page, words, "· ")
    if report.layers:
        _print_layers(page, report)
    print_notes(page, report.notes)
    return page_text(page, unicode=unicode)


def _print_layers(page: Console, report: PlacementReport) -> None:
    shape = grid(heat_rows(report, placed=False), page.width, RANKS)
    for title, placed in (("Ranks, experts by number", False), ("Ranks, experts as placed", True)):
        page.print()
        page.print(title, style="bold", overflow="fold")
        print_heat_map(page, heat_rows(report, placed=placed), shape)
    print_prose(page, map_words("rank", "ranks", shape))
    page.print()
    page.print("Balancedness by layer", style="bold", overflow="fold")
    print_listing(page, layer_columns(report), 1)
    print_prose(page, LEGEND)
