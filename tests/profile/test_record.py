"""The record of points: what is written comes back, and files that are none are an error in words."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from moeplan.core.errors import InputError
from moeplan.core.measurement import MeasuredDevice, Point, Spread
from moeplan.profile.record import (
    Conditions,
    Part,
    Record,
    differences,
    matching,
    read_record,
    with_part,
    write_record,
)  # fmt: skip

GPU = MeasuredDevice(
    kind="cuda", name="A GPU", torch_version="2.11.0", runtime_version="13.0", driver_version="580.1", compute_capability="9.0",
    total_bytes=80 * 2**30, free_bytes=79 * 2**30, l2_bytes=2**26, multiprocessors=132, sm_clock_mhz=1980,
    memory_clock_mhz=3201, power_limit_w=700.0, host_bytes=2**40, num_threads=16,
)  # fmt: skip
CONDITIONS = Conditions(GPU, 3, 0.3, "moeplan 1", {"vllm": "0.19"})
WHEN = "2026-11-25T12:34:56Z"
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
    record = Record((Part(CONDITIONS, WHEN, POINTS),))
    write_record(path, record)
    assert read_record(path) == record
    assert [point.key for point in read_record(path).points] == [point.key for point in POINTS]
    first = path.read_bytes()
    write_record(path, record)
    assert path.read_bytes() == first
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        gzip.compress(b"[]", mtime=0),
        gzip.compress(b'{"schema": "moeplan.points/9"}', mtime=0),
        gzip.compress(b"{", mtime=0),
    ],
)
def test_a_foreign_file_is_said_to_be_one(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.points.json.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="no record of a profile"):
        read_record(path)


@pytest.mark.parametrize(
    ("field", "wrong"), [("section", "kitchen"), ("when", "yesterday"), ("device", {"kind": "cpu"})]
)
def test_what_nobody_knows_is_foreign(field: str, wrong: object, tmp_path: Path) -> None:
    path = tmp_path / "a.points.json.gz"
    write_record(path, Record((Part(CONDITIONS, WHEN, POINTS),)))
    content = json.loads(gzip.decompress(path.read_bytes()))
    (part,) = content["parts"]
    (part["points"][0] if field == "section" else part)[field] = wrong
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    with pytest.raises(InputError, match="no record of a profile"):
        read_record(path)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (CONDITIONS._replace(device=GPU._replace(driver_version="590.2")), ("driver 580.1", "driver 590.2")),
        (CONDITIONS._replace(device=GPU._replace(power_limit_w=500.0)), ("700 W at most", "500 W at most")),
        (CONDITIONS._replace(device=GPU._replace(torch_version="2.12.0")), ("torch 2.11.0", "torch 2.12.0")),
        (CONDITIONS._replace(device=GPU._replace(name="B")), ("A GPU", "B")),
        (CONDITIONS._replace(device=GPU._replace(num_threads=1)), ("16 threads", "1 threads")),
        (CONDITIONS._replace(device=GPU._replace(total_bytes=75 * 2**30)), (f"{80 * 2**30} bytes in all", None)),
        (CONDITIONS._replace(seed=4), ("seed 3", "seed 4")),
        (CONDITIONS._replace(budget_s=0.1), ("0.3 s a case", "0.1 s a case")),
        (CONDITIONS._replace(tool="moeplan 2"), ("moeplan 1", "moeplan 2")),
        (CONDITIONS._replace(libraries={"vllm": "0.20"}), ("vllm 0.19", "vllm 0.20")),
    ],
)
def test_what_times_depend_on_is_compared(now: Conditions, told: tuple[str, str | None]) -> None:
    (found,) = differences(CONDITIONS, now)
    assert found.before == told[0]
    assert told[1] in (None, found.now)


@pytest.mark.parametrize(
    "now",
    [
        CONDITIONS,
        CONDITIONS._replace(device=GPU._replace(free_bytes=1, host_bytes=1)),
        # Unknown on one side: nothing says that it changed.
        CONDITIONS._replace(device=GPU._replace(power_limit_w=None, driver_version=None)),
        CONDITIONS._replace(libraries={}),
        CONDITIONS._replace(libraries={"vllm": "0.19", "transformers": "5"}),
    ],
)
def test_what_changes_no_time_is_not(now: Conditions) -> None:
    assert differences(CONDITIONS, now) == []
    assert differences(now, CONDITIONS) == []


def test_a_part_takes_the_place_of_the_same_cases_and_of_nothing_else() -> None:
    other = CONDITIONS._replace(device=GPU._replace(driver_version="570"))
    matmul, experts = POINTS
    old = Record((Part(other, WHEN, POINTS), Part(CONDITIONS, WHEN, (experts,))))
    newer = matmul._replace(values={"flops_per_s": 5.0})
    found = with_part(old, Part(CONDITIONS, "2026-11-26T00:00:00Z", (newer,)))
    assert found.parts == (
        Part(other, WHEN, (experts,)),
        Part(CONDITIONS, "2026-11-26T00:00:00Z", (experts, newer)),
    )
    assert matching(found, other) == found.parts[0]
    assert matching(found, CONDITIONS._replace(seed=9)) is None


def test_a_record_of_another_version_says_which(tmp_path: Path) -> None:
    path = tmp_path / "a.points.json.gz"
    path.write_bytes(gzip.compress(b'{"schema": "moeplan.points/1", "points": []}', mtime=0))
    with pytest.raises(InputError, match="that this version reads: 'moeplan"):
        read_record(path)
