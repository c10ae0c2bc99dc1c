"""JSON that programs write, read strictly: broken JSON, NaN, keys given twice and files beyond their bound are errors."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moeplan.core.errors import InputError
from moeplan.sources.strict_yaml import Block, shown


def read_ordinary(path: Path, most_bytes: int, *, hint: str, large_hint: str) -> bytes:
    """All of an ordinary file. InputError where it cannot be read, or is larger than `most_bytes`; `hint` says what to name."""
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise InputError(f"{path} is no ordinary file", hint=hint)
        if state.st_size > most_bytes:
            raise beyond(path, most_bytes, large_hint)
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise unreadable(path, error) from error
    if len(data) > most_bytes:
        raise beyond(path, most_bytes, large_hint)
    return data


def beyond(path: Path, most_bytes: int, hint: str) -> InputError:
    """The error for a file beyond its bound."""
    return InputError(f"{path} is larger than such a file can be ({most_bytes >> 20} MiB)", hint=hint)


def unreadable(path: Path, error: Exception) -> InputError:
    """The error for a file that the system does not give."""
    told = getattr(error, "strerror", None) or error
    return InputError(f"{path} cannot be read: {told}", hint="check the file and its permissions")


def json_object(text: bytes, where: str, page: str) -> Block:
    """One JSON object; `page` is where its keys are told.

    InputError for anything else: broken JSON, NaN, keys given twice, text that is not UTF-8.
    """
    try:
        value = json.loads(
            text.decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_once, parse_float=_finite
        )
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: it is not UTF-8 text", hint="name another file") from error
    except json.JSONDecodeError as error:
        line = f", line {error.lineno} of it" if error.lineno > 1 else ""
        raise InputError(
            f"{where}: not valid JSON{line}: {error.msg} at column {error.colno}",
            hint="was the file cut short? make it again",
        ) from error
    except (ValueError, RecursionError) as error:
        problem = str(error) if isinstance(error, ValueError) else "it is nested too deep"
        raise InputError(
            f"{where}: not valid JSON: {problem}", hint="correct that value, or make the file again"
        ) from error
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: it is {shown(value)}, not an object with keys", hint=f"see {page} for the keys")
    return Block(value, where)


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(f"{word[:20]} is too large a number")
    return value


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:40]!r} is given twice")
            seen.add(key)
    return found
