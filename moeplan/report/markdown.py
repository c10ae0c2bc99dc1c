"""GitHub-flavoured Markdown: texts that stay in their place, tables, notes.

Every text that comes from outside is escaped, so that a model's name can neither break a table nor bring its own HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from moeplan.core.model import Remark

if TYPE_CHECKING:
    from moeplan.report.page import Column


def escaped(text: str) -> str:
    """`text` as Markdown that shows it as it is: no table cell, emphasis, link, code, formula or HTML begins in it."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # An underscore within a word is an underscore; at its edge it would be emphasis.
    return re.sub(r"[\\`*|~$\[\]#]|(?<![^\W_])_|_(?![^\W_])", lambda found: f"\\{found[0]}", text)


def code(text: str) -> str:
    """`text` as a code span; its fence is longer than any run of backticks within."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{fence}{space}{text}{space}{fence}"


def table(heads: Sequence[str], right: str, rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; `right` has one character per column, `>` for figures."""
    ruler = "|".join("---:" if side == ">" else "---" for side in right)
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], f"|{ruler}|", *lines[1:]])


def columns_table(columns: Sequence[Column]) -> str:
    """All columns as a table, escaped."""
    right = "".join(">" if column.right else "<" for column in columns)
    rows = zip(*(map(escaped, column.cells) for column in columns), strict=True)
    return table([escaped(column.title) for column in columns], right, rows)


def quoted_notes(notes: Sequence[Remark]) -> list[str]:
    """Notes as one block quote, as the one block or none that a document has of them."""
    return ["\n".join(f"> {escaped(note.message)}" for note in notes)] if notes else []
