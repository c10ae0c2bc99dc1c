"""Libraries that quantise while they load, and whose files are saved from there: bitsandbytes, HQQ, torchao."""

from __future__ import annotations

from collections.abc import Mapping

from moeplan.core.quant import (
    BNB_FP4,
    BNB_FP4_DOUBLE,
    BNB_INT8,
    BNB_NF4,
    BNB_NF4_DOUBLE,
    FP8_TENSOR,
    HQQ_INT4,
    INT8,
    TORCHAO_INT4,
    Quantisation,
    with_group,
)
from moeplan.sources.families.fields import Fields
from moeplan.sources.quantisers.habits import taken
from moeplan.sources.quantisers.settings import Around, approximate, stated_group_size, stated_names


def bitsandbytes(fields: Fields, around: Around) -> Quantisation:
    """Eight bits, nf4 or fp4."""
    ignored = ("lm_head", *(stated_names(fields, "llm_int8_skip_modules") or ()))
    if fields.flag("load_in_4bit", False) or fields.flag("_load_in_4bit", False):
        kind = fields.text("bnb_4bit_quant_type") or "fp4"
        double = fields.flag("bnb_4bit_use_double_quant", False)
        formats = {"nf4": (BNB_NF4, BNB_NF4_DOUBLE), "fp4": (BNB_FP4, BNB_FP4_DOUBLE)}
        if kind not in formats:
            raise fields.wrong("bnb_4bit_quant_type", f"is {kind!r}; known are nf4 and fp4")
        weight_format = formats[kind][double]
    else:
        weight_format = BNB_INT8
    return Quantisation(weight_format.name, around.base, taken("bitsandbytes", weight_format), ignored)


def hqq(fields: Fields, around: Around) -> Quantisation:
    """HQQ, one scheme for all."""
    settings = fields.sub("quant_config") or fields
    settings = settings.sub("weight_quant_params") or settings
    bits = settings.integer("nbits", default=4)
    weight_format = with_group(
        HQQ_INT4._replace(name=f"hqq int{bits} g64", element_bits=bits), settings.integer("group_size", default=64)
    )
    ignored = stated_names(fields, "skip_modules") or ("lm_head",)
    remarks = (approximate("HQQ", "settings per layer and quantised scales are not read"),)
    return Quantisation(weight_format.name, around.base, taken("hqq", weight_format), ignored, None, remarks)


def torchao(fields: Fields, around: Around) -> Quantisation:
    """torchao, by the name of its default config."""
    stated = fields.raw("quant_type")
    default = stated.get("default") if isinstance(stated, Mapping) else None
    default = default if isinstance(default, Mapping) else {}
    kind = str(default.get("_type", stated if isinstance(stated, str) else "")).lower()
    if "int4" in kind:
        data = default.get("_data")
        sizes = Fields(data if isinstance(data, Mapping) else {}, where=fields.where, path=f"{fields.path}quant_type.")
        weight_format = with_group(TORCHAO_INT4, stated_group_size(sizes, "group_size"))
    elif "int8" in kind:
        weight_format = INT8
    elif "float8" in kind:
        weight_format = FP8_TENSOR
    else:
        raise fields.wrong("quant_type", f"is {kind!r}; known are int4, int8 and float8 kinds")
    ignored = ("lm_head", *(stated_names(fields, "modules_to_not_convert") or ()))
    remarks = (approximate("torchao", "its tensors are stored in layouts of their own"),)
    return Quantisation(weight_format.name, around.base, taken("torchao", weight_format), ignored, None, remarks)
