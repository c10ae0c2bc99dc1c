"""Kolibri: every layer sparse with one shared expert, four norms per layer, windows in most layers."""

from __future__ import annotations

from moeplan.core.model import Layer, ModelSpec, MoeFfn
from moeplan.core.weights import norms
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.layer_types import FULL, SLIDING, every, layer_types, window, windowed


def kolibri1(fields: Fields) -> ModelSpec:
    """Kolibri 1: every fifth layer sees everything unless `layer_types` says otherwise."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    fields.finish()
    attention = grouped_attention(fields, qk_norm="head")
    kinds = layer_types(fields, num_layers, (FULL, SLIDING), every(5, FULL, SLIDING))
    experts = MoeFfn(
        num_experts=fields.integer("num_experts", "num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=fields.integer("moe_intermediate_size"),
        num_shared_experts=1,
        shared_width=fields.integer("shared_expert_intermediate_size"),
        correction_bias=True,
    )
    extras = decoder_norms(hidden) + norms(hidden, "post_self_attn_layernorm", "post_mlp_layernorm")
    return finish(
        fields,
        family="kolibri1",
        defaults="transformers 5.23.0 Kolibri1Config",
        layers=tuple(Layer((mixer,), (experts,), extras) for mixer in windowed(attention, kinds, window(fields, 513))),
        tied_default=False,
        renames=(
            (".post_self_attn_layernorm", ".post_attn_norm"),
            (".post_mlp_layernorm", ".post_ffn_norm"),
            (".mlp.gate.e_score_correction_bias", ".moe.router.expert_bias"),
        ),
    )
