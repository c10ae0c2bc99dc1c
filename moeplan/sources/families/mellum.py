"""Mellum: head-normed attention with windows by layer, no shared experts."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Layer, ModelSpec, MoeFfn, Remark
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.layer_types import FULL, SLIDING, layer_types, window, windowed


def mellum(fields: Fields) -> ModelSpec:
    """JetBrains/Mellum 2: every layer full and sparse unless its lists say otherwise."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    fields.finish()
    biased = fields.flag("attention_bias", False)
    attention = grouped_attention(fields, qkv_bias=biased, output_bias=biased, qk_norm="head")
    kinds = layer_types(fields, num_layers, (FULL, SLIDING), lambda _: FULL)
    tokens = window(fields, 1024) if SLIDING in kinds else None
    experts = MoeFfn(
        num_experts=fields.integer("num_experts", "num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=fields.integer("moe_intermediate_size"),
    )
    ffns = fields.strings("mlp_layer_types", num_layers) or ("sparse",) * num_layers
    if unknown := sorted(set(ffns) - {"dense", "sparse"}):
        raise fields.wrong("mlp_layer_types", f"holds {unknown[0]!r}; known are dense and sparse")
    dense = DenseFfn(fields.integer("intermediate_size") if "dense" in ffns else 1)
    remarks: tuple[Remark, ...] = ()
    if fields.optional("num_mtp_layers", "num_nextn_predict_layers"):
        message = "the MTP modules that the config speaks of are left out: their shapes are not known here"
        remarks = (Remark("mtp-left-out", "warning", message, "num_mtp_layers"),)
    return finish(
        fields,
        family="mellum",
        defaults="transformers 5.23.0 MellumConfig",
        layers=tuple(
            Layer((mixer,), (dense if ffn == "dense" else experts,), decoder_norms(hidden))
            for mixer, ffn in zip(windowed(attention, kinds, tokens), ffns, strict=True)
        ),
        tied_default=False,
        remarks=remarks,
    )
