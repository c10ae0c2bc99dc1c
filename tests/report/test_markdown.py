"""Markdown's pieces: any text stays in its place, tables are square."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.model import Remark
from moeplan.report.markdown import code, columns_table, escaped, quoted_notes, table
from moeplan.report.page import Column

words = st.text(st.characters(min_codepoint=32, max_codepoint=126))


def unescaped(text: str) -> str:
    """What a CommonMark reader makes of backslash escapes and the three entities (specification 0.31, 2.4 and 2.5)."""
    text = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


@given(words)
def test_escaped_text_reads_as_it_was(text: str) -> None:
    shown = escaped(text)
    assert unescaped(shown) == text
    for begins in "`*|~$[]#<>":
        assert not re.search(rf"(?<!\\)(\\\\)*(?<!\\){re.escape(begins)}", shown)


@pytest.mark.parametrize("text", ["num_experts_per_tok", "bytes_per_token", "plain words", "nvidia-h100-sxm"])
def test_names_of_fields_need_no_escape(text: str) -> None:
    assert escaped(text) == text


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_code_spans_hold_any_text(text: str) -> None:
    span = code(text)
    fence = re.match(r"`+", span)
    assert fence is not None
    inner = span[len(fence[0]) : -len(fence[0])]
    assert span.startswith(fence[0])
    assert span.endswith(fence[0])
    assert fence[0] not in re.findall(r"`+", inner)
    assert text in inner


def cells(row: str) -> list[str]:
    """Cells of a row, as they read; a pipe behind an odd number of backslashes is no border."""
    found = re.findall(r"((?:[^|\\]|\\.)*)\|", row)
    assert found[0] == ""
    return [unescaped(cell[1:-1]) for cell in found[1:]]


@given(st.lists(st.tuples(words, words, words), min_size=1))
def test_columns_read_back_as_they_were(rows: list[tuple[str, str, str]]) -> None:
    first, second, third = zip(*rows, strict=True)
    columns = [Column("a|b", first, right=False), Column("c", second, rank=1), Column("d", third)]
    head, ruler, *body = columns_table(columns).split("\n")
    assert cells(head) == ["a|b", "c", "d"]
    assert ruler == "|---|---:|---:|"
    assert [tuple(cells(row)) for row in body] == rows


def test_table_takes_cells_as_they_are() -> None:
    assert table(["a", "b"], "<>", [("**x**", "1"), ("`y`", "2")]).split("\n") == [
        "| a | b |",
        "|---|---:|",
        "| **x** | 1 |",
        "| `y` | 2 |",
    ]


def test_notes_are_one_quote_or_nothing() -> None:
    assert quoted_notes([]) == []
    notes = [Remark("a", "info", "one | <b>"), Remark("b", "warning", "two")]
    assert quoted_notes(notes) == ["> one \\| &lt;b&gt;\n> two"]
