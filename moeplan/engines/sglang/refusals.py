"""Why SGLang would not start, beyond memory: each with the arithmetic, and a way out that was computed.

Sources: SGLang 0.5.23 srt/arg_groups/kv_cache_hook.py, srt/server_args.py, srt/layers/quantization/*.py; layouts are in
`layout_rules` and `divisibility`.
"""

from __future__ import annotations

from moeplan.core.deployment import Refusal, Serving, Settings
from moeplan.core.divisibility import block_sides
from moeplan.core.own_words import said
from moeplan.core.remedies import refused
from moeplan.engines.sglang.layout import resolve_layout
from moeplan.engines.sglang.layout_rules import problems, ways
from moeplan.engines.sglang.registry import BY_TRANSFORMERS, NEVER, is_compressed, is_indexed
from moeplan.engines.sglang.settings import CHUNK

LEAST_ENGINE_CAPABILITY = 7.5
LEAST_CAPABILITY = {"mxfp4": 8.0, "nvfp4": 8.0, "fp8": 8.0, "awq": 8.0, "int4": 8.0, "int8 g": 8.0}
"""Lowest compute capability by format (layers/quantization/*.py:get_min_capability). ModelOpt's fp8 wants 8.9, but which
tool made a checkpoint is not known here."""
STRETCHES = ("--json-model-override-args",)
"""Settings with which a length beyond the config's is taken."""
ALLOWS_LONG = "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"
SPARSE_GENERATIONS = (9, 10, 12)
FP4_CACHE_GENERATIONS = (10, 12)


def refusals(serving: Serving, settings: Settings) -> tuple[Refusal, ...]:
    """Everything that stops the engine before memory does."""
    model_type = serving.spec.model_type
    if model_type in NEVER:
        return (Refusal("not-supported", f"SGLang 0.5.23 has no class for {model_type}; try another --engine"),)
    sides = block_sides(serving)
    found = [
        *_by_card(serving),
        *_settings(serving, settings),
        *_length(serving),
        *refused(serving, lambda other: problems(other, settings, sides), ways, resolve_layout),
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
        told = f"an nvfp4 cache needs compute capability 10 or 12, and {hardware.name} has {capability}"
        found.append(Refusal("no-kernel", f"{told}; use {said(serving.deployment.flags, {'kv_dtype': 'fp8'})}"))
    for name in dict.fromkeys(rule.format.name for rule in quantisation.rules):
        least = next((least for start, least in LEAST_CAPABILITY.items() if name.startswith(start)), 0)
        if capability < least:
            told = f"{name} needs compute capability {least}; {hardware.name} has {capability}"
            found.append(Refusal("no-kernel", told))
    return found


def _length(serving: Serving) -> list[Refusal]:
    """Longer than the model states, with nothing that stretches it (srt/configs/model_config.py:_derive_context_length)."""
    deployment, most = serving.deployment, serving.spec.max_context_tokens
    if most is None or deployment.context_tokens <= most or any(flag in deployment.stated for flag in STRETCHES):
        return []
    if str(deployment.stated.get(ALLOWS_LONG, "0")).lower() in ("1", "true"):
        return []
    told = f"context length {deployment.context_tokens:,} is beyond the {most:,} tokens that the model's config states"
    way = f"use {said(deployment.flags, {'context_tokens': most})}, or allow it with {ALLOWS_LONG}=1"
    return [Refusal("context-beyond-model", f"{told}; {way}")]


def _settings(serving: Serving, settings: Settings) -> list[Refusal]:
    """Settings that contradict each other or the model."""
    spec, deployment, found = serving.spec, serving.deployment, []
    if (is_indexed(spec) or is_compressed(spec)) and deployment.kv_dtype == "nvfp4":
        way = said(deployment.flags, {"kv_dtype": "fp8"})
        found.append(Refusal("no-kernel", f"sparse latent attention takes a bf16 or fp8 cache; use {way}"))
    chunk, page = settings.value(CHUNK), settings.count("--page-size") or 1
    if isinstance(chunk, int) and chunk > 0 and chunk % page:
        told = f"{CHUNK} {chunk} is not a multiple of the page of {page} tokens; {max(1, chunk // page) * page} is"
        found.append(Refusal("chunk-not-in-pages", told))
    return found
