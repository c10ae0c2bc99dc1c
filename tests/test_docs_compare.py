"""`docs/compare.md` is held against the code: its commands are run, its sums computed again.

`UPDATE_GOLDEN=1 python -m pytest tests/test_docs_compare.py` writes what the commands print into the page.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from moeplan import cli
from tests.test_docs_method import computed

PAGE = Path(__file__).resolve().parents[1] / "docs" / "compare.md"
COMMAND = re.compile(r"^```sh\n(moeplan compare [^\n]*)\n```\n\n```text\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
SUM = re.compile(r"^[^:=\n`]+: ([^=\n]+) = ([\d,]+)$", flags=re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """Commands of the page and what it shows below each."""
    return COMMAND.findall(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("number", range(len(commands())))
def test_a_command_prints_what_the_page_shows(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    command, shown = commands()[number]
    assert cli._run(shlex.split(command)[1:]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    if os.environ.get("UPDATE_GOLDEN"):
        text = PAGE.read_text(encoding="utf-8")
        before = f"```sh\n{command}\n```\n\n```text\n"
        PAGE.write_text(text.replace(f"{before}{shown}```", f"{before}{out}```"), encoding="utf-8")
        shown = out
    assert out == shown


def test_sums_are_right() -> None:
    found = SUM.findall(PAGE.read_text(encoding="utf-8"))
    assert len(found) == 4
    for left, right in found:
        assert computed(left) == int(right.replace(",", "")), left


def test_the_page_has_both_its_commands() -> None:
    assert len(commands()) == 2
