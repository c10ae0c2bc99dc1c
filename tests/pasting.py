"""A command as somebody types it, and a way out pasted into it: what it names is replaced, or added at the end."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

import moeplan
from moeplan.engines import ENGINES
from moeplan.engines.command_line import Flag
from moeplan.engines.command_line.names import is_flag, spelled
from moeplan.estimate import Estimate
from moeplan.estimate.stated import engine_of

WHOLE_NUMBERS = ("tp", "pp", "dp", "ep", "dcp", "redundant_experts", "nodes")


def asked(command: str, change: str = "") -> Estimate:
    """The estimate of `MODEL ... -- ...` with a way out pasted in."""
    model, *words = shlex.split(command)
    ours, engines = _split(words)
    more, others = _split(shlex.split(change))
    options = _options(ours) | _options(more)
    engine = options.get("engine") or engine_of(engines) or next(iter(ENGINES))
    return moeplan.estimate(model, offline=True, engine_args=_replaced(engine, engines, others), **options)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    place = words.index("--") if "--" in words else len(words)
    return words[:place], words[place + 1 :]


def _options(words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    left = [*words, "--"]
    while len(left) > 1:
        name = left.pop(0).removeprefix("--").replace("-", "_")
        text = None if left[0].startswith("--") else left.pop(0)
        if text is None:
            found[name] = True
        elif name in WHOLE_NUMBERS:
            found[name] = int(text)
        else:
            found[name] = float(text) if name == "utilization" else text
    return found


def _replaced(engine: str, words: list[str], others: list[str]) -> list[str]:
    """The engine's words without flags that set the same things as `others`, and these behind them."""
    if not others:
        return words
    again = {_sets(engine, flag) for flag, *_ in _flags(engine, others)}
    kept = [word for group in _flags(engine, words) for word in group if _sets(engine, group[0]) not in again]
    return [*kept, *others]


def _flags(engine: str, words: list[str]) -> Iterator[list[str]]:
    """Flags with their values; other words alone."""
    left = list(words)
    while left:
        group = [left.pop(0)]
        flag = _table(engine).get(spelled(group[0]))
        if is_flag(group[0]) and flag is not None and flag.kind != "switch" and left and not is_flag(left[0]):
            group.append(left.pop(0))
        yield group


def _sets(engine: str, word: str) -> str:
    flag = _table(engine).get(spelled(word.partition("=")[0]))
    return word if flag is None else flag.field or flag.name


@cache
def _table(engine: str) -> dict[str, Flag]:
    flags = import_module(f"moeplan.engines.{ENGINES[engine]}.flags").FLAGS
    return {spelled(name): flag for flag in flags for name in flag.spellings}
