"""Cases of all sections in their order, one after the other: what was measured is kept whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from moeplan.core.measurement import CaseValue, Effort, MeasuredDevice, MoeShape, Point, Section, Task

if TYPE_CHECKING:
    from moeplan.measure.session import Session

Progress = Callable[[float, float, str], None]
"""Told seconds that the finished cases were expected to take, those of all, and what runs now."""

Key = tuple[str, str, str, tuple[tuple[str, CaseValue], ...]]

DTYPES = ("bfloat16", "float16", "float32", "tf32", "float8_e4m3fn", "int8")
"""As `measure.session.DTYPES`, which needs torch to be read."""


class Enough(Exception):  # noqa: N818 - no error: the caller's time is over
    """Raised by a `progress` whose caller has no more time: what was measured is the result."""


class Ran(NamedTuple):
    """What came of a run."""

    points: tuple[Point, ...]
    complete: bool
    """False where it was interrupted."""
    num_left: int
    """Cases that the caller had no time for."""
    num_taken: int
    """Of the points, those that were known."""
    num_measured: int
    """Of the points, those that this run gave a figure; what is still missing has failed."""


def planned(
    effort: Effort,
    shapes: tuple[MoeShape, ...],
    dtypes: tuple[str, ...],
    device: MeasuredDevice,
    sections: Iterable[Section],
) -> list[Task]:
    """Every case of these sections."""
    from moeplan.measure import load

    return [task for section in sections for task in load(section).plan(effort, shapes, dtypes, device)]


def run(
    tasks: Sequence[Task],
    session: Session,
    known: Mapping[Key, Point],
    keep: Callable[[Sequence[Point]], None],
    progress: Progress | None,
) -> Ran:
    """Measure what is not `known` yet. `keep` gets everything that is known after every section, and at the end.

    Points of other cases that were known before are kept, and take no part in the result.
    """
    from moeplan.measure import load

    everything = dict(known)
    whole = sum(task.expected_s for task in tasks)
    done, new = 0.0, False
    stopped: BaseException | None = None
    try:
        for place, task in enumerate(tasks):
            if progress is not None:
                progress(done, whole, f"{task.section}: {task.backend}")
            if key_of(task) not in known:
                everything[key_of(task)] = load(task.section).measure(task, session)
                new = True
            done += task.expected_s
            if new and (place + 1 == len(tasks) or tasks[place + 1].section != task.section):
                keep(tuple(everything.values()))
    except (KeyboardInterrupt, Enough) as error:
        stopped = error
        if new:
            keep(tuple(everything.values()))
    if progress is not None and stopped is None:
        progress(whole, whole, "")
    asked = dict.fromkeys(map(key_of, tasks))
    found = [key for key in asked if key in everything]
    return Ran(
        points=tuple(everything[key] for key in found),
        complete=not isinstance(stopped, KeyboardInterrupt),
        num_left=len(asked) - len(found),
        num_taken=sum(key in known for key in found),
        num_measured=sum(key not in known and everything[key].problem is None for key in found),
    )


def key_of(task: Task) -> Key:
    """As `Point.key`."""
    return Point(task.section, task.backend, task.dtype, task.case).key


def not_for(point: Point, device: MeasuredDevice) -> Literal["device", "dtype"] | None:
    """Why an expert backend refused a case before it was run: it is not for this device, or not for this dtype on it.

    None where it would run, so that the point's problem is one, and where the refusal has a way out: to install it or a newer
    torch. On the host what would have to be installed is for GPUs alone.
    """
    from moeplan.measure import experts

    if point.problem is None or point.backend not in experts.BACKENDS:
        return None
    refusal = experts.load(point.backend).available
    if refusal(device, point.dtype) != point.problem:
        return None
    if " has no " in point.problem or (device.kind in ("cuda", "rocm") and "not installed" in point.problem):
        return None
    return "dtype" if any(refusal(device, dtype) is None for dtype in DTYPES) else "device"
