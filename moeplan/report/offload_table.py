"""An offload as a person reads it: does it go, with which command, how fast at most, what binds, what would help."""

from __future__ import annotations

from moeplan.offload.result import Offload
from moeplan.report.offload_words import (
    FORMATS,
    HELPS,
    HOT,
    OTHERS,
    asked_words,
    detail_words,
    format_columns,
    help_rows,
    hot_columns,
    hot_words,
    launch_words,
    layer_columns,
    layers_title,
    machine_words,
    model_words,
    other_rows,
    verdict_words,
)
from moeplan.report.page import blank_page, page_text, print_listing, print_notes, print_prose
from moeplan.report.printable import printable_record

LEAST_COLUMNS = 12
"""Of a table's first column: a narrow page has room for what is said of a row."""


def offload_table(result: Offload, *, width: int, color: bool, unicode: bool) -> str:
    """The answer as text of at most `width` columns but for the command, which stays whole; ASCII alone unless `unicode`."""
    result = printable_record(result)
    page = blank_page(width, color=color)

    def title(text: str) -> None:
        page.print()
        page.print(text, style="bold", overflow="fold")

    page.print(result.model.id, style="bold", overflow="fold")
    for text in (model_words(result), machine_words(result), asked_words(result)):
        print_prose(page, text)
    page.print()
    print_prose(page, verdict_words(result), style="bold red" if result.best is None else "bold green")
    if result.way_out is not None:
        print_prose(page, result.way_out, "  way out: ")
    for lead, text in detail_words(result):
        print_prose(page, text, f"  {lead}")
    launch = launch_words(result)
    if launch is not None:
        print_prose(page, f"{launch[0]}:", "  ")
        # A command is copied whole: no line of it is broken.
        page.print(f"    {launch[1]}", soft_wrap=True)
    helps = list(help_rows(result))
    if helps:
        title(HELPS)
        for lead, text in helps:
            print_prose(page, f"{lead}{text}", "  ")
    if len(result.layers) > 1:
        title(layers_title(result))
        print_listing(page, layer_columns(result), LEAST_COLUMNS)
    if len(result.formats) > 1:
        title(FORMATS)
        print_listing(page, format_columns(result), LEAST_COLUMNS)
    if result.hot_experts is not None:
        title(HOT)
        print_prose(page, hot_words(result.hot_experts))
        print_listing(page, hot_columns(result.hot_experts))
    others = list(other_rows(result))
    if others:
        title(OTHERS)
        for lead, text in others:
            print_prose(page, f"{lead}{text}", "  ")
    print_notes(page, result.notes)
    return page_text(page, unicode=unicode)
