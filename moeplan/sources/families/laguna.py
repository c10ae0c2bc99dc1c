"""Laguna: an output gate per head, numbers of heads that differ by layer, one shared expert."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, GroupedAttention, Layer, ModelSpec, MoeFfn, Weight
from moeplan.core.weights import linear
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.layer_types import FULL, SLIDING, layer_types, window


def laguna(fields: Fields) -> ModelSpec:
    """poolside/Laguna: the router's correction bias is a parameter here, as transformers builds it."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    fields.finish()
    heads = fields.integers("num_attention_heads_per_layer", num_layers)
    heads = heads or (fields.integer("num_attention_heads"),) * num_layers
    kinds = layer_types(fields, num_layers, (FULL, SLIDING), lambda _: FULL)
    tokens = window(fields, 512) if SLIDING in kinds else None
    num_experts = fields.integer("num_experts", "num_local_experts")
    experts = MoeFfn(
        num_experts=num_experts,
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=fields.integer("moe_intermediate_size"),
        num_shared_experts=1,
        shared_width=fields.integer("shared_expert_intermediate_size"),
        extras=(Weight("experts.e_score_correction_bias", "router", (num_experts,)),),
        shared_name="shared_expert",
    )
    ffns = fields.strings("mlp_layer_types", num_layers) or ("dense",) + ("sparse",) * (num_layers - 1)
    if unknown := sorted(set(ffns) - {"dense", "sparse"}):
        raise fields.wrong("mlp_layer_types", f"holds {unknown[0]!r}; known are dense and sparse")
    dense = DenseFfn(fields.integer("intermediate_size") if "dense" in ffns else 1)
    layers = tuple(
        Layer(
            (_attention(fields, hidden, num_heads, tokens if kind == SLIDING else None),),
            (dense if ffn == "dense" else experts,),
            decoder_norms(hidden),
        )
        for num_heads, kind, ffn in zip(heads, kinds, ffns, strict=True)
    )
    return finish(
        fields, family="laguna", defaults="transformers 5.23.0 LagunaConfig", layers=layers, tied_default=False
    )


def _attention(fields: Fields, hidden: int, num_heads: int, tokens: int | None) -> GroupedAttention:
    """Gates per head, or with `gating` other than true or `per-head` one per channel of the queries."""
    biased = fields.flag("attention_bias", False)
    head_dim = fields.integer("head_dim", default=128)
    gating = fields.raw("gating")
    gates = num_heads if gating in (None, True, "per-head") else num_heads * head_dim
    return grouped_attention(
        fields,
        num_heads=num_heads,
        key_head_dim=head_dim,
        value_head_dim=head_dim,
        window_tokens=tokens,
        qkv_bias=biased,
        output_bias=biased,
        qk_norm="head",
        extras=linear("g_proj", "attention", gates, hidden, "column", num_heads),
    )
