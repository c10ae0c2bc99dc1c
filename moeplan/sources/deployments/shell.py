"""Shell scripts as lists of words: what a script would run, as far as it can be known without running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moeplan.core.deployed import Quote


class ShellCommand(NamedTuple):
    """One simple command of a script."""

    words: tuple[Quote, ...]
    variables: Mapping[str, Quote]
    """What the environment holds then: exported before, and written in front of it (`A=1 vllm serve`)."""


def read_script(script: Quote, variables: Mapping[str, Quote], gpus: Quote | None = None) -> tuple[ShellCommand, ...]:
    """Every simple command of a script, in order, of all branches; each word with its own line and column.

    Comments, quotes, line continuations, `&&`, `||`, `;`, `|`, `&`, if/for/while/case words, assignments (also `export`),
    `exec`, redirections, here-documents (skipped). A word that stands for several (unquoted `$ARGS`) is split.
    """
    raise NotImplementedError


def unwrapped(
    argv: Sequence[Quote], variables: Mapping[str, Quote], gpus: Quote | None = None
) -> tuple[ShellCommand, ...]:
    """The commands behind `sh -c SCRIPT`, `bash -lc -- SCRIPT`, `env A=1 ...`, or `argv` itself where it is none of these.

    Looks through shells inside of shells; `numactl`, `stdbuf`, `timeout 30`, `tini --`, `mpirun -n 8`, `ray start ...;` too.
    """
    raise NotImplementedError
