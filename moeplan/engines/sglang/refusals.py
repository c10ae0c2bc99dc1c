"""Why SGLang would not start, beyond memory: each with the arithmetic, and a way out that was computed.

Sources: SGLang 0.5.23 srt/arg_groups/parallel_hook.py, srt/arg_groups/kv_cache_hook.py, srt/server_args.py,
srt/models/*.py, srt/layers/quantization/*.py.
"""

from __future__ import annotations

from moeplan.core.deployment import Refusal, Serving, Settings
from moeplan.core.layout import Layout
from moeplan.core.mixers import mixers_of
from moeplan.core.model import KimiDelta, ModelSpec
from moeplan.engines.sglang.attention import is_amd
from moeplan.engines.sglang.divisibility import indivisible
from moeplan.engines.sglang.layout import a2a_backend, attention_dp
from moeplan.engines.sglang.registry import (
    BY_TRANSFORMERS,
    DEEPSEEK,
    NEVER,
    WITHOUT_STAGES,
    experts_of,
    is_compressed,
    is_indexed,
    key_pool_tokens,
)
from moeplan.engines.sglang.settings import CHUNK

LEAST_ENGINE_CAPABILITY = 7.5
LEAST_CAPABILITY = {"mxfp4": 8.0, "nvfp4": 8.0, "fp8": 8.0, "awq": 8.0, "int4": 8.0, "int8 g": 8.0}
"""Lowest compute capability by format (layers/quantization/*.py:get_min_capability). ModelOpt's fp8 wants 8.9, but which
tool made a checkpoint is not known here."""
SPARSE_GENERATIONS = (9, 10, 12)
FP4_CACHE_GENERATIONS = (10, 12)
FEWER_EXPERTS_REFUSED = (
    *DEEPSEEK, "afmoe", "cohere2_moe", "deepseek", "ernie4_5_vl_moe", "exaone_moe", "glm4_moe", "glm4v_moe", "hunyuan",
    "hunyuan_v1_moe", "laguna", "lfm2_moe", "longcat_flash", "mimo_v2_flash", "minimax_m2", "qwen2_moe", "qwen3_moe",
    "qwen3_vl_moe", "qwen3_next", "qwen3_5_moe", "step3p5", "step3p7",
)  # fmt: skip
"""Models whose feed-forward wants at least one expert per tensor-parallel rank (`tp_size > n_routed_experts`)."""


def refusals(serving: Serving, settings: Settings) -> tuple[Refusal, ...]:
    """Everything that stops the engine before memory does."""
    model_type = serving.spec.model_type
    if model_type in NEVER:
        told = f"SGLang 0.5.23 has no class for {model_type}; try --engine vllm or --engine transformers"
        return (Refusal("not-supported", told),)
    found = [
        *_by_card(serving),
        *_parallel(serving, settings),
        *_experts(serving),
        *indivisible(serving, settings),
    ]
    return tuple(dict.fromkeys(found))


def _by_card(serving: Serving) -> list[Refusal]:
    spec, quantisation, hardware = serving.spec, serving.quantisation, serving.hardware
    capability = float(hardware.compute_capability) if hardware and hardware.compute_capability else None
    if capability is None or hardware is None:
        return []
    if capability < LEAST_ENGINE_CAPABILITY:
        told = f"SGLang needs compute capability {LEAST_ENGINE_CAPABILITY}; {hardware.name} has {capability}"
        return [Refusal("no-kernel", told)]
    found = []
    sparse = (is_indexed(spec) or is_compressed(spec)) and spec.model_type not in BY_TRANSFORMERS
    if sparse and int(capability) not in SPARSE_GENERATIONS:
        told = f"sparse latent attention needs compute capability 9, 10 or 12; {hardware.name} has {capability}"
        found.append(Refusal("no-kernel", told))
    asked = serving.deployment.kv_dtype
    if asked == "nvfp4" and int(capability) not in FP4_CACHE_GENERATIONS:
        told = f"an nvfp4 cache needs compute capability 10 or 12, and {hardware.name} has {capability}; use fp8"
        found.append(Refusal("no-kernel", told))
    for name in dict.fromkeys(rule.format.name for rule in quantisation.rules):
        least = next((least for start, least in LEAST_CAPABILITY.items() if name.startswith(start)), 0)
        if capability < least:
            told = f"{name} needs compute capability {least}; {hardware.name} has {capability}"
            found.append(Refusal("no-kernel", told))
    return found


def _parallel(serving: Serving, settings: Settings) -> list[Refusal]:
    spec, layout, stated, found = serving.spec, serving.layout, serving.deployment.stated, []
    if (is_indexed(spec) or is_compressed(spec)) and serving.deployment.kv_dtype == "nvfp4":
        found.append(Refusal("no-kernel", "sparse latent attention takes a bf16 or fp8 cache; leave out --kv-dtype"))
    if layout.dp_attention and layout.tp % layout.dp:
        told = f"--tp {layout.tp} does not divide by {layout.dp} groups of attention data parallelism"
        found.append(Refusal("dp-not-dividing-tp", f"{told}; --dp {_divisor(layout.tp, layout.dp)} does"))
    if layout.dp > 1 and not layout.dp_attention and layout.num_nodes > 1:
        told = f"{layout.dp} replicas over {layout.num_nodes} nodes: SGLang wants --dp-attention, or a server per node"
        found.append(Refusal("dp-over-nodes", told))
    if stated.get("--enable-dp-lm-head") and not layout.dp_attention:
        found.append(Refusal("dp-lm-head-without-dp", "--enable-dp-lm-head needs attention data parallelism"))
    dense = stated.get("--moe-dense-tp-size")
    if dense not in (None, 1, layout.tp):
        told = f"--moe-dense-tp-size {dense} is neither 1 nor --tp {layout.tp}; use 1, or leave it out"
        found.append(Refusal("moe-dense-tp-size", told))
    chunk, page = settings.value(CHUNK), settings.count("--page-size") or 1
    if isinstance(chunk, int) and chunk > 0 and chunk % page:
        told = f"{CHUNK} {chunk} is not a multiple of the page of {page} tokens; {max(1, chunk // page) * page} is"
        found.append(Refusal("chunk-not-in-pages", told))
    if layout.pp > len(spec.layers):
        told = f"{layout.pp} pipeline stages outnumber the {len(spec.layers)} layers; use at most {len(spec.layers)}"
        found.append(Refusal("stages-beyond-layers", told))
    if layout.pp > 1 and spec.model_type in WITHOUT_STAGES:
        told = f"SGLang 0.5.23 runs {spec.model_type} in one pipeline stage; use --tp {layout.tp * layout.pp} --pp 1"
        found.append(Refusal("pp-not-supported", told))
    return found + _context_parallel(spec, layout)


def _context_parallel(spec: ModelSpec, layout: Layout) -> list[Refusal]:
    """Decode context parallelism lies inside the ranks of attention."""
    if layout.dcp == 1:
        return []
    ranks = layout.tp // attention_dp(layout)
    if ranks % layout.dcp:
        told = f"{ranks} attention ranks do not divide by decode context parallel {layout.dcp}"
        return [Refusal("dcp-not-dividing-tp", f"{told}; --dcp {_divisor(ranks, layout.dcp)} does")]
    if key_pool_tokens(spec) > 1 or any(isinstance(mixer, KimiDelta) for mixer in mixers_of(spec)):
        told = f"SGLang runs {spec.model_type} without decode context parallelism; leave --dcp out"
        return [Refusal("dcp-not-supported", told)]
    return []


def _experts(serving: Serving) -> list[Refusal]:
    """Expert parallelism against ranks and experts."""
    spec, layout = serving.spec, serving.layout
    sparse = experts_of(spec)
    if not sparse:
        if layout.ep > 1:
            return [Refusal("ep-on-dense", "expert parallelism needs experts, and this model has none: leave it out")]
        if layout.redundant_experts:
            return [Refusal("ep-on-dense", "redundant experts need experts, and this model has none: leave them out")]
        return []
    if layout.ep > layout.tp:
        told = f"--ep {layout.ep} is more than --tp {layout.tp}: experts are shared out among tensor-parallel ranks"
        return [Refusal("ep-beyond-tp", f"{told}; use --ep {layout.tp}")]
    if layout.tp % layout.ep:
        told = f"--tp {layout.tp} does not divide by --ep {layout.ep}"
        return [Refusal("ep-not-dividing-tp", f"{told}; --ep {_divisor(layout.tp, layout.ep)} does")]
    found = []
    experts = max(ffn.num_experts for ffn in sparse)
    physical = experts + layout.redundant_experts
    if layout.ep > physical:
        told = f"--ep {layout.ep} is more than the {physical} experts; use at most --ep {_divisor(layout.tp, physical + 1)}"
        found.append(Refusal("ep-beyond-experts", told))
    elif physical % layout.ep:
        more = layout.redundant_experts + layout.ep - physical % layout.ep
        ways = [f"{more} redundant experts do"]
        best = _divisor(layout.tp, layout.ep, experts)
        if a2a_backend(serving.deployment.stated) == "none" and best > 1:
            ways.append(f"--ep {best} without any does")
        copies = f" + {layout.redundant_experts} redundant = {physical}" if layout.redundant_experts else ""
        told = f"{experts} experts{copies} do not divide over {layout.ep} ranks; {', or '.join(ways)}"
        found.append(Refusal("experts-not-divisible", told))
    if layout.tp > experts and spec.model_type in FEWER_EXPERTS_REFUSED and not is_amd(serving):
        told = f"--tp {layout.tp} is more than the {experts} experts; use at most --tp {experts}"
        found.append(Refusal("ep-beyond-experts", told))
    return found


def _divisor(units: int, below: int, also: int = 0) -> int:
    """The largest number below `below` that divides `units`, and `also`."""
    return max((count for count in range(1, below) if units % count == 0 and also % count == 0), default=1)
