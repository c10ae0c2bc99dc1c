"""Why vLLM would not start, beyond memory: each with the arithmetic, and a way out that was computed.

Sources: vLLM 0.33.0 config/model.py, model_executor/models/registry.py, v1/attention/backends/mla/*sparse*.py; layouts
are in `layout_rules`.
"""

from __future__ import annotations

from moeplan.core.deployment import Refusal, Serving, Settings
from moeplan.core.divisibility import block_sides
from moeplan.core.kv_cache import cache_rows
from moeplan.core.mixers import mixers_of
from moeplan.core.model import CompressedAttention, LatentAttention
from moeplan.core.own_words import said
from moeplan.core.remedies import refused
from moeplan.engines.vllm.layout import resolve_layout
from moeplan.engines.vllm.layout_rules import problems, ways

DROPPED = {"arctic": "0.28", "grok": "0.24", "minimax": "0.23"}
"""Families that vLLM served until this release (model_executor/models/registry.py:_PREVIOUSLY_SUPPORTED_MODELS)."""
NEVER = ("nllb_moe", "openmoe", "switch_transformers")
"""Families without a class in the registry; encoder-decoder models except Whisper were removed."""
LEAST_CAPABILITY = {"mxfp4": 8.0, "nvfp4": 7.5, "fp8": 7.5, "int4": 7.5, "awq": 7.5, "gptq": 6.0}
"""Lowest compute capability by format (model_executor/layers/quantization/*.py:get_min_capability)."""

STRETCHES = ("--hf-overrides", "--rope-scaling")
"""Settings with which a length beyond the config's is taken."""
ALLOWS_LONG = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
"""The variable that does so too, where it is 1 or true (envs.py)."""


def refusals(serving: Serving, settings: Settings) -> tuple[Refusal, ...]:
    """Everything that stops the engine before memory does."""
    found = [*_unsupported(serving), *_by_card(serving)]
    generation = ((serving.hardware.compute_capability if serving.hardware else None) or "").partition(".")[0]
    if serving.deployment.kv_dtype == "nvfp4" and generation not in ("", "10"):
        told = "an nvfp4 cache needs compute capability 10"
        found.append(Refusal("no-kernel", f"{told}; {said(serving.deployment.flags, {'kv_dtype': 'fp8'})} does not"))
    found += _cache(serving, settings)
    found += _balancing(serving, settings)
    sides = block_sides(serving)
    found += refused(serving, lambda other: problems(other, sides), ways, resolve_layout)
    found += _length(serving)
    return tuple(dict.fromkeys(found))


def _cache(serving: Serving, settings: Settings) -> list[Refusal]:
    """Cache formats and managers that the model's kinds of layers do not go with (config/vllm.py, kv_cache_planning.py)."""
    mixers, flags, found = mixers_of(serving.spec), serving.deployment.flags, []
    if serving.deployment.kv_dtype == "nvfp4" and any(isinstance(mixer, LatentAttention) for mixer in mixers):
        told = "an nvfp4 cache does not go with latent attention"
        found.append(Refusal("no-kernel", f"{told}; use {said(flags, {'kv_dtype': 'fp8'})}"))
    rows = cache_rows(serving.spec)
    if settings.on("--disable-hybrid-kv-cache-manager") and len({row.kind == "recurrent" for row in rows}) > 1:
        told = "recurrent layers beside attention need the hybrid cache manager; leave --disable-hybrid-kv-cache-manager out"
        found.append(Refusal("hybrid-manager-needed", told))
    return found


def _balancing(serving: Serving, settings: Settings) -> list[Refusal]:
    """Copies of experts and their balancing belong together (config/parallel.py), where the engine's own flags say so."""
    layout, flags = serving.layout, serving.deployment.flags
    if settings.on("--enable-eplb") and layout.ep == 1:
        way = said(flags, {"ep": layout.tp * layout.dp})
        return [
            Refusal(
                "redundancy-without-ep", f"--enable-eplb needs expert parallelism (--enable-expert-parallel, or {way})"
            )
        ]
    if "redundant_experts" in flags and layout.redundant_experts and not settings.on("--enable-eplb"):
        told = f"{layout.redundant_experts} redundant experts need --enable-eplb; state it, or leave them out"
        return [Refusal("redundancy-without-eplb", told)]
    return []


def _length(serving: Serving) -> list[Refusal]:
    """Longer than the model states, with nothing that stretches it (config/model.py:_get_and_verify_max_len)."""
    deployment, most = serving.deployment, serving.spec.max_context_tokens
    if most is None or deployment.context_tokens <= most or any(flag in deployment.stated for flag in STRETCHES):
        return []
    if str(deployment.stated.get(ALLOWS_LONG, "0")).lower() in ("1", "true"):
        return []
    told = f"max_model_len {deployment.context_tokens:,} is beyond the {most:,} tokens that the model's config states"
    shorter = said(deployment.flags, {"context_tokens": most})
    way = f"use {shorter}, or stretch it with --hf-overrides (rope scaling)"
    return [Refusal("context-beyond-model", f"{told}; {way}")]


def _unsupported(serving: Serving) -> list[Refusal]:
    spec, last = serving.spec, DROPPED.get(serving.spec.family)
    if last is not None and serving.constants.asked_after(last):
        told = f"vLLM served {spec.family} until {last}; {serving.constants.version} does not"
        return [Refusal("not-supported", told)]
    if spec.family in NEVER:
        return [Refusal("not-supported", f"vLLM 0.33.0 does not serve {spec.family}; try --engine transformers")]
    return []


def _by_card(serving: Serving) -> list[Refusal]:
    spec, quantisation, hardware = serving.spec, serving.quantisation, serving.hardware
    capability = float(hardware.compute_capability) if hardware and hardware.compute_capability else None
    if capability is None or hardware is None:
        return []
    found = []
    sparse = any(
        isinstance(mixer, CompressedAttention) or (isinstance(mixer, LatentAttention) and mixer.indexer is not None)
        for mixer in mixers_of(spec)
    )
    if sparse and int(capability) not in (9, 10, 12):
        found.append(
            Refusal(
                "no-kernel",
                f"sparse latent attention needs compute capability 9, 10 or 12; {hardware.name} has {capability}",
            )
        )
    for name in dict.fromkeys(rule.format.name for rule in quantisation.rules):
        least = next((least for start, least in LEAST_CAPABILITY.items() if name.startswith(start)), 0)
        if capability < least:
            told = f"{name} needs compute capability {least}; {hardware.name} has {capability}"
            found.append(Refusal("no-kernel", told))
    return found
