"""Counts per expert as engines dump them, in JSON: what an import makes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moeplan.core.routing_profile import LayerRouting, RoutingProfile
from moeplan.sources.file_writing import replace_file
from moeplan.sources.routing_files.facts import (
    check_schema,
    json_object,
    profile_of,
    provenance_words,
    read_bytes,
    too_large,
    unwritable,
)

SCHEMA = "moeplan.routing-counts/1"

MOST_BYTES = 64 << 20


def read_counts(path: Path) -> RoutingProfile:
    """The profile of a file of counts. InputError where it is none, names the file and the key."""
    block = json_object(read_bytes(path, MOST_BYTES), str(path))
    check_schema(block, SCHEMA)
    return profile_of(block)


def write_counts(path: Path, profile: RoutingProfile) -> None:
    """Write counts, windows and all else that is known as JSON, in one piece. InputError where it cannot be written."""
    words = {
        "schema": SCHEMA,
        "model": profile.model,
        "revision": profile.revision,
        "provenance": provenance_words(profile.provenance),
        "notes": list(profile.notes),
        "phases": {phase: _words(layers) for phase, layers in profile.layers.items()},
        "classes": {name: _words(layers) for name, layers in profile.classes.items()},
    }
    data = json.dumps(words, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    if len(data) > MOST_BYTES:
        raise too_large(path, MOST_BYTES)
    try:
        replace_file(path, data)
    except OSError as error:
        raise unwritable(path, error) from error


def _words(layers: Sequence[LayerRouting]) -> list[dict[str, Any]]:
    return [{key: value for key, value in layer._asdict().items() if value not in (None, ())} for layer in layers]
