"""The JSON objects that a result file holds, whole or one a line.

Benchmarks write `NaN` and `Infinity`, which JSON does not have: they are read as what they are, and `found` tells or refuses them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from moeplan.core.errors import InputError
from moeplan.sources.strict_json import read_ordinary

MOST_BYTES = 256 << 20
"""With every request's tokens in it (`--save-detailed`) a file has tens of megabytes."""
MOST_RUNS = 100

_HINT = "name the file that the benchmark wrote, whole"


class Content(NamedTuple):
    """What a file holds."""

    name: str
    """Without folders: a record says nothing of the machine that it was made on."""
    where: str
    sha256: str
    objects: tuple[Mapping[str, Any], ...]


def read_content(path: Path) -> Content:
    """The objects of a file. InputError where it cannot be read or holds something else than JSON objects."""
    data = read_ordinary(path, MOST_BYTES, hint=_HINT, large_hint="save it without the details of each request")
    objects = _objects(data, str(path))
    if not objects:
        raise InputError(f"{path} is empty", hint=_HINT)
    if len(objects) > MOST_RUNS:
        raise InputError(
            f"{path} holds more than {MOST_RUNS} runs", hint="keep those of one load in a file of their own"
        )
    for each in objects:
        if not isinstance(each, Mapping):
            raise InputError(f"{path} holds JSON that is no result of a benchmark", hint=_HINT)
    return Content(path.name, str(path), hashlib.sha256(data).hexdigest(), tuple(objects))


def _objects(data: bytes, where: str) -> Sequence[Any]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: it is not UTF-8 text", hint=_HINT) from error
    try:
        whole = _loads(text)
    except json.JSONDecodeError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise InputError(f"{where}: not valid JSON: {error.msg} at column {error.colno}", hint=_HINT) from error
        return [_line(line, where, number) for number, line in enumerate(lines, 1)]
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{where}: not valid JSON: it is nested too deep, or holds a number of too many digits", hint=_HINT
        ) from error
    return whole if isinstance(whole, list) else [whole]


def _line(line: str, where: str, number: int) -> Any:
    try:
        return _loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{where}: neither JSON as a whole, nor in object {number} of its lines", hint=_HINT
        ) from error


def _loads(text: str) -> Any:
    return json.loads(text)
