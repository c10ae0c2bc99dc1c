"""Places that lie inside their file: YAML folds lines into one, and the words of such a text are looked for again."""

from __future__ import annotations

from collections.abc import Sequence

from moeplan.core.deployed import Deployed, Quote, Spot
from moeplan.sources.deployments.templates import each_quote

MOST_LINES = 400
"""Lines below its beginning in which a folded text's words are looked for."""


def placed(deployed: Deployed, lines: Sequence[str]) -> Deployed:
    """The record with the place of each quote inside the text."""
    search = _Search(lines)
    command = tuple(search.word(word) for word in deployed.command)
    changed = each_quote(deployed, search.clipped)
    return changed._replace(command=command, spot=search.inside(deployed.spot))


class _Search:
    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self.path: str | None = None
        self.line = self.column = 0

    def word(self, word: Quote) -> Quote:
        """A word of the command: behind the one before where its own place lies outside of its line."""
        if self.holds(word.spot):
            if word.spot.path != self.path:
                self.path, self.line, self.column = word.spot.path, word.spot.line - 1, 0
            return word
        if word.spot.path != self.path:
            self.path, self.line, self.column = word.spot.path, word.spot.line - 1, 0
        for line in range(self.line, min(self.line + MOST_LINES, len(self.lines))):
            begin = self.column if line == self.line else 0
            column = self.lines[line].find(word.text, begin) if word.text else -1
            if column >= 0:
                self.line, self.column = line, column + len(word.text)
                return word._replace(spot=Spot(line + 1, column + 1, word.spot.path))
        return word._replace(spot=self.inside(word.spot))

    def clipped(self, quote: Quote) -> Quote:
        return quote if self.holds(quote.spot) else quote._replace(spot=self.inside(quote.spot))

    def holds(self, spot: Spot) -> bool:
        """True for a place inside the text."""
        return 0 < spot.line <= len(self.lines) and 0 < spot.column <= len(self.lines[spot.line - 1]) + 1

    def inside(self, spot: Spot) -> Spot:
        """The nearest place inside: the first sign of its line."""
        if self.holds(spot):
            return spot
        number = min(max(spot.line, 1), len(self.lines))
        line = self.lines[number - 1]
        return Spot(number, len(line) - len(line.lstrip()) + 1, spot.path)
