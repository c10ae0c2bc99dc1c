"""Words for a file's keys, and flags found among the words of a command."""

from __future__ import annotations

import pytest

from moeplan.core.deployed import Quote, Spot
from moeplan.sources.deployments.nodes import Node, compose
from moeplan.sources.deployments.words import (
    from_table,
    has_flag,
    listed,
    program_length,
    stated,
    switched,
    value_of,
    values_of,
    without,
)


def node(text: str) -> Node:
    (found,) = compose(text).documents
    return found


def command(text: str) -> tuple[Quote, ...]:
    return tuple(Quote(word, Spot(place)) for place, word in enumerate(text.split(), 1))


def texts(words: tuple[Quote, ...]) -> list[str]:
    return [word.text for word in words]


def test_a_key_becomes_a_flag_and_its_value_with_the_place_of_the_value() -> None:
    document = node("a: 1\ntensor: 8\n")
    assert stated("--tp", document.at("tensor")) == (
        Quote("--tp", Spot(2, 9, "tensor")),
        Quote("8", Spot(2, 9, "tensor")),
    )
    assert stated("--tp", document.at("absent")) == ()


def test_an_empty_value_says_nothing() -> None:
    assert stated("--revision", node('revision: ""').at("revision")) == ()


def test_switches_have_a_word_for_each_side_or_none() -> None:
    document = node("on: true\noff: false\n")
    assert texts(switched(document.at("on"), "--x", "--no-x")) == ["--x"]
    assert texts(switched(document.at("off"), "--x", "--no-x")) == ["--no-x"]
    assert switched(document.at("off"), "--x") == ()
    assert switched(document.at("absent"), "--x", "--no-x") == ()


def test_tables_keep_their_own_order() -> None:
    document = node("b: 2\na: 1\n")
    assert texts(from_table(document, {"a": "--a", "b": "--b", "c": "--c"})) == ["--a", "1", "--b", "2"]


def test_lists_are_words_and_so_are_empty_texts() -> None:
    document = node("args: [--x, '', 3]\nlone: word\n")
    assert texts(listed(document.at("args"))) == ["--x", "", "3"]
    assert texts(listed(document.at("lone"))) == ["word"]
    assert listed(document.at("absent")) == ()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("vllm serve m --served-model-name a b --port 1", ["a", "b"]),
        ("vllm serve m --served_model_name=a", ["a"]),
        ("x --served-model-name a --served-model-name b", ["b"]),
        ("x --served-model-name", []),
        ("x --other a", []),
    ],
)
def test_values_are_those_of_the_last_occurrence(words: str, expected: list[str]) -> None:
    assert texts(values_of(command(words), "--served-model-name")) == expected


def test_an_attached_value_stands_where_its_flag_stands() -> None:
    found = value_of(command("x --model=org/name"), "--model")
    assert found == Quote("org/name", Spot(2))


def test_flags_are_found_and_left_out_with_their_one_value() -> None:
    words = command("x --config f.yaml --a --extra_engine_args=g --b 1")
    assert has_flag(words, "--extra-engine-args")
    assert not has_flag(words, "--extra")
    assert texts(without(words, "--config", "--extra-engine-args")) == ["x", "--a", "--b", "1"]


@pytest.mark.parametrize(
    ("words", "length"),
    [
        ("vllm serve org/name --tp 8", 2),
        ("python3 -m dynamo.trtllm --model-path x", 3),
        ("A=1 trtllm-serve org/name", 2),
        ("--model org/name", 0),
        ("vllm bench serve", 0),
    ],
)
def test_the_program_is_the_words_that_start_the_engine(words: str, length: int) -> None:
    assert program_length(command(words)) == length
