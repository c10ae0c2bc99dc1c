"""A shell script cut into tokens that know where they stand: `shlex` cannot tell.

Of what no shell could read, something is read, too: lonely quotes are plain signs. The time that it takes grows with the
length of the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from moeplan.sources.deployments.variables import Expander

_PLAIN = re.compile(r"[^\s\\'\"$`|&;()<>]+")
_BLANK = re.compile(r"[^\S\n]+")
_OPERATOR = re.compile(r"&&|\|\||;;&|;;|;&|\|&|&>>|&>|<<<|<<-|<<|<&|<>|>>|>&|>\||[|&;()<>]")
_JOINT = re.compile(r"\\[ \t]+(?=\S)")
_DOUBLE = re.compile(r"[\"\\$`]")
_ANSI = re.compile(r"\$'((?:[^'\\]|\\.)*)'", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b"}
MOST_PARENTHESIS = 4096
"""Characters of one `<( )`."""


class Segment(NamedTuple):
    """A piece of a word."""

    text: str
    quoted: bool = False
    expands: bool = False
    """True for what begins with `$` or a backtick."""


class Token(NamedTuple):
    """A word, an operator, the end of a line, or a here-document."""

    kind: Literal["word", "operator", "line", "document"]
    start: int
    end: int
    text: str = ""
    """Of an operator, and of a here-document."""
    segments: tuple[Segment, ...] = ()
    """Of a word."""

    @property
    def bare(self) -> str:
        """The word where it is written without quotes and variables; empty for others."""
        only = self.segments[0] if len(self.segments) == 1 else None
        return only.text if only is not None and not only.quoted and not only.expands else ""


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a script; of what no shell could read, too, with lonely quotes as plain signs."""
    return _Tokens(text).all()


class _Tokens:
    def __init__(self, text: str) -> None:
        self.text = text
        self.spans = Expander({})
        self.last = len(text.rstrip())
        self.no_single = self.no_double = False
        """True where no such quote is left in the text."""
        self.awaited: str | None = None
        """`<<` or `<<-` whose delimiter is the next word."""
        self.documents: list[tuple[str, bool]] = []

    def all(self) -> Iterator[Token]:
        text, place = self.text, 0
        while place < len(text):
            sign = text[place]
            if sign == "\n":
                yield Token("line", place, place + 1)
                place += 1
                for delimiter, tabs in self.documents:
                    start, end, place = self._document(place, delimiter, tabs=tabs)
                    yield Token("document", start, end, text[start:end])
                self.documents.clear()
                self.awaited = None
            elif blank := _BLANK.match(text, place):
                place = blank.end()
            elif sign == "#":
                end = text.find("\n", place)
                place = len(text) if end < 0 else end
            elif sign == "\\" and (end := self._continued(place)):
                place = end
            elif found := _OPERATOR.match(text, place):
                operator = found.group()
                after = text[found.end() : found.end() + 1]
                if operator in ("<", ">") and after == "(" and (end := self._parenthesis(found.end())):
                    yield Token("word", place, end, segments=(Segment(text[place:end], expands=True),))
                    place = end
                    continue
                if operator in ("<<", "<<-"):
                    self.awaited = operator
                yield Token("operator", place, found.end(), operator)
                place = found.end()
            else:
                word = self._word(place)
                # A number straight before a redirection is the file's, not a word.
                if word.bare.isdecimal() and text[word.end : word.end + 1] in ("<", ">"):
                    place = word.end
                    continue
                if self.awaited is not None:
                    delimiter = "".join(segment.text for segment in word.segments)
                    self.documents.append((delimiter, self.awaited == "<<-"))
                    self.awaited = None
                yield word
                place = word.end

    def _parenthesis(self, place: int) -> int:
        """Where the parenthesis at `place` is closed, as `$( )` is; 0 where it is not."""
        end = self.spans.end("$" + self.text[place : place + MOST_PARENTHESIS], 0)
        return place + end - 1 if end > 0 else 0

    def _continued(self, place: int) -> int:
        """Where a line that ends in a backslash goes on; 0 where the backslash does something else."""
        for end in ("\\\n", "\\\r\n"):
            if self.text.startswith(end, place):
                return place + len(end)
        # YAML may have joined such lines: the backslash is left, with a space behind it.
        joint = _JOINT.match(self.text, place)
        if joint is not None:
            return joint.end()
        return len(self.text) if place + 1 >= self.last else 0

    def _document(self, start: int, delimiter: str, *, tabs: bool) -> tuple[int, int, int]:
        """Where a here-document begins and ends, and the first place behind it."""
        place = start
        while place < len(self.text):
            end = self.text.find("\n", place)
            end = len(self.text) if end < 0 else end
            line = self.text[place:end].rstrip("\r")
            before, place = place, min(end + 1, len(self.text))
            if (line.lstrip("\t") if tabs else line) == delimiter:
                return start, before, place
        return start, place, place

    def _word(self, start: int) -> Token:
        text, place = self.text, start
        segments: list[Segment] = []
        while place < len(text):
            sign = text[place]
            if plain := _PLAIN.match(text, place):
                segments.append(Segment(plain.group()))
                place = plain.end()
            elif sign == "'":
                end = -1 if self.no_single else text.find("'", place + 1)
                self.no_single = end < 0
                segments.append(Segment(text[place + 1 : end], quoted=True) if end > 0 else Segment("'"))
                place = end + 1 if end > 0 else place + 1
            elif sign == '"':
                place = self._double(place, segments)
            elif sign == "\\":
                after = text[place + 1 : place + 2]
                if after == "\n" or text.startswith("\r\n", place + 1):
                    place += 2 if after == "\n" else 3
                else:
                    segments.append(Segment(after or "\\", quoted=True))
                    place += 2 if after else 1
            elif sign == "$" and text[place + 1 : place + 2] == "'":
                place = self._escaped(place, segments)
            elif sign in "$`":
                place = self._expansion(place, segments, quoted=False)
            else:
                break
        return Token("word", start, place, segments=_run_together(segments))

    def _expansion(self, place: int, segments: list[Segment], *, quoted: bool) -> int:
        end = self.spans.end(self.text, place)
        if end < 0 or end == place + 1:
            if not quoted and self.text[place + 1 : place + 2] == '"':  # $"..." is a text to be translated
                return place + 1
            segments.append(Segment(self.text[place], quoted=quoted))
            return place + 1
        segments.append(Segment(self.text[place:end], quoted=quoted, expands=True))
        return end

    def _double(self, start: int, segments: list[Segment]) -> int:
        """What stands between double quotes; where it ends."""
        text, place = self.text, start + 1
        inner: list[Segment] = [Segment("", quoted=True)]
        while not self.no_double:
            found = _DOUBLE.search(text, place)
            if found is None:
                self.no_double = True
                break
            if found.start() > place:
                inner.append(Segment(text[place : found.start()], quoted=True))
            place = found.start()
            sign = text[place]
            if sign == '"':
                segments += inner
                return place + 1
            if sign == "\\":
                after = text[place + 1 : place + 2]
                if text.startswith("\r\n", place + 1):
                    place += 3
                    continue
                kept = after if after in ("$", "`", '"', "\\") else "" if after == "\n" else sign + after
                inner.append(Segment(kept, quoted=True))
                place += 2
            else:
                place = self._expansion(place, inner, quoted=True)
        segments.append(Segment('"'))
        return start + 1

    def _escaped(self, start: int, segments: list[Segment]) -> int:
        """`$'...'`, whose backslashes mean what they mean in C."""
        found = _ANSI.match(self.text, start)
        if found is None:
            segments.append(Segment("$"))
            return start + 1
        made = re.sub(
            r"\\(.)", lambda each: _ESCAPES.get(each.group(1), each.group(1)), found.group(1), flags=re.DOTALL
        )
        segments.append(Segment(made, quoted=True))
        return found.end()


def _run_together(segments: list[Segment]) -> tuple[Segment, ...]:
    """Neighbours of one kind as one; empty ones are left out where something else tells of the quotes."""
    made: list[Segment] = []
    pieces: list[str] = []
    kind = (False, False)
    for segment in segments:
        if pieces and not segment.expands and kind == (segment.quoted, False):
            pieces.append(segment.text)
            continue
        if pieces:
            made.append(Segment("".join(pieces), *kind))
        pieces, kind = [segment.text], (segment.quoted, segment.expands)
    if pieces:
        made.append(Segment("".join(pieces), *kind))
    return tuple(made)
