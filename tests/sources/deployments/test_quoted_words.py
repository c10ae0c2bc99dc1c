"""Texts split into words, with the place of each."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.deployed import Quote, Spot
from moeplan.sources.deployments.quoted_words import split_words


def split(text: str) -> list[str]:
    return [word.text for word in split_words(Quote(text, Spot(1)))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a  b\tc\n d", ["a", "b", "c", "d"]),
        ("a 'b  c' \"d e\"", ["a", "b  c", "d e"]),
        ("--x='{\"k\": 1}'", ['--x={"k": 1}']),
        ('"{\\"k\\": 1}"', ['{"k": 1}']),
        ("a\\ b '\\' \"\\d\"", ["a b", "\\", "\\d"]),
        ("a '' \"\"", ["a", "", ""]),
        ("a \\\n  b", ["a", "", "b"]),
        ("$A ${B:-c}", ["$A", "${B:-c}"]),
        ("a 'b", ["a", "b"]),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert split(text) == expected


def test_places_and_what_is_not_known() -> None:
    quote = Quote("a $B\n  c", Spot(5, 7, "command"), "unresolved", ("$B",), "why")
    a, b, c = split_words(quote)
    assert (a.spot, a.origin, a.unknown) == (Spot(5, 7, "command"), "stated", ())
    assert (b.spot, b.origin, b.unknown) == (Spot(5, 9, "command"), "unresolved", ("$B",))
    assert c.spot == Spot(6, 9, "command")


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)))
def test_what_a_shell_would_quote_comes_back(words: list[str]) -> None:
    assert split(shlex.join(words)) == words
