"""A text split into words as a shell splits it, with the place of each word, and nothing expanded."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.core.deployed import Quote, Spot
from moeplan.sources.deployments.variables import written, written_place

_ESCAPED_IN_QUOTES = '"\\$`\n'
"""What a backslash takes the meaning of inside double quotes; before anything else it is a letter."""


def split_words(quote: Quote) -> Iterator[Quote]:
    """The words of a text: quotes taken away, backslashes obeyed, `$` left alone. An open quote ends with the text."""
    text, place = quote.text, 0
    whole = written(quote)
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        word, end = _word(text, place)
        yield _part(quote, whole, word, written_place(quote.put_in, place))
        place = end


def _word(text: str, place: int) -> tuple[str, int]:
    """The word that begins here, and where it ends."""
    letters: list[str] = []
    sign = ""
    while place < len(text) and (sign or not text[place].isspace()):
        letter = text[place]
        if letter == "\\" and sign != "'" and place + 1 < len(text):
            place += 1
            if sign and text[place] not in _ESCAPED_IN_QUOTES:
                letters.append("\\")
            if text[place] != "\n":
                letters.append(text[place])
        elif letter in "\"'" and sign in ("", letter):
            sign = "" if sign else letter
        else:
            letters.append(letter)
        place += 1
    return "".join(letters), place


def _part(quote: Quote, whole: str, text: str, place: int) -> Quote:
    """One word with its own place in `whole`; what is not known of the whole stays so where the word holds it."""
    line = whole.count("\n", 0, place)
    # All lines of a block begin in one column.
    column = quote.spot.column + place - (whole.rfind("\n", 0, place) + 1)
    unknown = tuple(each for each in quote.unknown if each in text)
    origin = "unresolved" if unknown else "stated" if quote.origin == "unresolved" else quote.origin
    return Quote(text, Spot(quote.spot.line + line, column, quote.spot.path), origin, unknown, quote.why)
