"""Objects of a file of JSON lines, one at a time; a last line that was cut short is left out, and told."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from moeplan.core.errors import InputError
from moeplan.sources.routing_files.facts import json_object
from moeplan.sources.strict_json import unreadable

MOST_LINE_BYTES = 256 << 20
"""A response with the choices of 100,000 tokens, 48 layers and 8 experts, in base64, is as long."""


def json_lines(path: Path, notes: list[str]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """File and line, and the object that stands there. InputError for whatever is none: NaN, broken JSON, other text."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is no ordinary file", hint="name a dump")
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MOST_LINE_BYTES + 1):
                number += 1
                where = f"{path}:{number}"
                if len(line) > MOST_LINE_BYTES:
                    raise InputError(
                        f"{where}: the line is longer than any such line ({MOST_LINE_BYTES >> 20} MiB)",
                        hint="is it a dump of routing?",
                    )
                if not line.strip():
                    continue
                try:
                    words = json_object(line, where).values
                except InputError:
                    if line.endswith(b"\n") or number == 1:
                        raise
                    notes.append(f"line {number}, the last, was cut short and is left out")
                    return
                yield where, words
    except OSError as error:
        raise unreadable(path, error) from error
