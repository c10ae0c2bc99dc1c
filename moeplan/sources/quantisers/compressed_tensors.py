"""compressed-tensors: groups of modules, each with a scheme of its weights."""

from __future__ import annotations

from moeplan.core.model import ROLES
from moeplan.core.quant import (
    FP8_BLOCK,
    FP8_CHANNEL,
    FP8_TENSOR,
    INT8,
    MXFP4,
    MXFP8,
    NVFP4,
    PACKED_INT4,
    PACKED_INT8,
    Quantisation,
    Rule,
    WeightFormat,
    with_block,
    with_group,
    with_input_scale,
)
from moeplan.sources.families.fields import Fields
from moeplan.sources.quantisers.habits import LEFT_ALONE
from moeplan.sources.quantisers.settings import (
    Around,
    each,
    names_of,
    stated_block,
    stated_group_size,
    stated_kv_cache,
    stated_names,
)


def compressed_tensors(fields: Fields, around: Around) -> Quantisation:
    """The schemes of `config_groups`, less what `ignore` names."""
    packing = fields.text("format") or ""
    ignored = (*LEFT_ALONE["compressed-tensors"].patterns, *(stated_names(fields, "ignore") or ()))
    rules = group_rules(fields, "compressed-tensors", packing)
    return Quantisation(names_of(rules), around.base, rules, ignored, stated_kv_cache(fields))


def group_rules(fields: Fields, method: str, packing: str) -> tuple[Rule, ...]:
    """A rule per group of `config_groups`: named modules first, then classes of modules by the habits of `method`."""
    if not fields.has("config_groups"):
        fields.need("config_groups")
    rules: tuple[Rule, ...] = ()
    broad: tuple[Rule, ...] = ()
    for _, group in each(fields, "config_groups"):
        weights = group.sub("weights")
        if weights is None:
            continue  # a group of activations or of the cache alone
        weight_format = _scheme(weights, group.text("format") or packing)
        inputs = group.sub("input_activations")
        if inputs is not None and weight_format.fixed_bytes < 8 and inputs.values.get("dynamic") is False:
            weight_format = with_input_scale(weight_format)
        targets = group.strings("targets") or ("Linear",)
        classes = [name for name in targets if "." not in name and name[:1].isupper()]
        if "Linear" in classes:
            broad += (Rule(weight_format, LEFT_ALONE[method].roles),)
        elif named := tuple(name for name in targets if name not in classes):
            # Names may go where class names do not, but never to a router: that is no Linear.
            roles = tuple(role for role in ROLES if role not in ("router", "norm"))
            rules += (Rule(weight_format, roles, named),)
    return rules + broad


def _scheme(weights: Fields, packing: str) -> WeightFormat:
    bits = weights.integer("num_bits")
    kind = weights.text("type") or "int"
    group_size = stated_group_size(weights, "group_size") if weights.has("group_size") else None
    strategy = weights.text("strategy") or ("group" if group_size not in (None, -1) else "tensor")
    if kind == "float" and bits == 4:
        if group_size == 32:
            return MXFP4
        if group_size in (None, 16):
            return NVFP4
        raise weights.wrong("group_size", f"is {group_size}; 4-bit floats have groups of 16 (nvfp4) or 32 (mxfp4)")
    if kind == "float" and bits == 8:
        if strategy == "block":
            return with_block(FP8_BLOCK, *(stated_block(weights, "block_structure") or (128, 128)))
        if group_size == 32:
            return MXFP8
        # The library keeps scales in the model's own 16-bit dtype, ModelOpt in fp32.
        return FP8_CHANNEL._replace(scale_bits=16) if strategy == "channel" else FP8_TENSOR
    if kind == "int" and bits in (2, 3, 4, 5, 6, 7, 8):
        if packing == "int-quantized" or (bits == 8 and packing != "pack-quantized"):
            return INT8._replace(scale_bits=16)  # one byte per element, whatever the bits
        packed = PACKED_INT8 if bits == 8 else PACKED_INT4._replace(name=f"int{bits} g128", element_bits=bits)
        packed = with_group(packed, group_size if strategy == "group" and group_size else -1)
        if not weights.flag("symmetric", True):
            packed = packed._replace(name=f"{packed.name} with zero points", zero_point_bits=bits)
        if weights.raw("actorder") in ("group", True):
            packed = packed._replace(index_bits=32)
        return packed
    raise weights.wrong("num_bits", f"is {bits} of type {kind!r}, which no known format stores")
