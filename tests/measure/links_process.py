"""One of the processes of `test_links`: measures a few collectives and, as rank 0, writes them to the file given."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from moeplan.core.measurement import CaseValue, Point, Task
from moeplan.core.units import MIB
from moeplan.measure import links
from moeplan.measure.session import open_session

RANK, WORLD = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
LAST = WORLD - 1
LARGE = 64 * MIB

torch.set_num_threads(1)
session = open_session("cpu", 0)
tasks = [task for task in links.plan("quick", (), (), session.device) if int(task.case["bytes"] or 0) <= 2**16]
found: dict[str, list[Point]] = {}


def measure(name: str, **case: CaseValue) -> None:
    """One case on every rank: the all-reduce of the plan with other values."""
    task = Task("links", "gloo", "float32", {**tasks[0].case, **case})
    found.setdefault(name, []).append(links.measure(task, session))


@contextmanager
def memory_of(num_bytes: int) -> Iterator[None]:
    """The system grants this process so much more address space and no more."""
    import resource

    taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def failing_at(place: int) -> Iterator[None]:
    """The call of a collective fails before it begins, at this place in the order of calls: nothing reaches the others."""
    module: Any = links
    prepare = module._prepare

    def prepared(*arguments: object) -> tuple[Callable[[], object], Callable[[], bool]]:
        call, is_right = prepare(*arguments)
        calls = iter(range(place + 1))

        def counted() -> object:
            if next(calls) == place:
                raise RuntimeError(f"call {place} is refused")
            return call()

        return counted, is_right

    module._prepare = prepared
    try:
        yield
    finally:
        module._prepare = prepare


for task in tasks:
    found.setdefault("plan", []).append(links.measure(task, session))

# Each of these is met by the last rank alone. All must leave the case together, and the next one must work.
measure("too large", bytes=2**44 if RANK == LAST else 2**10)
measure("after")
for factor in (0.5, 1.5) if sys.platform == "linux" else ():
    if RANK == LAST:
        with memory_of(int(factor * LARGE)):
            measure("no memory", bytes=LARGE)
    else:
        measure("no memory", bytes=LARGE)
    measure("after")
for place in (0, 2, 10):  # the first call, one of the warm-up, one that is timed
    if RANK == LAST:
        with failing_at(place):
            measure("refused", bytes=MIB)
    else:
        measure("refused", bytes=MIB)
    measure("after")
session.lost = "the device failed in an earlier case" if RANK == LAST else None
measure("lost")
still_lost, session.lost = session.lost, None
measure("after")
assert (still_lost is not None) == (RANK == LAST)
links.leave()
if RANK == 0:
    rows = {
        name: [{**point._asdict(), "spread": point.spread and point.spread._asdict()} for point in points]
        for name, points in found.items()
    }
    Path(sys.argv[1]).write_text(json.dumps(rows), encoding="utf-8")
