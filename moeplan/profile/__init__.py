"""`moeplan profile`: measure this machine, and keep what was measured for later estimates.

run       cases one after the other
shapes    which experts are measured
kernels   constants of the latency model, refitted
summary   figures out of points
record    every point in a file beside the profile
block     what goes into the hardware profile
changes   figures beside those of an older profile
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from moeplan.core.errors import InputError, UnknownError
from moeplan.core.hardware import Hardware
from moeplan.core.measurement import SECTIONS, Effort, MoeShape, Point, Section
from moeplan.core.model import Remark
from moeplan.core.profiled import newest
from moeplan.profile.block import block_of, new_profile_text
from moeplan.profile.changes import changes
from moeplan.profile.kernels import kernel_fits, kernel_notes
from moeplan.profile.record import ENDING, PARTIAL, Record, check_writable, read_record, write_record
from moeplan.profile.result import SCHEMA, Profile
from moeplan.profile.run import Key, Progress, Ran, planned, run
from moeplan.profile.shapes import shapes_of
from moeplan.profile.summary import figures, problems
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
    to each section; `sections` empty is all of them. With `resume` cases that the record beside the profile holds are not
    measured again. Under torchrun every process measures the links and rank 0 the rest.
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
    from moeplan.measure.session import open_session

    session = open_session(device, seed)
    session.budget_s = CASE_SECONDS["quick" if session.device.kind == "cpu" else effort]
    base = _base(session.device.name, folders)
    name = name or (base.profile if base is not None else _slug(session.device.name))
    path = profile_path(name, folders)
    points_path = path.with_name(f"{name}{ENDING}")
    _check_owner(name, path, session.device.name, base, folders)
    check_writable(points_path)
    partial = points_path.with_name(f"{name}{PARTIAL}")
    before = _same_device(points_path, session, seed, strict=resume and not partial.exists())
    begun = _same_device(partial, session, seed, strict=True) if resume and partial.exists() else {}
    known = {key: point for key, point in (before | begun).items() if point.problem is None} if resume else {}
    if older is not None:
        changes(older, session.device, ())
    shapes = _shapes(model, folders, offline, effort, session)
    ran = _measured(session, effort, shapes, tuple(dtypes), sections, known, partial, progress)
    if ran.complete and _rank() == 0:
        # The newest measurement of every case, also of those that this run was not about.
        union = before | begun | {point.key: point for point in ran.points}
        write_record(points_path, Record(session.device, seed, tuple(union.values())))
        partial.unlink(missing_ok=True)
    found = Profile(
        schema=SCHEMA,
        device=session.device,
        effort=effort,
        seed=seed,
        date=datetime.now(tz=UTC).date().isoformat(),
        tool=f"moeplan {__version__}",
        rank=_rank(),
        complete=ran.complete,
        num_points=len(ran.points),
        figures=figures(ran.points),
        kernels=kernel_fits(ran.points),
        problems=problems(ran.points),
        profile=name,
        path=None,
        points_path=str(points_path if ran.complete else partial),
        changes=None,
        notes=(
            *(Remark("measured", "warning", text) for text in session.remarks),
            *(kernel_notes(ran.points) if ran.complete else ()),
        ),
    )
    if older is not None:
        found = found._replace(changes=changes(older, session.device, found.figures))
    if ran.complete and not found.figures:
        told = "none of these sections has a figure of its own: the cases are in the file beside the profile"
        found = found._replace(notes=(*found.notes, Remark("no-figures", "info", told)))
    if not ran.complete or not found.first or not found.figures:
        return found
    if base is None:
        base = read_hardware(path) if path.exists() else begin_profile(name, new_profile_text(session.device), folders)
    written = append_measured(name, base, block_of(found, points_path), folders)
    return found._replace(path=str(written))


def _check(effort: str, dtypes: Sequence[str], sections: Sequence[str]) -> None:
    if effort not in EFFORTS:
        raise InputError(f"effort {effort!r} is none", hint=f"one of {', '.join(EFFORTS)}")
    for section in sections:
        if section not in SECTIONS[1:]:
            raise InputError(f"{section!r} is no section of a profile", hint=f"sections: {', '.join(SECTIONS[1:])}")
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise InputError(f"dtype {dtype!r} cannot be measured", hint=f"dtypes: {', '.join(DTYPES)}")


DTYPES = ("bfloat16", "float16", "float32", "tf32", "float8_e4m3fn", "int8")
"""As `measure.session.DTYPES`, which needs torch to be read."""


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


def _same_device(path: Path, session: Session, seed: int, *, strict: bool) -> dict[Key, Point]:
    """Points of an earlier run on this very device; of another's none, or where `strict` an InputError."""
    try:
        record = read_record(path)
    except InputError:
        if strict:
            raise
        return {}
    mine = (session.device.name, session.device.torch_version, seed)
    if (record.device.name, record.device.torch_version, record.seed) == mine:
        return {point.key: point for point in record.points}
    if strict:
        raise InputError(
            f"{path.name} was measured on {record.device.name} with torch {record.device.torch_version}, seed {record.seed}",
            hint="leave --resume out, or name another profile with --name",
        )
    return {}


def _shapes(
    model: str | Path | None, folders: tuple[Path, ...], offline: bool, effort: Effort, session: Session
) -> tuple[MoeShape, ...]:
    if model is None:
        from moeplan.measure.shapes import builtin_shapes

        return builtin_shapes(effort, session.device)
    loaded = find_model(str(model), Asked(None, offline, False, None, folders))
    return shapes_of(loaded.spec, loaded.id)


def _measured(
    session: Session,
    effort: Effort,
    shapes: tuple[MoeShape, ...],
    dtypes: tuple[str, ...],
    sections: Sequence[Section],
    known: dict[Key, Point],
    points_path: Path,
    progress: Progress | None,
) -> Ran:
    """All cases; links come first, because the other processes of a torchrun are done after them."""
    from moeplan.measure import SECTION_MODULES, links
    from moeplan.measure.throttling import loaded_clock_mhz, slowed

    first = _rank() == 0
    wanted = [section for section in ("links", *SECTION_MODULES) if not sections or section in sections]
    order = list(dict.fromkeys(section for section in wanted if first or section == "links"))
    tasks = planned(effort, shapes, dtypes, session.device, order)
    if not tasks and first:
        raise InputError(
            f"nothing of {', '.join(wanted)} can be measured so",
            hint="links need several processes (torchrun --nproc-per-node 2 -m moeplan profile ...), models more than --quick",
        )
    before = loaded_clock_mhz(session) if first else None

    def keep(points: Sequence[Point]) -> None:
        if first and points:
            write_record(points_path, Record(session.device, session.seed, tuple(points)))

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


def _rank() -> int:
    """Rank 0 tells and writes."""
    from moeplan.measure import links

    return links.rank()
