"""Each figure that `moeplan profile` measured on a device, the newest of its name, beside what the specification promises.

For readers: what estimates take over is in `core/profiled`. A file may have been edited by hand, so that whatever is no
figure is left out.
"""

import re
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any, Literal, NamedTuple

from moeplan.core.hardware import Hardware, pcie_bytes_per_s
from moeplan.core.profiled import Blocks, newest

Promise = Literal["memory", "link", "pcie", "rate"]
"""Figure of a specification that a measured one is held against."""


class Meaning(NamedTuple):
    """What a figure is called, and what it is held against."""

    label: str
    promise: Promise | None = None
    dtype: str = ""
    """Of torch, where the promise is a rate."""


MEANINGS: dict[str, Meaning] = {
    "read_bytes_per_s": Meaning("memory, read", "memory"),
    "copy_bytes_per_s": Meaning("memory, copy", "memory"),
    "host_to_device_pinned_bytes_per_s": Meaning("host to device, pinned", "pcie"),
    "host_to_device_pageable_bytes_per_s": Meaning("host to device, pageable", "pcie"),
    "device_to_host_pinned_bytes_per_s": Meaning("device to host, pinned", "pcie"),
    "device_to_host_pageable_bytes_per_s": Meaning("device to host, pageable", "pcie"),
    "host_read_bytes_per_s": Meaning("host memory, read"),
    "host_copy_bytes_per_s": Meaning("host memory, copy"),
    "attention_bytes_per_s": Meaning("decode attention", "memory"),
    "all_reduce_bytes_per_s": Meaning("all-reduce"),
    "all_gather_bytes_per_s": Meaning("all-gather"),
    "reduce_scatter_bytes_per_s": Meaning("reduce-scatter"),
    "all_to_all_bytes_per_s": Meaning("all-to-all"),
    "link_bytes_per_s": Meaning("link of a device, each way", "link"),
    "layer_fixed_s": Meaning("fixed time of an MoE layer"),
    "context_bytes": Meaning("context and libraries"),
}
"""By name; names with a dtype, a routing function or a model in them are read by `meaning`."""

_NAMED: tuple[tuple[re.Pattern[str], str, Promise | None], ...] = (
    (re.compile(r"matmul_(?P<dtype>\w+)_flops_per_s"), "matmul, {dtype}", "rate"),
    (re.compile(r"experts_(?P<dtype>\w+)_bytes_per_s"), "experts, {dtype}: weights read", "memory"),
    (re.compile(r"experts_(?P<dtype>\w+)_flops_per_s"), "experts, {dtype}: computed", "rate"),
    (re.compile(r"router_(?P<router>\w+)_(?P<tokens>\d+)_tokens_s"), "route {tokens} tokens: {router}", None),
    (re.compile(r"model_(?P<model>.+)_peak_bytes"), "{model}: peak", None),
    (re.compile(r"model_(?P<model>.+)_peak_estimate_bytes"), "{model}: peak, estimated", None),
)

_RATES = {
    "bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "tf32": "tf32", "float8_e4m3fn": "fp8", "int8": "int8",
}  # fmt: skip
"""torch's name of a dtype to that of a specification (`core.hardware.DenseRates`)."""


class NewestFigure(NamedTuple):
    """One measured figure, of the newest run that has it."""

    name: str
    label: str
    unit: str
    """`bytes/s`, `flop/s`, `bytes`, `s`."""
    value: float
    low: float
    """Tenth percentile of the repeats; as the value where there were none."""
    high: float
    """Ninetieth percentile."""
    source: str
    """Backend, dtype and case."""
    nominal: float | None
    """What the specification promises, in the same unit; None where it promises nothing of the kind."""
    fraction_of_nominal: float | None
    date: str
    time: str | None
    """Of the day, in UTC; None in blocks of earlier versions."""
    tool: str
    method: str
    torch_version: str | None
    driver_version: str | None


class NewestKernels(NamedTuple):
    """The latency model's fit to one backend and dtype, of the newest run that has it."""

    backend: str
    dtype: str
    num_fitted: int | None
    num_held: int | None
    """Points that were predicted by a fit which they took no part in."""
    median_error: float | None
    """On those points: |predicted / measured - 1|."""
    worst_error: float | None
    r_squared_distinct: float | None
    """Of time over distinct experts at fixed tokens."""
    date: str
    time: str | None
    """Of the day, in UTC; None in blocks of earlier versions."""
    tool: str
    method: str
    torch_version: str | None
    driver_version: str | None


def meaning(name: str) -> Meaning:
    """What the figure of that name is; a name that a later version has taken for itself is its own label."""
    if name in MEANINGS:
        return MEANINGS[name]
    for pattern, label, promise in _NAMED:
        found = pattern.fullmatch(name)
        if found is not None:
            told = label.format(**found.groupdict()).replace(" 1 tokens", " 1 token")
            return Meaning(told, promise, found.groupdict().get("dtype", ""))
    return Meaning(name)


def promised(name: str, hardware: Hardware) -> float | None:
    """What the device's specification promises of the figure of that name, in its unit; None where it promises nothing."""
    told = meaning(name)
    match told.promise:
        case "memory":
            return hardware.memory_bandwidth_bytes_per_s
        case "pcie":
            return None if hardware.pcie is None else pcie_bytes_per_s(hardware.pcie)
        case "link":
            if hardware.scale_up is not None:
                return hardware.scale_up.bytes_per_s_per_direction
            return None if hardware.pcie is None else pcie_bytes_per_s(hardware.pcie)
        case "rate":
            return getattr(hardware.dense_flops_per_s, _RATES.get(told.dtype, ""), None)
        case None:
            return None


def newest_figures(hardware: Hardware) -> tuple[NewestFigure, ...]:
    """Every figure of the device's blocks, each of the newest block that has it, in the order of that block."""
    found: dict[str, NewestFigure] = {}
    for block in _newest_first(hardware.measured):
        figures = block.get("figures")
        for name, figure in figures.items() if isinstance(figures, Mapping) else ():
            value = _positive(figure.get("value")) if isinstance(figure, Mapping) else None
            if value is None or name in found:
                continue
            told = meaning(str(name))
            promise = promised(str(name), hardware)
            found[name] = NewestFigure(
                name=str(name),
                label=told.label,
                unit=str(figure.get("unit")),
                value=value,
                low=_positive(figure.get("low")) or value,
                high=_positive(figure.get("high")) or value,
                source=str(figure.get("source")),
                nominal=promise,
                fraction_of_nominal=value / promise if promise else None,
                **_run(block),
            )
    return tuple(found.values())


def newest_kernels(hardware: Hardware) -> tuple[NewestKernels, ...]:
    """Every fit of the device's blocks, by backend and dtype, each of the newest block that has it."""
    found: dict[tuple[str, str], NewestKernels] = {}
    for block in _newest_first(hardware.measured):
        kernels = block.get("kernels")
        for kernel in kernels if isinstance(kernels, list | tuple) else ():
            if not isinstance(kernel, Mapping) or not isinstance(kernel.get("backend"), str):
                continue
            key = str(kernel["backend"]), str(kernel.get("dtype"))
            fit = NewestKernels(
                *key,
                num_fitted=_count(kernel.get("num_fitted")),
                num_held=_count(kernel.get("num_held")),
                median_error=_number(kernel.get("median_error")),
                worst_error=_number(kernel.get("worst_error")),
                r_squared_distinct=_number(kernel.get("r_squared_distinct")),
                **_run(block),
            )
            found.setdefault(key, fit)
    return tuple(found.values())


def _newest_first(blocks: Blocks) -> Iterator[Mapping[str, Any]]:
    left = list(blocks)
    while (block := newest(left)) is not None:
        yield block
        left = [each for each in left if each is not block]


def _run(block: Mapping[str, Any]) -> dict[str, Any]:
    device = block.get("device")
    asked: Mapping[str, Any] = device if isinstance(device, Mapping) else {}
    software = {name: asked.get(name) for name in ("torch_version", "driver_version")}
    told = {name: str(block.get(name, "unknown")) for name in ("date", "tool", "method")}
    known = {"time": block.get("time"), **software}
    return {**told, **{name: None if value is None else str(value) for name, value in known.items()}}


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        return value
    return None


def _positive(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None


def _count(value: object) -> int | None:
    number = _positive(value)
    return None if number is None else round(number) or None
