"""Constants of the latency model from `profiles/kernels`: the set of a device, a backend and a format, or the nearest.

A question for a device that was measured reads one file, `<hardware>-<backend>.yaml`. One that was not asks all of them
(`core/kernel_set` says which is nearest). What is borrowed is said, and widens the band as `borrowing.yaml` tells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from moeplan.core.deployment import version_key
from moeplan.core.hardware import Hardware
from moeplan.core.kernel_set import HOSTS, KernelSet, choose
from moeplan.core.latency import Band, KernelConstants, band_at
from moeplan.core.model import Remark
from moeplan.sources.fitted_sets import fitted, needed, positive_constants
from moeplan.sources.profile_folders import builtin_folder
from moeplan.sources.strict_yaml import Block, load

SCHEMA = 1
BORROWING = "borrowing.yaml"


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

    `backend` is an engine's name; `dtype` one of `kernel_set.ALIKE` (anything else is taken as bfloat16). None for a CPU, of which
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
    """Both ends farther out, as independent errors add up: logarithms by their squares."""
    low = math.hypot(min(0.0, math.log(band.low)), min(0.0, math.log(width.low)))
    high = math.hypot(max(0.0, math.log(band.high)), max(0.0, math.log(width.high)))
    return Band(band.most_tokens, math.exp(-low), math.exp(high))


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
        key: needed(top, key)
        for key in ("hardware", "architecture", "compute_capability", "backend", "version", "source")
    }
    found = tuple(_set(block, common) for block in top.blocks("kernels"))
    top.done()
    return found


def _set(block: Block, common: Mapping[str, str]) -> KernelSet:
    told = fitted(block)
    found = KernelSet(
        **common,
        kernel=needed(block, "kernel"),
        dtype=needed(block, "dtype"),
        expert_parallel=block.flag("expert_parallel"),
        constants=KernelConstants(*positive_constants(block, KernelConstants._fields)),
        bands=read_bands(block),
        rows=told.rows,
        mean_error=told.mean_error,
        median_error=told.median_error,
        judged=told.judged,
    )
    block.done()
    return found


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
        source, rows, error = needed(block, "source"), block.integer("rows"), block.text("error")
        if bool(rows) != bool(error) or not (rows or "not yet measured" in source or "assumed" in source):
            raise block.wrong("rows", "a width that was measured needs rows and error; another says so in its source")
        found[str(kind)] = read_bands(block)
        block.done()
    return found
