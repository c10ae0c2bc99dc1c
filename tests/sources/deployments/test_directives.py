"""Comments that speak to moeplan."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.sources.deployments.directives import read_directives


def test_findings_are_ignored_with_a_reason() -> None:
    (found,) = read_directives("a: 1\nb: 2  # moeplan: ignore[fit001, TOP] known, issue 7\n").found
    assert (found.ignored, found.reason, found.settings) == (("FIT001", "TOP"), "known, issue 7", {})
    assert (found.spot.line, found.spot.column, found.whole_file) == (2, 7, False)


def test_what_a_file_does_not_say_is_stated() -> None:
    text = '# moeplan: gpu=h200 model=org/name revision=abc, engine-version="0.23" context = 32K\nkind: Deployment\n'
    (found,) = read_directives(text).found
    assert found.settings == {
        "gpu": "h200",
        "model": "org/name",
        "revision": "abc,",
        "engine_version": "0.23",
        "context": "32K",
    }
    assert found.whole_file


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("#!/bin/bash\n# License\n\n# moeplan: gpu=h100\nvllm serve m\n", True),
        ("---\n# moeplan: gpu=h100\nkind: X\n", True),
        ("kind: X\n# moeplan: gpu=h100\n", False),
        ("FROM x\n# moeplan: gpu=h100\n", False),
        ("kind: X # moeplan: gpu=h100\n", False),
    ],
)
def test_a_comment_above_everything_is_about_the_whole_file(text: str, *, whole: bool) -> None:
    (found,) = read_directives(text).found
    assert found.whole_file is whole


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\n# moeplan: gpu=x\nb: 2\n", 3),
        ("a: 1  # moeplan: gpu=x\nb: 2\n", 1),
        ("a: 1\n# moeplan: gpu=x\n# why\n\n  # more\nb: 2\n", 6),
        ("a: 1\n# moeplan: gpu=x\n---\n# Source: chart\nb: 2\n", 5),
        ("a: 1\n--- # moeplan: gpu=x\nb: 2\n", 3),
        ("a: 1\n...\n# moeplan: gpu=x\n...\n---\nb: 2\n", 6),
        ("a: 1\n# moeplan: gpu=x\n- # why\n  b\n", 3),
        ("a: 1\n# moeplan: gpu=x\n--- !tag\nb: 2\n", 3),
        ("a: 1\n# moeplan: gpu=x\n", 2),
        ("a: 1\n# moeplan: gpu=x\n\n# the end", 2),
    ],
)
def test_the_line_that_a_comment_is_about(text: str, line: int) -> None:
    (found,) = read_directives(text).found
    assert found.about_line == line


def test_several_comments_are_about_one_line() -> None:
    text = "a: 1\n# moeplan: gpu=x\n# moeplan: gpu=\n# moeplan: ignore[FIT] why\nb: 2 # moeplan: model=org/name\nc: 3\n"
    assert [each.about_line for each in read_directives(text).found] == [5, 5, 5]


@pytest.mark.parametrize(
    "text",
    [
        'a: "x # moeplan: gpu=h100"',
        "a: 'x # moeplan: gpu=h100'",
        'a: "\\" # moeplan: gpu=h100"',
        "a: x# moeplan: gpu=h100",
        "args: ['--x', \"y # moeplan: gpu=h100\"]",
        "# see moeplan: gpu",
    ],
)
def test_what_is_no_comment_of_this_kind(text: str) -> None:
    assert read_directives(text) == ((), ())


@pytest.mark.parametrize(
    "text",
    [
        "a: it's # moeplan: gpu=h100",
        'a: "x" # moeplan: gpu=h100',
        "a: 'x' #moeplan:gpu=h100",
        "  # moeplan: gpu=h100",
        "args: ['a', \"b's\"]  # moeplan: gpu=h100",
    ],
)
def test_what_is_one(text: str) -> None:
    (found,) = read_directives(text).found
    assert found.settings == {"gpu": "h100"}


@pytest.mark.parametrize(
    ("comment", "message", "hint", "settings"),
    [
        ("ignore", "names no rule", "ignore[FIT001,TOP]", None),
        ("ignore FIT001", "names no rule", "ignore[FIT001,TOP]", None),
        ("ignore[]", "names no rule", "ignore[FIT001,TOP]", None),
        ("ignore[FIT 1]", "'FIT 1' is no code", "ignore[FIT001,TOP]", None),
        ("modle=org/name gpu=h100", "'modle' is no setting", "did you mean model?", {"gpu": "h100"}),
        ("gpu=h100 because", "'because' is no setting", "moeplan: gpu=h200", {"gpu": "h100"}),
        ("gpu=", "gpu= has no value", "gpu=VALUE", None),
        ("", "says nothing", "ignore[FIT001]", None),
    ],
)
def test_broken_ones_are_told(comment: str, message: str, hint: str, settings: dict[str, str] | None) -> None:
    found = read_directives(f"a: 1\n# moeplan: {comment}\n")
    (remark,) = found.remarks
    assert remark.code == "directive-broken"
    assert message in remark.message
    assert hint in remark.hint
    assert remark.spot[:2] == (2, 1)
    assert [each.settings for each in found.found] == ([settings] if settings else [])


@given(st.text(alphabet="# moeplan:ignore[],FT01=gpu\"'\n\t", max_size=80))
def test_nothing_makes_it_fail(text: str) -> None:
    lines = text.split("\n")
    found = read_directives(text)
    for spot in (*(each.spot for each in found.found), *(each.spot for each in found.remarks)):
        assert lines[spot.line - 1].startswith("#", spot.column - 1)


@pytest.mark.parametrize("piece", ["# moeplan: ", '" # moeplan: gpu=x', "# moeplan: ignore["])
def test_long_lines_cost_little(piece: str) -> None:
    start = time.process_time()
    read_directives(piece * 100_000)
    assert time.process_time() - start < 2
