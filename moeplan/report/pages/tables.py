"""Tables and notes of a page."""

from __future__ import annotations

import re
from collections.abc import Sequence

from moeplan.core.model import Remark
from moeplan.report.page import Column
from moeplan.report.pages.markup import Html, element, listed, text

LONG = 24
"""Characters of a word that paper breaks."""
_PARTS = re.compile(r"[\s/-]+")


def columns_table(columns: Sequence[Column], caption: str, *, head: bool = True, hide_caption: bool = False) -> Html:
    """Columns as a table, whose first column names the rows. Cells may be markup.

    A page narrower than the table scrolls it, by keyboard too.
    """
    heads = element("thead", element("tr", *(_head(column) for column in columns)))
    rows = [
        element(
            "tr", *(_cell(column, cell, place) for place, (column, cell) in enumerate(zip(columns, row, strict=True)))
        )
        for row in zip(*(column.cells for column in columns), strict=True)
    ]
    return scrolled(
        element(
            "table",
            element("caption", caption, class_="unseen" if hide_caption else None),
            *([heads] if head else []),
            element("tbody", *rows),
        ),
        caption,
    )


def rows_table(
    heads: Sequence[str], right: str, rows: Sequence[Sequence[str]], caption: str, *, hide_caption: bool = False
) -> Html:
    """The same from rows; `right` has one character per column, `>` for figures."""
    cells = list(zip(*rows, strict=True)) or [()] * len(heads)
    columns = [
        Column(head, tuple(column), right=side == ">") for head, column, side in zip(heads, cells, right, strict=True)
    ]
    return columns_table(columns, caption, hide_caption=hide_caption)


def scrolled(table: Html, name: str) -> Html:
    """A table that may be wider than the page: a group and no region, which would be a landmark among too many."""
    return element("div", table, class_="table", role="group", aria_label=name, tabindex=0)


def notes_list(notes: Sequence[Remark]) -> Html:
    """Notes, warnings first told to be some; nothing where there are none."""
    return listed((_note(note) for note in notes), class_="notes")


def _note(note: Remark) -> Html:
    lead = element("strong", "Warning: ") if note.severity == "warning" else Html()
    place = f" ({note.where})" if note.where else ""
    return Html(f"{lead}{text(note.message)}{text(place)}")


def _head(column: Column) -> Html:
    class_ = _classes(column, column.title)
    return element("th", column.title, scope="col", class_=class_) if column.title else element("td", class_=class_)


def _cell(column: Column, cell: str, place: int) -> Html:
    class_ = _classes(column, cell)
    return element("th", cell, scope="row", class_=class_) if place == 0 else element("td", cell, class_=class_)


def _classes(column: Column, cell: str) -> str | None:
    """Figures stand right; a word that is wider than a column of paper may be broken there."""
    long = not isinstance(cell, Html) and any(len(word) > LONG for word in _PARTS.split(cell))
    return " ".join([*(["figure"] if column.right else []), *(["long"] if long else [])]) or None
