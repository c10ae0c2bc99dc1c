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

SPLITS_TOWERS_ALWAYS = ("gemma3", "qwen3_omni_moe")
"""Models whose class takes no `--mm-encoder-tp-mode data`: their towers are split whatever is asked for (those without
`supports_encoder_tp_data` in model_executor/models, among models whose towers' parts are known here)."""
GATHERING = ("allgather_reducescatter", "naive", "pplx")
"""Values of `--all2all-backend` that gather the tokens of all data-parallel ranks; the first is the default."""
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
    (`use_sequence_parallel_moe`). Towers are split like the layers, part by part, unless `--mm-encoder-tp-mode data` keeps
    them whole on every rank (config/multimodal.py, config/model.py; the parts that are split in qwen3_vl.py, siglip.py).
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
        towers=1 if _whole_towers(serving.spec, settings) else layout.tp,
        vocabulary_padding=VOCABULARY_PADDING,
        cache_tokens=layout.dcp,
        balancer=settings.on("--enable-eplb"),
    )


def is_moe(spec: ModelSpec) -> bool:
    """True where any layer has routed experts."""
    return any(isinstance(ffn, MoeFfn) for layer in dict.fromkeys(spec.layers) for ffn in layer.ffns)


def _whole_towers(spec: ModelSpec, settings: Settings) -> bool:
    asked = settings.text("--mm-encoder-tp-mode") == "data" or settings.on("--enable-multimodal-encoder-data-parallel")
    return asked and spec.model_type not in SPLITS_TOWERS_ALWAYS


def gathers_tokens(layout: Layout, all2all_backend: str | None) -> bool:
    """True where every rank's experts are handed the tokens of all data-parallel ranks: they are all-gathered.

    That is the way without expert parallelism, and with it unless a backend is stated that sends each token to its
    experts alone (DeepEP, MoRI, NIXL and others). Source: vLLM 0.33.0 fused_moe/all2all_utils.py:
    maybe_make_prepare_finalize, config/parallel.py (`naive` and `pplx` fall back to the all-gather),
    distributed/device_communicators/all2all.py:AgRsAll2AllManager.
    """
    if not layout.dp_attention:
        return False
    return layout.ep == 1 or (all2all_backend or GATHERING[0]) in GATHERING


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
