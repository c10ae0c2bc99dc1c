"""The catalogue as a person reads it."""

from __future__ import annotations

from moeplan.inspect import Models
from moeplan.report.models_words import model_columns, models_legend
from moeplan.report.page import blank_page, needed_columns, page_text, print_listing, print_notes, print_prose
from moeplan.report.printable import printable_record


def models_table(result: Models, *, width: int, color: bool, unicode: bool) -> str:
    """The listing, at most `width` columns wide; a narrow page loses the organisations first."""
    result = printable_record(result)
    page = blank_page(width, color=color)
    columns = model_columns(result.models, organisation=True)
    if needed_columns(columns) > page.width:
        columns = model_columns(result.models, organisation=False)
    print_listing(page, columns)
    page.print()
    print_prose(page, models_legend(result))
    print_notes(page, result.notes)
    return page_text(page, unicode=unicode)
