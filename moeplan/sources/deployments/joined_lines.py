"""Lines that go on in the next one behind a backslash: of Makefiles, Dockerfiles and units of systemd."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class JoinedLine(NamedTuple):
    """A line with those that it goes on in."""

    text: str
    """With the backslashes and line breaks between them."""
    number: int
    """Of the first, from 1."""


def joined_lines(text: str, comments: tuple[str, ...] = ()) -> Iterator[JoinedLine]:
    """The lines of a text. Those that begin with a sign of `comments` are left out; inside of a line that goes on they are
    a lonely backslash."""
    held: list[str] = []
    first = 1
    for number, line in enumerate(text.split("\n"), 1):
        is_comment = bool(comments) and line.lstrip().startswith(comments)
        if is_comment and not held:
            continue
        first = first if held else number
        held.append("\\" if is_comment else line)
        if not is_comment and not line.rstrip().endswith("\\"):
            yield JoinedLine("\n".join(held), first)
            held = []
    if held:
        yield JoinedLine("\n".join(held), first)
