"""What an earlier run left, and what of it a run under the same conditions need not measure again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.measurement import MeasuredDevice, Point
from moeplan.profile.record import Conditions, Part, Record, differences, matching, read_record
from moeplan.profile.run import Key, Ran

LEAST_FREE_FRACTION = 4 / 5
"""Of the bytes that were free then, for shapes of then: their weights took two fifths (`measure.shapes.fitted`), so that half
of what is free now is left for copies and work space."""


class Earlier(NamedTuple):
    """An earlier run that this one goes on with."""

    known: Mapping[Key, Point]
    """Cases with a figure; those without one are tried again."""
    when: str
    """UTC, when the last of them was measured."""
    device: MeasuredDevice
    """As it was then."""


def earlier_run(complete: Path, partial: Path, now: Conditions) -> Earlier:
    """The cases of the record, and before them those of a run that was interrupted.

    Raises InputError where there is no record, or none that was measured under the conditions of `now`.
    """
    parts: list[Part] = []
    if complete.exists() or not partial.exists():
        record = read_record(complete)
        same = matching(record, now)
        if same is None and not partial.exists():
            raise _elsewhere(complete, record, now)
        parts += [same] if same is not None else []
    if partial.exists():
        record = read_record(partial)
        same = matching(record, now)
        if same is None:
            raise _elsewhere(partial, record, now)
        parts.append(same)
    known = {point.key: point for part in parts for point in part.points if point.problem is None}
    return Earlier(known, parts[-1].when, parts[-1].conditions.device)


def planned_with(device: MeasuredDevice, earlier: Earlier | None) -> MeasuredDevice:
    """The device that cases are planned for: with the free bytes of the earlier run while its shapes still fit.

    Some sizes and shapes follow the free bytes, and with others of them no case of the earlier run would be found again.
    """
    then = earlier.device.free_bytes if earlier is not None else None
    if then is None or device.free_bytes is None or device.free_bytes < LEAST_FREE_FRACTION * then:
        return device
    return device._replace(free_bytes=then)


def _elsewhere(path: Path, record: Record, now: Conditions) -> InputError:
    if not record.parts:
        return InputError(f"{path} holds no case to go on with", hint="leave --resume out")
    found = differences(record.parts[-1].conditions, now)
    before, after = (", ".join(each) for each in zip(*found, strict=True))
    return InputError(
        f"{path.name} was measured with {before}, and this run is with {after}",
        hint="leave --resume out to measure anew, or name another profile with --name",
    )


def resumed_words(ran: Ran, failed: int, earlier: Earlier, *, told_before: bool) -> str:
    """What of a run was measured earlier and what now, in one sentence; `told_before` where its profile has it all."""
    again = f"; {cases_words(failed)} without a figure {'was' if failed == 1 else 'were'} tried again" if failed else ""
    then = _when_words(earlier.when)
    if told_before:
        told = f"everything was measured already on {then}, and nothing was added to the profile"
        return f"{told}{again}; leave --resume out to measure anew"
    return f"{cases_words(ran.num_taken)} taken from the run of {then}, {cases_words(ran.num_measured)} measured now{again}"


def cases_words(number: int) -> str:
    """`1 case`, `2,000 cases`."""
    return f"{number:,} {'case' if number == 1 else 'cases'}"


def _when_words(when: str) -> str:
    return when.replace("T", " ", 1)
