"""A model on a rank, with the measured times of its operations: the constants that `core/step_time` multiplies."""

from __future__ import annotations

from collections.abc import Iterable

from moeplan.core.hardware import Hardware
from moeplan.core.latency import device_of, value_bytes
from moeplan.core.layout import Division, Place
from moeplan.core.model import ModelSpec
from moeplan.core.placement import stage_spec
from moeplan.core.quant import Holding
from moeplan.core.step_time import ExpertKernel, StepModel
from moeplan.core.step_work import attention_work, experts_work, products
from moeplan.sources.kernel_constants import kernel_set
from moeplan.sources.op_constants import op_times

KERNEL_FORMATS = {
    "fp8 128x128 block": "fp8_block",
    "fp8": "fp8",
    "mxfp8": "fp8",
    "nvfp4": "nvfp4",
    "mxfp4": "w4a16_mxfp4",
    "int4": "int4_wo",
    "awq": "int4_wo",
    "gptq int4": "int4_wo",
}
"""Formats of weights by the beginning of their names, in the words of the measurements; all others move as bfloat16."""


def kernel_format(name: str) -> str:
    """The measurements' word for a format: the longest beginning that it has counts."""
    known = [start for start in KERNEL_FORMATS if name.startswith(start)]
    return KERNEL_FORMATS[max(known, key=len)] if known else "bfloat16"


def step_model(
    spec: ModelSpec,
    held: Iterable[Holding],
    hardware: Hardware,
    engine: str,
    division: Division,
    place: Place,
    *,
    version: str | None = None,
) -> StepModel | None:
    """A rank of a layout; `held` are the weights that the engine keeps. None for a device of which no kernel was measured.

    Raises InputError for a profile that lacks a bandwidth or a rate.
    """
    held = tuple(held)
    stage = place.stage
    mine = products(held, division, stage, tied_embedding=spec.tied_embedding)
    by_format = {}
    # Attention and collectives move 16-bit values, whatever the weights are stored in.
    for name in dict.fromkeys(("bf16", *(product.format for product in mine))):
        times = op_times(hardware, engine, kernel_format(name))
        if times is None:
            return None
        by_format[name] = times
    layers = stage_spec(spec, stage).layers
    experts = experts_work(layers, spec.hidden_size, division, place.expert_rank)
    return StepModel(
        products=mine,
        attention=attention_work(layers, division.attention),
        experts=experts,
        by_format=by_format,
        kernel=_kernel(held, hardware, engine, division, version) if experts else None,
        hidden=spec.hidden_size,
        num_layers=len(layers),
        tensor_ranks=division.attention,
        expert_ranks=division.expert_ep,
    )


def _kernel(
    held: tuple[Holding, ...], hardware: Hardware, engine: str, division: Division, version: str | None
) -> ExpertKernel | None:
    """The kernel of the format that most of the experts are stored in."""
    experts = [holding for holding in held if holding.weight.role == "routed_experts"]
    dtype = kernel_format(max(experts, key=lambda holding: holding.num_bytes).format)
    chosen = kernel_set(hardware, engine, dtype, expert_parallel=division.expert_ep > 1, version=version)
    if chosen is None:
        return None
    return ExpertKernel(
        chosen.kernel.constants,
        chosen.kernel.bands,
        device_of(hardware, dtype),
        value_bytes(hardware, dtype),
        bool(chosen.borrowed),
    )
