"""Why vLLM would not start, and where its ways are not modelled here."""

from __future__ import annotations

from typing import assert_never

from moeplan.core.deployment import Deployment, Refusal
from moeplan.core.hardware import Hardware
from moeplan.core.model import (
    CompressedAttention,
    CrossAttention,
    GatedDelta,
    GroupedAttention,
    KimiDelta,
    LatentAttention,
    LightningAttention,
    Mamba1,
    Mamba2,
    Mixer,
    ModelSpec,
    MoeFfn,
    Remark,
    RoutedAttention,
    ShortConvolution,
)
from moeplan.core.quant import Quantisation, WeightFormat
from moeplan.core.weights import Owned
from moeplan.engines.vllm.cache import mixers_of

DROPPED = {"arctic": "0.28", "grok": "0.24", "minimax": "0.23"}
"""Families that vLLM served until this release (model_executor/models/registry.py:_PREVIOUSLY_SUPPORTED_MODELS)."""
NEVER = ("nllb_moe", "openmoe", "switch_transformers")
"""Families without a class in the registry; encoder-decoder models except Whisper were removed."""
BY_TRANSFORMERS = ("dots1", "jetmoe", "mistral_large4", "solar_open")
"""Families without a class of their own that vLLM runs through transformers' modules."""
LEAST_CAPABILITY = {"mxfp4": 8.0, "nvfp4": 7.5, "fp8": 7.5, "int4": 7.5, "awq": 7.5, "gptq": 6.0}
"""Lowest compute capability by format (model_executor/layers/quantization/*.py:get_min_capability)."""


def refusals(
    spec: ModelSpec,
    owned: tuple[Owned, ...],
    quantisation: Quantisation,
    deployment: Deployment,
    hardware: Hardware | None,
) -> tuple[Refusal, ...]:
    """Everything that stops the engine before memory does. Sources: vLLM 0.33.0 config/model.py, model files,
    utils/fp8_utils.py:validate_fp8_block_shape, v1/attention/backends/mla/*sparse*.py."""
    found = [*_unsupported(spec), *_by_card(spec, quantisation, hardware)]
    generation = (hardware.compute_capability or "").partition(".")[0] if hardware else ""
    if deployment.kv_dtype == "nvfp4" and generation not in ("", "10"):
        found.append(
            Refusal("no-kernel", "an nvfp4 cache needs compute capability 10; leave out --kv-dtype, or use fp8")
        )
    if deployment.tp > 1:
        found += _indivisible(spec, deployment.tp)
        found += _broken_blocks(owned, quantisation, deployment.tp)
    return tuple(dict.fromkeys(found))


def doubts(
    spec: ModelSpec, quantisation: Quantisation, hardware: Hardware | None, deployment: Deployment
) -> tuple[Remark, ...]:
    """What is not modelled; each makes a verdict uncertain."""
    found = []
    if spec.family in BY_TRANSFORMERS:
        found.append(f"vLLM 0.33.0 runs {spec.family} through transformers' modules: its memory there is not modelled")
    if any(isinstance(mixer, CompressedAttention) for mixer in mixers_of(spec)):
        found.append("DeepSeek-V4: that vLLM pads the blocks of all its cache groups to one width is not modelled; "
                     "its cache may need half as much again")  # fmt: skip
    if hardware is not None and hardware.vendor not in (None, "nvidia", "NVIDIA"):
        found.append(f"graphs, context and kernels are those of CUDA: vLLM on {hardware.name} is not modelled")
    if hardware is not None and hardware.compute_capability in ("6.0", "6.1", "7.0"):
        told = f"builds of vLLM for CUDA 13 leave out compute capability {hardware.compute_capability}"
        found.append(f"{told} ({hardware.name}): look for one that has it")
    if _is_gguf(quantisation):
        found.append("vLLM 0.33.0 reads GGUF by a plugin alone: its memory there is not modelled")
    if any(rule.format.name.startswith("bitsandbytes ") for rule in quantisation.rules):
        found.append("vLLM 0.33.0 ships no bitsandbytes kernels: its memory there is not modelled")
    if any(isinstance(mixer, GatedDelta | Mamba2) for mixer in mixers_of(spec)):
        found.append("vLLM may reserve a third recurrent state per sequence for prefill checkpoints; two are counted")
    if spec.towers:
        found.append("the vision or audio encoder's own activations are not modelled (vLLM measures them at start)")
    return tuple(Remark("not-modelled", "warning", text) for text in found)


def leaves_out(name: str) -> str | None:
    """Why a weight of this name is never loaded; None for all others (models/qwen3_omni_moe_thinker.py)."""
    return "speech parts that vLLM does not load" if name.startswith(("talker.", "code2wav.")) else None


def _unsupported(spec: ModelSpec) -> list[Refusal]:
    if spec.family in DROPPED:
        return [Refusal("not-supported", f"vLLM served {spec.family} until {DROPPED[spec.family]}; 0.33.0 does not")]
    if spec.family in NEVER:
        return [Refusal("not-supported", f"vLLM 0.33.0 does not serve {spec.family}; try --engine transformers")]
    return []


def _by_card(spec: ModelSpec, quantisation: Quantisation, hardware: Hardware | None) -> list[Refusal]:
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


def _indivisible(spec: ModelSpec, tp: int) -> list[Refusal]:
    found = []
    for mixer in mixers_of(spec):
        for what, units in _units(mixer):
            if units % tp:
                found.append(Refusal("heads-not-divisible", f"{units} {what} do not divide over {tp} GPUs"))
        if isinstance(mixer, GroupedAttention) and mixer.num_kv_heads % tp and tp % mixer.num_kv_heads:
            told = f"{mixer.num_kv_heads} key/value heads and {tp} GPUs do not divide"
            found.append(Refusal("kv-heads-not-divisible", told))
    for ffn in dict.fromkeys(ffn for layer in spec.layers for ffn in layer.ffns):
        width, what = (
            (ffn.expert_width, "expert width") if isinstance(ffn, MoeFfn) else (ffn.width, "feed-forward width")
        )
        if width % tp:
            found.append(Refusal("width-not-divisible", f"{what} {width} does not divide over {tp} GPUs"))
    return found


def _units(mixer: Mixer) -> list[tuple[str, int]]:
    """Units that must divide over the ranks: heads, and groups of state-space layers only when they are more."""
    match mixer:
        case GroupedAttention() | LatentAttention():
            return [("attention heads", mixer.num_heads)]
        case CompressedAttention():
            return [("attention heads", mixer.num_heads), ("output groups", mixer.o_groups)]
        case GatedDelta():
            return [("linear key heads", mixer.num_key_heads), ("linear value heads", mixer.num_value_heads)]
        case KimiDelta() | LightningAttention():
            return [("linear heads", mixer.num_heads)]
        case Mamba2():
            return [("state-space heads", mixer.num_heads)]
        case RoutedAttention():
            return [("key/value heads", mixer.num_kv_heads)]
        case CrossAttention():
            return [("attention heads", mixer.num_heads)]
        case Mamba1():
            return [("state-space channels", mixer.inner_size)]
        case ShortConvolution():
            return [("convolution channels", mixer.channels)]
        case _:
            assert_never(mixer)


def _broken_blocks(owned: tuple[Owned, ...], quantisation: Quantisation, tp: int) -> list[Refusal]:
    """fp8 in two-dimensional blocks: the shard of every linear layer outside the experts must be whole blocks."""
    if not any(_block(rule.format) for rule in quantisation.rules):
        return []
    for entry in owned:
        weight = entry.weight
        if not weight.linear or weight.role in ("routed_experts", "embedding", "lm_head") or entry.part != "text":
            continue
        side = {"column": 0, "row": 1}.get(weight.split)
        name = weight.name.replace("{layer}", str(entry.layers[0]) if entry.layers else "0")
        if side is None or len(weight.shape) != 2 or weight.shape[side] % tp:
            continue
        block = _block(quantisation.format_of(name, weight.role, linear=True))
        if block is not None and weight.shape[side] // tp % block[side]:
            module = name.rpartition(".")[0]
            told = f"{weight.shape[side]} / {tp} of {module} is not a multiple of the {block[side]} of its fp8 blocks"
            return [Refusal("block-not-divisible", told)]
    return []


def _block(weight_format: WeightFormat) -> tuple[int, int] | None:
    """Rows and columns of a format's blocks, where it has such."""
    group = weight_format.group
    return (group[1], group[2]) if group is not None and group[0] == "block" else None


def _is_gguf(quantisation: Quantisation) -> bool:
    """True for what a GGUF file holds, and for the mixes of `--quant q4_k_m` and its like."""
    names = (quantisation.name, *(rule.format.name for rule in quantisation.rules))
    return any(name.startswith("gguf ") for name in names)
