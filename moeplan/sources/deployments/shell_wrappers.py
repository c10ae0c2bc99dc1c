"""What stands around a command: shells, `env`, prefixes, and wrappers that start another program."""

from __future__ import annotations

import re
from collections.abc import Sequence

from moeplan.core.deployed import Quote

SHELLS = frozenset(("sh", "bash", "dash", "ash", "zsh", "ksh", "su", "bash.exe"))
PREFIXES = frozenset(("exec", "nohup", "command", "builtin", "setsid", "time", "catchsegv", "then", "do", "&&"))
WRAPPERS = frozenset((
    "apptainer", "cgexec", "ch-run", "chroot", "chrt", "conda", "ddtrace-run", "doas", "docker-entrypoint.sh",
    "dumb-init", "enroot", "entrypoint.sh", "gosu", "hatch", "ionice", "kubectl", "mamba", "micromamba", "mpiexec",
    "mpirun", "ncu", "nice", "nsys", "numactl", "nvidia_entrypoint.sh", "opentelemetry-instrument", "pdm", "pipenv",
    "pixi", "poetry", "prlimit", "ray", "rocprof", "runuser", "s6-setuidgid", "screen", "setarch", "shifter",
    "singularity", "srun", "ssh", "stdbuf", "su-exec", "sudo", "systemd-run", "taskset", "timeout", "tini", "tmux",
    "torchrun", "trtllm-llmapi-launch", "unbuffer", "unshare", "uv", "uvx", "xargs",
))  # fmt: skip
"""Programs that start the one behind their own options."""
_TAKE_SCRIPTS = ("ssh", "tmux", "screen")
"""Those that hand a text to a shell."""
CONTAINERS = ("docker", "podman", "nerdctl", "enroot")
_SCRIPT_OF_ENGINE = re.compile(r"(?:vllm|sglang)\s+serve\b|\bpython[\d.]*\s+-m\s|\b(?:trtllm-serve|llama-server)\s")
_STARTERS = frozenset(("trtllm-serve", "llama-server", "llama-cli", "llama-swap", "ollama"))
_PYTHON = re.compile(r"python(\d(\.\d+)?)?")
_FLAGS_WITH_C = re.compile(r"-[A-Za-z]*c[A-Za-z]*")
_FLAGS_WITH_O = re.compile(r"[-+][A-Za-z]*[oO]")
_SET_IN_ENV = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_SETS_SOME_VARIABLE = re.compile(r"\w*\$[\w${}]+=")
"""`$DEVICES=0`: which variable that is, the file does not tell."""


def program_of(word: Quote) -> str:
    """The program that a word starts, without its folder."""
    return word.text.replace("\\", "/").rpartition("/")[2]


def behind_c(words: Sequence[Quote]) -> int | None:
    """The place of the script in `sh -c SCRIPT`; None where there is none."""
    if not words or program_of(words[0]) not in SHELLS:
        return None
    wanted = False
    place = 1
    while place < len(words):
        text = words[place].text
        if text.startswith(("-", "+")) and len(text) > 1 and text != "--":
            wanted = wanted or bool(_FLAGS_WITH_C.fullmatch(text))
            place += 2 if _FLAGS_WITH_O.fullmatch(text) else 1
        elif text == "--" or (program_of(words[0]) == "su" and not wanted):
            place += 1
        else:
            return place if wanted else None
    return None


def behind_env(words: list[Quote], variables: dict[str, Quote]) -> list[Quote]:
    """What `env` starts; the variables that it sets are added."""
    while words:
        text = words[0].text
        found = _SET_IN_ENV.fullmatch(text)
        if found:
            word = words[0]
            variables[found.group(1)] = word._replace(text=found.group(2))
        elif not text.startswith("-") and not _SETS_SOME_VARIABLE.match(text):
            break
        words = words[2 if text in ("-u", "--unset", "-C", "--chdir") else 1 :]
    return words


def behind_wrapper(words: Sequence[Quote]) -> list[Quote]:
    """The program that a wrapper starts, found behind options of whatever form; nothing where there is none to be seen."""
    takes_scripts = program_of(words[0]) in _TAKE_SCRIPTS
    for place in range(1, min(len(words), 200)):
        text = words[place].text
        if takes_scripts and " " in text and _SCRIPT_OF_ENGINE.search(text):
            return [Quote("sh", words[place].spot, "default"), Quote("-c", words[place].spot, "default"), words[place]]
        program = program_of(words[place])
        after = words[place + 1].text if place + 1 < len(words) else ""
        if (
            program in _STARTERS
            or (program in ("vllm", "sglang") and after == "serve")
            or (_PYTHON.fullmatch(program) and any(word.text == "-m" for word in words[place + 1 : place + 5]))
            or (program in SHELLS and behind_c(words[place:]) is not None)
        ):
            return list(words[place:])
    return []
