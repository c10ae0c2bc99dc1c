"""The one walk over the words of a command line: each flag with its values, and the words that belong to none."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from moeplan.core.programs import holds_flags
from moeplan.engines.command_line.flag import Flag
from moeplan.engines.command_line.names import is_flag, spelled

SWITCH_WORDS = ("true", "false")
_SAYS_NOTHING = ("\\", "--")
"""A line that goes on, and the end of a command's own flags."""


class Piece(NamedTuple):
    """A flag with its values, or one word."""

    part: Literal["flag", "model", "stray", "nothing"]
    """`model` is the positional model; `stray` a word that is neither flag nor value; `nothing` says nothing."""
    words: tuple[str, ...]
    """As they stand in the command line: what is attached to a flag is in the flag's word."""
    typed: str = ""
    """The flag as it was written."""
    flag: Flag | None = None
    """Its row; None for a flag that the table lacks."""
    key: str = ""
    """What follows the dot of a JSON flag."""
    values: tuple[str, ...] = ()


def pieces(flags: Mapping[str, Flag], words: Sequence[str], *, named: bool = False) -> Iterator[Piece]:
    """The words in order, each in one piece. `flags` are rows by spelling; `named` is True where the model is named
    already, so that no word can be it."""
    left = deque(words)
    while left:
        word = left.popleft()
        if word in _SAYS_NOTHING:
            yield Piece("nothing", (word,))
        elif not is_flag(word):
            is_model = (
                not named and not holds_flags(word) and word.lower() not in SWITCH_WORDS and word.split() == [word]
            )
            named = named or is_model
            yield Piece("model" if is_model else "stray", (word,))
        else:
            typed, sign, attached = _parted(flags, word)
            flag, key = _find(flags, typed)
            values = (attached,) if sign else _following(flag, left)
            named = named or _names_model(flags, flag)
            yield Piece("flag", (word,) if sign else (word, *values), typed, flag, key, values)


def row_of(flags: Mapping[str, Flag], flag: Flag, key: str) -> Flag | None:
    """The row of one key of a JSON flag, where it has one of its own."""
    return flags.get(spelled(f"{flag.name}.{key.replace('-', '_')}"))


def _parted(flags: Mapping[str, Flag], word: str) -> tuple[str, str, str]:
    """Flag, sign, and what is attached: `-tp=8`, or `-O3` where a flag takes its value without a sign."""
    short = flags.get(word[:2])
    if short is not None and short.glued and word[2:3] not in ("", "=", "."):
        return word[:2], "=", word[2:]
    return word.partition("=")


def _find(flags: Mapping[str, Flag], typed: str) -> tuple[Flag | None, str]:
    """The flag, and the key behind its dot where it is a JSON flag."""
    head, dot, key = spelled(typed).partition(".")
    parent = flags.get(f"{head}.") or flags.get(head)
    if dot and parent is not None and parent.kind == "json":
        return parent, key
    return flags.get(spelled(typed)), ""


def _following(flag: Flag | None, left: deque[str]) -> tuple[str, ...]:
    """The next word or words, where they are values of a flag and no flags."""
    values: list[str] = []
    most = 1 if flag is None or not flag.many else len(left)
    if flag is None or flag.kind != "switch":
        while left and len(values) < most and not is_flag(left[0]):
            values.append(left.popleft())
    return tuple(values)


def _names_model(flags: Mapping[str, Flag], flag: Flag | None) -> bool:
    """True for a flag that names the model, or that stands for one that does."""
    if flag is None or not flag.stands_for:
        return flag is not None and flag.field == "model"
    return any(_names_model(flags, piece.flag) for piece in pieces(flags, flag.stands_for.split()))
