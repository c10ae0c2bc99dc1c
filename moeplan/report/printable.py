"""Text from outside as it may be shown: a model's name must not move the cursor, colour the screen or turn text around.

Control characters, line ends, characters that reorder or hide text, and halves of surrogate pairs are written as
escapes, as Python's `repr` writes them. Everything else stays, in any script.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

Record = TypeVar("Record")

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1: escape sequences, line ends
    "\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"  # invisible, reordering, line separators
    "\ufdd0-\ufdef\ufffe\uffff"  # no characters: what draws charts ends the whole program at the last two
    "\ud800-\udfff\U000e0000-\U000e007f]"  # bytes that were no text; invisible tags
)


def printable(text: str) -> str:
    r"""`text` with everything that is not plainly visible written as an escape: `\x1b`, `\u202e`."""
    return _UNSAFE.sub(lambda found: _escape(ord(found[0])), text)


def printable_record(value: Record) -> Record:
    """The same record with every text in it printable; numbers and None as they are."""
    made: Any = value
    if isinstance(value, str):
        made = printable(value)
    elif isinstance(value, Mapping):
        made = {printable_record(name): printable_record(item) for name, item in value.items()}
    elif hasattr(value, "_fields"):
        made = type(value)(*map(printable_record, made))
    elif isinstance(value, list | tuple):
        made = type(value)(map(printable_record, value))
    return made  # type: ignore[no-any-return]


def json_escaped(text: str) -> str:
    r"""JSON text with the same characters as JSON writes them: `\u001b`. They stand nowhere but in its strings.

    So does `##`, by which the logs of CI machines know commands (`##[error]`, `##vso[...]`): its second half is escaped.
    """
    text = text.replace("##", "#\\u0023")
    return _UNSAFE.sub(lambda found: found[0] if found[0] == "\n" else utf16_escape(found[0]), text)


def utf16_escape(character: str) -> str:
    r"""`\u00e9`, or two of them for a character beyond the first 65,536: what JSON reads back."""
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _escape(code: int) -> str:
    named = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}
    if code in named:
        return named[code]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
