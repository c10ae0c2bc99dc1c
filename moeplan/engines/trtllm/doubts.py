"""What of TensorRT-LLM is not modelled, or was not measured; each makes a verdict uncertain."""

from __future__ import annotations

from moeplan.core.deployment import Serving, Settings
from moeplan.core.kv_cache import cache_rows
from moeplan.core.mixers import mixers_of
from moeplan.core.model import CompressedAttention, LatentAttention, Remark
from moeplan.engines.trtllm.layout import BALANCER
from moeplan.engines.trtllm.registry import NOT_SERVED, SERVED
from moeplan.engines.trtllm.settings import BATCH, SPECULATION


def doubts(serving: Serving, settings: Settings) -> tuple[Remark, ...]:
    """A standing one, for this engine was not yet measured, and what of this question is not modelled."""
    spec, layout, found = serving.spec, serving.layout, []
    if spec.model_type not in SERVED and spec.model_type not in NOT_SERVED:
        found.append(f"that TensorRT-LLM has a class for {spec.model_type} is not known")
    if layout.dcp > 1:
        found.append("context parallelism (helix): its buffers and its split of the output projection are not modelled")
    if any(isinstance(mixer, CompressedAttention) for mixer in mixers_of(spec)):
        found.append("DeepSeek-V4's cache in TensorRT-LLM is not modelled: its records and pools may differ")
    dtype = serving.deployment.kv_dtype or serving.quantisation.kv_cache_dtype or ""
    if dtype.startswith("fp8") and any(isinstance(mixer, LatentAttention) for mixer in mixers_of(spec)):
        found.append("newer builds set aside part of the pool for prompts over an fp8 cache of latents "
                     "(fp8_context_mla_kv_len_cap), where blocks are reused and prefill is not chunked")  # fmt: skip
    states = any(row.kind == "recurrent" for row in cache_rows(spec))
    if states and not any(option.flag == BATCH and option.origin == "stated" for option in settings.options):
        found.append(
            f"recurrent states are allocated for all {settings.count(BATCH)} sequences of {BATCH}: say a smaller one"
        )
    if settings.on("enable_lora") or settings.value("lora_config") is not None:
        found.append("the cache of LoRA adapters (peft_cache_config) is not modelled")
    if any(option.flag.startswith(SPECULATION) for option in settings.options):
        found.append(
            "speculation: draft tokens in cache, states and workspaces are not modelled, nor another draft model"
        )
    if not (settings.text(BALANCER) or "{").startswith("{"):
        found.append(f"copies of experts: {settings.text(BALANCER)} is not read ({BALANCER}), and none are counted")
    if settings.count("--max_beam_width") > 1:
        found.append("beams: each keeps a cache of its own, and one per sequence is counted")
    if settings.count("--moe_cluster_parallel_size") > 1:
        found.append("clusters of expert ranks (--moe_cluster_parallel_size) are not modelled")
    if spec.towers:
        found.append(
            "the vision or audio encoder's own activations are not modelled (the profiling pass measures them)"
        )
    hardware = serving.hardware
    if hardware is not None and hardware.unified_memory:
        found.append(
            "on memory shared with the CPU the profiling pass counts other processes and the page cache as used"
        )
    told = "TensorRT-LLM was not yet measured: fixed costs are borrowed, with wide bands"
    measured = Remark("not-yet-measured", "info", told)
    return (measured, *(Remark("not-modelled", "warning", text) for text in found))


def leaves_out(name: str) -> str | None:
    """Everything is loaded but draft layers, which no name tells."""
    return None
