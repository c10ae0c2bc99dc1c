"""What the log of a CI machine takes for a command, by the rules of the program that reads it.

GitHub's: actions/runner, src/Runner.Common/ActionCommand.cs, `TryParseV2` and `TryParse`, and its tables of escapes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

REGISTERED = {"error", "warning", "notice", "debug", "group", "add-mask", "set-output", "set-env", "stop-commands"}


class Command(NamedTuple):
    name: str
    properties: dict[str, str]
    text: str


def commands(printed: str) -> list[Command]:
    """The commands of GitHub that are in a log."""
    found = []
    for line in printed.split("\n"):
        parsed = _second(line) or _first(line)
        if parsed is not None:
            found.append(parsed)
    return found


def foreign_commands(printed: str) -> list[str]:
    """Beginnings of commands of Azure (`##vso[`), TeamCity (`##teamcity[`) and GitHub's older form (`##[`)."""
    return re.findall(r"##\w*\[", printed)


def _second(line: str) -> Command | None:
    """`::name key=value,key=value::text`."""
    line = line.lstrip()
    end = line.find("::", 2)
    if not line.startswith("::") or end < 0:
        return None
    name, _, told = line[2:end].partition(" ")
    pairs = [pair.split("=", 1) for pair in told.strip().split(",") if "=" in pair]
    properties = {key: _unescaped(value, {":": "%3A", ",": "%2C"}) for key, value in pairs}
    return Command(name, properties, _unescaped(line[end + 2 :], {})) if name in REGISTERED else None


def _first(line: str) -> Command | None:
    """`##[name key=value]text`, anywhere."""
    found = re.search(r"##\[([\w-]+)[^\]]*\](.*)", line)
    return Command(found[1], {}, found[2]) if found and found[1] in REGISTERED else None


def _unescaped(text: str, further: dict[str, str]) -> str:
    for sign, written in ({"\r": "%0D", "\n": "%0A"} | further | {"%": "%25"}).items():
        text = text.replace(written, sign)
    return text
