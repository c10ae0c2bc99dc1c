"""Units of systemd that start an engine: ExecStart with its Environment, and Quadlet's containers.

Source: systemd.service(5), systemd.exec(5), podman-systemd.unit(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from moeplan.core.deployed import Quote, Spot
from moeplan.sources.deployments.joined_lines import joined_lines
from moeplan.sources.deployments.script_engines import STARTS_ENGINE, Command, engines_of
from moeplan.sources.deployments.shell import read_script
from moeplan.sources.deployments.stream import Found, Stream

KIND = "systemd"
MOST_LINES = 2_000

_ENDINGS = (".service", ".container", ".service.in", ".service.j2")
_SETTING = re.compile(r"[ \t]*([A-Za-z]+)[ \t]*=[ \t]*")
_SIGNS = re.compile(r"[@:+!|-]*")
"""What may stand before the program."""
_PAIR = re.compile(r"\"([A-Za-z_]\w*)=((?:[^\"\\]|\\.)*)\"|'([A-Za-z_]\w*)=([^']*)'|([A-Za-z_]\w*)=(\S*)")
_SPECIFIER = re.compile(r"%(.)")


class _Setting(NamedTuple):
    name: str
    text: str
    spot: Spot


def recognises_text(name: str, text: str) -> bool:
    """A unit with an engine's program or image in it."""
    return name.lower().endswith(_ENDINGS) and STARTS_ENGINE.search(text) is not None


def read_text(name: str, text: str, stream: Stream) -> Found:
    """The engines that the unit starts."""
    settings = list(_settings(text))
    variables = dict(stream.variables)
    for setting in settings:
        if setting.name == "Environment":
            for found in _PAIR.finditer(setting.text):
                key = found.group(1) or found.group(3) or found.group(5)
                value = found.group(2) or found.group(4) or found.group(6) or ""
                variables[key] = _told(Quote(value, setting.spot))
    return engines_of(KIND, stream.stem, _commands(settings, variables))


def _commands(settings: list[_Setting], variables: dict[str, Quote]) -> Iterator[Command]:
    image = next((Quote(each.text, each.spot) for each in settings if each.name == "Image"), None)
    for setting in settings:
        if setting.name == "ExecStart":
            signs = _SIGNS.match(setting.text)
            start = signs.end() if signs else 0
            script = Quote(setting.text[start:], setting.spot._replace(column=setting.spot.column + start))
        elif setting.name == "Exec" and image is not None:
            script = Quote(setting.text, setting.spot)
        else:
            continue
        for command in read_script(script, variables):
            words = tuple(_told(word) for word in command.words)
            inside = setting.name == "Exec"
            yield Command(words, command.variables, image=image if inside else None, has_command=not inside)


def _told(quote: Quote) -> Quote:
    """`%%` is a per cent sign; other specifiers (`%i`, `%h`) are not known from the file."""
    open_parts = tuple(found.group() for found in _SPECIFIER.finditer(quote.text) if found.group(1) != "%")
    text = quote.text.replace("%%", "%")
    if not open_parts:
        return quote._replace(text=text)
    return quote._replace(text=text, origin="unresolved", unknown=(*quote.unknown, *open_parts))


def _settings(text: str) -> Iterator[_Setting]:
    for line in islice(joined_lines(text, ("#", ";")), MOST_LINES):
        found = _SETTING.match(line.text)
        if found:
            yield _Setting(found.group(1), line.text[found.end() :].rstrip(), Spot(line.number, found.end() + 1))
