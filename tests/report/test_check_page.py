"""A check as a page, read by a parser: every deployment and finding, counts that agree, bars that do not lie on each other."""

from __future__ import annotations

import json
import re

import pytest

from moeplan.check.result import Check
from moeplan.report.as_json import as_json
from moeplan.report.check_html import MOST_ALIKE, check_html
from tests.report.check_examples import BROKEN, EVIL, EXAMPLE, PASSING, TOO_LARGE, check, finding, hostile, judged, many
from tests.report.read_pages import read

BARS = "The fullest GPU of every deployment"
ALL = {
    "one of everything": EXAMPLE,
    "nothing": check([]),
    "many that pass": many(60),
    "many that fail": many(60, "fail", "FIT001", "error"),
    "many that are open": many(60, "cannot-verify", "READ005", "unknown"),
    "hostile": hostile(),
}


@pytest.mark.parametrize("name", ALL)
def test_every_deployment_and_finding_is_on_the_page(name: str) -> None:
    found = ALL[name]
    page = read(check_html(found))
    assert page.told == json.loads(as_json(found))
    assert len(page.tables.get("Every deployment", [])) == len(found.deployments)
    made = check_html(found)
    assert made.count('<article class="finding ') == len(found.findings)
    if name != "hostile":
        for each in found.findings:
            assert each.message.replace("`", "") in page.words
    for number in ("deployments", "passed", "failed", "cannot_verify", "errors"):
        assert re.search(rf'data-path="summary.{number}">{getattr(found.summary, number):,}</data>', made)


def test_files_are_counted_once_and_as_in_the_verdict() -> None:
    page = read(check_html(EXAMPLE))
    read_files = EXAMPLE.summary.files - EXAMPLE.summary.files_passed_over
    assert EXAMPLE.summary.files_passed_over == 1
    assert page.words.count(f"in {read_files} files") == 2  # the verdict, and the figures below it
    assert f"in {EXAMPLE.summary.files} files" not in page.words
    assert "in 1 files" not in read(check_html(check([PASSING]))).words


def test_what_many_deployments_have_in_common_is_told_once_and_errors_each() -> None:
    def folded(found: Check) -> list[str]:
        return re.findall(r'<details class="alike"><summary>([^<]+)', check_html(found))

    assert folded(many(60)) == ["HYG001 warning: revision not pinned (60 times)"]
    assert folded(many(60, "cannot-verify", "READ005", "unknown")) != []
    assert folded(many(MOST_ALIKE)) == []
    assert folded(many(60, "fail", "FIT001", "error")) == []


def test_bars_of_one_name_at_one_place_lie_beside_each_other() -> None:
    """A list on one line of JSON."""
    same = check(
        [judged("same", file="list.json"), judged("same", file="list.json"), judged("other", file="list.json")]
    )
    made = check_html(same)
    assert len(read(made).charts[BARS]) == 9  # weights, the rest and what is free of each
    names = re.findall(r">([^<>]*same[^<>]*)</text>", made)
    assert sorted(names) == ["same, list.json:1", "same, list.json:1 (2)"]


def test_what_is_left_is_told_to_be_left() -> None:
    made = check_html(EXAMPLE)
    assert ">11.0 GiB left</text>" in made
    assert ">13.0 GiB missing</text>" in made


def test_ways_out_and_a_file_that_is_broken_are_told() -> None:
    page = read(check_html(check([judged("decode", line=12)], [TOO_LARGE, BROKEN])))
    assert "gap: 13.0 GiB on the fullest GPU; it fits with any one of" in page.words
    for way in TOO_LARGE.ways_out:
        assert way.change in page.words
    assert "deploy/torn.yaml:3:2" in page.words


def test_names_from_outside_are_words() -> None:
    made = check_html(hostile())
    assert made.count("<script") == 2
    assert "<img" not in made
    assert "\u202e" not in made
    assert "&#8238;" not in made
    assert EVIL[: EVIL.index("\x1b")] in read(made).words
    assert finding("FIT001", "x") not in hostile().findings
