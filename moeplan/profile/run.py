"""Cases of all sections in their order, one after the other: what was measured is kept whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from moeplan.core.measurement import CaseValue, Effort, MeasuredDevice, MoeShape, Point, Section, Task

if TYPE_CHECKING:
    from moeplan.measure.session import Session

Progress = Callable[[float, float, str], None]
"""Told seconds that the finished cases were expected to take, those of all, and what runs now."""

Key = tuple[str, str, str, tuple[tuple[str, CaseValue], ...]]


class Enough(Exception):  # noqa: N818 - no error: the caller's time is over
    """Raised by a `progress` whose caller has no more time: what was measured is the result."""


class Ran(NamedTuple):
    """What came of a run."""

    points: tuple[Point, ...]
    complete: bool
    """False where it was interrupted."""
    num_left: int = 0
    """Cases that the caller had no time for."""


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

    points: list[Point] = []
    everything = dict(known)
    whole = sum(task.expected_s for task in tasks)
    done = 0.0
    try:
        for place, task in enumerate(tasks):
            if progress is not None:
                progress(done, whole, f"{task.section}: {task.backend}")
            point = known.get(key_of(task))
            points.append(point if point is not None else load(task.section).measure(task, session))
            everything[key_of(task)] = points[-1]
            done += task.expected_s
            if place + 1 == len(tasks) or tasks[place + 1].section != task.section:
                keep(tuple(everything.values()))
    except (KeyboardInterrupt, Enough) as stopped:
        keep(tuple(everything.values()))
        found = tuple(everything[key] for key in map(key_of, tasks) if key in everything)
        return Ran(found, isinstance(stopped, Enough), len(tasks) - len(found))
    if progress is not None:
        progress(whole, whole, "")
    return Ran(tuple(points), complete=True)


def key_of(task: Task) -> Key:
    """As `Point.key`."""
    return Point(task.section, task.backend, task.dtype, task.case).key
