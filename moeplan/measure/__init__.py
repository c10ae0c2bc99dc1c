"""Times and sizes on a device: the only folder that imports torch, and only when something is measured.

Each section is one module with the functions of `SectionModule`; `SECTION_MODULES` names them. A module plans its cases
without touching the device, and measures one case at a time, so that a profile can show progress, stop and go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from moeplan.core.measurement import Effort, MeasuredDevice, MoeShape, Point, Section, Task

if TYPE_CHECKING:
    from moeplan.measure.session import Session

SECTION_MODULES: dict[Section, str] = {
    "bandwidth": "bandwidth",
    "host": "host",
    "matmul": "matmul",
    "router": "router_times",
    "experts": "expert_times",
    "attention": "attention",
    "layer": "layer",
    "memory": "memory",
    "models": "models",
    "links": "links",
}
"""Section to module, in the order in which they run; `device` is asked by `session.open_session`."""


class SectionModule(Protocol):
    """What every module of a section offers."""

    def plan(
        self, effort: Effort, shapes: tuple[MoeShape, ...], dtypes: tuple[str, ...], device: MeasuredDevice
    ) -> Iterator[Task]:
        """The cases worth measuring, each once, in the order in which they should run; no device is touched."""

    def measure(self, task: Task, session: Session) -> Point:
        """One case. What goes wrong with it (out of memory, unsupported) is a point with a `problem`, never an error."""


def load(section: Section) -> SectionModule:
    """The module of a section."""
    return cast(SectionModule, import_module(f"moeplan.measure.{SECTION_MODULES[section]}"))
