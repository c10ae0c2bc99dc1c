"""Conditions of a script that can be decided without running it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

from moeplan.core.deployed import Quote

_TESTED = re.compile(r"\$\{?([A-Za-z_]\w*)", re.ASCII)
_COMPARED: dict[str, Callable[[str, str], bool]] = {
    "=": lambda one, other: one == other, "==": lambda one, other: one == other, "!=": lambda one, other: one != other,
}  # fmt: skip
_COUNTED: dict[str, Callable[[int, int], bool]] = {
    "-eq": operator.eq, "-ne": operator.ne, "-gt": operator.gt, "-ge": operator.ge, "-lt": operator.lt, "-le": operator.le,
}  # fmt: skip
_WHOLE = re.compile(r"-?\d{1,9}")
_PATTERN = re.compile(r"[*?\[\]()|]")


def holds(words: Sequence[Quote]) -> bool | None:
    """Whether a command succeeds, where it is a plain test of known words (`[ "$TP" -gt 1 ]`, `true`); None for others."""
    texts = [word.text for word in words]
    if not texts or not all(word.known for word in words):
        return None
    match texts:
        case ["true"] | [":"]:
            return True
        case ["false"]:
            return False
        case ["[" | "[[", *inner, "]" | "]]"]:
            pass
        case ["test", *inner]:
            pass
        case _:
            return None
    match inner:
        case ["-z", text]:
            return not text
        case ["-n", text]:
            return bool(text)
        case [one, sign, other] if sign in _COMPARED and not (texts[0] == "[[" and _PATTERN.search(other)):
            return _COMPARED[sign](one, other)
        case [one, sign, other] if sign in _COUNTED and _WHOLE.fullmatch(one) and _WHOLE.fullmatch(other):
            return _COUNTED[sign](int(one), int(other))
        case _:
            return None


def found_empty(raw: Sequence[str]) -> set[str]:
    """Names that a test like `[ -z "$TP" ]` asks about."""
    names: set[str] = set()
    for sign, word in pairwise(raw):
        if sign == "-z":
            names.update(_TESTED.findall(word))
    return names
