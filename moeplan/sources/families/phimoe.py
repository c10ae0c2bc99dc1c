"""Phi-3.5-MoE: Mixtral's shape with layer norms that have a shift, and biases on request."""

from __future__ import annotations

from moeplan.core.model import Layer, ModelSpec, MoeFfn
from moeplan.core.weights import layer_norms, vector
from moeplan.sources.families.blocks import finish, grouped_attention
from moeplan.sources.families.fields import Fields


def phimoe(fields: Fields) -> ModelSpec:
    """microsoft/Phi-3.5-MoE-instruct and Phi-tiny-MoE, Phi-mini-MoE; the head may have a bias."""
    hidden, vocab = fields.integer("hidden_size"), fields.integer("vocab_size")
    bias = fields.flag("attention_bias", False)
    attention = grouped_attention(
        fields,
        window_tokens=fields.optional("sliding_window", minimum=1),
        qkv_bias=bias,
        output_bias=bias,
    )
    experts = MoeFfn(
        num_experts=fields.integer("num_local_experts", "num_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=fields.integer("intermediate_size"),
        name="block_sparse_moe",
    )
    layer = Layer((attention,), (experts,), layer_norms(hidden, "input_layernorm", "post_attention_layernorm"))
    extras = layer_norms(hidden, "model.norm")
    if fields.flag("lm_head_bias", False):
        extras += (vector("lm_head.bias", "lm_head", vocab, "vocabulary", vocab),)
    return finish(
        fields,
        family="phimoe",
        defaults="transformers 5.23.0 PhimoeConfig",
        layers=(layer,) * fields.num_layers("num_hidden_layers"),
        tied_default=False,
        extras=extras,
        renames=((".gate_proj", ".w1"), (".up_proj", ".w3"), (".down_proj", ".w2")),
        card_convention="active",
    )
