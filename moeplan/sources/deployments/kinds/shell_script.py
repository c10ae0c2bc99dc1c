"""Shell scripts that start engines: `*.sh`, and whatever begins with a shell's `#!`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from moeplan.core.deployed import Quote, Spot
from moeplan.sources.deployments.script_engines import STARTS_ENGINE, Command, engines_of
from moeplan.sources.deployments.shell import read_script
from moeplan.sources.deployments.stream import Found, Stream

KIND = "shell"
MOST_OPTIONS = 200
"""Lines at the top of a script in which options for Slurm may stand."""
_SBATCH = re.compile(r"#SBATCH\s+(--?[a-zA-Z-]+?)(?:=|\s+|(?<=-[a-zA-Z])(?=\d))([\w:,.-]+)")
_NODES = ("SLURM_NNODES", "SLURM_JOB_NUM_NODES")
_GPUS = ("SLURM_GPUS_PER_NODE", "SLURM_GPUS_ON_NODE")
_SLURM = {
    "--nodes": _NODES, "-N": _NODES, "--gpus-per-node": _GPUS, "--gres": _GPUS,
    "--ntasks-per-node": ("SLURM_NTASKS_PER_NODE",), "--gpus-per-task": ("SLURM_GPUS_PER_TASK",),
    "--ntasks": ("SLURM_NTASKS",), "-n": ("SLURM_NTASKS",), "--gpus": ("SLURM_GPUS",), "-G": ("SLURM_GPUS",),
}  # fmt: skip
_GRES = re.compile(r"gpu(?::[A-Za-z][\w.-]*)?(?::(\d+))?")
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
    return engines_of(KIND, stream.stem, _commands(text, {**slurm_variables(text), **stream.variables}))


def slurm_variables(text: str) -> dict[str, Quote]:
    """What Slurm sets in a job, as far as the `#SBATCH` lines of its script say it (slurm.schedmd.com/sbatch.html)."""
    found: dict[str, Quote] = {}
    for number, line in enumerate(text.split("\n")[:MOST_OPTIONS], 1):
        option = _SBATCH.match(line)
        names = _SLURM.get(option.group(1)) if option is not None else None
        if option is None or names is None:
            continue
        value = option.group(2)
        if option.group(1) == "--gres":
            gpus = _GRES.fullmatch(value)
            value = (gpus.group(1) or "1") if gpus is not None else ""
        if value.isdecimal():
            found |= dict.fromkeys(names, Quote(value, Spot(number, option.start(2) + 1), why=option.group(1)))
    return found


def _commands(text: str, variables: Mapping[str, Quote]) -> Iterator[Command]:
    lines = text.split("\n")
    for command in read_script(Quote(text, Spot(1)), variables):
        yield Command(
            command.words, command.variables, waits=not _in_background(lines, command.words), files=command.files
        )


def _in_background(lines: Sequence[str], words: Sequence[Quote]) -> bool:
    """True where a lonely `&` stands behind the last word."""
    last = max((word.spot for word in words), default=None)
    if last is None or last.line > len(lines):
        return False
    behind = _QUOTED.sub("", lines[last.line - 1][last.column - 1 :]).partition(" #")[0]
    return _IN_BACKGROUND.search(behind) is not None
