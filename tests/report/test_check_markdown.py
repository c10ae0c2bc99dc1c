"""A check as Markdown: well-formed tables, what fails in front, room for it in a comment, names that call nobody."""

from __future__ import annotations

import re

import pytest

from moeplan.check.result import Check
from moeplan.report.check_markdown import MARKER, check_markdown
from tests.report.check_examples import COMMAND, EVIL, EXAMPLE, FAILING, PASSING, check, finding, hostile, judged, many
from tests.report.ci_logs import commands, foreign_commands

HEAD = ["verdict", "deployment", "file", "model", "GPUs", "headroom", "tokens", "sequences"]


def tables(text: str) -> list[list[list[str]]]:
    """Tables of rows of cells; a pipe behind an odd number of backslashes is no border."""
    found: list[list[list[str]]] = []
    for block in text.split("\n\n"):
        if block.startswith("|"):
            rows = [re.findall(r"((?:[^|\\]|\\.)*)\|", row)[1:] for row in block.splitlines()]
            found.append([[cell.strip() for cell in row] for row in rows])
    return found


def test_it_begins_with_what_a_comment_is_found_by() -> None:
    assert check_markdown(EXAMPLE).startswith(
        f"{MARKER}\n\n## moeplan check: fails\n\n- 3 deployments in 3 files: 1 fails"
    )


def test_one_row_for_each_deployment_with_its_figures() -> None:
    head, _, *rows = tables(check_markdown(EXAMPLE))[0]
    assert head == HEAD
    assert rows[0] == [
        "**fail**", "decode", "deploy/r1.yaml:12", "deepseek-ai/DeepSeek-R1", "8 x h100-sxm, TP 8, EP 8, 16 in all",
        "13.0 GiB missing", "0", "0",
    ]  # fmt: skip
    assert rows[1] == [
        "**cannot verify**",
        "prefill",
        "deploy/r1.yaml:60",
        "Qwen/Qwen3-30B-A3B",
        "GPU not known",
        "",
        "",
        "",
    ]
    ((_, _, passing),) = tables(check_markdown(EXAMPLE))[1:]
    assert passing[:2] == ["pass, with known findings", "chat"]
    assert passing[5:] == ["11.0 GiB", "120,000", "3"]


def test_findings_most_severe_first_with_gap_ways_and_settings() -> None:
    text = check_markdown(EXAMPLE)
    codes = re.findall(r"^- \*\*([A-Z]{3,4}\d{3}) ", text, re.MULTILINE)
    assert codes == ["FIT001", "READ001", "READ005", "HYG002", "HYG008", "HYG003"]
    item = text[text.index("- **FIT001") : text.index("- **READ001")].splitlines()
    assert item[0] == (
        "- **FIT001 error** `deploy/r1.yaml:30` decode: needs 85.0 GiB on each GPU, and vllm may use 72.0 GiB"
    )
    assert item[1] == "  - gap: 13.0 GiB on the fullest GPU; it fits with any one of"
    assert item[2] == "    - `--tensor-parallel-size 16`, which leaves 21.0 GiB per GPU"
    assert "tp=8 (deploy/r1.yaml:34)" in item[-1]
    assert "11.0 GiB are left" not in text  # known
    assert "mirror of ours" not in text  # suppressed
    assert "1 known, 1 suppressed" in text


def test_settings_stand_once_for_a_deployment() -> None:
    found = [finding("ENG001", "one", deployment="decode"), finding("ENG002", "two", deployment="decode")]
    assert check_markdown(check([FAILING], found)).count("stands on") == 1


def test_many_findings_and_many_that_pass_are_folded() -> None:
    assert "<details>" not in check_markdown(EXAMPLE)
    text = check_markdown(many(40))
    assert "<details><summary>40 findings</summary>\n\n- **HYG001" in text
    assert "<details><summary>40 deployments that pass</summary>\n\n| verdict" in text
    assert text.count("<details>") == text.count("\n\n</details>") == 2
    assert len(tables(text)[0]) == 42


@pytest.mark.parametrize("made", [many(3000), many(3000, "fail", "FIT001", "error"), hostile(EVIL * 20)])
def test_it_has_room_in_a_comment_and_says_what_has_none(made: Check) -> None:
    text = check_markdown(made)
    assert len(text) < 65_536  # what a comment on GitHub holds
    left_out = [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) more are left out here", text)]
    findings = len(re.findall(r"^- \*\*", text, re.MULTILINE))
    rows = sum(len(rows) - 2 for rows in tables(text))
    new = [each for each in made.findings if each.state == "new"]
    assert findings + rows + sum(left_out) == len(made.deployments) + len(new)
    assert findings
    assert rows or "fail" not in {each.verdict for each in made.deployments}


def test_nothing_is_said_plainly() -> None:
    assert check_markdown(check([])) == (
        f"{MARKER}\n\n## moeplan check: nothing to judge\n\n- 0 deployments in 0 files\n- findings: none\n"
    )


def test_the_same_in_any_order() -> None:
    turned = EXAMPLE._replace(deployments=EXAMPLE.deployments[::-1], findings=EXAMPLE.findings[::-1])
    assert check_markdown(turned) == check_markdown(EXAMPLE)


@pytest.mark.parametrize("text", [EVIL, COMMAND, "@owner/team", "</details><script>", "`|`", "  \n# heading\n| x |"])
def test_names_from_outside_stay_in_their_place(text: str) -> None:
    made = check_markdown(hostile(text))
    assert not set(made) & {*map(chr, range(10)), *map(chr, range(11, 32)), "\u202e"}
    for rows in tables(made):
        assert {len(row) for row in rows} == {len(HEAD)}
    # Outside of code spans no HTML is left but what is ours, and nobody is called.
    bare = re.sub(r"(?<!\\)(`+)(?!`).*?(?<!`)\1(?!`)", "", made)
    ours = re.compile(r"<!-- moeplan check -->|<!-- -->|</?details>|</?summary>")
    assert "<" not in ours.sub("", bare)
    assert not re.search(r"(?<!\w)@\w", bare)
    assert "[t](" not in bare
    assert commands(made) == []
    assert foreign_commands(made) == []


def test_a_name_with_a_sign_for_somebody_reads_as_it_was() -> None:
    made = check_markdown(check([judged("a", model="org/name@0123")], [finding("ENG001", "ask @team or a@b.c")]))
    assert "org/name@0123" in made
    assert "ask @<!-- -->team or a@b.c" in made


def test_one_that_passes_alone_needs_no_fold() -> None:
    assert tables(check_markdown(check([PASSING])))[0][2][0] == "pass"
