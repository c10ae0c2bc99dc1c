"""`docs/plan.md` is held against the code: its commands are run, its sum computed again, its words looked up.

`UPDATE_GOLDEN=1 python -m pytest tests/test_docs_plan.py` writes what the commands print into the page.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from moeplan import cli
from moeplan.plan.failures import FAILURES
from moeplan.plan.pools import MOST_LOAD, NETWORK_BYTES_PER_S
from moeplan.plan.search import WORTH
from moeplan.report.plan_words import TERMS
from moeplan.sources.deployments.written import KINDS
from tests.test_docs_method import computed

PAGE = Path(__file__).resolve().parents[1] / "docs" / "plan.md"
COMMAND = re.compile(r"^```sh\n(moeplan plan [^\n]*)\n```\n\n```text\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
SUM = re.compile(r"^[^:=\n`]+: ([^=\n]+) = ([\d,]+)$", flags=re.MULTILINE)
CODES = (0, 1)
"""Exit codes of the page's commands, in their order."""


def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def commands() -> list[tuple[str, str]]:
    """Commands of the page and what it shows below each."""
    return COMMAND.findall(text())


@pytest.mark.parametrize("number", range(len(CODES)))
def test_a_command_prints_what_the_page_shows(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    command, shown = commands()[number]
    assert cli._run(shlex.split(command)[1:]) == CODES[number]
    out, err = capsys.readouterr()
    assert err == ""
    if os.environ.get("UPDATE_GOLDEN"):
        before = f"```sh\n{command}\n```\n\n```text\n"
        PAGE.write_text(text().replace(f"{before}{shown}```", f"{before}{out}```"), encoding="utf-8")
        shown = out
    assert out == shown


def test_the_page_has_all_its_commands() -> None:
    assert len(commands()) == len(CODES)


def test_sums_are_right() -> None:
    found = SUM.findall(text())
    assert len(found) == 1
    for left, right in found:
        assert computed(left) == int(right.replace(",", "")), left


def test_words_and_constants_are_those_of_the_code() -> None:
    page = text()
    for word in (*FAILURES, *KINDS, *(name for term, name in TERMS.items() if term != "kept")):
        assert word in page, word
    assert f"{WORTH:.0%}".replace("%", " %") in page
    assert f"{MOST_LOAD:.0%}".replace("%", " %") in page
    assert f"{NETWORK_BYTES_PER_S / 1e9:.0f} GB/s" in page
