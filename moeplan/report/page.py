"""A page of text: how wide it is, whether it has colour and more than ASCII; prose, notes and columns on it.

rich draws it, and is loaded when there is something to draw.
"""

from collections.abc import Iterable, Sequence
from io import StringIO
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

from moeplan.core.model import Remark

if TYPE_CHECKING:
    from rich.console import Console

UNKNOWN = "–"
"""Stands in a cell for what nobody knows."""
GAP = 2
LEAST_NAME_COLUMNS = 16
"""The first column of a listing is never narrower."""
LEAST_PROSE_COLUMNS = 20
NO_BREAK = "\N{NO-BREAK SPACE}"
"""Keeps a dot between parts at the end of the row before it."""

_ASCII = str.maketrans(
    {"·": "-", "±": "+-", "█": "#", "▌": "=", "–": "-", "×": "x", "─": "-", "…": "~", "µ": "u", "²": "2"}
    | {"░": ".", "▒": ":", "▓": "+"}
    | {"│": "|", "┤": "|", "└": "+", "┬": "+", "┊": "|", "╌": "-", "●": "*", "◆": "@", "◇": "#"}
    | {chr(braille): "." for braille in range(0x2800, 0x2900)}
)


class Column(NamedTuple):
    """One column of a table."""

    title: str
    cells: tuple[str, ...]
    rank: int = 0
    """Columns of the highest rank go first where the page is narrow; 0 stays."""
    right: bool = True


def blank_page(width: int, *, color: bool) -> "Console":
    """An empty page, `width` columns wide."""
    from rich.console import Console

    return Console(
        file=StringIO(),
        width=width,
        height=25,  # a console without a height takes 80 columns where TERM says dumb
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )


def page_text(page: "Console", *, unicode: bool) -> str:
    """What stands on the page, without blanks at the ends of lines; moeplan's own signs in ASCII unless `unicode`."""
    assert isinstance(page.file, StringIO)
    text = "\n".join(row.rstrip() for row in page.file.getvalue().splitlines()) + "\n"
    return text if unicode else text.translate(_ASCII)


def print_prose(page: "Console", text: str, lead: str = "", style: str = "") -> None:
    """Text wrapped between words; `lead` stands before the first line, and the others stand under its end.

    A dot between parts may end a line and never begins one.
    """
    text = text.replace(" · ", f"{NO_BREAK}· ")
    rows = wrap(text, max(LEAST_PROSE_COLUMNS, page.width - len(lead)), break_on_hyphens=False) or [""]
    for number, row in enumerate(rows):
        told = f"{lead if number == 0 else ' ' * len(lead)}{row}".replace(NO_BREAK, " ")
        page.print(told, style=style, overflow="fold")


def print_notes(page: "Console", notes: Sequence[Remark]) -> None:
    """Notes behind a blank line, warnings with a mark that needs no colour; nothing where there are none."""
    if notes:
        page.print()
    for note in notes:
        warning = note.severity == "warning"
        print_prose(page, note.message, "! " if warning else "· ", style="yellow" if warning else "")


def print_listing(page: "Console", columns: Sequence[Column], least: int = LEAST_NAME_COLUMNS) -> None:
    """A table, one line per row: a narrow page loses columns by their rank, then ends of the first one's cells.

    The first column is `least` wide at least, where there is room.
    """
    kept = fitting_columns(columns, page.width)
    first, *others = natural_widths(kept)
    room = page.width - sum(others) - GAP * len(others)
    # A short first column is padded as far as there is room; a long one loses its ends down to the least.
    width = min(least, room) if first <= room else least
    print_columns(page, kept, max(width, min(first, room)), head_style="bold")


def fitting_columns(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns that a page of this width has room for: those of the highest rank go first, those of rank 0 stay."""
    kept = list(columns)
    while needed_columns(kept) > width and any(column.rank for column in kept):
        kept = [column for column in kept if column.rank < max(each.rank for each in kept)]
    return kept


def print_columns(
    page: "Console",
    columns: Sequence[Column],
    first_width: int,
    *,
    gap: int = GAP,
    head_style: str = "",
    row_styles: Sequence[str] = (),
) -> None:
    """A table whose first column is `first_width` wide and may lose ends of cells; the others are as wide as they need."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style=head_style)
    for column, width in zip(columns, [first_width, *natural_widths(columns[1:])], strict=True):
        table.add_column(
            column.title, justify="right" if column.right else "left", no_wrap=True, overflow="ellipsis", width=width
        )
    rows = list(zip(*(column.cells for column in columns), strict=True))
    for cells, style in zip(rows, row_styles or [""] * len(rows), strict=True):
        # Cells with words carry the style, so that no blank is bold.
        table.add_row(*(Text(cell, style=style if cell.strip() else "") for cell in cells))
    page.print(table)


def natural_widths(columns: Iterable[Column]) -> list[int]:
    """Widths at which nothing is cut."""
    return [max(map(len, (column.title, *column.cells))) for column in columns]


def needed_columns(columns: Sequence[Column], gap: int = GAP) -> int:
    """Width of the table that cuts nothing."""
    return sum(natural_widths(columns)) + gap * (len(columns) - 1)
