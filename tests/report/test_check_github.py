"""A check as annotations: each on its line, ten of a level at most, and the counts as text."""

from __future__ import annotations

import pytest

from moeplan.check.result import Check
from moeplan.report.check_github import check_github
from tests.report.check_examples import (
    COMMAND,
    EVIL,
    EXAMPLE,
    IGNORED,
    KNOWN,
    MOVING,
    NO_GPU,
    OPEN,
    PASSING,
    TOO_LARGE,
    check,
    finding,
    hostile,
    many,
)
from tests.report.ci_logs import Command, commands, foreign_commands


def text_of(made: Check) -> list[str]:
    """Lines that are no annotation."""
    return [line for line in check_github(made).splitlines() if not commands(line)]


def test_each_new_finding_is_an_annotation_on_its_line() -> None:
    found = commands(check_github(EXAMPLE))
    assert [each.name for each in found] == ["error", "error", "warning", "warning", "warning", "notice"]
    assert found[0].properties == {"title": "FIT001 does not fit", "file": "deploy/r1.yaml", "line": "30", "col": "15"}
    assert found[0].text.split("\n") == [
        "decode: needs 85.0 GiB on each GPU, and vllm may use 72.0 GiB",
        "gap: 13.0 GiB on the fullest GPU",
        "it fits with any one of: --tensor-parallel-size 16 (leaves 21.0 GiB per GPU); gpu: h200 (leaves 50.0 GiB per GPU)",
    ]


def test_what_is_unknown_is_a_warning_that_says_so() -> None:
    (found,) = commands(check_github(check([OPEN], [NO_GPU])))
    assert found.name == "warning"
    assert found.properties["title"] == "cannot verify: READ005 GPU not known"
    assert found.text.endswith("\nsay it with a comment `# moeplan: gpu=h100-sxm`")


def test_known_and_suppressed_ones_are_counted_alone() -> None:
    made = check([PASSING], [IGNORED, KNOWN])
    assert commands(check_github(made)) == []
    assert text_of(made) == [
        "moeplan check: PASSES",
        "1 deployment in 1 file: 1 passes",
        "findings: 1 known, 1 suppressed",
    ]


def test_counts_follow() -> None:
    assert text_of(EXAMPLE) == [
        "moeplan check: FAILS",
        "3 deployments in 3 files: 1 fails, 1 cannot be verified, 1 passes",
        "findings: 2 errors, 1 not verified, 2 warnings, 1 info, 1 known, 1 suppressed",
        "passed over: 1 file of other programs",
        "made by hand",
    ]


@pytest.mark.parametrize(("number", "shown"), [(9, 9), (10, 10), (11, 10), (200, 10)])
@pytest.mark.parametrize(("level", "name"), [("error", "error"), ("warning", "warning"), ("info", "notice")])
def test_ten_of_a_level_at_most(level: str, name: str, number: int, shown: int) -> None:
    found = commands(check_github(many(number, "fail", "HYG001", level)))
    assert [each.name for each in found] == [name] * shown
    if number > 10:
        assert found[-1] == Command(
            name, {"title": f"moeplan: {number} {name}s in all"},
            f"{number - 9} more: HYG001 ({number - 9}); --format json lists all",
        )  # fmt: skip


def test_levels_do_not_take_each_others_room_and_the_unknown_comes_first() -> None:
    found = [
        *(MOVING._replace(line=line) for line in range(1, 13)),
        *(NO_GPU._replace(line=line) for line in range(20, 24)),
        *(TOO_LARGE._replace(line=line) for line in range(30, 33)),
    ]
    made = commands(check_github(check([], found)))
    assert [each.name for each in made] == ["error"] * 3 + ["warning"] * 10
    assert [each.properties["line"] for each in made[3:7]] == ["20", "21", "22", "23"]
    assert made[-1].properties == {"title": "moeplan: 16 warnings in all"}
    assert made[-1].text.startswith("7 more: HYG002 (7)")


def test_standard_input_is_no_file_of_the_repository() -> None:
    (found,) = commands(check_github(check([], [MOVING._replace(file="-")])))
    assert found.properties == {"title": "HYG002 image not pinned"}


def test_a_rule_that_is_not_known_has_its_code() -> None:
    (found,) = commands(check_github(check([], [finding("NEW001", "told")])))
    assert found.properties["title"] == "NEW001"


def test_the_same_in_any_order() -> None:
    assert check_github(EXAMPLE._replace(findings=EXAMPLE.findings[::-1])) == check_github(EXAMPLE)


@pytest.mark.parametrize("text", [EVIL, COMMAND, "a%b,c:d\r\ne", "::stop-commands::x", "%0A::error::x"])
def test_names_from_outside_are_values_and_no_commands(text: str) -> None:
    made = check_github(hostile(text))
    assert not set(made) & {*map(chr, range(10)), *map(chr, range(11, 32)), "\u202e"}
    found = commands(made)
    assert [(each.name, set(each.properties)) for each in found] == [
        ("error", {"title", "file", "line", "col"}),
        ("warning", {"title", "file", "line", "col"}),
        ("warning", {"title", "file", "line", "col"}),
    ]
    assert {(each.properties["line"], each.properties["col"]) for each in found} == {("2", "1")}
    assert foreign_commands(made) == []
    assert made.count("\n") == len(found) + len(text_of(hostile(text)))
