"""Beam: gated attention with a bias per head, four norms per layer, three dense layers first."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Layer, ModelSpec, MoeFfn
from moeplan.core.weights import linear, norms, vector
from moeplan.sources.families.blocks import finish, grouped_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.layer_types import FULL, SLIDING, layer_types, window, windowed


def beam(fields: Fields) -> ModelSpec:
    """Beam: every sixth layer and the last one see everything unless `layer_types` says otherwise."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    fields.finish()
    biased = fields.flag("attention_bias", False)
    num_heads, head_dim = fields.integer("num_attention_heads"), fields.integer("head_dim", default=128)
    gate = linear("gate_proj", "attention", num_heads * head_dim, hidden, "column", num_heads)
    attention = grouped_attention(
        fields,
        key_head_dim=head_dim,
        value_head_dim=head_dim,
        qkv_bias=biased,
        output_bias=biased,
        qk_norm="head",
        extras=(*gate, vector("gate_bias", "attention", num_heads, "column", num_heads)),
    )
    kinds = layer_types(
        fields,
        num_layers,
        (FULL, SLIDING),
        lambda number: FULL if (number + 1) % 6 == 0 or number == num_layers - 1 else SLIDING,
    )
    experts = MoeFfn(
        num_experts=fields.integer("num_experts", "num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=fields.integer("moe_intermediate_size"),
        correction_bias=True,
    )
    ffns = fields.strings("mlp_layer_types", num_layers)
    if ffns is None:
        ffns = ("dense",) * min(3, num_layers) + ("sparse",) * max(0, num_layers - 3)
    if unknown := sorted(set(ffns) - {"dense", "sparse"}):
        raise fields.wrong("mlp_layer_types", f"holds {unknown[0]!r}; known are dense and sparse")
    dense = DenseFfn(fields.integer("intermediate_size") if "dense" in ffns else 1)
    extras = norms(
        hidden,
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    )
    return finish(
        fields,
        family="beam",
        defaults="transformers 5.23.0 BeamConfig",
        layers=tuple(
            Layer((mixer,), (dense if ffn == "dense" else experts,), extras)
            for mixer, ffn in zip(windowed(attention, kinds, window(fields, 512)), ffns, strict=True)
        ),
        tied_default=False,
    )
