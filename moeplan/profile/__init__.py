"""`moeplan profile`: measure this machine, and keep what was measured for later estimates.

run         cases one after the other
shapes      which experts are measured
kernels     constants of the latency model, refitted
summary     figures out of points
timed       products by which the device's rates can be seen
record      every point in a file beside the profile, with the conditions that it was measured under
resume      what of it need not be measured again
block       what goes into the hardware profile
changes     figures beside those of an older profile
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from moeplan.core.errors import InputError, UnknownError
from moeplan.core.hardware import Hardware
from moeplan.core.measurement import SECTIONS, Effort, MoeShape, Point, Section, Task
from moeplan.core.model import Remark
from moeplan.core.profiled import newest
from moeplan.core.profiled_figures import promised
from moeplan.core.units import gib
from moeplan.measure.interrupts import held_back
from moeplan.profile.block import block_of, holds, is_run, new_profile_text
from moeplan.profile.changes import against as compared_with
from moeplan.profile.changes import changes, figures_of, older_block
from moeplan.profile.kernels import kernel_fits, kernel_notes
from moeplan.profile.record import (
    ENDING,
    PARTIAL,
    Conditions,
    Part,
    Record,
    check_writable,
    read_record,
    with_part,
    write_record,
)
from moeplan.profile.result import SCHEMA, Figure, Problem, Profile
from moeplan.profile.resume import Earlier, cases_words, earlier_run, planned_with, resumed_words
from moeplan.profile.run import DTYPES, Progress, Ran, key_of, not_for, planned, run
from moeplan.profile.shapes import shapes_of
from moeplan.profile.summary import figures, problems
from moeplan.profile.timed import timed
from moeplan.sources.hardware_profiles import find_hardware, read_hardware
from moeplan.sources.loaded import Asked
from moeplan.sources.models import find_model
from moeplan.sources.profile_writing import append_measured, begin_profile, profile_path
from moeplan.version import __version__

if TYPE_CHECKING:
    from moeplan.measure.session import Session

__all__ = ["Profile", "profile"]

EFFORTS: tuple[Effort, ...] = Effort.__args__  # type: ignore[attr-defined]
CASE_SECONDS: dict[Effort, float] = {"quick": 0.1, "default": 0.3, "full": 0.3}
"""How long one case is timed for, about."""
LIBRARIES = ("transformers", "vllm")
"""Whose models and kernels are measured, beside torch's own."""


def profile(
    model: str | Path | None = None,
    *,
    effort: Effort = "default",
    device: str | None = None,
    dtypes: Sequence[str] = (),
    sections: Sequence[Section] = (),
    seed: int = 0,
    name: str | None = None,
    resume: bool = False,
    against: str | Path | None = None,
    profiles: str | Path | Sequence[str | Path] = (),
    offline: bool = False,
    progress: Progress | None = None,
) -> Profile:
    """Measure a device, and append the result to the hardware profile `name` of the user's (by default the device's own).

    `model` gives the shapes of the experts, else built-in ones are measured; `dtypes` are torch's names, empty leaves them
    to each section; `sections` empty is all of them. With `resume` cases are not measured again that the record beside the
    profile holds, if it was measured under the same conditions; where it holds them all, nothing is appended. Under torchrun
    every process measures the links and rank 0 the rest.
    Raises InputError for what was asked wrongly and UnknownError where torch or the device is missing.
    """
    _check(effort, dtypes, sections)
    named = [profiles] if isinstance(profiles, str | Path) else profiles
    if "" in named:
        raise InputError("--profiles names no folder: it is empty", hint="name one, or leave --profiles out")
    folders = tuple(Path(each) for each in named)
    older = _older(against, folders) if against is not None else None
    if find_spec("torch") is None:
        raise UnknownError("torch is not installed, so nothing can be measured", hint="pip install 'moeplan[profile]'")
    with held_back():
        from moeplan.measure.session import open_session

    session = open_session(device, seed)
    session.budget_s = CASE_SECONDS["quick" if session.device.kind == "cpu" else effort]
    base = _base(session.device.name, folders)
    name = name or (base.profile if base is not None else _slug(session.device.name))
    path = profile_path(name, folders)
    points_path, partial = path.with_name(f"{name}{ENDING}"), path.with_name(f"{name}{PARTIAL}")
    _check_owner(name, path, session.device.name, base, folders)
    check_writable(points_path)
    conditions = Conditions(session.device, seed, session.budget_s, f"moeplan {__version__}", _libraries())
    earlier = earlier_run(points_path, partial, conditions) if resume else None
    conditions = conditions._replace(device=planned_with(session.device, earlier))
    block = older_block(older, session.device) if older is not None else None
    shapes = _shapes(model, folders, offline, effort, conditions)
    asked = _Asked(effort, shapes, tuple(dtypes), tuple(sections))
    ran = _measured(session, conditions, asked, earlier, partial, progress)
    # Where nothing was new the figures are of the earlier run's time.
    when = earlier.when if earlier is not None and not ran.num_measured else _now()
    if ran.complete and _rank() == 0:
        known = {**(earlier.known if earlier is not None else {}), **{point.key: point for point in ran.points}}
        complete = _record_of(points_path, session)
        write_record(points_path, with_part(complete, Part(conditions, when, tuple(known.values()))))
        partial.unlink(missing_ok=True)
    kept = [each for each in ((points_path,) if ran.complete else (partial, points_path)) if each.exists()]
    found = Profile(
        schema=SCHEMA,
        device=session.device,
        effort=effort,
        seed=seed,
        date=when.partition("T")[0],
        time=when.partition("T")[2],
        tool=conditions.tool,
        rank=_rank(),
        complete=ran.complete,
        num_points=len(ran.points),
        num_taken=ran.num_taken,
        figures=_promised(figures(ran.points), base),
        kernels=kernel_fits(ran.points),
        problems=_problems(ran.points, session),
        profile=name,
        path=None,
        points_path=str(kept[0]) if kept and ran.points else None,
        against=None,
        changes=None,
        notes=(
            *(Remark("measured", "warning", text) for text in session.remarks),
            *(kernel_notes(ran.points) if ran.complete else ()),
        ),
        timed=timed(ran.points),
    )
    if older is not None and block is not None:
        found = _compared(found, older.profile, block, earlier if ran.num_taken else None)
    if ran.complete and not found.figures:
        told = "none of these sections has a figure of its own: the cases are in the file beside the profile"
        found = _noted(found, "no-figures", told)
    told_before = (
        ran.complete and not ran.num_measured and ran.num_taken > 0 and holds(path, found.figures, when, points_path)
    )
    if earlier is not None and ran.points:
        failed = sum(problem.not_for is None for problem in found.problems)
        found = _noted(found, "resumed", resumed_words(ran, failed, earlier, told_before=told_before))
    if told_before:
        return found._replace(path=str(path))
    if not ran.complete or not found.first or not found.figures:
        return found
    if base is None:
        base = read_hardware(path) if path.exists() else begin_profile(name, new_profile_text(session.device), folders)
    written = append_measured(name, base, block_of(found, points_path), folders)
    return found._replace(path=str(written))


class _Asked(NamedTuple):
    """What is measured."""

    effort: Effort
    shapes: tuple[MoeShape, ...]
    dtypes: tuple[str, ...]
    sections: tuple[Section, ...]


def _check(effort: str, dtypes: Sequence[str], sections: Sequence[str]) -> None:
    if effort not in EFFORTS:
        raise InputError(f"effort {effort!r} is none", hint=f"one of {', '.join(EFFORTS)}")
    for section in sections:
        if section not in SECTIONS[1:]:
            raise InputError(f"{section!r} is no section of a profile", hint=f"sections: {', '.join(SECTIONS[1:])}")
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise InputError(f"dtype {dtype!r} cannot be measured", hint=f"dtypes: {', '.join(DTYPES)}")


def _older(against: str | Path, folders: Sequence[Path]) -> Hardware:
    """The hardware profile to compare with: a file, or a name."""
    path = Path(against)
    return read_hardware(path) if path.is_file() else find_hardware(str(against), folders)[0]


def _base(device_name: str, folders: Sequence[Path]) -> Hardware | None:
    """The profile of a device by its driver's name; None where nobody has one."""
    try:
        return find_hardware(device_name, folders)[0]
    except InputError:
        return None


def _check_owner(name: str, path: Path, device_name: str, base: Hardware | None, folders: Sequence[Path]) -> None:
    """Raises InputError where that name is another device's: measured on it, or describing it."""
    there = read_hardware(path) if path.exists() else _base(name, folders)
    if there is None:
        return
    block = newest(there.measured)
    owner = (block.get("device") or {}).get("name") if block is not None else None
    card = (base.architecture, base.nominal_bytes) if base is not None else None
    same = owner == device_name if owner else card == (there.architecture, there.nominal_bytes)
    if not same and (owner or base is not None or not path.exists()):
        told = f"was measured on {owner}" if owner else f"is {there.name}"
        raise InputError(f"{name} {told}, and this is {device_name}", hint="name another profile with --name")


def _slug(device_name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", device_name.lower()).strip("-")[:100] or "device"


def _libraries() -> Mapping[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _record_of(path: Path, session: Session) -> Record:
    """The record beside the profile; an empty one where there is none or where nobody can read it, which is told."""
    try:
        return read_record(path)
    except InputError as error:
        if path.exists():
            session.remark(f"{error.message}: it was replaced")
        return Record(())


def _promised(found: Sequence[Figure], base: Hardware | None) -> tuple[Figure, ...]:
    """Each beside what the specification promises, where the device has one."""
    return tuple(each if base is None else each._replace(nominal=promised(each.name, base)) for each in found)


def _problems(points: Sequence[Point], session: Session) -> tuple[Problem, ...]:
    failed = [point for point in points if point.problem is not None]
    return tuple(
        problem._replace(dtype=point.dtype, not_for=not_for(point, session.device))
        for point, problem in zip(failed, problems(failed), strict=True)
    )


def _noted(found: Profile, code: str, message: str) -> Profile:
    return found._replace(notes=(*found.notes, Remark(code, "info", message)))


def _compared(found: Profile, older: str, block: Mapping[str, Any], earlier: Earlier | None) -> Profile:
    """With what has changed since the older run, where that is not the run that this one goes on with."""
    if earlier is not None and is_run(block, found.figures, earlier.when):
        told = f"the newest run in {older} is the one that this run goes on with, so there is nothing to compare"
        return _noted(found, "against-itself", f"{told}; without --resume it is measured anew and compared")
    changed = changes(block, found.figures)
    found = found._replace(changes=changed, against=compared_with(older, block, changed))
    if not changed and found.figures:
        told = f"no figure of this run is in the newest run of {older}, so there is nothing to compare"
        has = ", ".join(map(str, figures_of(block))) or "no figures"
        found = _noted(found, "nothing-to-compare", f"{told}: that one has {has}")
    return found


def _shapes(
    model: str | Path | None, folders: tuple[Path, ...], offline: bool, effort: Effort, conditions: Conditions
) -> tuple[MoeShape, ...]:
    if model is None:
        from moeplan.measure.shapes import builtin_shapes

        return builtin_shapes(effort, conditions.device)
    loaded = find_model(str(model), Asked(None, offline, False, None, folders))
    return shapes_of(loaded.spec, loaded.id)


def _measured(
    session: Session,
    conditions: Conditions,
    asked: _Asked,
    earlier: Earlier | None,
    partial: Path,
    progress: Progress | None,
) -> Ran:
    """All cases; links come first, because the other processes of a torchrun are done after them."""
    from moeplan.measure import SECTION_MODULES, links
    from moeplan.measure.throttling import loaded_clock_mhz, slowed

    first, known = _rank() == 0, earlier.known if earlier is not None else {}
    wanted = [section for section in ("links", *SECTION_MODULES) if not asked.sections or section in asked.sections]
    order = list(dict.fromkeys(section for section in wanted if first or section == "links"))
    tasks = planned(asked.effort, asked.shapes, asked.dtypes, conditions.device, order)
    if not tasks and first:
        raise InputError(
            f"nothing of {', '.join(wanted)} can be measured so",
            hint="links need several processes (torchrun --nproc-per-node 2 -m moeplan profile ...), models more than --quick",
        )
    if earlier is not None and first:
        _tell_stranded(session, asked, order, tasks, earlier)
    before = loaded_clock_mhz(session) if first else None

    def keep(points: Sequence[Point]) -> None:
        if first and points:
            write_record(partial, Record((Part(conditions, _now(), tuple(points)),)))

    # Collectives are measured by all processes or by none, so what rank 0 knows of them does not count.
    mine = {key: point for key, point in known.items() if links.world_size() == 1 or point.section != "links"}
    ran = run(tasks, session, mine, keep, progress if first else None)
    links.leave()
    told = slowed(before, loaded_clock_mhz(session)) if first and ran.complete else None
    if told is not None:
        session.remark(told)
    if ran.num_left and ran.complete:
        session.remark(f"the time was over: {ran.num_left} cases were left out")
    return ran


def _tell_stranded(
    session: Session, asked: _Asked, order: Sequence[Section], tasks: Sequence[Task], earlier: Earlier
) -> None:
    """Tells how many cases of the earlier run would be planned with the free bytes of then, and are not with those of now."""
    then = planned(asked.effort, asked.shapes, asked.dtypes, earlier.device, order)
    lost = {key for task in then if (key := key_of(task)) in earlier.known} - set(map(key_of, tasks))
    if lost:
        free = [gib(each.free_bytes or 0) for each in (earlier.device, session.device)]
        told = f"they were planned for {free[0]} free, and {free[1]} are free now"
        session.remark(f"{cases_words(len(lost))} of the earlier run no longer belong to what is measured: {told}")


def _rank() -> int:
    """Rank 0 tells and writes."""
    from moeplan.measure import links

    return links.rank()
