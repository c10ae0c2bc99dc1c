"""`docs/routing.md` is held against the code: its commands on the examples are run, its tables name what there is.

`UPDATE_GOLDEN=1 python -m pytest tests/test_docs_routing.py` writes what the commands print into the page.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

import moeplan
from moeplan import cli
from moeplan.cli.routing import routing
from moeplan.sources.routing_dumps.kinds import KINDS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "routing.md"
COMMAND = re.compile(r"^```sh\n(moeplan routing [^\n]*)\n```\n\n```text\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
EXPECTED = {"--bound": 1}
"""Exit codes of commands that have an option, else 0."""


def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def commands() -> list[tuple[str, str]]:
    """Commands of the page and what it shows below each."""
    return COMMAND.findall(text())


@pytest.mark.parametrize("number", range(len(commands())))
def test_a_command_prints_what_the_page_shows(
    number: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    command, shown = commands()[number]
    words = shlex.split(command)[1:]
    expected = next((code for option, code in EXPECTED.items() if option in words), 0)
    assert cli._run(words) == expected
    out, err = capsys.readouterr()
    assert err == ""
    if os.environ.get("UPDATE_GOLDEN"):
        before = f"```sh\n{command}\n```\n\n```text\n"
        PAGE.write_text(text().replace(f"{before}{shown}```", f"{before}{out}```"), encoding="utf-8")
        shown = out
    assert out == shown


def test_the_page_shows_the_report_both_drifts_and_a_placement() -> None:
    assert [shlex.split(command)[2] for command, _ in commands()] == ["report", "drift", "drift", "place"]


def test_the_page_names_every_command_and_every_kind_of_dump() -> None:
    page = text()
    for command in routing.registered_commands:
        assert f"`moeplan routing {command.name} " in page
    for kind in KINDS:
        assert f"| `{kind}` |" in page


def test_the_page_calls_functions_that_there_are() -> None:
    called = set(re.findall(r"moeplan\.routing\.(\w+)\(", text()))
    assert called == set(moeplan.routing.__all__)


def test_options_of_the_page_exist() -> None:
    known = {option for each in routing.registered_commands for option in _options(str(each.name))}
    for option in re.findall(r"`(--[a-z-]+)", text()):
        if option not in {"--enable-return-routed-experts", "--routing", "--skew"}:
            assert option in known, option


def _options(command: str) -> set[str]:
    from typer.main import get_command

    group = get_command(routing)
    found = group.commands[command]  # type: ignore[attr-defined]
    return {option for parameter in found.params for option in parameter.opts}
