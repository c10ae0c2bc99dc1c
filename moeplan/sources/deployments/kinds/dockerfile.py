"""Dockerfiles whose ENTRYPOINT and CMD start an engine.

Source of the rules: docs.docker.com/reference/dockerfile: the last of each counts, in the last stage; CMD is what is handed
to ENTRYPOINT, be that the image's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from moeplan.core.deployed import Quote, Spot
from moeplan.sources.deployments.images import engine_of_image
from moeplan.sources.deployments.joined_lines import joined_lines
from moeplan.sources.deployments.script_engines import STARTS_ENGINE, Command, engines_of
from moeplan.sources.deployments.stream import Found, Stream
from moeplan.sources.deployments.variables import expand_shell

KIND = "dockerfile"
MOST_INSTRUCTIONS = 1_000
MOST_CHARACTERS = 20_000
"""Of one instruction; what is longer is cut."""

_NAME = re.compile(r"(?:dockerfile|containerfile)(?:[._-].*)?|.*\.(?:dockerfile|containerfile)", re.IGNORECASE)
_INSTRUCTION = re.compile(r"[ \t]*([A-Za-z]+)[ \t]+")
_FROM = re.compile(r"(?:--\S+\s+)*(\S+)(?:\s+as\s+(\S+))?\s*", re.IGNORECASE)
_PAIR = re.compile(r"""([A-Za-z_]\w*)=("(?:[^"\\]|\\.)*"|'[^']*'|(?:[^\s\\]|\\.)*)""", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


class _Instruction(NamedTuple):
    name: str
    """In capitals."""
    text: str
    """What stands behind, its further lines included."""
    spot: Spot
    """Of the text."""


class _Stage(NamedTuple):
    """What an image is, so far."""

    image: Quote | None = None
    variables: Mapping[str, Quote] = {}
    entrypoint: tuple[Quote, ...] | None = None
    command: tuple[Quote, ...] = ()


def recognises_text(name: str, text: str) -> bool:
    """A Dockerfile by its name, with an engine's program or image in it."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return _NAME.fullmatch(last) is not None and STARTS_ENGINE.search(text) is not None


def read_text(name: str, text: str, stream: Stream) -> Found:
    """The engine that a container of the last stage starts."""
    stages: dict[str, _Stage] = {}
    arguments: dict[str, Quote] = dict(stream.variables)
    stage, name = _Stage(), ""
    for instruction in _instructions(text):
        match instruction.name:
            case "FROM":
                stages[name] = stage
                stage = _begun(instruction, stages, arguments)
                found = _FROM.fullmatch(instruction.text)
                name = (found.group(2) or "").lower() if found else ""
            case "ARG" | "ENV":
                held = {**arguments, **stage.variables}
                told = _pairs(instruction, held)
                if stage.image is None or instruction.name == "ARG":
                    arguments |= told
                else:
                    stage = stage._replace(variables={**stage.variables, **told})
            case "ENTRYPOINT":
                stage = stage._replace(entrypoint=_argv(instruction), command=())
            case "CMD":
                stage = stage._replace(command=_argv(instruction))
            case _:
                continue
    if stage.image is None:
        return Found()
    has_command = stage.entrypoint is not None or engine_of_image(stage.image.text) is None
    words = (*(stage.entrypoint or ()), *stage.command)
    command = Command(words, {**arguments, **stage.variables}, image=stage.image, has_command=has_command)
    return engines_of(KIND, _called(stream), [command])


def _begun(instruction: _Instruction, stages: Mapping[str, _Stage], arguments: Mapping[str, Quote]) -> _Stage:
    """A new stage, which goes on from an earlier one where it names one."""
    found = _FROM.fullmatch(instruction.text)
    name = found.group(1) if found else instruction.text.strip()
    earlier = stages.get(name.lower())
    if earlier is not None:
        return earlier
    return _Stage(expand_shell(Quote(name, instruction.spot), arguments))


def _pairs(instruction: _Instruction, held: Mapping[str, Quote]) -> dict[str, Quote]:
    """`A=1 B="two words"`, and the older `A 1`; an ARG without a value tells nothing."""
    found: dict[str, Quote] = {}
    for pair in _PAIR.finditer(instruction.text):
        text = pair.group(2)
        plain = text[1:-1] if text[:1] in ("'", '"') and len(text) > 1 else re.sub(r"\\(.)", r"\1", text)
        quote = Quote(plain, _spot(instruction, pair.start(2)))
        found[pair.group(1)] = quote if text[:1] == "'" else expand_shell(quote, {**held, **found})
    if not found and instruction.name == "ENV":
        name, _, value = instruction.text.partition(" ")
        found[name] = expand_shell(Quote(value.strip(), instruction.spot), held)
    return found


def _argv(instruction: _Instruction) -> tuple[Quote, ...]:
    """The words of the exec form, which is a JSON list; the other form is handed to a shell."""
    text = instruction.text.strip()
    try:
        words = json.loads(text.replace("\\\n", "  ")) if text.startswith("[") else None
    except (ValueError, RecursionError):
        words = None
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        strings = _STRING.finditer(instruction.text)
        return tuple(
            Quote(word, _spot(instruction, found.start())) for word, found in zip(words, strings, strict=False)
        )
    return (
        Quote("/bin/sh", instruction.spot, "default"),
        Quote("-c", instruction.spot, "default"),
        Quote(instruction.text, instruction.spot),
    )


def _instructions(text: str) -> Iterator[_Instruction]:
    for line in islice(joined_lines(text, ("#",)), MOST_INSTRUCTIONS):
        found = _INSTRUCTION.match(line.text)
        if found:
            rest = line.text[found.end() : found.end() + MOST_CHARACTERS].rstrip()
            yield _Instruction(found.group(1).upper(), rest, Spot(line.number, found.end() + 1))


def _spot(instruction: _Instruction, place: int) -> Spot:
    before = instruction.text[:place]
    lines = before.count("\n")
    column = place - before.rfind("\n") if lines else instruction.spot.column + place
    return Spot(instruction.spot.line + lines, column)


def _called(stream: Stream) -> str:
    """`Dockerfile.qwen3` and `qwen3.Dockerfile` are called `qwen3`."""
    name = stream.path.rpartition("/")[2]
    rest = re.sub(r"(?i)^(?:dockerfile|containerfile)[._-]?|\.(?:dockerfile|containerfile)$", "", name)
    return rest or name
