"""How vLLM spreads a model: its degrees, and over how many ranks each part is divided.

Sources: vLLM 0.33.0 config/parallel.py, fused_moe/config.py:FusedMoEParallelConfig.make, distributed/utils.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from moeplan.core.deployment import Serving, Settings, Value
from moeplan.core.errors import InputError
from moeplan.core.layout import AskedLayout, Division, Layout
from moeplan.core.model import ModelSpec, MoeFfn
from moeplan.core.placement import even_stages

VOCABULARY_PADDING = 64
"""Rows of embedding and head are padded to a multiple of this (model_executor/layers/vocab_parallel_embedding.py)."""


def resolve_layout(spec: ModelSpec, asked: AskedLayout, num_devices: int | None, stated: Mapping[str, Value]) -> Layout:
    """Tensor x pipeline x data parallel; experts over all ranks of a stage, as wholes with expert parallelism.

    Raises InputError where degrees contradict each other.
    """
    pp, dp = asked.pp or 1, asked.dp or 1
    tp = asked.tp or max(1, (num_devices or 1) // (pp * dp))
    if asked.tp is None and num_devices is not None and num_devices % (pp * dp):
        raise InputError(
            f"{num_devices} GPUs do not divide over {pp} stages x {dp} data-parallel ranks",
            hint="say --tp too, or another number of GPUs",
        )
    over_all = tp * dp
    ep = _expert_ranks(asked, over_all)
    return Layout(
        tp=tp,
        pp=pp,
        dp=dp,
        ep=ep,
        # Attention of an MoE model runs data-parallel while its experts are shared out; a dense model is copied.
        dp_attention=dp > 1 and is_moe(spec),
        dcp=asked.dcp or 1,
        redundant_experts=asked.redundant_experts or 0,
        pp_layers=asked.pp_layers or even_stages(len(spec.layers), pp),
        num_nodes=asked.num_nodes or 1,
        num_gpus=tp * pp * dp,
    )


def division(serving: Serving, settings: Settings) -> Division:
    """Attention, dense layers and tables over the tensor-parallel ranks; experts over all ranks of the stage.

    Without expert parallelism the width of every expert is divided over tensor x data-parallel ranks
    (`flatten_tp_across_dp_and_pcp`). Where expert parallelism meets both, shared experts are whole on every rank
    (`use_sequence_parallel_moe`).
    """
    layout = serving.layout
    stage_ranks = layout.tp * layout.dp if is_moe(serving.spec) else layout.tp
    by_sequence = layout.ep > 1 and layout.tp > 1 and layout.dp > 1
    return Division(
        attention=layout.tp,
        dense_mlp=layout.tp,
        shared_experts=1 if by_sequence else layout.tp,
        embedding=layout.tp,
        lm_head=layout.tp,
        expert_tp=1 if layout.ep > 1 else stage_ranks,
        expert_ep=layout.ep,
        redundant_experts=layout.redundant_experts,
        vocabulary_padding=VOCABULARY_PADDING,
        cache_tokens=layout.dcp,
    )


def is_moe(spec: ModelSpec) -> bool:
    """True where any layer has routed experts."""
    return any(isinstance(ffn, MoeFfn) for layer in dict.fromkeys(spec.layers) for ffn in layer.ffns)


def _expert_ranks(asked: AskedLayout, over_all: int) -> int:
    """vLLM has a switch, no number: all ranks of the stage, or none."""
    if asked.ep is None:
        return over_all if asked.expert_parallel else 1
    if asked.ep == 1 and asked.expert_parallel and over_all > 1:
        raise InputError("--ep 1 and --enable-expert-parallel contradict each other", hint="leave one of them out")
    if asked.ep not in (1, over_all):
        raise InputError(
            f"--ep {asked.ep}: vllm spreads experts over all {over_all} ranks of a stage (tp x dp), or over none",
            hint=f"say --ep {over_all}, or leave it out",
        )
    return asked.ep
