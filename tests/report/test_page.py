"""The page: prose keeps its words, tables keep their figures, and nothing is wider than it may be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.model import Remark
from moeplan.report.page import (
    LEAST_NAME_COLUMNS,
    Column,
    blank_page,
    natural_widths,
    page_text,
    print_columns,
    print_listing,
    print_notes,
    print_prose,
)

word = st.text("abcdefgh,.-=", min_size=1, max_size=12)


def lines(page: Any) -> list[str]:
    return page_text(page, unicode=True).splitlines()


@given(st.lists(word, min_size=1), st.integers(40, 120), st.sampled_from(["", "· ", "  source: "]))
def test_prose_keeps_its_words_and_the_width(words: list[str], width: int, lead: str) -> None:
    page = blank_page(width, color=False)
    print_prose(page, " ".join(words), lead)
    rows = lines(page)
    assert max(map(len, rows)) <= width
    assert rows[0].startswith(lead)
    assert all(row.startswith(" " * len(lead)) for row in rows[1:])
    assert " ".join(row[len(lead) :] for row in rows).split() == words


@given(st.lists(st.lists(word, min_size=1, max_size=4), min_size=1), st.integers(40, 120))
def test_a_dot_between_parts_ends_a_row_and_begins_none(parts: list[list[str]], width: int) -> None:
    page = blank_page(width, color=False)
    text = " · ".join(" ".join(part) for part in parts)
    print_prose(page, text)
    rows = lines(page)
    assert max(map(len, rows)) <= width
    assert not [row for row in rows if row.startswith("·")]
    assert " ".join(rows) == text


name = st.text("abcdefgh-", min_size=LEAST_NAME_COLUMNS, max_size=30)
figure = st.integers(0, 10**14).map(str)


@given(st.lists(st.tuples(name, figure, figure, figure), min_size=1), st.integers(40, 120))
def test_listing_loses_columns_by_rank_and_never_a_digit(rows: list[tuple[str, ...]], width: int) -> None:
    names, *figures = zip(*rows, strict=True)
    ranks = {"first": 0, "second": 2, "third": 1}
    columns = [Column("name", names, right=False)]
    columns += [Column(title, cells, ranks[title]) for title, cells in zip(ranks, figures, strict=True)]
    page = blank_page(width, color=False)
    print_listing(page, columns)
    head, *body = (line.split() for line in lines(page))
    assert max(map(len, lines(page))) <= width
    assert head in (["name", *ranks], ["name", "first", "third"], ["name", "first"])
    assert [row[1:] for row in body] == [[row[1 + list(ranks).index(title)] for title in head[1:]] for row in rows]
    if width >= 81:  # a name of 30, three figures of 15 and three gaps
        assert len(head) == 4
        assert [row[0] for row in body] == list(names)


def test_narrow_page_cuts_names_and_no_figures() -> None:
    page = blank_page(40, color=False)
    print_listing(page, [Column("name", ("n" * 60, "short"), right=False), Column("size", ("123,456.7 GiB", "1 B"))])
    long, short = lines(page)[1:]
    assert long == "n" * 24 + "…  123,456.7 GiB"
    assert short.split() == ["short", "1", "B"]
    assert len(long) == len(short) == 40


def test_style_is_on_words_and_not_on_blanks() -> None:
    page = blank_page(40, color=True)
    columns = [Column("", ("all", "free"), right=False), Column("", ("  ", "  "), right=False), Column("", ("1", "2"))]
    print_columns(page, columns, *natural_widths(columns[:1]), gap=1, row_styles=["", "bold"])
    assert page_text(page, unicode=True).splitlines()[1:] == ["all     1", "\x1b[1mfree\x1b[0m    \x1b[1m2\x1b[0m"]


def test_notes_have_marks_that_need_no_colour() -> None:
    page = blank_page(40, color=False)
    print_notes(page, [])
    assert page_text(page, unicode=True) == "\n"
    print_notes(page, [Remark("a", "info", "so read"), Remark("b", "warning", "in doubt " * 5)])
    assert lines(page) == ["", "· so read", "! in doubt in doubt in doubt in doubt in", "  doubt"]
    assert page_text(page, unicode=False).splitlines()[1] == "- so read"


@pytest.mark.parametrize("color", [False, True])
def test_colour_changes_no_word(color: bool) -> None:
    page = blank_page(60, color=color)
    page.print("7 [b]x[/b] :smile: https://x.y 'z' 1e3", overflow="fold")
    assert lines(page) == ["7 [b]x[/b] :smile: https://x.y 'z' 1e3"]
