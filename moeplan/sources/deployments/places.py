"""Places inside of their file: YAML folds lines into one, and quotes of a shell hide signs."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

from moeplan.core.deployed import Deployed, FileRead, Quote, Spot
from moeplan.sources.deployments.folded_texts import Alignment, FoldedText
from moeplan.sources.deployments.templates import each_quote

_MOST_FURTHER = 2
"""Lines behind its reckoned place in which a word of a folded text is looked for: quotes around it were not counted."""
_MOST_ASIDE = 200
"""Characters of a line in which it is looked for."""
_HOLDS_VARIABLE = re.compile(r"[^\s$]{0,200}\$")
_BLANKS = re.compile(r"\s+(?=\S)")
_VARIABLE = re.compile(r"variable (\w+)")
_QUOTES = ("'", '"')
_BEFORE = frozenset(("", " ", "\t", "=", *_QUOTES))
_BEHIND = frozenset((*_BEFORE, "\\", ";", "&", "|", ")")) - {"="}
_IN_NAMES = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


def placed(read: FileRead, lines: Sequence[str], folded: Sequence[FoldedText] = ()) -> FileRead:
    """What was read with each place inside the text; `folded` are its texts that stand otherwise than they read."""
    places = _Places(lines, folded)
    return read._replace(
        deployments=tuple(places.deployed(each) for each in read.deployments),
        remarks=tuple(each._replace(spot=places.spot(each.spot)) for each in read.remarks),
        secrets=tuple(each._replace(spot=places.spot(each.spot)) for each in read.secrets),
    )


class _Places:
    def __init__(self, lines: Sequence[str], folded: Sequence[FoldedText]) -> None:
        self.lines = lines
        self.folded: dict[str, list[Alignment]] = {}
        for each in sorted(folded, key=lambda each: each.spot.line):
            self.folded.setdefault(each.spot.path, []).append(Alignment(each, lines))

    def deployed(self, deployed: Deployed) -> Deployed:
        """The record with all its places, those of the command's words first: others were taken from these."""
        spots = [self.word(word) for word in deployed.command]
        words = {word.spot: spot for word, spot in reversed(list(zip(deployed.command, spots, strict=True)))}

        def one(quote: Quote) -> Quote:
            return quote._replace(spot=words.get(quote.spot) or self.spot(quote.spot), put_in=())

        command = tuple(word._replace(spot=spot, put_in=()) for word, spot in zip(deployed.command, spots, strict=True))
        remarks = tuple(each._replace(spot=words.get(each.spot) or self.spot(each.spot)) for each in deployed.remarks)
        changed = each_quote(deployed, one)
        return changed._replace(command=command, remarks=remarks, spot=self.inside(deployed.spot))

    def word(self, word: Quote) -> Spot:
        """The place of a word: where it is reckoned to stand, or a little behind."""
        alignment = self.alignment(word.spot)
        if alignment is None:
            spot = self.inside(word.spot)
            line, column, last = spot.line - 1, spot.column - 1, spot.line - 1
        else:
            line, column = alignment.place(word.spot)
            last = min(line + _MOST_FURTHER, alignment.folded.last_line)
        for number in range(line, last + 1):
            found = _found(word, self.lines[number], column if number == line else 0)
            if found is not None:
                return Spot(number + 1, found + 1, word.spot.path)
        blanks = _BLANKS.match(self.lines[line], column)
        column = blanks.end() if blanks is not None and word.text else column
        return self.inside(Spot(line + 1, column + 1, word.spot.path))

    def spot(self, spot: Spot) -> Spot:
        """Another place."""
        alignment = self.alignment(spot)
        if alignment is None:
            return self.inside(spot)
        line, column = alignment.place(spot)
        return Spot(line + 1, column + 1, spot.path)

    def alignment(self, spot: Spot) -> Alignment | None:
        """That of the text which the place was counted in; None for what is written as it reads."""
        of_path = self.folded.get(spot.path, ())
        number = bisect_right(of_path, spot.line, key=lambda each: each.folded.spot.line)
        found = of_path[number - 1] if number else None
        return None if found is None or not found.holds(spot) or spot == found.folded.spot else found

    def inside(self, spot: Spot) -> Spot:
        """The place itself, or the nearest one in the text: the first sign of its line."""
        if 0 < spot.line <= len(self.lines) and 0 < spot.column <= len(self.lines[spot.line - 1]) + 1:
            return spot
        number = min(max(spot.line, 1), len(self.lines))
        line = self.lines[number - 1]
        return Spot(number, len(line) - len(line.lstrip()) + 1, spot.path)


def _found(word: Quote, line: str, begin: int) -> int | None:
    """Where the word stands in a line, from `begin` on: as it is, or as a variable; None where it is neither."""
    quoted = begin + (line[begin : begin + 1] in _QUOTES)
    if not word.text or line.startswith(word.text, quoted):
        return begin
    variable = _VARIABLE.search(word.why)
    if variable is not None:
        names = (f"${variable.group(1)}", f"${{{variable.group(1)}", f"$({variable.group(1)}")
        places = [place for name in names if (place := _whole(name, line, begin, _IN_NAMES)) is not None]
        if not places:
            return None
        # The word that holds the variable.
        return max(begin, 1 + max(line.rfind(sign, begin, min(places)) for sign in " \t"))
    if not word.known or word.origin != "stated" or _HOLDS_VARIABLE.match(line, begin):
        return None
    return _whole(word.text, line, begin)


def _whole(text: str, line: str, begin: int, inner: frozenset[str] | None = None) -> int | None:
    """Where a text stands between blanks and quotes, or with `inner` where none of these signs follow."""
    last = begin + _MOST_ASIDE + len(text)
    place = line.find(text, begin, last)
    while place >= 0:
        before, behind = line[place - 1 : place] if place else "", line[place + len(text) : place + len(text) + 1]
        if inner is None and before in _BEFORE and behind in _BEHIND:
            return place
        if inner is not None and behind not in inner:
            return place
        place = line.find(text, place + 1, last)
    return None
