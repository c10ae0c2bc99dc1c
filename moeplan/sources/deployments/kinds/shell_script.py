"""Shell scripts that start engines: `*.sh`, and whatever begins with a shell's `#!`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from moeplan.core.deployed import Quote, Spot
from moeplan.sources.deployments.script_engines import STARTS_ENGINE, Command, engines_of
from moeplan.sources.deployments.shell import read_script
from moeplan.sources.deployments.stream import Found, Stream

KIND = "shell"
_ENDINGS = (".sh", ".bash", ".zsh", ".ksh", ".sbatch", ".slurm")
_SHEBANG = re.compile(r"#!.*\b(?:ba|z|k|da)?sh\b")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|\\.")
_IN_BACKGROUND = re.compile(r"(?<![&|<>])&(?![&>\d-])")


def recognises_text(name: str, text: str) -> bool:
    """A script of a shell with an engine's program in it."""
    is_script = name.lower().endswith(_ENDINGS) or _SHEBANG.match(text) is not None
    return is_script and STARTS_ENGINE.search(text) is not None


def read_text(name: str, text: str, stream: Stream) -> Found:
    """The engines that any of its commands starts, in order."""
    return engines_of(KIND, stream.stem, _commands(text, stream))


def _commands(text: str, stream: Stream) -> Iterator[Command]:
    lines = text.split("\n")
    for command in read_script(Quote(text, Spot(1)), stream.variables):
        yield Command(command.words, command.variables, waits=not _in_background(lines, command.words))


def _in_background(lines: Sequence[str], words: Sequence[Quote]) -> bool:
    """True where a lonely `&` stands behind the last word."""
    last = max((word.spot for word in words), default=None)
    if last is None or last.line > len(lines):
        return False
    behind = _QUOTED.sub("", lines[last.line - 1][last.column - 1 :]).partition(" #")[0]
    return _IN_BACKGROUND.search(behind) is not None
