"""Texts of YAML that are written in another way than they are read: folded over lines, quoted, with escapes.

Whoever splits such a text into words counts its characters; where these stand in the file is found by going through both
side by side.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from moeplan.core.deployed import Spot

_ESCAPES = {"x": 4, "u": 6, "U": 10}
"""Characters of an escape with a number; all others have two."""


class FoldedText(NamedTuple):
    """A text with the place where it is written."""

    text: str
    spot: Spot
    """Where whoever counts its characters takes it to begin."""
    first: tuple[int, int]
    """Line and column of its first sign, from 0."""
    last_line: int
    """From 0."""
    style: str
    """`>`, `"`, `'`, or empty for a plain one."""


class Alignment:
    """Where each character of a text stands."""

    marks: list[tuple[int, int, int]] | None = None

    def __init__(self, folded: FoldedText, lines: Sequence[str]) -> None:
        self.folded = folded
        self.last = folded.spot.line + max(folded.last_line - folded.first[0], folded.text.count("\n"))
        self.begins = [0, *(place + 1 for place, sign in enumerate(folded.text) if sign == "\n")]
        self.lines = lines

    def holds(self, spot: Spot) -> bool:
        """True for a place that somebody may have counted in the text."""
        return self.folded.spot.line <= spot.line <= self.last

    def place(self, spot: Spot) -> tuple[int, int]:
        """Line and column, from 0, of what somebody counted to stand at `spot`."""
        if self.marks is None:
            self.marks = list(_marks(self.folded, self.lines))
        number = min(max(spot.line - self.folded.spot.line, 0), len(self.begins) - 1)
        offset = max(self.begins[number] + spot.column - self.folded.spot.column, 0)
        start, line, column = self.marks[bisect_right(self.marks, (offset, len(self.lines), 0)) - 1]
        return line, min(column + offset - start, len(self.lines[line]))


def _marks(folded: FoldedText, lines: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """Places of the text from which on it stands in the file as it is: offset, line, column; each from 0."""
    text, style = folded.text, folded.style
    line, column = folded.first
    base = column if style == ">" else 0
    offset = 0
    yield offset, line, column
    while offset < len(text) and line < len(lines):
        raw, sign = lines[line], text[offset]
        escaped = raw[column : column + 1] == "\\" and style == '"'
        doubled = style == "'" and raw.startswith("''", column)
        if raw[column : column + 1] == sign and not escaped and not doubled:
            offset, column = offset + 1, column + 1
            continue
        if escaped and column + 1 < len(raw.rstrip()):
            offset, column = offset + 1, column + _ESCAPES.get(raw[column + 1], 2)
        elif doubled:
            offset, column = offset + 1, column + 2
        elif sign in " \n" or escaped or not raw[column:].strip():
            # The break of a line, or several: a blank, so many line breaks, or nothing behind a backslash.
            line = next(
                (number for number in range(line + 1, folded.last_line + 1) if lines[number].strip()), len(lines)
            )
            if line >= len(lines):
                return
            column = max(base, 0) if style == ">" else len(lines[line]) - len(lines[line].lstrip())
            if sign in " \n" and not escaped:
                offset += 1
                while text[offset : offset + 1] == "\n":
                    offset += 1
        else:  # written in a way that is not known here
            return
        yield offset, line, column
