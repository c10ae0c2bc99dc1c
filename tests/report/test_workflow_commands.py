"""Commands in the log of a CI machine: ours arrive as they were meant, and no other text is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.report.workflow_commands import command, harmless
from tests.report.ci_logs import Command, commands, foreign_commands

hostile = st.lists(
    st.sampled_from(
        [
            "::",
            ":",
            "##",
            "[",
            "]",
            "error",
            "add-mask",
            "vso[x]",
            "%",
            "%0A",
            ",",
            "=",
            " ",
            "\n",
            "\r",
            "\t",
            "é",
            "x",
        ]
    )
).map("".join)


@given(hostile, hostile)
def test_a_command_arrives_as_it_was_meant(file: str, text: str) -> None:
    written = command("error", {"title": "t", "file": f"a{file}", "line": 3}, text)
    assert "\n" not in written
    assert "\r" not in written
    (found,) = commands(written)
    # What other machines would take for a command is changed; nothing else is.
    plain = [each.replace("[", "(") for each in (f"a{file}", text)]
    assert [each.replace("[", "(") for each in (found.properties["file"], found.text)] == plain
    assert (found.name, found.properties["title"], found.properties["line"]) == ("error", "t", "3")


@given(hostile, st.sampled_from(["", "  ", "\t", "\x1b[31m", "  \x1b[1m "]))
def test_no_printed_line_is_a_command(text: str, lead: str) -> None:
    shown = harmless(f"{lead}{text}")
    assert commands(shown) == []
    assert foreign_commands(shown) == []
    assert len(shown) == len(lead) + len(text)


@pytest.mark.parametrize(
    "text",
    ["plain", "a::b", "file=x::y", "# heading", "## heading", "list[0]", "x: ::", "#[1]", "deploy/r1.yaml:3:4 FIT001"],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert harmless(text) == text


def test_the_parser_of_these_tests_knows_both_forms() -> None:
    assert commands("  ::warning file=a%2Cb,line=1::x%0Ay") == [
        Command("warning", {"file": "a,b", "line": "1"}, "x\ny")
    ]
    assert commands("see ##[add-mask]secret") == [Command("add-mask", {}, "secret")]
    assert commands("::unheard of::x") == []
