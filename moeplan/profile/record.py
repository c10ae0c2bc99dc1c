"""Every point of a profile in a compressed file beside it: written in one piece, read to go on or to compare."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.measurement import SECTIONS, MeasuredDevice, Point, Spread

SCHEMA = "moeplan.points/1"
ENDING = ".points.json.gz"
PARTIAL = ".points.partial.json.gz"
"""Of a run that is going on, or was interrupted: a complete record stays as it is until the next one is complete."""
MOST_BYTES = 256 * 2**20
"""No record is larger than this when it is unpacked; a file that claims to be is none of ours."""


class Record(NamedTuple):
    """What a file holds."""

    device: MeasuredDevice
    seed: int
    points: tuple[Point, ...]


def write_record(path: Path, record: Record) -> None:
    """Replace the file. Raises InputError where it cannot be written."""
    content = {
        "schema": SCHEMA,
        "device": record.device._asdict(),
        "seed": record.seed,
        "points": [_plain(point) for point in record.points],
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            # No time stamp: the same points give the same bytes.
            file.write(gzip.compress(text.encode(), mtime=0))
        os.replace(file.name, path)
    except OSError as error:
        raise _unwritable(path, error) from None


def check_writable(path: Path) -> None:
    """Raises InputError where a record could not be written; to be asked before anything is measured."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be written ({error.strerror or error})",
        hint="name a folder that you can write with --profiles",
    )


def read_record(path: Path) -> Record:
    """Raises InputError for a file that is no record of points."""
    foreign = InputError(
        f"{path} is no record of a profile", hint="name the profile that `moeplan profile` wrote, or leave --resume out"
    )
    try:
        with gzip.open(path, "rb") as file:
            content: Any = json.loads(file.read(MOST_BYTES))
        if content["schema"] != SCHEMA:
            raise foreign
        return Record(
            MeasuredDevice(**content["device"]), int(content["seed"]), tuple(_point(each) for each in content["points"])
        )
    except FileNotFoundError:
        raise InputError(f"there is no {path} to go on with", hint="leave --resume out") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        raise foreign from None


def _plain(point: Point) -> dict[str, Any]:
    found = point._asdict()
    found["spread"] = point.spread._asdict() if point.spread is not None else None
    # A backend that is wrong may say so with an error that is no number; the point's `problem` tells it in words.
    finite = {name: value for name, value in point.values.items() if isfinite(value)}
    found["case"], found["values"] = dict(point.case), finite
    return found


def _point(entry: dict[str, Any]) -> Point:
    spread = Spread(**entry["spread"]) if entry["spread"] is not None else None
    if entry["section"] not in SECTIONS:
        raise ValueError(entry["section"])
    return Point(**{**entry, "spread": spread})
