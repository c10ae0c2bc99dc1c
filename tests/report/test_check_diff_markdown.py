"""What a change does, as a comment: found again by its mark, figures that moved, no name that breaks out, and room for it."""

from __future__ import annotations

import re

import pytest

from moeplan.check.diff import SCHEMA, Changed, Diff, Figure, Moved
from moeplan.check.result import Check
from moeplan.report.as_json import as_json
from moeplan.report.check_diff_markdown import MARK, check_diff_markdown
from tests.report.check_examples import (
    EVIL,
    EXAMPLE,
    GIB,
    MOVING,
    NO_GPU,
    TOO_LARGE,
    check,
    finding,
    hostile,
    many,
)
from tests.report.ci_logs import commands, foreign_commands
from tests.report.schemas import Schema, changed, without
from tests.report.test_check_markdown import tables

FIGURES = (
    Figure("weights_bytes", 60 * GIB, 30 * GIB),
    Figure("headroom_bytes", 8 * GIB, -2 * GIB),
    Figure("kv_tokens", 120_000, 60_000),
    Figure("max_concurrency", None, 3),
    Figure("context_tokens", 8_192, 8_192),
    Figure("total_gpus", 8, 16),
    Figure("usd_per_hour", 20.0, 40.5),
)
MOVED = (Moved("layout", "tp 2", "tp 4"), Moved("engine_version", "0.23.0", None))
SCHEMA_OF_IT = Schema("check-diff")


def row(name: str = "decode", change: str = "changed", **other: object) -> Changed:
    values: dict[str, object] = {
        "file": "deploy/r1.yaml", "line": 12, "role": "decode", "base_verdict": "pass", "head_verdict": "fail",
        "figures": FIGURES, "moved": MOVED,
    }  # fmt: skip
    return Changed(**(values | {"name": name, "change": change} | other))  # type: ignore[arg-type]


def diff(*deployments: Changed, head: Check = EXAMPLE, **other: object) -> Diff:
    values: dict[str, object] = {"schema": SCHEMA, "base": "origin/main", "findings": (), "gone": ()}
    return Diff(**(values | {"deployments": deployments, "head": head} | other))  # type: ignore[arg-type]


NEW = row(
    "new", "added", base_verdict=None, head_verdict="cannot-verify", figures=(Figure("replicas", None, 1),), moved=()
)
GONE = row("old", "removed", head_verdict=None, figures=(Figure("replicas", 2, None),), moved=())
SAME = row("same", "same", head_verdict="pass", figures=FIGURES[4:5], moved=())
TURNED = SAME._replace(name="turned", head_verdict="fail")
ALL = diff(
    row(), NEW, SAME, TURNED, GONE, findings=(MOVING, NO_GPU, TOO_LARGE), gone=(finding("LIM001", "it was small"),)
)


def test_it_begins_with_what_a_comment_is_found_by_and_with_the_outcome() -> None:
    first, second, third = check_diff_markdown(ALL).split("\n\n")[:3]
    assert (first, second) == (MARK, "## moeplan check: fails, against `origin/main`")
    assert third == "5 deployments: 1 added, 1 removed, 1 changed, 1 with another verdict, 1 as before."


def test_one_row_for_each_deployment_that_is_not_as_before() -> None:
    head, _, *rows = tables(check_diff_markdown(ALL))[0]
    assert head == ["deployment", "change", "verdict"]
    assert rows == [
        ["decode (deploy/r1.yaml)", "changed", "pass → **fail**"],
        ["new (deploy/r1.yaml)", "added", "– → **cannot verify**"],
        ["turned (deploy/r1.yaml)", "same", "pass → **fail**"],
        ["old (deploy/r1.yaml)", "removed", "pass → –"],
    ]


def test_figures_that_moved_with_their_difference() -> None:
    _, mine, new, gone = tables(check_diff_markdown(ALL))
    assert mine[2:] == [
        ["weights, fullest GPU", "60.0 GiB", "30.0 GiB", "−30.0 GiB"],
        ["headroom, fullest GPU", "8.0 GiB", "2.0 GiB missing", "−10.0 GiB"],
        ["cache, tokens", "120,000", "60,000", "−60,000"],
        ["sequences of full length", "–", "3", ""],
        ["GPUs in all", "8", "16", "+8"],
        ["USD per hour", "20.00", "40.50", "+20.50"],
        ["layout", "tp 2", "tp 4", ""],
        ["engine's version", "0.23.0", "–", ""],
    ]
    assert new[2:] == [["copies", "–", "1", ""]]
    assert gone[2:] == [["copies", "2", "–", ""]]


def test_findings_most_severe_first() -> None:
    text = check_diff_markdown(ALL)
    new = text[text.index("### New findings") : text.index("### Findings that are gone")]
    assert re.findall(r"^- \*\*(\w+) ([a-z ]+)\*\* `([^`]+)`", new, re.MULTILINE) == [
        ("FIT001", "error", "deploy/r1.yaml:30"),
        ("READ005", "cannot verify", "deploy/r1.yaml:60"),
        ("HYG002", "warning", "deploy/r1.yaml:28"),
    ]
    assert "- **LIM001 error** `deploy/r1.yaml:1` it was small" in text


def test_nothing_changes() -> None:
    text = check_diff_markdown(diff(SAME, head=check([])))
    assert text.endswith("\n\nNothing changes for 1 deployment.\n")
    assert "|" not in text


def test_names_neither_break_out_nor_call_anybody() -> None:
    head = hostile()
    evil = row(EVIL, file=EVIL, moved=(Moved("model", EVIL, EVIL),))
    text = check_diff_markdown(diff(evil, head=head, base=EVIL, findings=head.findings, gone=head.findings))
    assert commands(text) == []
    assert foreign_commands(text) == []
    assert "<img" not in re.sub(r"`+[^\n]*?`+", "", text)
    assert not re.search(r"(?<![\w`])@team", re.sub(r"(`+).*?\1", "", text))
    for each in tables(text):
        assert len({len(cells) for cells in each}) == 1


@pytest.mark.parametrize("number", [30, 2_000])
def test_there_is_room_for_it_in_a_comment(number: int) -> None:
    found = many(number)
    text = check_diff_markdown(
        diff(*(row(f"{place}-{'x' * 40}") for place in range(number)), head=found, findings=found.findings)
    )
    assert len(text) < 65_536
    assert ("left out here" in text) == (number > 30)


# As JSON ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [ALL, diff(head=check([])), diff(row(EVIL, file=EVIL), head=hostile(), base=EVIL)])
def test_the_schema_describes_the_answer(made: Diff) -> None:
    assert SCHEMA_OF_IT.complaints(as_json(made)) == []


def test_it_has_the_fields_of_the_types() -> None:
    for path, record in (
        ((), Diff),
        (("deployments", "*"), Changed),
        (("deployments", "*", "figures", "*"), Figure),
        (("deployments", "*", "moved", "*"), Moved),
    ):
        SCHEMA_OF_IT.must_describe(path, record)


def test_it_refuses_what_is_not_so() -> None:
    text = as_json(ALL)
    assert SCHEMA_OF_IT.complaints(without(text, "gone"))
    for path, value in (
        (("deployments", 0, "change"), "moved"),
        (("deployments", 0, "base_verdict"), "unknown"),
        (("deployments", 0, "figures", 0, "name"), "weights"),
        (("head", "summary", "errors"), -1),
        (("findings", 0, "code"), "fit1"),
        (("surprise",), 1),
    ):
        assert SCHEMA_OF_IT.complaints(changed(text, path, value)), path
