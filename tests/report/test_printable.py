"""Text from outside never reaches the screen raw."""

from __future__ import annotations

import json
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from moeplan.report.as_json import as_json
from moeplan.report.printable import json_escaped, printable, printable_record, utf16_escape

anything = st.text(st.characters(codec=None))  # surrogates too
REORDERING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""The characters of Unicode's property Bidi_Control (PropList.txt)."""


def test_known_characters() -> None:
    assert printable("\x1b[31m\x07\t\n\r\x7f\x9b") == r"\x1b[31m\x07\t\n\r\x7f\x9b"
    assert printable("\u202e\udcff\U000e0041") == r"\u202e\udcff\U000e0041"
    assert printable("\ufdd0\ufffe\uffff") == r"\ufdd0\ufffe\uffff"
    assert printable("Qwen/Qwen3-30B · 模型 é 🙂") == "Qwen/Qwen3-30B · 模型 é 🙂"


@given(anything)
def test_nothing_unsafe_is_left(text: str) -> None:
    shown = printable(text)
    assert not set(shown) & {*map(chr, range(32)), *map(chr, range(127, 160)), *REORDERING}
    assert len(shown.splitlines()) <= 1
    shown.encode()  # no half of a surrogate pair
    assert printable(shown) == shown


@given(anything)
def test_json_reads_back_what_was_written(text: str) -> None:
    written = as_json({"id": text})
    written.encode()
    assert not set(written) - {"\n"} & {*map(chr, range(32)), *map(chr, range(127, 160)), *REORDERING}
    assert json.loads(written) == {"id": text}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_escapes_are_those_of_json(text: str) -> None:
    assert json.loads('"' + "".join(map(utf16_escape, text)) + '"') == text
    assert json_escaped("{\n}") == "{\n}"


class Pair(NamedTuple):
    name: str
    inner: tuple[int | None, dict[str, list[str]]]


def test_records_keep_their_shape() -> None:
    made = printable_record(Pair("a\x1b", (None, {"k\n": ["v\x07", "plain"]})))
    assert made == Pair(r"a\x1b", (None, {r"k\n": [r"v\x07", "plain"]}))
    assert isinstance(made, Pair)
