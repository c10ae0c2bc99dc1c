"""The record of points: what is written comes back, and files that are none are an error in words."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from moeplan.core.errors import InputError
from moeplan.core.measurement import MeasuredDevice, Point, Spread
from moeplan.profile.changes import changes
from moeplan.profile.record import Record, read_record, write_record
from moeplan.profile.result import Figure
from moeplan.sources.hardware_profiles import read_hardware

DEVICE = MeasuredDevice("cpu", "A CPU", "2.13.0", *(None,) * 12)
POINTS = (
    Point("matmul", "torch.matmul", "bfloat16", {"m": 1, "n": 2}, Spread(1.0, 0.5, 2.0, 20), {"flops_per_s": 4.0}),
    Point(
        "experts",
        "loop",
        "bfloat16",
        {"tokens": 1, "routing": "uniform", "latent_size": None, "gated": True},
        problem="no",
    ),
)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.points.json.gz"
    write_record(path, Record(DEVICE, 3, POINTS))
    assert read_record(path) == Record(DEVICE, 3, POINTS)
    assert [point.key for point in read_record(path).points] == [point.key for point in POINTS]
    first = path.read_bytes()
    write_record(path, Record(DEVICE, 3, POINTS))
    assert path.read_bytes() == first
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"[]"), gzip.compress(b'{"schema": "moeplan.points/9"}'), gzip.compress(b"{")],
)
def test_a_foreign_file_is_said_to_be_one(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.points.json.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="no record of a profile"):
        read_record(path)


def test_a_section_that_nobody_knows_is_foreign(tmp_path: Path) -> None:
    path = tmp_path / "a.points.json.gz"
    write_record(path, Record(DEVICE, 0, POINTS))
    content = json.loads(gzip.decompress(path.read_bytes()))
    content["points"][0]["section"] = "kitchen"
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    with pytest.raises(InputError, match="no record of a profile"):
        read_record(path)


def test_changes_beyond_the_noise(tmp_path: Path) -> None:
    path = tmp_path / "older.yaml"
    path.write_text(
        "schema: 1\nname: A CPU\nmeasured:\n- kind: profile\n  date: '2026-01-01'\n  device: {name: A CPU}\n  figures:\n"
        "    read_bytes_per_s: {value: 100.0, low: 90.0, high: 110.0}\n"
        "    copy_bytes_per_s: {value: 100.0, low: 90.0, high: 110.0}\n",
        encoding="utf-8",
    )
    now = (
        Figure("read_bytes_per_s", "read", "bytes/s", 104.0, 95.0, 112.0, ""),
        Figure("copy_bytes_per_s", "copy", "bytes/s", 80.0, 75.0, 85.0, ""),
        Figure("new_bytes_per_s", "new", "bytes/s", 1.0, 1.0, 1.0, ""),
    )
    read, copy = changes(read_hardware(path), DEVICE, now)
    assert not read.beyond_noise
    assert read.change == pytest.approx(0.04)
    assert copy.beyond_noise
    assert copy.change == pytest.approx(-0.2)
    with pytest.raises(InputError, match="was measured on A CPU, and this is B"):
        changes(read_hardware(path), DEVICE._replace(name="B"), now)
