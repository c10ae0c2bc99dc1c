"""`moeplan gpus` and `moeplan models`: what is built in, with the user's own profiles, and where each figure comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.hardware import DenseRates, Hardware, Pcie, Price, ScaleUp, usable
from moeplan.core.ledger import Why
from moeplan.core.model import Remark
from moeplan.core.profiled_figures import NewestFigure, NewestKernels, newest_figures, newest_kernels
from moeplan.core.residual import residuals
from moeplan.sources.catalogue import Listed as ListedModel
from moeplan.sources.catalogue import list_entries, name_key, near_names
from moeplan.sources.hardware_profiles import find_hardware, list_hardware
from moeplan.sources.profile_folders import builtin_folder

GPUS_SCHEMA = "moeplan.gpus/1"
MODELS_SCHEMA = "moeplan.models/1"


class Gpu(NamedTuple):
    """One accelerator. Figures are of one device, as an engine sees it; None is unknown."""

    profile: str
    """Name of its file without the ending: the one to give to `--gpu`."""
    name: str
    vendor: str | None
    architecture: str | None
    compute_capability: str | None
    memory_kind: str | None
    unified_memory: bool
    nominal_bytes: int | None
    visible_bytes: int | None
    usable_bytes: int | None
    """What engines find as total; see `usable_why`."""
    usable_low_bytes: int | None
    usable_high_bytes: int | None
    usable_basis: str | None
    usable_certain: bool | None
    usable_why: Why | None
    memory_bandwidth_bytes_per_s: int | None
    l2_bytes: int | None
    dense_flops_per_s: DenseRates
    scale_up: ScaleUp | None
    pcie: Pcie | None
    power_w: int | None
    node_sizes: tuple[int, ...]
    devices_per_card: int
    host_bytes: int | None
    price: Price | None
    aliases: tuple[str, ...]
    shared_names: tuple[str, ...]
    default_for: tuple[str, ...]
    sources: Mapping[str, tuple[str, ...]]
    """Citations by block: `specification`, `memory_visible`, `memory_usable`."""
    remarks: tuple[str, ...]
    """What its file says about its figures."""
    measured: tuple[Mapping[str, Any], ...]
    measured_figures: tuple[NewestFigure, ...]
    """What `moeplan profile` measured on this device, each figure the newest of its name."""
    measured_kernels: tuple[NewestKernels, ...]
    """The latency model's fits of the same, by backend and dtype."""
    path: str | None
    """The user's own file; None for a built-in profile."""


class Gpus(NamedTuple):
    """The answer of `moeplan gpus`."""

    schema: str
    gpus: tuple[Gpu, ...]
    notes: tuple[Remark, ...]


class Model(NamedTuple):
    """One model of the catalogue."""

    id: str
    aliases: tuple[str, ...]
    """Shorter names that mean it, beside the id without its organisation."""
    model_type: str
    family: str
    verified: bool
    """False where no independent build confirms the shapes of the family."""
    provenance: str
    """`published`, `class_default` or `rebuilt`: only the first are the values of the published config."""
    total: int
    active: int
    num_layers: int
    num_experts: int | None
    """None in a dense model."""
    experts_per_token: int | None
    num_shared_experts: int
    max_context_tokens: int | None
    format: str
    """How the checkpoint stores its weights."""
    path: str | None
    """The user's own file; None for a built-in entry."""


class Models(NamedTuple):
    """The answer of `moeplan models`."""

    schema: str
    search: str | None
    models: tuple[Model, ...]
    notes: tuple[Remark, ...]


def gpus(name: str | None = None, profiles: str | Path | Sequence[str | Path] = ()) -> Gpus:
    """Every accelerator by vendor and memory, or the one that `name` means (as `--gpu` reads it).

    `profiles` are folders with own `hardware/` profiles. Raises InputError for an unknown name, with the nearest, and for
    one whose profile holds a block that was learned from a log and cannot be read.
    """
    folders = [profiles] if isinstance(profiles, str | Path) else profiles
    builtin = str(builtin_folder("hardware"))
    if name is not None:
        hardware, _ = find_hardware(name, folders)
        residuals(hardware.measured, hardware.path)
        notes = tuple(Remark("gpu-reading", "info", text) for text in hardware.reading)
        return Gpus(GPUS_SCHEMA, (_gpu(hardware, builtin),), notes)
    listed = list_hardware(folders)
    found = [_gpu(each.hardware, builtin) for each in listed if each.hardware is not None]
    found.sort(key=lambda gpu: (gpu.vendor is None, gpu.vendor, -(gpu.nominal_bytes or 0), gpu.profile))
    broken = ((each.problem, each.path) for each in listed)
    return Gpus(GPUS_SCHEMA, tuple(found), _problems(broken))


def models(search: str | None = None, profiles: str | Path | Sequence[str | Path] = ()) -> Models:
    """Every model of the catalogue by name, or those that hold each word of `search` in their names or family.

    `profiles` are folders with own `models/` entries. Raises InputError when nothing is found, with near names.
    """
    folders = [profiles] if isinstance(profiles, str | Path) else profiles
    listed = list_entries(folders)
    rows = [_model(each) for each in listed if each.summary is not None]
    if search is not None:
        words = [name_key(word) for word in search.split()]
        rows = [row for row in rows if all(word in _searched(row) for word in words)]
        if not rows:
            near = near_names(search, folders)
            meant = f"did you mean {' or '.join(near)}? " if near else ""
            raise InputError(f"no model matches {search!r}", hint=f"{meant}`moeplan models` lists all of them")
    rows.sort(key=lambda row: (row.id.rpartition("/")[2].lower(), row.id, row.path or ""))
    broken = ((each.problem, each.path) for each in listed)
    return Models(MODELS_SCHEMA, search, tuple(rows), _problems(broken))


def _gpu(hardware: Hardware, builtin: str) -> Gpu:
    memory = usable(hardware)
    return Gpu(
        profile=hardware.profile,
        name=hardware.name,
        vendor=hardware.vendor,
        architecture=hardware.architecture,
        compute_capability=hardware.compute_capability,
        memory_kind=hardware.memory_kind,
        unified_memory=hardware.unified_memory,
        nominal_bytes=hardware.nominal_bytes,
        visible_bytes=hardware.visible_bytes,
        usable_bytes=memory.bytes if memory else None,
        usable_low_bytes=memory.low_bytes if memory else None,
        usable_high_bytes=memory.high_bytes if memory else None,
        usable_basis=memory.basis if memory else None,
        usable_certain=memory.certain if memory else None,
        usable_why=memory.why if memory else None,
        memory_bandwidth_bytes_per_s=hardware.memory_bandwidth_bytes_per_s,
        l2_bytes=hardware.l2_bytes,
        dense_flops_per_s=hardware.dense_flops_per_s,
        scale_up=hardware.scale_up,
        pcie=hardware.pcie,
        power_w=hardware.power_w,
        node_sizes=hardware.node_sizes,
        devices_per_card=hardware.devices_per_card,
        host_bytes=hardware.host_bytes,
        price=hardware.price,
        aliases=hardware.aliases,
        shared_names=hardware.shared_names,
        default_for=hardware.default_for,
        sources=hardware.sources,
        remarks=hardware.notes,
        measured=tuple(map(_as_told, hardware.measured)),
        measured_figures=newest_figures(hardware),
        measured_kernels=newest_kernels(hardware),
        path=None if hardware.path.startswith(builtin) else hardware.path,
    )


def _as_told(value: Any) -> Any:
    """A block of a file in values that JSON has: YAML reads a date without quotes as a date, and knows infinity."""
    if isinstance(value, Mapping):
        return {str(name): _as_told(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_told(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _model(listed: ListedModel) -> Model:
    row = listed.summary
    assert row is not None
    return Model(
        id=row.id,
        aliases=row.aliases,
        model_type=row.model_type,
        family=row.family,
        verified=row.verified,
        provenance=row.provenance,
        total=row.total_params,
        active=row.active_params,
        num_layers=row.num_layers,
        num_experts=row.num_experts,
        experts_per_token=row.experts_per_token,
        num_shared_experts=row.num_shared_experts,
        max_context_tokens=row.max_context_tokens,
        format=row.format,
        path=None if listed.origin == "built-in" else str(listed.path),
    )


def _searched(row: Model) -> str:
    kind = "dense" if row.num_experts is None else "moe"
    return "\n".join(map(name_key, (row.id, *row.aliases, row.model_type, row.family, row.format, kind)))


def _problems(found: Any) -> tuple[Remark, ...]:
    return tuple(Remark("profile-broken", "warning", problem, str(path)) for problem, path in found if problem)
