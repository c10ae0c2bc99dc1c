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
_MODULES = {
    "vllm": "vllm",
    "sglang": "sglang",
    "tensorrt_llm": "trtllm",
    "trtllm": "trtllm",
    "llama_cpp": "llamacpp",
    "huggingfaceserver": "vllm",  # KServe's server, with vLLM inside
}
"""First part of a module behind `python -m`; the second where the first is `dynamo`."""

_SERVING = ("serve", "server", "cli")
_NOT_SERVING = (
    "bench", "chat", "collect-env", "complete", "disaggregated", "disaggregated_mpi_worker", "download",
    "download-kernels", "generate", "killall", "launch", "mm_embedding_serve", "preload", "run-batch", "snapshot",
    "version",
)  # fmt: skip
_NOT_SERVING_MODULE = re.compile(
    r"(?:vllm|sglang|tensorrt_llm)\.(?:bench\w*|test\w*|eval\w*|profiler|check_env|collect_env|compile_\w+|utils)(?:\..*)?"
    r"|.*\.(?:run_batch|mini_lb|launch_lb|launch_router|collect_env)"
)


_OF_FLAGS = re.compile(
    r"\$(?:[@*]|\{[@*]\}|[({]?(?:\w*_)?(?:ARG|OPT|OPTION|FLAG|PARAM)S?(?:\[[@*]\])?[)}]?)", re.IGNORECASE
)


class Program(NamedTuple):
    """What a command line begins with, and what is left."""

    variables: tuple[tuple[str, str], ...]
    engine: str | None
    words: tuple[str, ...]


def take_program(words: Sequence[str]) -> Program:
    """The variables and the program that a command line may begin with: `A=1 vllm serve`, `python -m sglang.x`.

    Raises InputError for a program's other commands, which serve no model.
    """
    before = num_before(words)
    found = (_VARIABLE.fullmatch(word) for word in words[:before])
    variables = [(each.group(1), each.group(2)) for each in found if each]
    left = list(words[before:])
    engine = _take_engine(left)
    return Program(tuple(variables), engine, tuple(left))


def holds_flags(word: str) -> bool:
    """True for a variable without a value that is called after the flags in it: `$EXTRA_ARGS`, `$@`."""
    return _OF_FLAGS.fullmatch(word) is not None


def num_before(words: Sequence[str]) -> int:
    """How many words stand before the program: variables, and words that start another program."""
    for number, word in enumerate(words):
        if not _VARIABLE.fullmatch(word) and word not in _BEFORE and word != "\\":
            return number
    return len(words)


def _serves_nothing(command: str) -> InputError:
    return InputError(f"`{command}` serves no model", hint="write the command that serves it, or only its flags")


def _take_engine(left: list[str]) -> str | None:
    """Removes the program from the words; the engine that it belongs to."""
    first = _last_part(left)
    if _PYTHON.fullmatch(first) and "-m" in left[1:-1]:
        module = left[left.index("-m") + 1]
        engine = _MODULES.get(module.removeprefix("dynamo.").partition(".")[0])
        if engine is not None and _NOT_SERVING_MODULE.fullmatch(module):
            raise _serves_nothing(f"python -m {module}")
        del left[: left.index("-m") + 2]
        if module == "vllm.entrypoints.cli.main" and left and left[0] in _SERVING:
            left.pop(0)
        return engine
    engine = _PROGRAMS.get(first)
    # A folder may be called `vllm` too: a model of that name stands behind a program, or is followed by flags.
    if engine is None or (len(left) > 1 and left[1].startswith("-") and engine in ("vllm", "sglang")):
        return None
    program = left.pop(0)
    if left and left[0] in _SERVING:
        left.pop(0)
    elif left and left[0] in _NOT_SERVING:
        raise _serves_nothing(f"{program} {left[0]}")
    return engine


def _last_part(left: list[str]) -> str:
    return re.split(r"[/\\]", left[0])[-1].removesuffix(".exe") if left else ""
