"""A model on a rank, with the measured times of its operations: the constants that `core/step_time` multiplies.

A search asks for one model under many layouts and on many cards. What depends on few of them is kept: times of operations by
card, engine and format; products by weights, division and stage.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, TypeVar

from moeplan.core.errors import UnknownError
from moeplan.core.exchange import Way
from moeplan.core.hardware import Hardware
from moeplan.core.kept import MOST_KEPT, Kept
from moeplan.core.kv_cache import CacheRules, cache_rows, storage_key
from moeplan.core.latency import device_of, value_bytes
from moeplan.core.layout import Division, Layout, Stage
from moeplan.core.model import Layer, ModelSpec
from moeplan.core.network import in_nodes, network_of
from moeplan.core.op_device import op_device
from moeplan.core.op_times import OpTimes
from moeplan.core.placement import stage_spec, stages
from moeplan.core.quant import Holding
from moeplan.core.stage_sorts import stage_sort
from moeplan.core.step_time import ExpertKernel, StepModel
from moeplan.core.step_work import (
    PLAIN_CACHE,
    AttentionWork,
    ExpertsWork,
    Product,
    StatesWork,
    attention_work,
    experts_work,
    products,
    states_work,
)
from moeplan.sources.kernel_constants import kernel_set
from moeplan.sources.op_constants import op_times

KERNEL_FORMATS = {
    "bf16": "bfloat16",
    "fp16": "bfloat16",
    "fp32": "bfloat16",
    "fp8 128x128 block": "fp8_block",
    "fp8": "fp8",
    "mxfp8": "fp8",
    "nvfp4": "nvfp4",
    "mxfp4": "w4a16_mxfp4",
    "int4": "int4_wo",
    "awq": "int4_wo",
    "gptq int4": "int4_wo",
}
"""Formats of weights by the beginning of their names, in the words of the measurements. Kernels of others (int8, GGUF's,
bitsandbytes) were not measured: they read other bytes, and unpack them in other ways."""

SIXTEEN_BIT = ("bfloat16", "float16")
"""Formats of caches that kernels read alike."""

STAGES_IN_TURN = ("llamacpp", "transformers")
"""Engines that run the stages of a pipeline one after the other in decode: a batch is not parted."""

_times, _by_format, _kernels, _formats = Kept(), Kept(), Kept(), Kept()
_parted = Kept()
_works, _layouts, _models = Kept(4 * MOST_KEPT), Kept(4 * MOST_KEPT), Kept(4 * MOST_KEPT)

Work = tuple[tuple[Product, ...], tuple[AttentionWork, ...], tuple[ExpertsWork, ...], StatesWork]

_equal_works: dict[Work, Work] = {}
_equal_parts: dict[Any, Any] = {}
Shared = TypeVar("Shared")


@lru_cache(maxsize=256)
def kernel_format(name: str) -> str:
    """The measurements' word for a format: the longest beginning that it has counts. UnknownError for one without."""
    known = [start for start in KERNEL_FORMATS if name.startswith(start)]
    if not known:
        raise UnknownError(
            f"kernels of {name} weights were not measured", hint="times are known of bf16, fp8, nvfp4, mxfp4 and int4"
        )
    return KERNEL_FORMATS[max(known, key=len)]


def served_stages(
    spec: ModelSpec,
    held: Iterable[Holding],
    hardware: Hardware,
    engine: str,
    division: Division,
    layout: Layout,
    *,
    version: str | None = None,
    exchange: Way | None = None,
    cache: CacheRules = PLAIN_CACHE,
) -> tuple[StepModel, ...] | None:
    """A model for each pipeline stage: its slowest rank, the first of those that hold most experts.

    `held` are the weights that the engine keeps; hand in the same tuple again for quick answers. `cache` says how the engine
    stores what attention and recurrent layers remember: bytes are those, constants those of kernels that read its format.
    Without an `exchange` the engines' default is taken, all tokens gathered, and beyond one link DeepEP's kernels, the only ones
    that were measured there (in decode).
    Data-parallel ranks that share nothing are copies, each a replica: the stages are those of one.
    None for a device of which no kernel was measured. InputError for a profile that lacks a bandwidth or a rate, UnknownError
    for a format of weights whose kernels were not measured, and for experts over nodes of cards without a link.
    """
    held = held if isinstance(held, tuple) else tuple(held)
    if layout.num_nodes > 1:
        num_gpus, num_nodes = layout.num_gpus, layout.num_nodes
        hardware = _parted.of((hardware,), (num_gpus, num_nodes), lambda: in_nodes(hardware, num_gpus, num_nodes))
    data_ranks = layout.dp if layout.dp_attention else 1
    beyond = _beyond_the_link(hardware, division, data_ranks)
    if exchange is None:
        exchange = "low_latency" if beyond else "gather"
    if beyond and exchange == "low_latency" and not network_of(hardware).exchanges:
        raise UnknownError(
            f"{hardware.profile}: experts over several nodes were measured where each GPU has a link to its node and a network "
            "card of its own, and such cards do not stand in such nodes",
            hint="split the experts over the GPUs of one node, or name another card",
        )
    stored = storage_key(cache)
    read = _formats.of((spec,), stored, lambda: cache_format(spec, cache))
    key = engine, version, division, data_ranks, exchange, read
    found: list[StepModel] = []
    for work, num_layers in _layout_works(spec, held, division, layout, cache, stored):

        def made(work: Work = work, num_layers: int = num_layers) -> StepModel | None:
            one = _model(work, num_layers, spec, held, hardware, engine, division, version, read)
            return one and one._replace(
                data_ranks=data_ranks, exchange=exchange, stages_at_once=engine not in STAGES_IN_TURN
            )

        # Stages that compute the same are one object, whose times are worked out once.
        one = _models.of((work, held, hardware), key, made)
        if one is None:
            return None
        found.append(one)
    return tuple(found)


def _layout_works(
    spec: ModelSpec,
    held: tuple[Holding, ...],
    division: Division,
    layout: Layout,
    cache: CacheRules,
    stored: tuple[object, ...],
) -> tuple[tuple[Work, int], ...]:
    """What a rank of each stage computes, and its number of layers: the same on every card."""

    def make() -> tuple[tuple[Work, int], ...]:
        return tuple(
            (_stage_work(spec, held, division, stage, cache, stored), stage.end_layer - stage.first_layer)
            for stage in stages(layout, len(spec.layers))
        )

    return _layouts.of((held, spec), (division, layout.pp_layers, stored), make)


def _stage_work(
    spec: ModelSpec,
    held: tuple[Holding, ...],
    division: Division,
    stage: Stage,
    cache: CacheRules,
    stored: tuple[object, ...],
) -> Work:
    """What a rank of a stage computes; stages that compute the same share one."""

    def make() -> Work:
        work = _work(spec, held, division, stage, cache)
        return _equal_works.setdefault(work, work)

    if len(_equal_works) > MOST_KEPT:
        _equal_works.clear()
    return _works.of((held, spec), (division, stage_sort(spec, held, stage), stored), make)


def _beyond_the_link(hardware: Hardware, division: Division, data_ranks: int) -> bool:
    if division.expert_ep == 1 or data_ranks == 1:
        return False
    return data_ranks * division.attention > op_device(hardware, "bfloat16", cached=False).domain_gpus


def _model(
    work: Work,
    num_layers: int,
    spec: ModelSpec,
    held: tuple[Holding, ...],
    hardware: Hardware,
    engine: str,
    division: Division,
    version: str | None,
    read: str,
) -> StepModel | None:
    mine, attention, experts, states = work
    # Collectives move 16-bit values, whatever the weights are stored in.
    by_format = _times_by_format(hardware, engine, tuple(dict.fromkeys(("bf16", *(each.format for each in mine)))))
    if by_format is None:
        return None
    return StepModel(
        products=mine,
        attention=attention,
        experts=experts,
        by_format=by_format,
        kernel=_kernel(held, hardware, engine, division, version) if experts else None,
        hidden=spec.hidden_size,
        num_layers=num_layers,
        tensor_ranks=division.attention,
        expert_ranks=division.expert_ep,
        states=states,
        balanced=division.balancer or division.redundant_experts > 0,
        cache_ranks=division.cache_tokens,
        cached=_op_times(hardware, engine, "bfloat16", read) if read not in SIXTEEN_BIT else None,
        cache_format=read,
        engine=engine,
        hardware=hardware.profile,
    )


def cache_format(spec: ModelSpec, rules: CacheRules) -> str:
    """The measurements' word for the format of the cache that attention reads; of formats of one engine's own the nearest."""
    kinds = [row.kind for row in cache_rows(spec) if row.elements and "indexer_keys" not in row.kind]
    name = next((rules.record_dtypes.get(kind, rules.kv_dtype) for kind in kinds), rules.kv_dtype)
    return "fp8" if name.startswith("fp8") else name


def _one(part: Shared) -> Shared:
    """Equal parts as one object: their times are then worked out once."""
    if len(_equal_parts) > 4 * MOST_KEPT:
        _equal_parts.clear()
    found: Shared = _equal_parts.setdefault(part, part)
    return found


def _times_by_format(hardware: Hardware, engine: str, formats: tuple[str, ...]) -> dict[str, OpTimes] | None:
    """Times of operations by format of weights; None where no kernel of such a device was measured."""

    def make() -> dict[str, OpTimes] | None:
        found = {name: _op_times(hardware, engine, kernel_format(name)) for name in formats}
        known = {name: times for name, times in found.items() if times is not None}
        return known if len(known) == len(found) else None

    return _by_format.of((hardware,), (engine, formats), make)


def _work(spec: ModelSpec, held: tuple[Holding, ...], division: Division, stage: Stage, cache: CacheRules) -> Work:
    layers: tuple[Layer, ...] = stage_spec(spec, stage).layers
    return (
        _one(products(held, division, stage, tied_embedding=spec.tied_embedding)),
        _one(attention_work(layers, division.attention, spec.hidden_size, cache)),
        _one(experts_work(layers, spec.hidden_size, division)),
        states_work(layers, spec.hidden_size, division.attention, cache),
    )


def _op_times(hardware: Hardware, engine: str, dtype: str, cache_dtype: str = "bfloat16") -> OpTimes | None:
    return _times.of(
        (hardware,), (engine, dtype, cache_dtype), lambda: op_times(hardware, engine, dtype, cache_dtype=cache_dtype)
    )


def _kernel(
    held: tuple[Holding, ...], hardware: Hardware, engine: str, division: Division, version: str | None
) -> ExpertKernel | None:
    """The kernel of the format that most of the experts are stored in."""
    name = _works.of((held,), ("experts",), lambda: _format_of_experts(held))
    whole = division.expert_ep > 1
    return _kernels.of(
        (hardware,), (engine, name, whole, version), lambda: _chosen(hardware, engine, name, version, whole=whole)
    )


def _format_of_experts(held: tuple[Holding, ...]) -> str:
    experts = [holding for holding in held if holding.weight.role == "routed_experts"]
    return kernel_format(max(experts, key=lambda holding: holding.num_bytes).format)


def _chosen(hardware: Hardware, engine: str, dtype: str, version: str | None, *, whole: bool) -> ExpertKernel | None:
    chosen = kernel_set(hardware, engine, dtype, expert_parallel=whole, version=version)
    if chosen is None:
        return None
    return ExpertKernel(
        chosen.kernel.constants,
        chosen.kernel.bands,
        device_of(hardware, dtype),
        value_bytes(hardware, dtype),
        bool(chosen.borrowed),
    )
