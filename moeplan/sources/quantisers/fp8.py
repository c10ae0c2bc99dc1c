"""fp8 in blocks, rows or whole tensors, and the fp4 experts that come with it or alone (DeepSeek, gpt-oss, FBGEMM)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moeplan.core.errors import ConfigError
from moeplan.core.model import ROLES, Remark
from moeplan.core.quant import (
    FP8_BLOCK,
    FP8_BLOCK_UE8M0,
    FP8_CHANNEL,
    FP8_TENSOR,
    FP32,
    INT64,
    MXFP4,
    Quantisation,
    Rule,
    with_block,
    with_input_scale,
)
from moeplan.sources.families.fields import Fields
from moeplan.sources.quantisers.habits import LEFT_ALONE, taken
from moeplan.sources.quantisers.modelopt import listed_layers
from moeplan.sources.quantisers.settings import Around, by_convention, stated_block, stated_kv_cache, stated_names

# deepseek-ai/DeepSeek-V4-Flash inference/model.py: hyper-connections, compressor positions and sinks are fp32, the
# compressors' projections 16-bit, the projections of MTP fp8. The token table of hash routing: int64, from the list
# of tensor types that the Hub shows for the repository.
_DEEPSEEK_V4 = (
    Rule(FP32, ROLES, ("*hc_*", "attn_sink", "ape", "*attn_hc*", "*ffn_hc*"), linear_only=False),
    Rule(INT64, ROLES, ("tid2eid",), linear_only=False),
)


def fp8(fields: Fields, around: Around) -> Quantisation:
    """fp8 in blocks or whole tensors, with the exceptions of DeepSeek-V4 and of a ModelOpt pass on top."""
    ignored = stated_names(fields, "modules_to_not_convert", "ignored_layers")
    block = stated_block(fields, "weight_block_size")
    one_byte_scales = fields.text("scale_fmt") == "ue8m0" and _is_deepseek_v4(around.config)
    remarks: tuple[Remark, ...] = ()
    blocks = FP8_BLOCK_UE8M0 if one_byte_scales else FP8_BLOCK
    weight_format = with_block(blocks, *block) if block else FP8_TENSOR
    if fields.text("activation_scheme") == "static":
        weight_format = with_input_scale(weight_format)
    rules = taken("fp8", weight_format)
    name = weight_format.name
    if converted := fields.strings("modules_to_convert"):
        rules = (Rule(weight_format, ROLES, converted), *rules)
    expert_dtype = fields.text("expert_dtype") or around.config.get("expert_dtype")
    if expert_dtype == "fp4":
        rules = (Rule(MXFP4, ("routed_experts",)), *rules)
        name = f"{name}, experts mxfp4"
    elif expert_dtype not in (None, "fp8"):
        raise ConfigError(
            f"{fields.where}: `expert_dtype` is {expert_dtype!r}; known are fp4 and fp8",
            hint="read the stored sizes from the checkpoint with --headers",
        )
    left: tuple[str, ...] = LEFT_ALONE["fp8"].patterns
    if _is_deepseek_v4(around.config):
        rules = (*_DEEPSEEK_V4, *rules, Rule(weight_format, ("other",), ("e_proj", "h_proj")))
        left += ("compressor",)
    if fields.has("quantized_layers"):
        # ModelOpt on top of an fp8 checkpoint: it replaces what it lists, and its `ignore` is about its own pass, so
        # what that names stays as the first quantiser left it.
        rules = (*listed_layers(fields), *rules)
        name = "mixed: " + ", ".join(dict.fromkeys(rule.format.name for rule in rules if rule.linear_only))
        ignored = ()
    if ignored is None:
        remarks = (by_convention(fields, "modules_to_not_convert"),)
    return Quantisation(name, around.base, rules, (*left, *(ignored or ())), stated_kv_cache(fields), remarks)


def _is_deepseek_v4(config: Mapping[str, Any]) -> bool:
    return str(config.get("model_type") or "").startswith("deepseek_v4")


def mxfp4(fields: Fields, around: Around) -> Quantisation:
    """The experts in mxfp4, all else as it was."""
    ignored = stated_names(fields, "modules_to_not_convert") or ()
    return Quantisation("mxfp4", around.base, taken("mxfp4", MXFP4), ignored, stated_kv_cache(fields))


def fbgemm_fp8(fields: Fields, around: Around) -> Quantisation:
    """One scale per output channel."""
    ignored = (*LEFT_ALONE["fbgemm_fp8"].patterns, *(stated_names(fields, "modules_to_not_convert") or ()))
    return Quantisation(
        FP8_CHANNEL.name, around.base, taken("fbgemm_fp8", FP8_CHANNEL), ignored, stated_kv_cache(fields)
    )
