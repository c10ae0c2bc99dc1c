"""Every point of a profile in a compressed file beside it: written in one piece, read to go on or to compare.

A record has one part for each set of conditions (device, driver, torch, power limit, ...) that points were measured under,
so that a point never stands under conditions that were not its own. Of each case it keeps the newest measurement.
"""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.measurement import SECTIONS, MeasuredDevice, Point, Spread
from moeplan.sources.file_writing import replace_file

SCHEMA = "moeplan.points/2"
ENDING = ".points.json.gz"
PARTIAL = ".points.partial.json.gz"
"""Of a run that is going on, or was interrupted: a complete record stays as it is until the next one is complete."""
MOST_BYTES = 256 * 2**20
"""No record is larger than this when it is unpacked; a file that claims to be is none of ours."""

_WHEN = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")
_DEVICE_WORDS = {
    "kind": "{}",
    "name": "{}",
    "torch_version": "torch {}",
    "runtime_version": "runtime {}",
    "driver_version": "driver {}",
    "compute_capability": "compute capability {}",
    "l2_bytes": "{} bytes of cache",
    "multiprocessors": "{} multiprocessors",
    "sm_clock_mhz": "{} MHz at most",
    "memory_clock_mhz": "{} MHz of memory at most",
    "power_limit_w": "{:g} W at most",
    "num_threads": "{} threads",
}
"""What times depend on, in words. Not so: `free_bytes`, which steers what is planned and is taken over from the earlier run
(`resume.planned_with`); `host_bytes` and on the CPU `total_bytes`, which say how much fits and not how fast it is. On a GPU
`total_bytes` is compared, for it shows whether ECC takes its share of memory and bandwidth."""


class Conditions(NamedTuple):
    """What points must share to stand for one machine."""

    device: MeasuredDevice
    """As at the start of the run; its free bytes are those that shapes were planned for."""
    seed: int
    budget_s: float
    """Seconds that one case was timed for, about: more repeats, a narrower spread."""
    tool: str
    """With its version: another one may measure in another way."""
    libraries: Mapping[str, str]
    """Versions of the libraries whose kernels and models are measured, where they are installed."""


class Part(NamedTuple):
    """Points that were measured under the same conditions."""

    conditions: Conditions
    when: str
    """UTC, when the last of them was measured: `2026-11-25T12:34:56Z`."""
    points: tuple[Point, ...]


class Record(NamedTuple):
    """What a file holds: the newest part last."""

    parts: tuple[Part, ...]

    @property
    def points(self) -> tuple[Point, ...]:
        """All of them, under whatever conditions."""
        return tuple(point for part in self.parts for point in part.points)


class Difference(NamedTuple):
    """A condition in words, as it was and as it is."""

    before: str
    now: str


def differences(before: Conditions, now: Conditions) -> list[Difference]:
    """The conditions that are not the same; one that a side does not know is none, for nothing says that it changed."""
    words = dict(_DEVICE_WORDS)
    if now.device.kind not in ("cpu", "mps"):
        words["total_bytes"] = "{} bytes in all"
    found = [(word, getattr(before.device, name), getattr(now.device, name)) for name, word in words.items()]
    found += [("seed {}", before.seed, now.seed), ("{:g} s a case", before.budget_s, now.budget_s)]
    found += [("{}", before.tool, now.tool)]
    found += [(f"{name} {{}}", before.libraries.get(name), now.libraries.get(name)) for name in now.libraries]
    return [Difference(word.format(a), word.format(b)) for word, a, b in found if None not in (a, b) and a != b]


def matching(record: Record, now: Conditions) -> Part | None:
    """The newest part that was measured under these conditions; None where there is none."""
    return next((part for part in reversed(record.parts) if not differences(part.conditions, now)), None)


def with_part(record: Record, new: Part) -> Record:
    """The record with a part's points in the place of earlier measurements of the same cases. Nothing else is lost."""
    keys = {point.key for point in new.points}
    same = matching(record, new.conditions)
    kept = []
    for part in record.parts:
        points = tuple(point for point in part.points if point.key not in keys)
        if part is same:
            new = new._replace(points=(*points, *new.points))
        elif points:
            kept.append(part._replace(points=points))
    return Record((*kept, new))


def write_record(path: Path, record: Record) -> None:
    """Replace the file. Raises InputError where it cannot be written."""
    parts = [
        {**part.conditions._asdict(), "device": part.conditions.device._asdict(), "when": part.when}
        | {"points": [_plain(point) for point in part.points]}
        for part in record.parts
    ]
    text = json.dumps({"schema": SCHEMA, "parts": parts}, separators=(",", ":"), allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # No time stamp of gzip's: the same record gives the same bytes.
        replace_file(path, gzip.compress(text.encode(), mtime=0))
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
    """Raises InputError for a file that is no record of points, or one of another version of moeplan's."""
    foreign = InputError(
        f"{path} is no record of a profile", hint="name the profile that `moeplan profile` wrote, or leave --resume out"
    )
    try:
        with gzip.open(path, "rb") as file:
            content: Any = json.loads(file.read(MOST_BYTES))
        if content["schema"] != SCHEMA:
            raise InputError(
                f"{path} is no record of a profile that this version reads: {str(content['schema'])[:40]!r}",
                hint="leave --resume out to measure anew",
            )
        return Record(tuple(_part(entry) for entry in content["parts"]))
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


def _part(entry: dict[str, Any]) -> Part:
    conditions = Conditions(
        device=MeasuredDevice(**entry["device"]),
        seed=int(entry["seed"]),
        budget_s=float(entry["budget_s"]),
        tool=str(entry["tool"]),
        libraries={str(name): str(version) for name, version in entry["libraries"].items()},
    )
    if not _WHEN.fullmatch(entry["when"]):
        raise ValueError(entry["when"])
    return Part(conditions, entry["when"], tuple(_point(each) for each in entry["points"]))


def _point(entry: dict[str, Any]) -> Point:
    spread = Spread(**entry["spread"]) if entry["spread"] is not None else None
    if entry["section"] not in SECTIONS:
        raise ValueError(entry["section"])
    return Point(**{**entry, "spread": spread})
