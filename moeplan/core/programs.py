"""What stands before the flags of a command line: variables of the environment and the engine's program."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from moeplan.core.errors import InputError

_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_PYTHON = re.compile(r"python(\d(\.\d+)?)?")

_BEFORE = ("env", "exec", "time", "nohup", "uv", "run", "uvx", "trtllm-llmapi-launch")
"""Words that start another program."""

_PROGRAMS = {
    "vllm": "vllm",
    "sglang": "sglang",
    "trtllm-serve": "trtllm",
    "llama-server": "llamacpp",
    "llama-cli": "llamacpp",
    "llama": "llamacpp",
}
_MODULES = {"vllm": "vllm", "sglang": "sglang", "tensorrt_llm": "trtllm", "trtllm": "trtllm", "llama_cpp": "llamacpp"}
"""First part of a module behind `python -m`; the second where the first is `dynamo`."""

_SERVING = ("serve", "server", "cli")
_NOT_SERVING = (
    "bench", "chat", "collect-env", "complete", "disaggregated", "disaggregated_mpi_worker", "download",
    "download-kernels", "generate", "killall", "launch", "mm_embedding_serve", "preload", "run-batch", "snapshot",
    "version",
)  # fmt: skip


class Program(NamedTuple):
    """What a command line begins with, and what is left."""

    variables: tuple[tuple[str, str], ...]
    engine: str | None
    words: tuple[str, ...]


def take_program(words: Sequence[str]) -> Program:
    """The variables and the program that a command line may begin with: `A=1 vllm serve`, `python -m sglang.x`.

    Raises InputError for a program's other commands, which serve no model.
    """
    variables: list[tuple[str, str]] = []
    left = list(words)
    while left:
        found = _VARIABLE.fullmatch(left[0])
        if found:
            variables.append((found.group(1), found.group(2)))
        elif left[0] not in _BEFORE and left[0] != "\\":
            break
        left.pop(0)
    engine = _take_engine(left)
    return Program(tuple(variables), engine, tuple(left))


def _take_engine(left: list[str]) -> str | None:
    """Removes the program from the words; the engine that it belongs to."""
    first = _last_part(left)
    if _PYTHON.fullmatch(first) and "-m" in left[1:-1]:
        module = left[left.index("-m") + 1]
        del left[: left.index("-m") + 2]
        return _MODULES.get(module.removeprefix("dynamo.").partition(".")[0])
    engine = _PROGRAMS.get(first)
    # A folder may be called `vllm` too: a model of that name stands behind a program, or is followed by flags.
    if engine is None or (len(left) > 1 and left[1].startswith("-") and engine in ("vllm", "sglang")):
        return None
    program = left.pop(0)
    if left and left[0] in _SERVING:
        left.pop(0)
    elif left and left[0] in _NOT_SERVING:
        raise InputError(
            f"`{program} {left[0]}` serves no model", hint="write the command that serves it, or only its flags"
        )
    return engine


def _last_part(left: list[str]) -> str:
    return left[0].rpartition("/")[2].removesuffix(".exe") if left else ""
