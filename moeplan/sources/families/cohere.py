"""Cohere2 MoE: attention and feed-forward side by side behind one norm, windows in most layers."""

from __future__ import annotations

from collections.abc import Callable

from moeplan.core.model import DenseFfn, Layer, ModelSpec, MoeFfn
from moeplan.core.weights import norms
from moeplan.sources.families.blocks import dense_first, finish, grouped_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.layer_types import FULL, SLIDING, every, layer_types, window, windowed


def cohere2_moe(fields: Fields) -> ModelSpec:
    """Cohere's MoE line: experts as wide as `intermediate_size`, dense first layers of a width of their own."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    fields.finish()
    num_dense = fields.optional("first_k_dense_replace") or 0
    biased = fields.flag("attention_bias", False)
    attention = grouped_attention(
        fields,
        key_head_dim=fields.integer("head_dim", default=128),
        value_head_dim=fields.integer("head_dim", default=128),
        qkv_bias=biased,
        output_bias=biased,
    )
    kinds = layer_types(fields, num_layers, (FULL, SLIDING), _pattern(fields, num_dense))
    width = fields.integer("intermediate_size")
    num_shared = fields.integer("num_shared_experts", default=0, minimum=0)
    experts = MoeFfn(
        num_experts=fields.integer("num_experts", "num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=width,
        num_shared_experts=num_shared,
        shared_width=num_shared * width,
    )
    is_sparse = dense_first(fields, num_layers, default=0)
    dense = DenseFfn(width if all(is_sparse) else fields.integer("prefix_dense_intermediate_size", default=width))
    layers = tuple(
        Layer((mixer,), (experts if sparse else dense,), norms(hidden, "input_layernorm"))
        for mixer, sparse in zip(windowed(attention, kinds, window(fields, 4096)), is_sparse, strict=True)
    )
    return finish(
        fields, family="cohere2_moe", defaults="transformers 5.23.0 Cohere2MoeConfig", layers=layers, tied_default=True
    )


def _pattern(fields: Fields, num_dense: int) -> Callable[[int], str]:
    """Dense first layers and the rest count their intervals of full layers separately."""
    if fields.has("layer_types"):
        return lambda _: FULL
    of_dense = every(fields.integer("prefix_dense_sliding_window_pattern", default=1), FULL, SLIDING)
    of_rest = every(fields.integer("sliding_window_pattern", default=4), FULL, SLIDING)
    return lambda number: of_dense(number) if number < num_dense else of_rest(number - num_dense)
