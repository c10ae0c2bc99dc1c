"""Makefiles whose recipes start engines: variables of make are expanded, each recipe is read as a script."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from moeplan.core.deployed import Deployed, PlainSecret, Quote, Spot
from moeplan.sources.deployments.joined_lines import JoinedLine, joined_lines
from moeplan.sources.deployments.script_engines import STARTS_ENGINE, Command, engines_of
from moeplan.sources.deployments.shell import read_script
from moeplan.sources.deployments.stream import Found, Stream
from moeplan.sources.deployments.variables import expand_shell

KIND = "makefile"
MOST_DEPTH = 5
"""Variables inside of variables."""
MOST_RECIPES = 2_000
"""Lines of recipes, and variables; no Makefile of a deployment has more."""

_NAME = re.compile(r"(?:GNU)?makefile(?:\..*)?|.*\.mk", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"(?:(?:export|override)\s+)*([A-Za-z_]\w*)[ \t]*(\?|\+|:{0,3})=[ \t]*")
_TARGET = re.compile(r"([^\s:#=][^:#=]*?)[ \t]*::?(?!=)")
_SIGNS = re.compile(r"\t[\s@+-]*")
"""What stands before a recipe's command: its tab, and `@` for quiet, `-` for whatever comes of it."""
_REFERENCE = re.compile(r"\$(?:\$|@|\(([A-Za-z_]\w*)\)|\{([A-Za-z_]\w*)\})")
_COMMENT = re.compile(r"[ \t]#.*")


def recognises_text(name: str, text: str) -> bool:
    """A Makefile by its name, with an engine's program in it."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return _NAME.fullmatch(last) is not None and STARTS_ENGINE.search(text) is not None


def read_text(name: str, text: str, stream: Stream) -> Found:
    """The engines that the recipes start, each called by its served name or its target."""
    variables = _variables(text, stream)
    deployments: list[Deployed] = []
    secrets: list[PlainSecret] = []
    target, recipes = stream.stem, 0
    for line in joined_lines(text):
        found = _TARGET.match(line.text)
        if line.text.startswith("\t"):
            recipes += 1
            if recipes > MOST_RECIPES:
                break
            engines = engines_of(KIND, target, _commands(line, variables, target))
            deployments += engines.deployments
            secrets += engines.secrets
        elif found and not _ASSIGNMENT.match(line.text):
            target = found.group(1).split()[0]
    return Found(tuple(deployments), secrets=tuple(dict.fromkeys(secrets)))


def _commands(line: JoinedLine, variables: Mapping[str, Quote], target: str) -> Iterator[Command]:
    signs = _SIGNS.match(line.text)
    start = signs.end() if signs else 0
    script = Quote(_for_shell(line.text[start:], target), Spot(line.number, start + 1))
    for command in read_script(script, variables):
        yield Command(command.words, command.variables)


def _variables(text: str, stream: Stream) -> dict[str, Quote]:
    """What variables hold at the end, as recipes see them; the environment's before `?=`."""
    found = dict(stream.variables)
    for line in joined_lines(text):
        assigned = _ASSIGNMENT.match(line.text)
        if assigned is None or len(found) > MOST_RECIPES:
            continue
        name, sign = assigned.groups()
        value = _COMMENT.sub("", line.text[assigned.end() :].replace("\\\n", " ")).strip()
        quote = Quote(_for_shell(value), Spot(line.number, assigned.end() + 1))
        if sign == "?" and name in found:
            continue
        if sign == "+" and name in found:
            quote = quote._replace(text=f"{found[name].text} {quote.text}")
        found[name] = quote
    return _expanded(found)


def _expanded(found: dict[str, Quote]) -> dict[str, Quote]:
    """The variables with those inside of them; what still holds one then holds itself, and stays open."""
    for _ in range(MOST_DEPTH):
        expanded = {name: expand_shell(quote, found) if "$" in quote.text else quote for name, quote in found.items()}
        if expanded == found:
            return found
        found = expanded
    return {
        name: quote._replace(origin="unresolved", unknown=(quote.text,)) if "${" in quote.text else quote
        for name, quote in found.items()
    }


def _for_shell(text: str, target: str = "") -> str:
    """References of make as a shell writes them: `$(NAME)` is `${NAME}`, `$$` is `$`."""

    def one(found: re.Match[str]) -> str:
        name = found.group(1) or found.group(2)
        return f"${{{name}}}" if name else "$" if found.group() == "$$" else target or found.group()

    return _REFERENCE.sub(one, text)
