"""How llama.cpp spreads a model over devices: whole layers, one stage per device.

Source: llama.cpp b11312 src/llama-model.cpp:load_tensors. Layers that stay on the host are the first ones; they count
to the first stage here, and `offload` keeps their weights, `cache` their cache, in host memory.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from struct import pack, unpack
from typing import NamedTuple

from moeplan.core.deployment import Serving, Settings, Value
from moeplan.core.errors import InputError
from moeplan.core.layout import AskedLayout, Division, Layout
from moeplan.core.model import ModelSpec
from moeplan.engines.llamacpp.settings import gpu_layers, is_on, layers_in_file, on_cpu

MOST_DEVICES = 16
"""`llama_max_devices`."""


def resolve_layout(spec: ModelSpec, asked: AskedLayout, num_devices: int | None, stated: Mapping[str, Value]) -> Layout:
    """`--split-mode layer`: as many stages as devices; `none` one device; `tensor` all layers on every device.

    Proportions are those of `--tensor-split`, else even: llama.cpp takes the free memory of each device, and all are of
    one kind here. Tensor parallelism that was asked for by number is `--split-mode tensor`. Raises InputError for what
    llama.cpp has no word for.
    """
    _refuse_other_degrees(asked)
    mode = str(stated.get("--split-mode") or ("tensor" if (asked.tp or 1) > 1 else "layer"))
    proportions = tensor_split(stated)
    devices = num_devices or asked.pp or asked.tp or len(proportions) or 1
    if mode == "none":
        devices = 1
    if mode == "tensor":
        if (asked.pp or 1) > 1:
            raise InputError(
                f"--pp {asked.pp} and --split-mode tensor contradict each other",
                hint="leave out --pp, or say --split-mode layer",
            )
        ranks = asked.tp or devices
        return Layout(tp=ranks, pp_layers=(len(spec.layers),), num_gpus=ranks)
    if asked.pp is not None and asked.pp != devices:
        raise InputError(
            f"--pp {asked.pp} on {devices} GPUs: llama.cpp makes each device a stage",
            hint=f"leave out --pp, or ask for {asked.pp} GPUs",
        )
    if len(proportions) > devices:
        raise InputError(
            f"--tensor-split names {len(proportions)} devices and there are {devices}",
            hint="give one proportion per GPU",
        )
    counts = asked.pp_layers or device_layers(spec, stated, devices)
    return Layout(pp=len(counts), pp_layers=counts, num_gpus=len(counts))


def tensor_split(values: Mapping[str, Value]) -> tuple[float, ...]:
    """`--tensor-split 3,1` as numbers. Raises InputError where it is none."""
    value: object = values.get("--tensor-split")
    if value is None:
        return ()
    parts = value if isinstance(value, tuple | list) else str(value).replace("/", ",").split(",")
    try:
        return tuple(float(part) for part in parts)
    except ValueError:
        raise InputError(
            f"--tensor-split {value!r} is no list of proportions", hint="for instance --tensor-split 3,1"
        ) from None


def device_layers(spec: ModelSpec, values: Mapping[str, Value], devices: int) -> tuple[int, ...]:
    """Layers of each device that holds something, in order; those on the host count to the first.

    Of `n` units on devices (layers and the output, which is the last) unit i goes to the first device whose cumulative
    share is above i/n.
    """
    proportions = tensor_split(values) or (1.0,) * devices
    proportions += (0.0,) * (devices - len(proportions))
    if not any(proportions):
        proportions = (1.0,) * devices
    on_devices, every = gpu_layers(spec, values), layers_in_file(spec)
    start = every + 1 - on_devices
    if not on_devices:
        return (len(spec.layers),)
    bounds = _bounds(proportions)
    owners = [bisect_right(bounds, _single(unit / on_devices)) for unit in range(on_devices)]
    counts = [0] * (owners[-1] + 1)  # devices behind the one with the output hold nothing
    for layer in range(len(spec.layers)):
        counts[owners[layer - start] if layer >= start else 0] += 1
    return tuple(counts)


class Placed(NamedTuple):
    """What `--gpu-layers` puts on devices."""

    host_layers: int
    """The first layers, which stay on the host."""
    output: bool
    """Whether the output is on a device."""


def placed(serving: Serving, values: Mapping[str, Value]) -> Placed:
    """With fewer layers than there are the last ones, and the output counts as the last of all.

    Older builds took the output last instead: as many layers as were asked for, and the output beside all of them
    (obs-d-018, b5466).
    """
    count, every = gpu_layers(serving.spec, values), layers_in_file(serving.spec)
    if on_cpu(serving):
        return Placed(0, output=True)
    if serving.constants.of("output_goes_last").value:
        on_host, output = every - count, count > every
    else:
        on_host, output = every + 1 - count, count > 0
    return Placed(min(len(serving.spec.layers), max(0, on_host)), output)


def _bounds(proportions: Sequence[float]) -> list[float]:
    sums = list(accumulate(map(_single, proportions), lambda total, each: _single(total + each)))
    return [_single(each / sums[-1]) for each in sums]


def _single(number: float) -> float:
    """In single precision, as llama.cpp computes; units that lie on a bound would else change sides."""
    return float(unpack("f", pack("f", number))[0])


def division(serving: Serving, settings: Settings) -> Division:
    """Nothing is divided by layers; `--split-mode tensor` divides heads, experts' width, and the rows of the head.

    Source: llama.cpp b11312 src/llama-model.cpp:llama_meta_device_get_split_state; shared experts and what it does not
    name are whole on every device.
    """
    ranks = serving.layout.tp
    return Division(attention=ranks, dense_mlp=ranks, lm_head=ranks, expert_tp=ranks, embedding=1, shared_experts=1)


def is_pipelined(serving: Serving, values: Mapping[str, Value]) -> bool:
    """Whether graphs run in several copies at once: several devices, all layers on them, nothing overridden.

    Source: llama.cpp b11312 src/llama-context.cpp, `pipeline_parallel`; devices of CUDA and HIP can.
    """
    overridden = any(values.get(flag) for flag in ("--override-tensor", "--n-cpu-moe", "--n-cpu-ffn"))
    return (
        serving.layout.pp > 1
        and gpu_layers(serving.spec, values) > layers_in_file(serving.spec)
        and not overridden
        and not is_on(values, "--cpu-moe")
        and not kv_on_host(values)
    )


def kv_on_host(values: Mapping[str, Value]) -> bool:
    """True for `--no-kv-offload`."""
    if values.get("--kv-offload") is not None:
        return not is_on(values, "--kv-offload")
    return is_on(values, "--no-kv-offload")


def _refuse_other_degrees(asked: AskedLayout) -> None:
    degrees = {
        "--dp": (asked.dp or 1) > 1,
        "--ep": (asked.ep or 1) > 1 or bool(asked.expert_parallel),
        "--dcp": (asked.dcp or 1) > 1,
        "--dp-attention": bool(asked.dp_attention),
        "--redundant-experts": bool(asked.redundant_experts),
        "--nodes": (asked.num_nodes or 1) > 1,
    }
    for flag, is_asked in degrees.items():
        if is_asked:
            raise InputError(
                f"{flag}: llama.cpp splits a model by layers (or rows) over the devices of one machine, and no other way",
                hint=f"leave out {flag}",
            )
