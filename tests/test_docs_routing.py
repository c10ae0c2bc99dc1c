"""Tables of `docs/routing.md` name what there is; its commands are run by test_docs_commands.py."""

from __future__ import annotations

import re
from pathlib import Path

import moeplan
from moeplan.cli.routing import routing
from moeplan.sources.routing_dumps.kinds import KINDS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "routing.md"


def text() -> str:
    return PAGE.read_text(encoding="utf-8")


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
        if option not in {"--enable-return-routed-experts", "--enable-eplb", "--redundant-experts", "--routing"}:
            assert option in known, option


def _options(command: str) -> set[str]:
    from typer.main import get_command

    group = get_command(routing)
    found = group.commands[command]  # type: ignore[attr-defined]
    return {option for parameter in found.params for option in parameter.opts}
