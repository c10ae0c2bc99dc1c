"""A check for people: failures whole, the rest short, within the width, and no name from outside does anything."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.check.result import Check
from moeplan.core.model import Remark
from moeplan.report.check_table import check_table
from tests.report.check_examples import (
    BROKEN,
    COMMAND,
    EVIL,
    EXAMPLE,
    FAILING,
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
    judged,
    many,
)
from tests.report.ci_logs import commands, foreign_commands


def shown(made: Check, width: int = 100, *, unicode: bool = True) -> str:
    return check_table(made, width=width, color=False, unicode=unicode)


def block(text: str, head: str) -> str:
    """The part of a text from the line that begins with `head` to the next line that is not indented."""
    found = re.search(rf"^{re.escape(head)}.*(?:\n .*)*", text, re.MULTILINE)
    assert found is not None, head
    return found[0]


ALL = {
    "one of everything": EXAMPLE,
    "nothing": check([]),
    "many that pass": many(200),
    "many that are open": many(200, "cannot-verify", "READ005", "unknown"),
    "hostile": hostile(),
    "commands": hostile(COMMAND),
}


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("name", ALL)
def test_it_stays_within_the_width(name: str, width: int) -> None:
    assert max(map(len, shown(ALL[name], width).splitlines())) <= width


@pytest.mark.parametrize("width", [40, 80])
def test_colour_and_width_change_no_word(width: int) -> None:
    plain = shown(EXAMPLE, width)
    coloured = check_table(EXAMPLE, width=width, color=True, unicode=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    assert "\x1b[" in coloured


def test_a_failure_says_what_it_is_where_and_what_helps() -> None:
    told = block(shown(EXAMPLE), "fail  deploy/r1.yaml:12  decode").split("\n")
    assert told[1].startswith("  deepseek-ai/DeepSeek-R1@0123456789ab · vllm 0.23.0 · 8 x h100-sxm · TP 8, EP 8")
    assert "  deploy/r1.yaml:30:15 FIT001 error: needs 85.0 GiB on each GPU, and vllm may use 72.0 GiB" in told
    assert "    gap: 13.0 GiB on the fullest GPU; it fits with any one of" in told
    assert "      --tensor-parallel-size 16  leaves 21.0 GiB per GPU" in told
    whole = " ".join(" ".join(told).split())
    assert "13.0 GiB missing on the fullest GPU · needs 85.0 GiB of 72.0 GiB" in whole
    assert "2 copies, 16 GPUs · 48.00 USD per hour (policy: 3 per GPU) · decode" in whole
    assert "stands on: model=deepseek-ai/DeepSeek-R1 (deploy/r1.yaml:30), tp=8 (deploy/r1.yaml:34)" in whole
    # What nobody stated stands together, by where it comes from.
    assert "--gpu-memory-utilization=0.92 --block-size=16 (vllm 0.23.0 default)" in whole


def test_nothing_that_helps_is_said() -> None:
    alone = check([FAILING], [TOO_LARGE._replace(ways_out=())])
    assert "Nothing that was tried helps" in shown(alone)
    assert "Nothing that was tried helps" not in shown(check([FAILING], [MOVING._replace(level="error")]))


def test_what_passes_takes_one_line() -> None:
    text = shown(check([PASSING], [IGNORED, KNOWN]), 120)
    line = "chat · Qwen/Qwen3-30B-A3B · 1 x h100-sxm · 11.0 GiB left · known: LIM001 · suppressed: HYG001"
    assert text.split("\n")[0] == f"pass  deploy/small.yaml:4  {line}"
    assert KNOWN.message not in text
    assert IGNORED.message not in text
    assert "findings: 1 known, 1 suppressed" in text


def test_a_narrow_line_gives_up_what_it_is_before_what_is_left() -> None:
    made = check([PASSING])
    assert "Qwen/Qwen3-30B-A3B · vllm 0.23.0 · 1 x h100-sxm · 11.0 GiB left" in shown(made, 100)
    narrow = shown(made, 60).split("\n")[0]
    assert narrow == "pass  deploy/small.yaml:4  chat · 11.0 GiB left"


def test_counts_are_those_of_the_check() -> None:
    text = shown(EXAMPLE)
    assert "FAILS · 3 deployments in 3 files: 1 fails, 1 cannot be verified, 1 passes\n" in text
    assert "findings: 2 errors, 1 not verified, 2 warnings, 1 info, 1 known, 1 suppressed\n" in text
    assert "passed over: 1 file of other programs\n" in text
    assert text.endswith("· made by hand\n")


@pytest.mark.parametrize(
    ("made", "outcome"),
    [
        (check([PASSING]), "PASSES"),
        (check([FAILING], [TOO_LARGE]), "FAILS"),
        (check([OPEN], [NO_GPU]), "CANNOT VERIFY"),
        (check([], [finding("READ010", "nothing here is a deployment")]), "NOTHING TO JUDGE"),
        (check([], notes=(Remark("nothing-found", "warning", "nothing was checked"),)), "NOTHING TO JUDGE"),
    ],
)
def test_the_outcome_is_a_word(made: Check, outcome: str) -> None:
    assert re.findall(r"^[A-Z ]+(?= ·)", shown(made), re.MULTILINE) == [outcome]


def test_two_hundred_that_pass_are_short() -> None:
    for made in (check(many(200).deployments), many(200)):
        rows = shown(made).splitlines()
        assert len(rows) < 50
        assert all(row.startswith(("pass  ", "  team-0/")) for row in rows[: rows.index("")])
        assert "200 deployments in 10 files: 200 pass" in shown(made)
    assert "pass  175 more in 9 files: HYG001 (175)" in shown(many(200))
    assert "often: 200 HYG001 (revision not pinned)" in shown(many(200))
    assert "often" not in shown(EXAMPLE)


def test_many_that_cannot_be_verified_say_why_a_few_times() -> None:
    text = shown(ALL["many that are open"])
    assert text.count("READ005 cannot verify: ") == 5
    assert "cannot verify  175 more in 9 files: READ005 (175)" in text


def test_failures_are_never_cut_short() -> None:
    text = shown(many(60, "fail", "FIT001", "error"))
    assert all(f"told of engine-{place:03}" in text for place in range(60))


def test_a_file_has_findings_of_its_own() -> None:
    text = shown(EXAMPLE)
    assert "deploy/torn.yaml:3:2 READ001 error: not valid YAML" in block(text, "fail  deploy/torn.yaml  the file")
    assert "HYG008 warning" in block(text, "pass  deploy/small.yaml  the file")


def test_a_verdict_that_its_file_brings_is_told_so() -> None:
    unread = finding("READ003", "the ConfigMap is not there", level="unknown")
    text = shown(check([judged("a", line=5, verdict="cannot-verify")], [unread]))
    assert "because of what was found of its file" in block(text, "cannot verify  deploy/r1.yaml:5  a")
    failing = shown(check([judged("a", line=5, verdict="fail")], [BROKEN._replace(file="deploy/r1.yaml")]))
    assert "because of what was found of its file" in block(failing, "fail  deploy/r1.yaml:5  a")
    alone = shown(check([judged("a", line=5, verdict="cannot-verify", memory=None)]))
    assert "nothing could be held against a GPU" in alone


def test_who_ignores_what_is_unknown_is_told_that_it_is_not_verified() -> None:
    text = shown(check([OPEN], [NO_GPU._replace(state="suppressed", state_reason="tested by hand")]), 120)
    assert f"{NO_GPU.message} (suppressed: tested by hand)" in block(text, "cannot verify  deploy/r1.yaml:60")
    assert "NOT ALL VERIFIED · 1 deployment in 1 file: 1 cannot be verified" in text


def test_of_two_with_one_name_each_has_its_own_findings() -> None:
    both = [judged("engine", line=1, verdict="fail"), judged("engine", line=50, verdict="fail")]
    found = [
        finding("ENG001", "first", line=10, deployment="engine"),
        finding("ENG002", "second", line=60, deployment="engine"),
    ]
    text = shown(check(both, found))
    assert "ENG001" in block(text, "fail  deploy/r1.yaml:1  engine")
    assert "ENG002" not in block(text, "fail  deploy/r1.yaml:1  engine")
    assert "ENG002" in block(text, "fail  deploy/r1.yaml:50  engine")


def test_a_lower_bar_is_named_and_holds() -> None:
    strict = check([judged("a", verdict="fail")], [MOVING._replace(deployment="a")], fail_on="warning")
    text = shown(strict)
    assert "fails on: warning and error" in text
    assert "because" not in text
    assert "FAILS" in text


def test_standard_input_has_a_name() -> None:
    text = shown(check([judged("a", file="-", line=3)], [MOVING._replace(file="-", deployment="a")]))
    assert "pass  stdin:3  a" in text
    assert "stdin:28:18 HYG002" in text
    there = FAILING._replace(file="-", settings=tuple(each._replace(where="-:7") for each in FAILING.settings[:1]))
    assert "model=deepseek-ai/DeepSeek-R1 (stdin:7)" in shown(check([there]))


def test_the_same_in_any_order() -> None:
    turned = EXAMPLE._replace(deployments=EXAMPLE.deployments[::-1], findings=EXAMPLE.findings[::-1])
    assert shown(turned) == shown(EXAMPLE)


def test_ascii_is_ascii() -> None:
    assert shown(EXAMPLE, unicode=False).isascii()


@pytest.mark.parametrize("width", [40, 100])
@pytest.mark.parametrize("text", [EVIL, COMMAND, f"x {COMMAND}", "::group::x " * 9])
def test_names_from_outside_do_nothing(text: str, width: int) -> None:
    for color in (False, True):
        made = check_table(hostile(text), width=width, color=color, unicode=True)
        bare = re.sub(r"\x1b\[[0-9;]*m", "", made)
        assert not set(bare) & {*map(chr, range(10)), *map(chr, range(11, 32)), "\u202e"}
        assert commands(made) == []
        assert foreign_commands(made) == []


@given(st.text(st.sampled_from("a:# [\n字\u3000é"), min_size=1, max_size=60), st.integers(40, 60))
def test_no_row_of_any_name_is_a_command(text: str, width: int) -> None:
    made = shown(hostile(f"::error::{text}"), width)
    assert commands(made) == []
    assert foreign_commands(made) == []
