"""Arcee Trinity (AFMoE): gated attention with windows, four norms per layer, dense first layers."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Layer, ModelSpec, MoeFfn, Weight
from moeplan.core.weights import linear, norms
from moeplan.sources.families.blocks import finish, grouped_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.layer_types import FULL, SLIDING, every, layer_types, window, windowed


def afmoe(fields: Fields) -> ModelSpec:
    """arcee-ai/Trinity: the router's correction bias is a parameter here, as transformers builds it."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    fields.finish()
    biased = fields.flag("attention_bias", False)
    head_dim, num_heads = fields.integer("head_dim"), fields.integer("num_attention_heads")
    gate = linear("gate_proj", "attention", num_heads * head_dim, hidden, "column", num_heads)
    attention = grouped_attention(fields, qkv_bias=biased, output_bias=biased, qk_norm="head", extras=gate)
    interval = 1 if fields.has("layer_types") else fields.integer("global_attn_every_n_layers", default=4)
    kinds = layer_types(fields, num_layers, (FULL, SLIDING), every(interval, FULL, SLIDING))
    width = fields.integer("moe_intermediate_size")
    num_experts = fields.integer("num_experts", "num_local_experts")
    num_shared = fields.integer("num_shared_experts", "n_shared_experts", minimum=0)
    experts = MoeFfn(
        num_experts=num_experts,
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=width,
        num_shared_experts=num_shared,
        shared_width=num_shared * width,
        extras=(Weight("expert_bias", "router", (num_experts,)),),
        router_name="router.gate",
    )
    num_dense = fields.integer("num_dense_layers", minimum=0)
    dense = DenseFfn(fields.integer("intermediate_size") if num_dense else 1)
    extras = norms(hidden, "input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm")
    layers = tuple(
        Layer((mixer,), (dense if number < num_dense else experts,), extras)
        for number, mixer in enumerate(windowed(attention, kinds, window(fields, 1024)))
    )
    return finish(fields, family="afmoe", defaults="transformers 5.23.0 AfmoeConfig", layers=layers, tied_default=False)
