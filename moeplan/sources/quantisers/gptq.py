"""Integer weights in groups, packed into words: GPTQ, AWQ and AutoRound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moeplan.core.model import ROLES
from moeplan.core.quant import (
    AWQ_INT4,
    GPTQ_INT4,
    GPTQ_INT8,
    Quantisation,
    Rule,
    WeightFormat,
    with_group,
)
from moeplan.sources.families.fields import Fields
from moeplan.sources.quantisers.habits import LEFT_ALONE, taken
from moeplan.sources.quantisers.settings import (
    Around,
    each,
    own_group_size,
    stated_group_size,
    stated_kv_cache,
    stated_names,
)


def awq(fields: Fields, around: Around) -> Quantisation:
    """AWQ in groups, four bits."""
    bits = fields.integer("bits", "w_bit", default=4)
    if bits != 4:
        raise fields.wrong("bits", f"is {bits}; AWQ stores 4 bits")
    weight_format = with_group(AWQ_INT4, stated_group_size(fields, "group_size", "q_group_size"))
    if not fields.flag("zero_point", True):
        weight_format = weight_format._replace(zero_point_bits=0)
    ignored = (*LEFT_ALONE["awq"].patterns, *(stated_names(fields, "modules_to_not_convert") or ()))
    return Quantisation(weight_format.name, around.base, taken("awq", weight_format), ignored, stated_kv_cache(fields))


def gptq(fields: Fields, around: Around) -> Quantisation:
    """GPTQ in groups, with what GPTQModel's `dynamic` changes or leaves alone."""
    bits = fields.integer("bits")
    group_size = stated_group_size(fields, "group_size")
    weight_format = _gptq_format(bits, group_size)
    rules = taken("gptq", weight_format)
    ignored: tuple[str, ...] = ()
    # GPTQModel: `-:pattern` leaves alone, `+:pattern` (or a bare one) changes the settings of what matches.
    for pattern, settings in each(fields, "dynamic"):
        sign, _, expression = pattern.rpartition(":")
        if sign == "-":
            ignored += (f"re:{expression}",)
        elif settings.values:
            own = _gptq_format(settings.optional("bits", minimum=1) or bits, own_group_size(settings, group_size))
            rules = (Rule(own, ROLES, (f"re:{expression}",)), *rules)
    listed = fields.raw("modules_in_block_to_quantize")
    if listed:
        only = tuple(_flat(listed))
        if not all(isinstance(name, str) for name in only):
            raise fields.wrong("modules_in_block_to_quantize", "is not a list of lists of names")
        rules = (*rules[:-1], rules[-1]._replace(patterns=only))
    if fields.flag("lm_head", False):
        rules = (*rules, Rule(weight_format, ("lm_head",)))
    ignored += (*LEFT_ALONE["gptq"].patterns, *(stated_names(fields, "modules_to_not_convert") or ()))
    return Quantisation(weight_format.name, around.base, rules, ignored, stated_kv_cache(fields))


def _gptq_format(bits: int, group_size: int) -> WeightFormat:
    if bits in {4, 8}:
        return with_group(GPTQ_INT4 if bits == 4 else GPTQ_INT8, group_size)
    odd = GPTQ_INT4._replace(name=f"gptq int{bits} g128", element_bits=bits, zero_point_bits=bits)
    return with_group(odd, group_size)


def auto_round(fields: Fields, around: Around) -> Quantisation:
    """AutoRound, packed as GPTQ or AWQ, with what `extra_config` changes."""
    bits, group_size = fields.integer("bits"), stated_group_size(fields, "group_size")
    packing = fields.text("packing_format") or "auto_round:auto_gptq"
    weight_format = with_group(AWQ_INT4, group_size) if "awq" in packing else _gptq_format(bits, group_size)
    ignored: tuple[str, ...] = LEFT_ALONE["auto-round"].patterns
    rules = taken("auto-round", weight_format)
    for name, settings in each(fields, "extra_config"):
        own = settings.optional("bits", minimum=1) or bits
        pattern = f"re:{name}" if any(c in name for c in "*\\(|") else name
        if own >= 16:
            ignored += (pattern,)
        elif own != bits:
            rules = (Rule(_gptq_format(own, own_group_size(settings, group_size)), ROLES, (pattern,)), *rules)
    return Quantisation(weight_format.name, around.base, rules, ignored, stated_kv_cache(fields))


def _flat(listed: Any) -> Iterator[Any]:
    for part in listed if isinstance(listed, list) else [None]:
        yield from part if isinstance(part, list) else [part]
