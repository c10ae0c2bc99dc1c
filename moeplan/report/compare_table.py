"""A comparison on the screen: models as columns where the page has room for them, else figure by figure, a line per model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from moeplan.compare.result import Comparison
from moeplan.report.compare_words import (
    LEGEND,
    Line,
    Section,
    asked_words,
    beside_words,
    notes_words,
    price_words,
    sections,
    speed_words,
    unknown_words,
)
from moeplan.report.page import GAP, blank_page, page_text, print_notes, print_prose
from moeplan.report.printable import printable_record

if TYPE_CHECKING:
    from rich.console import Console

MARK = "* "
INDENT = "  "
MOST_COLUMN = 24
"""Columns are no wider than this for their names alone: these are broken instead."""
LEAST_NAME = 12
"""Where models stand below each other, their names are cut to no less."""


def compare_table(result: Comparison, *, width: int, color: bool, unicode: bool) -> str:
    """The comparison as text of at most `width` columns; ASCII alone where `unicode` is False."""
    result = printable_record(result)
    page = blank_page(width, color=color)
    print_prose(page, " · ".join(asked_words(result)))
    page.print()
    found = sections(result)
    labels = [model.label for model in result.models]
    across = _column_width(found, labels, page.width)
    if across is None:
        _stacked(page, found, labels)
    else:
        _columns(page, found, labels, *across)
    page.print()
    print_prose(page, LEGEND)
    page.print()
    for told in (*beside_words(result), *speed_words(result)):
        print_prose(page, told, "· ")
    for told in unknown_words(result):
        print_prose(page, told, "! ", style="yellow")
    print_notes(page, notes_words(result))
    price = price_words(result)
    if price is not None:
        print_prose(page, price, "· ")
    return page_text(page, unicode=unicode)


def _column_width(found: Sequence[Section], labels: Sequence[str], width: int) -> tuple[int, int] | None:
    """Widths of the labels and of each model's column; None where the page has no room for all of them."""
    first = max(len(_label(line)) for section in found for line in section.lines)
    cells = max(len(cell) for section in found for line in section.lines for cell in _marked(line))
    room = (width - first) // len(labels) - GAP
    if cells > room:
        return None
    return first, min(room, max(cells, min(MOST_COLUMN, max(map(len, labels)))))


def _columns(page: Console, found: Sequence[Section], labels: Sequence[str], first: int, each: int) -> None:
    from rich.text import Text

    names = [wrap(label, each) for label in labels]
    most = max(map(len, names))
    for row in range(most):
        # Names end on the same line, where the figures begin.
        cells = [name[row - most + len(name)] if row >= most - len(name) else "" for name in names]
        page.print(_row("", cells, first, each), style="bold", overflow="fold")
    for section in found:
        _title(page, section)
        for line in section.lines:
            text = Text(_row(_label(line), list(_marked(line)), first, each))
            for place in line.marked:
                end = first + (place + 1) * (GAP + each)
                text.stylize("bold green", end - len(line.cells[place]) - len(MARK), end)
            page.print(text, overflow="fold")


def _title(page: Console, section: Section) -> None:
    if section.title:
        page.print()
        page.print(section.title, style="bold", overflow="fold")


def _row(label: str, cells: Sequence[str], first: int, each: int) -> str:
    return f"{label:<{first}}" + "".join(f"{' ' * GAP}{cell:>{each}}" for cell in cells)


def _stacked(page: Console, found: Sequence[Section], labels: Sequence[str]) -> None:
    """Each figure with a line per model, so that figures of one kind still stand below each other."""
    cells = max(len(cell) for section in found for line in section.lines for cell in _marked(line))
    name = min(max(map(len, labels)), max(LEAST_NAME, page.width - 2 * len(INDENT) - GAP - cells))
    for section in found:
        _title(page, section)
        for line in section.lines:
            page.print(_label(line), overflow="fold")
            for label, cell in zip(labels, _marked(line), strict=True):
                shown = label if len(label) <= name else f"{label[: name - 1]}…"
                page.print(f"{INDENT * 2}{shown:<{name}}{' ' * GAP}{cell:>{cells}}", overflow="fold")


def _label(line: Line) -> str:
    return f"{INDENT if line.part else ''}{line.label}"


def _marked(line: Line) -> Iterator[str]:
    for place, cell in enumerate(line.cells):
        yield f"{MARK}{cell}" if place in line.marked else cell
