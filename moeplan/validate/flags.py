"""The settings that a log tells as the engine's flags, joined with those that the caller states."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from moeplan.core.deployment import Value
from moeplan.core.engine_log import EngineLog
from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.engines import ENGINES
from moeplan.engines.command_line import Command, Flag, read_command
from moeplan.engines.command_line.names import spelled

ANY = (None, "auto")
"""Values that leave the choice to the engine, so that they contradict nothing."""
DERIVED = ("--tensor-split",)
"""Flags that were made of other figures of the log."""
AT_LEAST = ("--gpu-layers",)
"""Of which people ask for more than there are, and mean all."""


class Joined(NamedTuple):
    """A command line for the estimate."""

    words: tuple[str, ...]
    given: str
    """The caller's part, as it was typed."""
    model: str | None
    """As the caller's command line names it."""
    doubts: tuple[Remark, ...]
    """Settings of the log that the caller's contradict."""
    notes: tuple[Remark, ...]
    """Settings of the log that could not be read."""


def joined(told: EngineLog, given: Sequence[str]) -> Joined:
    """The log's settings, less those that the caller states anew in whatever spelling, and the caller's own.

    Flags of the log that change no memory are left out. Raises InputError for words that the engine would not take.
    """
    table: tuple[Flag, ...] = import_module(f"moeplan.engines.{ENGINES[told.engine]}.flags").FLAGS
    rows = {spelled(name): row for row in table for name in row.spellings}
    mine = read_command(table, given)
    words: list[str] = []
    doubts: list[Remark] = []
    unread: list[str] = []
    for flag, value in told.arguments.items():
        row = rows.get(spelled(flag))
        part = _words(flag, value, row)
        if row is None or not part:
            words += part
            continue
        try:
            theirs = _value(read_command(table, part), row)
        except InputError:
            unread.append(shlex.join(part))
            continue
        if (row.field or row.name) in (*mine.fields, *mine.settings):
            doubts += _contradiction(told, row.name, theirs, _value(mine, row))
        else:
            words += part
    left_out = (
        f"settings of the log that are left out, for moeplan does not understand their values: {', '.join(unread)}"
    )
    notes = (Remark("log-flags-unread", "warning", left_out),) if unread else ()
    ordered = [*given, *words] if given and not given[0].startswith("-") else [*words, *given]
    model = mine.fields.get("model")
    return Joined(tuple(ordered), shlex.join(given), None if model is None else str(model), tuple(doubts), notes)


def _words(flag: str, value: Value, row: Flag | None) -> list[str]:
    if value is None or (row is not None and not row.matters):
        return []
    if isinstance(value, bool):
        if value:
            return [flag]
        off = row.off if row is not None else (f"--no-{flag.removeprefix('--')}",)
        return list(off[:1])
    if row is not None and row.many and isinstance(value, str):
        return [flag, *value.split()]
    return [flag, str(value)]


def _value(command: Command, row: Flag) -> object:
    return command.settings.get(row.name) if row.field is None else command.fields.get(row.field)


def _contradiction(log: EngineLog, flag: str, theirs: object, mine: object) -> list[Remark]:
    if theirs in ANY or mine in ANY or theirs == mine or flag in DERIVED:
        return []
    if flag in AT_LEAST:
        most = max((each.value for each in log.told("offloaded_layers")), default=0)
        if mine == "all" or (isinstance(mine, int) and mine >= most):
            return []
    told = f"{flag} {mine} was given, and the log says {theirs}"
    return [Remark("log-other-flag", "warning", told)]
