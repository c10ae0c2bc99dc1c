"""Where vLLM's ways are not modelled here: each doubt makes a verdict uncertain."""

from __future__ import annotations

from moeplan.core.deployment import Serving, Settings
from moeplan.core.mixers import mixers_of
from moeplan.core.model import CompressedAttention, MoeFfn, Remark
from moeplan.core.quant import Quantisation
from moeplan.engines.vllm.kernels import expert_format
from moeplan.engines.vllm.layout_rules import REFINES_EXPERT_BLOCKS
from moeplan.engines.vllm.settings import speculation

BY_TRANSFORMERS = ("dots1", "jetmoe", "mistral_large4", "solar_open")
"""Families without a class of their own that vLLM runs through transformers' modules."""


def doubts(serving: Serving, settings: Settings) -> tuple[Remark, ...]:
    """What is not modelled."""
    spec, quantisation, hardware = serving.spec, serving.quantisation, serving.hardware
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
    found += _drafts(serving, settings)
    if spec.towers and not settings.on("--language-model-only"):
        found.append("the vision or audio encoder's own activations are not modelled (vLLM measures them at start)")
    found += _refined_blocks(serving)
    return tuple(Remark("not-modelled", "warning", text) for text in found)


def leaves_out(name: str) -> str | None:
    """Why a weight of this name is never loaded; None for all others (models/qwen3_omni_moe_thinker.py)."""
    return "speech parts that vLLM does not load" if name.startswith(("talker.", "code2wav.")) else None


def _drafts(serving: Serving, settings: Settings) -> list[str]:
    """Draft models of their own, and draft layers that the model does not have."""
    config = speculation(settings)
    draft, method = config.get("model"), str(config.get("method") or "")
    if "mtp" in method:
        missing = serving.spec.mtp is None and not draft
        return [f"speculation with {method}: this model has no draft layers, so none are counted"] if missing else []
    if draft:
        return [f"the draft model {draft} has weights and a cache of its own, which are not counted"]
    return []


def _refined_blocks(serving: Serving) -> list[str]:
    """fp8 expert blocks that ranks cut: the engine refines their scales, or pads, by the kernels that it takes."""
    experts, ranks = expert_format(serving) or "", serving.layout.tp * serving.layout.dp
    if "block" not in experts or serving.layout.ep > 1 or not serving.constants.at_least(REFINES_EXPERT_BLOCKS):
        return []
    for ffn in dict.fromkeys(ffn for layer in serving.spec.layers for ffn in layer.ffns):
        if isinstance(ffn, MoeFfn) and ffn.expert_width % ranks == 0 and ffn.expert_width // ranks % 128:
            told = f"expert width {ffn.expert_width} / {ranks} = {ffn.expert_width // ranks} cuts the fp8 blocks of 128"
            return [f"{told}: vLLM refines their scales or pads the shard, which is not counted"]
    return []


def _is_gguf(quantisation: Quantisation) -> bool:
    """True for what a GGUF file holds, and for the mixes of `--quant q4_k_m` and its like."""
    names = (quantisation.name, *(rule.format.name for rule in quantisation.rules))
    return any(name.startswith("gguf ") for name in names)
