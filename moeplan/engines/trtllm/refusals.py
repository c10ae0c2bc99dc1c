"""Why TensorRT-LLM would not start, beyond memory: each with the arithmetic, and a way out that was computed.

Sources: TensorRT-LLM llmapi/llm_args.py, _torch/model_config.py; layouts are in `layout_rules`.
"""

from __future__ import annotations

from moeplan.core.deployment import Refusal, Serving, Settings
from moeplan.core.divisibility import block_sides
from moeplan.core.mixers import mixers_of
from moeplan.core.model import CompressedAttention, LatentAttention
from moeplan.core.remedies import refused
from moeplan.engines.trtllm.kernels import MARLIN_CAPABILITIES, expert_backend, expert_format, runs_on
from moeplan.engines.trtllm.layout import resolve_layout
from moeplan.engines.trtllm.layout_rules import problems, ways
from moeplan.engines.trtllm.registry import NOT_SERVED
from moeplan.engines.trtllm.settings import FRACTION

UNREAD = ("gguf ", "bitsandbytes ", "gptq ", "awq ", "hqq ", "torchao ", "int4 ", "int8 ")
"""How names of formats begin that its loader does not know (_torch/model_config.py:load_hf_quant_config)."""
LEAST_CAPABILITY = 8.0
CACHE_CAPABILITIES = {"fp8": (8.9, "8.9"), "fp8_ds_mla": (9.0, "9"), "nvfp4": (10.0, "10")}


def refusals(serving: Serving, settings: Settings) -> tuple[Refusal, ...]:
    """Everything that stops the engine before memory does."""
    sides = block_sides(serving)
    found = [
        *_unsupported(serving),
        *_by_card(serving, settings),
        *refused(serving, lambda other: problems(other, settings, sides), ways, resolve_layout),
    ]
    if settings.share(FRACTION) >= 1:
        found.append(Refusal("fraction-too-large", f"{FRACTION} {settings.share(FRACTION):g} must be below 1"))
    return tuple(dict.fromkeys(found))


def _unsupported(serving: Serving) -> list[Refusal]:
    spec, hardware, found = serving.spec, serving.hardware, []
    if spec.model_type in NOT_SERVED:
        told = f"TensorRT-LLM's PyTorch backend has no class for {spec.model_type}; try another --engine"
        found.append(Refusal("not-supported", told))
    if hardware is not None and hardware.vendor not in (None, "nvidia"):
        found.append(Refusal("not-supported", f"TensorRT-LLM runs on NVIDIA GPUs, not on {hardware.name}"))
    names = (serving.quantisation.name, *(rule.format.name for rule in serving.quantisation.rules))
    for name in dict.fromkeys(names):
        if name.startswith(UNREAD):
            told = f"TensorRT-LLM does not read {name}; look for a checkpoint in fp8, nvfp4 or mxfp4"
            found.append(Refusal("not-supported", told))
    return found


def _by_card(serving: Serving, settings: Settings) -> list[Refusal]:
    hardware = serving.hardware
    capability = hardware.compute_capability if hardware else None
    if hardware is None or capability is None:
        return []
    number, found = float(capability), []
    if number < LEAST_CAPABILITY:
        told = f"TensorRT-LLM needs compute capability {LEAST_CAPABILITY}; {hardware.name} has {capability}"
        return [Refusal("no-kernel", told)]
    experts, backend = expert_format(serving), expert_backend(serving, settings)
    if experts is not None and runs_on(experts, capability, backend) is False:
        told = f"no kernels for {experts} experts on compute capability {capability} ({hardware.name})"
        if experts.startswith("nvfp4") and capability.startswith(MARLIN_CAPABILITIES):
            told += "; say moe_config.backend MARLIN"
        found.append(Refusal("no-kernel", told))
    dtype = serving.deployment.kv_dtype or serving.quantisation.kv_cache_dtype or ""
    least, shown = CACHE_CAPABILITIES.get(dtype, (0.0, ""))
    if number < least:
        told = f"a {dtype} cache needs compute capability {shown}; {hardware.name} has {capability}"
        found.append(Refusal("no-kernel", told))
    sparse = any(
        isinstance(mixer, CompressedAttention) or (isinstance(mixer, LatentAttention) and mixer.indexer is not None)
        for mixer in mixers_of(serving.spec)
    )
    if sparse and int(number) not in (9, 10, 12):
        told = f"sparse latent attention needs compute capability 9, 10 or 12; {hardware.name} has {capability}"
        found.append(Refusal("no-kernel", told))
    return found
