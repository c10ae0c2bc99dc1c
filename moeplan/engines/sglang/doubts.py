"""Where SGLang's ways are not modelled here: each doubt makes a verdict uncertain."""

from __future__ import annotations

from moeplan.core.deployment import Serving, Settings
from moeplan.core.model import Remark
from moeplan.core.quant import Quantisation
from moeplan.engines.sglang.registry import (
    BY_TRANSFORMERS,
    SECOND_POOL_SINCE,
    WITHOUT_DP_ATTENTION,
    is_compressed,
    is_recurrent,
)
from moeplan.engines.sglang.settings import DRAFT_MODEL

UNMODELLED = (
    "--attn-cp-size", "--moe-dp-size", "--dwdp-size", "--shared-experts-tp-size", "--enable-shared-experts-attn-tp",
    "--enable-dense-mlp-attn-tp", "--offload-group-size", "--enable-unified-memory", "--enable-page-major-kv-layout",
    "--mamba-ssm-dtype", "--enable-memory-saver", "--enable-hisparse", "--enable-double-sparsity", "--enable-mis",
    "--enable-decoder-swa-bounded-replay", "--enable-encoder-swa-bounded-replay", "--enable-deepseek-v4-fp4-indexer",
    "--enable-int8-mamba-checkpoint", "--enable-linear-replayssm", "--enable-linear-replayssm-spec",
    "--ple-offload-embedding", "--cuda-graph-config", "SGLANG_MAMBA_CONV_DTYPE", "SGLANG_MAMBA_SSM_DTYPE",
    "SGLANG_ENABLE_POST_CAPTURE_KV_SIZING",
)  # fmt: skip
"""Flags that change memory in ways that are not counted."""


def doubts(serving: Serving, settings: Settings) -> tuple[Remark, ...]:
    """What is not modelled."""
    spec, quantisation, hardware = serving.spec, serving.quantisation, serving.hardware
    stated, layout, found = serving.deployment.stated, serving.layout, []
    if spec.model_type in BY_TRANSFORMERS:
        found.append(
            f"SGLang has no class for {spec.model_type}; through transformers' modules its memory is not modelled"
        )
    if is_compressed(spec):
        found.append("DeepSeek-V4: no log of its pools was seen; they are counted as the engine's source has them")
    if hardware is not None and hardware.vendor not in (None, "nvidia"):
        found.append(f"graphs, context and kernels are those of CUDA: SGLang on {hardware.name} is not modelled")
    if layout.dp_attention and spec.model_type in WITHOUT_DP_ATTENTION:
        found.append(f"attention data parallelism: SGLang's file for {spec.model_type} does not provide for it")
    if _is_gguf(quantisation):
        found.append("how SGLang holds GGUF weights is not modelled")
    if any(rule.format.name.startswith("bitsandbytes ") for rule in quantisation.rules):
        found.append("how SGLang holds bitsandbytes weights is not modelled")
    if spec.towers:
        found.append("the vision or audio encoder's own activations are not modelled")
    draft = stated.get(DRAFT_MODEL)
    if draft:
        found.append(f"the draft model {draft} has weights and a cache of its own, which are not counted")
    since = SECOND_POOL_SINCE.get(spec.model_type)
    if since is not None and not serving.constants.at_least(since):
        found.append(
            f"window layers: SGLang before {since} keeps all tokens in them, which bytes per token do not show"
        )
    if is_recurrent(spec) and settings.on("--enable-hierarchical-cache"):
        found.append("states of recurrent layers in host memory are not modelled")
    if settings.on("--enable-hierarchical-cache") and not settings.count("--hicache-size"):
        found.append("the host's part of the cache follows the pool (--hicache-ratio) and is not counted")
    found += [f"{flag} is not modelled" for flag in UNMODELLED if stated.get(flag) not in (None, False, 1, -1)]
    return tuple(Remark("not-modelled", "warning", text) for text in found)


def leaves_out(name: str) -> str | None:
    """Why a weight of this name is never loaded; None for all others (models/qwen3_omni_moe.py)."""
    spoken = any(part in name for part in ("talker.", "code2wav."))
    return "speech parts that SGLang does not load" if spoken else None


def _is_gguf(quantisation: Quantisation) -> bool:
    """True for what a GGUF file holds, and for the mixes of `--quant q4_k_m` and its like."""
    names = (quantisation.name, *(rule.format.name for rule in quantisation.rules))
    return any(name.startswith("gguf ") for name in names)
