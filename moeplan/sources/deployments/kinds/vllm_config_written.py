"""vLLM's `--config` file, as `vllm_config` reads it: the command's flags as keys."""

from __future__ import annotations

import re

from moeplan.core.errors import InputError
from moeplan.core.launch import CommandOf, Launch, Place

_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{0,14}[1-9]|\.0)?", re.ASCII)
"""What YAML writes as it stands here; anything else stays a text."""
OF_ONE_NODE = ("--node-rank", "--master-addr", "--data-parallel-address")
"""What differs from node to node, so that the command states it beside the file."""


def options(launch: Launch, command_of: CommandOf) -> dict[str, object]:
    """The keys, the model first. Raises InputError for other engines, and for what vLLM takes from its environment alone."""
    if launch.engine != "vllm":
        raise InputError(
            f"vllm-yaml is a file of vLLM, and the engine is {launch.engine}", hint="say --emit k8s or --emit compose"
        )
    command = command_of(launch, Place())
    if command.variables:
        names = ", ".join(name for name, _ in command.variables)
        raise InputError(
            f"{names}: vLLM takes this from its environment, and its --config file has no key for it",
            hint="say --emit k8s or --emit compose",
        )
    found: dict[str, object] = {"model": command.words[0]}
    words = list(command.words[1:])
    while words:
        flag, sign, attached = words.pop(0).partition("=")
        values = [attached] if sign else []
        while words and not sign and not words[0].startswith("--"):
            values.append(words.pop(0))
        if flag not in OF_ONE_NODE:
            found[flag.removeprefix("--")] = _value(values)
    return found


def _value(values: list[str]) -> object:
    """Numbers as numbers; a flag alone is on; an object stays the text that vLLM parses itself."""
    if not values:
        return True
    if len(values) > 1:
        return [_scalar(value) for value in values]
    return _scalar(values[0])


def _scalar(text: str) -> object:
    if _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return text
