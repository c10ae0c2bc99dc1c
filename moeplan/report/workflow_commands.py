"""Commands that the log of a CI machine obeys: how they are written, and how other texts are kept from being any.

A runner reads every line that is printed. GitHub's takes a line that begins with `::`, blanks aside, and `##[` anywhere in
a line (actions/runner, src/Runner.Common/ActionCommand.cs); those of Azure and TeamCity take `##name[`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_LINE_START = re.compile(r"^((?:\s|\x1b\[[0-9;]*m)*)::", re.MULTILINE)
_ANYWHERE = re.compile(r"##(\w*)\[")


def command(name: str, properties: Mapping[str, str | int], text: str) -> str:
    """`::error file=a.yaml,line=3::text` with everything escaped that would end a part of it."""
    told = ",".join(f"{key}={_property(str(value))}" for key, value in properties.items())
    return _ANYWHERE.sub(r"##\1(", f"::{name}{' ' if told else ''}{told}::{_data(text)}")


def harmless(text: str) -> str:
    """A printed text of as many characters in which no line is a command: names in it are not ours."""
    return _ANYWHERE.sub(r"##\1(", _LINE_START.sub(r"\1.:", text))


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
