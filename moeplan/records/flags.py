"""Flags of the engine's command line that an estimate does not resolve: they may matter to speed and quality all the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from moeplan.core.record import StatedFlag
from moeplan.core.secret_words import HIDDEN, is_secret_name, is_secret_value

NO_SETTING = (
    "--port", "--host", "--served-model-name", "--served_model_name", "--alias", "--api-key", "--hf-token", "--nccl-port",
    "--dist-init-addr", "--master-addr", "--master-port", "--node-rank", "--log-level", "--log-file", "--uvicorn-log-level",
    "--disable-log-requests", "--disable-log-stats", "--enable-log-requests",
)  # fmt: skip
"""Flags that say where a server listens, what it is called and what it writes down: no setting of a run."""


def other_flags(engine: str, words: Sequence[str], resolved: Iterable[str]) -> tuple[StatedFlag, ...]:
    """Flags and variables of a command line beyond `resolved` and beyond what all engines share, in order of their names.

    Access tokens are hidden. The last of several counts.
    """
    if not words:
        return ()
    from moeplan.core.programs import take_program
    from moeplan.engines import flags_of
    from moeplan.engines.command_line.names import spelled, tells_a_place
    from moeplan.engines.command_line.walk import pieces

    known = {spelled(name): flag for flag in flags_of(engine) for name in flag.spellings}
    told = set(resolved)
    program = take_program(words)
    found: dict[str, str | None] = {
        name: _hidden(name, value)
        for name, value in program.variables
        if name not in told and not tells_a_place(name) and not is_secret_name(name)
    }
    for piece in pieces(known, program.words):
        if piece.part != "flag":
            continue
        row = piece.flag
        name = spelled(piece.typed) if row is None else f"{row.name}.{piece.key}" if piece.key else row.name
        if name in told or name in NO_SETTING or is_secret_name(name) or (row is not None and _is_shared(row.field)):
            continue
        if row is not None and row.kind == "switch" and spelled(piece.typed) in map(spelled, row.off):
            found[name] = "off"
        else:
            found[name] = _hidden(name, ",".join(piece.values)) if piece.values else None
    return tuple(StatedFlag(name, found[name]) for name in sorted(found))


def _is_shared(field: str | None) -> bool:
    """True for what the record holds anyway: layout, context, dtypes. The share of memory has its option."""
    return field is not None


def _hidden(name: str, text: str) -> str:
    if is_secret_value(text):
        return HIDDEN
    if text.startswith(("{", "[")):
        try:
            return json.dumps(_without_secrets(json.loads(text)), sort_keys=True, ensure_ascii=False)
        except (ValueError, RecursionError):
            return text
    return text


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: HIDDEN if is_secret_name(key) else _without_secrets(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_secrets(each) for each in value]
    return HIDDEN if isinstance(value, str) and is_secret_value(value) else value
