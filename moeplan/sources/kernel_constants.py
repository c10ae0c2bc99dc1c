"""Constants of the latency model from `profiles/kernels`: the set of a device, a backend and a format, or the nearest.

A question for a device that was measured reads one file, `<hardware>-<backend>.yaml`. A device that was not borrows: first
from its own architecture, then from the one that is built most alike, then from another backend, then from a format
that moves like the one asked for. What is borrowed is said, and widens the band as `borrowing.yaml` tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from moeplan.core.deployment import version_key
from moeplan.core.hardware import Hardware
from moeplan.core.latency import Band, KernelConstants, KernelSet, band_at
from moeplan.core.model import Remark
from moeplan.sources.profile_folders import builtin_folder
from moeplan.sources.strict_yaml import Block, load

SCHEMA = 1
BORROWING = "borrowing.yaml"

NEAREST = {
    "7": ("8.0", "8.9", "9.0", "10.0"),
    "8.0": ("8.9", "9.0", "10.0"),
    "8": ("8.9", "8.0", "9.0", "10.0"),
    "9": ("10.0", "8.0", "8.9"),
    "10": ("9.0", "8.0", "8.9"),
    "11": ("10.0", "9.0", "8.9", "8.0"),
    "12": ("8.9", "10.0", "9.0", "8.0"),
}
"""Capabilities that were measured, the most alike first, by capability or by its first number. GeForce-like cards (8.6 to
8.9, 12.0) share warp-level matrix units and GDDR memory with the L40S, whatever their generation; data centre cards
from Hopper on share asynchronous copies and matrix units that read shared memory."""

SAME = {"10.3": "10.0"}
"""Capabilities whose kernels are those of another: from a B200 to a GB300 the error grows no more than to a new shape."""

OTHER_VENDORS = ("9.0", "10.0", "8.0", "8.9")

ALIKE = {
    "fp8": ("fp8_block", "bfloat16"),
    "fp8_block": ("fp8", "bfloat16"),
    "nvfp4": ("fp8_block", "fp8", "bfloat16"),
    "int4_wo": ("w4a16_mxfp4", "bfloat16"),
    "w4a16_mxfp4": ("int4_wo", "bfloat16"),
    "bfloat16": (),
}
"""Formats whose kernels are the next best guess. The bytes stay those of the format asked for."""

HOSTS = ("x86-64",)
"""Architectures whose kernels have nothing in common with those of an accelerator."""


class Chosen(NamedTuple):
    """The set to use, its bands as wide as what was borrowed makes them, and what was borrowed."""

    kernel: KernelSet
    borrowed: tuple[str, ...]
    """Kinds of `borrowing.yaml`, in the order of the search; empty for a device that was measured."""
    remarks: tuple[Remark, ...]


def kernel_set(
    hardware: Hardware, backend: str, dtype: str, *, expert_parallel: bool = False, version: str | None = None
) -> Chosen | None:
    """The constants for experts of this format under this backend on this device.

    `backend` is an engine's name; `dtype` one of `ALIKE` (anything else is taken as bfloat16). None for a CPU, of which
    no kernel was measured. InputError for a file that is not as it should be.
    """
    if hardware.architecture in HOSTS:
        return None
    folder = builtin_folder("kernels")
    own = folder / f"{hardware.profile}-{backend}.yaml"
    if own.is_file():
        found = choose(read_sets(own), hardware, backend, dtype, expert_parallel=expert_parallel)
        if found is not None and not found[1]:
            return _told(*found, hardware, backend, dtype, version)
    found = choose(all_sets(folder), hardware, backend, dtype, expert_parallel=expert_parallel)
    return None if found is None else _told(*found, hardware, backend, dtype, version)


def choose(
    sets: Sequence[KernelSet], hardware: Hardware, backend: str, dtype: str, *, expert_parallel: bool = False
) -> tuple[KernelSet, tuple[str, ...]] | None:
    """The nearest of `sets`, and which kinds of borrowing lie between it and the device.

    The format is given up last and the backend before it: kernels of one format differ more between backends than
    between architectures only where one of them is broken (kernels of MXFP4 by 2.3, others by 1.2 to 1.6).
    """
    if dtype not in ALIKE:
        dtype = "bfloat16"
    places = tuple(_places(sets, hardware))
    for kind in (dtype, *ALIKE[dtype]):
        for engines in ((backend,), tuple(sorted({each.backend for each in sets} - {backend}))):
            for place, held in places:
                fits = [each for each in held if each.dtype == kind and each.backend in engines]
                if fits:
                    best = next((each for each in fits if each.expert_parallel == expert_parallel), fits[0])
                    other = (place, "other_backend" * (best.backend != backend), "other_dtype" * (kind != dtype))
                    return best, tuple(name for name in other if name)
    return None


def _places(sets: Sequence[KernelSet], hardware: Hardware) -> Iterable[tuple[str, list[KernelSet]]]:
    """Sets in the order in which a device asks for them: its own, its architecture's, and on to the most foreign."""
    yield "", [each for each in sets if each.hardware == hardware.profile]
    capability = hardware.compute_capability
    if capability is None:
        for near in OTHER_VENDORS:
            yield "other_vendor", [each for each in sets if each.compute_capability == near]
        return
    kin = (capability, SAME.get(capability))
    yield "same_architecture", [each for each in sets if each.compute_capability in kin]
    for near in NEAREST.get(capability) or NEAREST.get(capability.partition(".")[0]) or OTHER_VENDORS:
        yield "other_architecture", [each for each in sets if each.compute_capability == near]


def _told(
    kernel: KernelSet, borrowed: tuple[str, ...], hardware: Hardware, backend: str, dtype: str, version: str | None
) -> Chosen:
    """The set with bands as wide as the borrowing makes them."""
    if version is not None and version_key(version) != version_key(kernel.version) and kernel.backend == backend:
        borrowed = (*borrowed, "other_version")
    if not borrowed:
        return Chosen(kernel, (), ())
    widths = borrowing(builtin_folder("kernels") / BORROWING)
    # The bands of a carried set were taken on its rows: they hold the error of the fit already.
    carried = any(kind in ("other_architecture", "other_backend", "other_dtype") for kind in borrowed)
    bands = tuple(Band(band.most_tokens, 1, 1) for band in kernel.bands) if carried else kernel.bands
    for kind in borrowed:
        bands = tuple(_wider(band, band_at(widths[kind], band.most_tokens)) for band in bands)
    origin = f"{kernel.backend} {kernel.version} on {kernel.hardware} ({kernel.dtype})"
    told = f"times of experts in {dtype} under {backend} on {hardware.profile} were not measured: those of {origin} are scaled to it"
    if borrowed == ("other_version",):
        told = f"times of experts were measured with {backend} {kernel.version}, not with {version}"
    return Chosen(kernel._replace(bands=bands), borrowed, (Remark("kernel-constants", "warning", told),))


def _wider(band: Band, width: Band) -> Band:
    return Band(band.most_tokens, band.low * width.low, band.high * width.high)


# Reading ------------------------------------------------------------------------------------------------------


def all_sets(folder: Path) -> tuple[KernelSet, ...]:
    """Every set of a folder."""
    return tuple(each for path in sorted(folder.glob("*.yaml")) if path.name != BORROWING for each in read_sets(path))


@lru_cache(maxsize=64)
def read_sets(path: Path) -> tuple[KernelSet, ...]:
    """The sets of one file. InputError names the file and the key that is wrong."""
    top = load(path)
    if (schema := top.integer("schema")) != SCHEMA:
        raise top.wrong("schema", f"is {schema}, and this moeplan reads {SCHEMA}", "update moeplan")
    common = {
        key: _needed(top, key)
        for key in ("hardware", "architecture", "compute_capability", "backend", "version", "source")
    }
    found = tuple(_set(block, common) for block in top.blocks("kernels"))
    top.done()
    return found


def _set(block: Block, common: Mapping[str, str]) -> KernelSet:
    rows, error = block.block("rows"), block.block("error")
    if rows is None or not rows.values or error is None:
        raise block.wrong("rows", "is missing: a set needs its rows, its error and a source", "name all three")
    counts = {str(model): rows.integer(model, minimum=1) or 0 for model in rows.values}
    mean, middle, judged = error.number("mean"), error.number("median"), error.text("judged")
    if mean is None or middle is None or judged is None or not all(counts.values()):
        raise block.wrong("error", "needs mean, median and what it was judged on")
    error.done()
    found = KernelSet(
        **common,
        kernel=_needed(block, "kernel"),
        dtype=_needed(block, "dtype"),
        expert_parallel=block.flag("expert_parallel"),
        constants=_constants(block),
        bands=read_bands(block),
        rows=counts,
        mean_error=mean,
        median_error=middle,
        judged=judged,
    )
    block.done()
    return found


def _constants(block: Block) -> KernelConstants:
    values = block.block("constants")
    if values is None:
        raise block.wrong("constants", "is missing")
    found = [values.number(name) for name in KernelConstants._fields]
    values.done()
    for name, value in zip(KernelConstants._fields, found, strict=True):
        if not value:
            raise values.wrong(name, "must be a number above zero")
    return KernelConstants(*(value for value in found if value))


def read_bands(block: Block) -> tuple[Band, ...]:
    """The ranges of a `band`: factors that rise, each up to more tokens than the one before; null for no end."""
    found: list[Band] = []
    for each in block.blocks("band"):
        most, low, high = each.integer("most_tokens", minimum=1), each.number("low"), each.number("high")
        each.done()
        reach = float("inf") if most is None else float(most)
        if low is None or high is None or not 0 < low <= high or (found and reach <= found[-1].most_tokens):
            raise each.wrong("low", "needs low and high above zero, and ranges that rise")
        found.append(Band(reach, low, high))
    if not found:
        raise block.wrong("band", "is missing")
    return tuple(found)


@lru_cache(maxsize=4)
def borrowing(path: Path) -> Mapping[str, tuple[Band, ...]]:
    """Factors by which a band widens, by kind of borrowing. Each kind has a source, and rows and error where measured."""
    top = load(path)
    top.raw("schema")
    kinds = top.block("kinds")
    if kinds is None:
        raise top.wrong("kinds", "is missing")
    top.done()
    found = {}
    for kind in kinds.values:
        block = kinds.block(kind)
        if block is None:
            raise kinds.wrong(kind, "is empty")
        source, rows, error = _needed(block, "source"), block.integer("rows"), block.text("error")
        if bool(rows) != bool(error) or not (rows or "not yet measured" in source or "assumed" in source):
            raise block.wrong("rows", "a width that was measured needs rows and error; another says so in its source")
        found[str(kind)] = read_bands(block)
        block.done()
    return found


def _needed(block: Block, key: str) -> str:
    value = block.text(key)
    if value is None:
        raise block.wrong(key, "is missing")
    return value
