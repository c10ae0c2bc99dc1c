"""What a run takes from an earlier one: under the same conditions alone, and the shapes that were planned then."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from moeplan.core.errors import InputError
from moeplan.core.measurement import MoeShape, Point, Spread
from moeplan.profile import _Asked, _tell_stranded
from moeplan.profile.record import Conditions, Part, Record, write_record
from moeplan.profile.resume import Earlier, earlier_run, planned_with, resumed_words
from moeplan.profile.run import Ran, key_of, planned
from tests.profile.test_record import CONDITIONS, GPU, POINTS, WHEN

LATER = "2026-11-26T00:00:00Z"
TIMED = POINTS[0]


def keep(path: Path, *points: Point, when: str = WHEN, under: Conditions = CONDITIONS) -> None:
    write_record(path, Record((Part(under, when, points),)))


def test_an_interrupted_run_comes_before_the_complete_record(tmp_path: Path) -> None:
    complete, partial = tmp_path / "a.points.json.gz", tmp_path / "a.points.partial.json.gz"
    with pytest.raises(InputError, match=r"there is no .*a\.points\.json\.gz to go on with"):
        earlier_run(complete, partial, CONDITIONS)
    keep(complete, TIMED, POINTS[1]._replace(problem=None))
    newer = TIMED._replace(values={"flops_per_s": 5.0})
    keep(partial, newer, when=LATER)
    found = earlier_run(complete, partial, CONDITIONS)
    assert found.known == {newer.key: newer, POINTS[1].key: POINTS[1]._replace(problem=None)}
    assert found.when == LATER
    partial.unlink()
    assert earlier_run(complete, partial, CONDITIONS).when == WHEN


def test_cases_without_a_figure_are_tried_again(tmp_path: Path) -> None:
    complete = tmp_path / "a.points.json.gz"
    keep(complete, *POINTS)
    assert set(earlier_run(complete, tmp_path / "none", CONDITIONS).known) == {TIMED.key}


@pytest.mark.parametrize("interrupted", [False, True])
def test_other_conditions_are_told_with_a_way_out(interrupted: bool, tmp_path: Path) -> None:
    complete, partial = tmp_path / "a.points.json.gz", tmp_path / "a.points.partial.json.gz"
    keep(partial if interrupted else complete, TIMED)
    now = CONDITIONS._replace(device=GPU._replace(driver_version="590.2", power_limit_w=500.0), budget_s=0.1)
    with pytest.raises(InputError) as error:
        earlier_run(complete, partial, now)
    assert "with driver 580.1, 700 W at most, 0.3 s a case, and this run is with driver 590.2, 500 W" in str(
        error.value
    )
    assert "leave --resume out" in error.value.hint


def test_the_part_of_the_same_conditions_counts_whichever_is_newer(tmp_path: Path) -> None:
    complete, other = tmp_path / "a.points.json.gz", CONDITIONS._replace(seed=9)
    write_record(complete, Record((Part(CONDITIONS, WHEN, (TIMED,)), Part(other, LATER, POINTS))))
    assert earlier_run(complete, tmp_path / "none", CONDITIONS).when == WHEN


# Shapes follow the free bytes -------------------------------------------------------------------------------------

BIG = MoeShape("big", 4096, 14336, 8, 2)  # 2.8 GB of weights in 16 bits
GIB = 2**30


def earlier(free_bytes: int | None) -> Earlier:
    return Earlier({}, WHEN, GPU._replace(free_bytes=free_bytes))


def test_the_shapes_of_then_are_planned_while_they_fit() -> None:
    # Two fifths of 6.6 GiB hold the 2.63 GiB of all eight experts, and of 6.5 GiB only four of them.
    then, now = GPU._replace(free_bytes=66 * GIB // 10), GPU._replace(free_bytes=65 * GIB // 10)
    keys = [
        {key_of(task) for task in planned("default", (BIG,), (), device, ["experts"])}
        for device in (then, now, planned_with(now, earlier(then.free_bytes)))
    ]
    assert keys[0] != keys[1]
    assert keys[0] == keys[2]


@pytest.mark.parametrize(("then", "now", "free"), [(100, 80, 100), (100, 79, 79), (100, 120, 100), (None, 50, 50)])
def test_shapes_that_fit_no_more_are_not(then: int | None, now: int, free: int) -> None:
    assert planned_with(GPU._replace(free_bytes=now), earlier(then)).free_bytes == free
    assert planned_with(GPU._replace(free_bytes=now), None).free_bytes == now


class FakeSession:
    """A session as far as it is told something."""

    def __init__(self, free_bytes: int) -> None:
        self.device = GPU._replace(free_bytes=free_bytes)
        self.remarks: list[str] = []

    def remark(self, text: str) -> None:
        self.remarks.append(text)


@pytest.mark.parametrize("free_gib", [30, 3])
def test_cases_that_no_longer_belong_are_counted(free_gib: int) -> None:
    asked = _Asked("quick", (BIG,), ("bfloat16",), ("experts",))
    then = GPU._replace(free_bytes=30 * GIB)
    session = FakeSession(free_gib * GIB)
    known = {
        key_of(task): Point(*task[:4], spread=Spread(1.0, 1.0, 1.0, 3))
        for task in planned("quick", (BIG,), ("bfloat16",), then, ["experts"])
    }
    tasks = planned("quick", (BIG,), ("bfloat16",), session.device, ["experts"])
    _tell_stranded(session, asked, ["experts"], tasks, Earlier(known, WHEN, then))  # type: ignore[arg-type]
    # Every case of experts names its shape, which has fewer experts now.
    told = f"{len(known)} cases of the earlier run no longer belong to what is measured: they were planned for 30.0 GiB free"
    assert session.remarks == ([] if free_gib == 30 else [f"{told}, and 3.0 GiB are free now"])


def test_words() -> None:
    ran = Ran((TIMED,) * 5, True, 0, 3, 1)
    told = resumed_words(ran, 1, earlier(None), told_before=False)
    assert (
        told
        == "3 cases taken from the run of 2026-11-25 12:34:56Z, 1 case measured now; 1 case without a figure was tried again"
    )
    told = resumed_words(ran._replace(num_measured=0), 0, earlier(None), told_before=True)
    assert told.startswith("everything was measured already on 2026-11-25 12:34:56Z, and nothing was added")
    assert told.endswith("leave --resume out to measure anew")
