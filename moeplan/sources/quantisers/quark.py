"""AMD Quark: one scheme for all weights, others for the layers that it names."""

from __future__ import annotations

from moeplan.core.quant import (
    FP8_CHANNEL,
    FP8_TENSOR,
    INT8,
    MATRIX_ROLES,
    MXFP4,
    MXFP8,
    PACKED_INT4,
    Quantisation,
    Rule,
    WeightFormat,
    with_group,
)
from moeplan.sources.families.fields import Fields
from moeplan.sources.quantisers.habits import LEFT_ALONE, taken
from moeplan.sources.quantisers.settings import Around, approximate, each, names_of, stated_names


def quark(fields: Fields, around: Around) -> Quantisation:
    """The global scheme, with those of `layer_quant_config` in front."""
    globally = fields.sub("global_quant_config")
    weights = globally.sub("weight") if globally else None
    if weights is None:
        fields.need("global_quant_config.weight")
        return Quantisation("quark", around.base)
    rules: tuple[Rule, ...] = ()
    for pattern, own in each(fields, "layer_quant_config"):
        if (own_weights := own.sub("weight")) is not None:
            rules += (Rule(_quark_format(own_weights), MATRIX_ROLES, (pattern,)),)
    rules += taken("quark", _quark_format(weights))
    ignored = (*LEFT_ALONE["quark"].patterns, *(stated_names(fields, "exclude") or ()))
    remarks = (approximate("Quark", "packing and scale dtypes are taken from the format's definition"),)
    return Quantisation(names_of(rules), around.base, rules, ignored, None, remarks)


def _quark_format(weights: Fields) -> WeightFormat:
    dtype, scheme = weights.text("dtype") or "", weights.text("qscheme") or ""
    group_size = weights.optional("group_size", minimum=1)
    if dtype == "fp4":
        return MXFP4
    if dtype.startswith("fp8"):
        if scheme == "per_group" and group_size == 32:
            return MXFP8
        return FP8_CHANNEL if scheme == "per_channel" else FP8_TENSOR
    if dtype == "int8":
        return INT8
    if dtype in ("int4", "uint4"):
        packed = with_group(PACKED_INT4._replace(fixed_bytes=0), group_size or -1)
        return packed._replace(zero_point_bits=4) if dtype == "uint4" else packed
    raise weights.wrong("dtype", f"is {dtype!r}; known are fp4, fp8, int8, int4 and uint4")
