"""Constants of plain operations from `profiles/kernels/ops`: those of a device, an engine and a format, or the nearest.

A device that was measured reads the files `<hardware>-<backend>.yaml` of its engine and of the libraries that every engine
calls. One that was not asks all of them (`core/op_set`). What is borrowed is said, and widens the band as `borrowing.yaml`
tells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

from moeplan.core.hardware import Hardware
from moeplan.core.kernel_set import HOSTS
from moeplan.core.latency import VALUE_BYTES, value_bytes
from moeplan.core.model import Remark
from moeplan.core.network import joins_of
from moeplan.core.op_device import op_device
from moeplan.core.op_fit import FORMULAS
from moeplan.core.op_set import ALONE, OPERATIONS, SIZES, Link, OpBand, Operation, OpSet, band_of, choose_op, link_of
from moeplan.core.op_times import OpKernel, OpTimes, Resolved
from moeplan.sources.fitted_sets import fitted, needed, positive_constants
from moeplan.sources.profile_folders import builtin_folder
from moeplan.sources.strict_yaml import Block, load

SCHEMA = 1
BORROWING = "borrowing.yaml"

LIBRARIES: Mapping[Operation, str] = {
    "all_gather": "nccl",
    "reduce_scatter": "nccl",
    "all_to_all": "nccl",
    "all_reduce": "nccl",
    "expert_dispatch": "deepep",
    "expert_combine": "deepep",
}
"""Operations that every engine leaves to a library."""

CARRIED = ("other_architecture", "other_backend", "other_dtype")
"""Kinds of borrowing whose widths were measured and hold the error of the fit already."""


def op_times(hardware: Hardware, engine: str, dtype: str, *, cache_dtype: str = "bfloat16") -> OpTimes | None:
    """Times of plain operations under an engine (vllm, sglang, trtllm; others borrow).

    `dtype` is that of the weights of a product, `cache_dtype` that of the cache, both in the words of `kernel_set.ALIKE`;
    anything else moves as bfloat16. None for a CPU. InputError for a file or a profile that is not as it should be.
    """
    if hardware.architecture in HOSTS:
        return None
    folder = builtin_folder("kernels") / "ops"
    resolved: dict[Operation, Resolved] = {}
    carried: dict[tuple[str, str], list[str]] = {}
    for operation in OPERATIONS:
        if operation == "engine_all_reduce" and link_of(hardware) == "host":
            continue  # devices without a link of their own do not read each other
        format_ = dtype if operation == "matmul" else cache_dtype if operation in ALONE else "bfloat16"
        found = _resolved(folder, operation, hardware, engine, format_)
        if found is not None:
            resolved[operation], origin = found
            if resolved[operation].borrowed:
                carried.setdefault((origin, format_), []).append(operation.replace("_", " "))
    cache = VALUE_BYTES.get(cache_dtype, VALUE_BYTES["bfloat16"]).weight
    values = value_bytes(hardware, dtype if dtype in VALUE_BYTES else "bfloat16")
    remarks = tuple(
        Remark(
            "op-constants",
            "warning",
            f"times of {', '.join(names)} under {engine} on {hardware.profile} ({format_}) were not measured: "
            f"those of {origin} are scaled to it",
        )
        for (origin, format_), names in carried.items()
    )
    return OpTimes(hardware.profile, resolved, values, cache, remarks, joins_of(hardware))


def _resolved(
    folder: Path, operation: Operation, hardware: Hardware, engine: str, dtype: str
) -> tuple[Resolved, str] | None:
    """One operation, and whose constants it has."""
    backend = LIBRARIES.get(operation, engine)
    if operation == "all_reduce" and link_of(hardware) == "host":
        backend = engine if _has(folder, operation, engine) else backend
    own = folder / f"{hardware.profile}-{backend}.yaml"
    found = choose_op(read_ops(own), operation, hardware, backend, dtype) if own.is_file() else None
    if found is None or found[1]:
        found = choose_op(all_ops(folder), operation, hardware, backend, dtype)
    if found is None:
        return None
    sets, borrowed = found
    kernels = tuple(OpKernel(each.most, each.constants, _bands(folder, each, borrowed)) for each in sets)
    operand = sets[-1].operand_dtype if operation.startswith("attention") else dtype
    # What attention reads at prefill was written by the kernel before it; weights and old tokens were not.
    device = op_device(hardware, operand, cached=operation == "attention_prefill")
    last = sets[-1]
    origin = f"{last.backend} {last.version} on {last.hardware} ({last.dtype})"
    return Resolved(kernels, device, borrowed), origin


def _has(folder: Path, operation: Operation, engine: str) -> bool:
    """Whether an engine's own rows of an operation are known anywhere."""
    return any(each.operation == operation and each.backend == engine for each in all_ops(folder))


def _bands(folder: Path, kernel: OpSet, borrowed: tuple[str, ...]) -> tuple[OpBand, ...]:
    """The bands of a set, as wide as what was borrowed makes them: independent errors add by the squares of logarithms."""
    if not borrowed:
        return kernel.bands
    widths = op_borrowing(folder / BORROWING)
    bands = kernel.bands
    if any(kind in CARRIED for kind in borrowed):
        bands = tuple(OpBand(band.most, 1, 1) for band in bands)
    for kind in borrowed:
        wide = widths.get((kernel.operation, kind)) or widths[None, kind]
        bands = tuple(_wider(band, band_of(wide, band.most)) for band in bands)
    return bands


def _wider(band: OpBand, width: OpBand) -> OpBand:
    low = math.hypot(min(0.0, math.log(band.low)), min(0.0, math.log(width.low)))
    high = math.hypot(max(0.0, math.log(band.high)), max(0.0, math.log(width.high)))
    return OpBand(band.most, math.exp(-low), math.exp(high))


# Reading ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def all_ops(folder: Path) -> tuple[OpSet, ...]:
    """Every set of a folder."""
    return tuple(each for path in sorted(folder.glob("*.yaml")) if path.name != BORROWING for each in read_ops(path))


@lru_cache(maxsize=64)
def read_ops(path: Path) -> tuple[OpSet, ...]:
    """The sets of one file. InputError names the file and the key that is wrong."""
    top = load(path)
    if (schema := top.integer("schema")) != SCHEMA:
        raise top.wrong("schema", f"is {schema}, and this moeplan reads {SCHEMA}", "update moeplan")
    common = {key: needed(top, key) for key in ("hardware", "architecture", "compute_capability", "backend", "source")}
    link = needed(top, "link")
    if link not in ("scale_up", "host"):
        raise top.wrong("link", f"is {link}, not scale_up or host")
    found = tuple(_set(block, common, cast(Link, link)) for block in top.blocks("operations"))
    top.done()
    return found


def _set(block: Block, common: Mapping[str, str], link: Link) -> OpSet:
    told = fitted(block)
    operation = needed(block, "operation")
    if operation not in FORMULAS:
        raise block.wrong("operation", f"is {operation}, not one of {', '.join(FORMULAS)}")
    name = cast(Operation, operation)
    kind: Any = type(FORMULAS[name].start)
    found = OpSet(
        **common,
        operation=name,
        version=needed(block, "version"),
        kernel=needed(block, "kernel"),
        dtype=needed(block, "dtype"),
        operand_dtype=block.text("operand_dtype") or needed(block, "dtype"),
        link=link,
        most=block.number("most") or math.inf,
        host_bound=bool(block.flag("host_bound")),
        constants=kind(*positive_constants(block, kind._fields)),
        bands=_read_bands(block, name),
        rows=told.rows,
        mean_error=told.mean_error,
        median_error=told.median_error,
        judged=told.judged,
    )
    block.done()
    return found


def _read_bands(block: Block, operation: Operation) -> tuple[OpBand, ...]:
    """A band for each range of sizes of the operation, in their order."""
    reaches = (*SIZES[operation][1], math.inf)
    found = []
    for each in block.blocks("band"):
        most, low, high = each.number("most"), each.number("low"), each.number("high")
        each.done()
        if low is None or high is None or not 0 < low <= high:
            raise each.wrong("low", "needs low and high above zero")
        found.append(OpBand(math.inf if most is None else most, low, high))
    if tuple(band.most for band in found) != reaches:
        raise block.wrong(
            "band",
            f"needs a range up to each of {', '.join(f'{most:g}' for most in reaches[:-1])} and one without an end",
        )
    return tuple(found)


class OpWidth(NamedTuple):
    """How far constants of elsewhere are taken to be off."""

    operation: Operation | None
    """None for any that has none of its own."""
    kind: str
    bands: tuple[OpBand, ...]
    rows: int
    """On which it was tried; 0 for an assumption."""
    error: str
    source: str


def op_borrowing(path: Path) -> Mapping[tuple[str | None, str], tuple[OpBand, ...]]:
    """Factors by which a band widens, by operation (None: any) and kind."""
    return {(each.operation, each.kind): each.bands for each in op_widths(path)}


def tried_widths(path: Path) -> tuple[OpWidth, ...]:
    """Those that were tried on rows."""
    return tuple(each for each in op_widths(path) if each.rows)


@lru_cache(maxsize=4)
def op_widths(path: Path) -> tuple[OpWidth, ...]:
    """The widths of a file. Each has a source, and rows and error where it was tried; InputError otherwise."""
    top = load(path)
    top.raw("schema")
    found = []
    for block in top.blocks("widths"):
        operation, kind, source = block.text("operation"), needed(block, "kind"), needed(block, "source")
        rows, error = block.integer("rows"), block.text("error")
        if bool(rows) != bool(error) or not (rows or "assumed" in source):
            raise block.wrong("rows", "a width that was measured needs rows and error; another says so in its source")
        if operation is not None:
            bands = _read_bands(block, cast(Operation, operation))
        else:
            low, high = block.number("low"), block.number("high")
            if not low or not high:
                raise block.wrong("low", "needs low and high above zero")
            bands = (OpBand(math.inf, low, high),)
        found.append(OpWidth(cast(Operation | None, operation), kind, bands, rows or 0, error or "", source))
        block.done()
    top.done()
    return tuple(found)
