"""dots.llm1: head-normed attention, dense first layers, shared experts."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Layer, ModelSpec, MoeFfn
from moeplan.sources.families.blocks import decoder_norms, dense_first, finish, grouped_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.layer_types import FULL, SLIDING, layer_types, window, windowed


def dots1(fields: Fields) -> ModelSpec:
    """rednote-hilab/dots.llm1: windows only where `layer_types` or `max_window_layers` asks for them."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    fields.finish()
    biased = fields.flag("attention_bias", False)
    attention = grouped_attention(fields, qkv_bias=biased, output_bias=biased, qk_norm="head")
    tokens = None if fields.values.get("use_sliding_window") is False else window(fields, None)
    first = fields.optional("max_window_layers")
    kinds = layer_types(
        fields,
        num_layers,
        (FULL, SLIDING),
        lambda number: SLIDING if tokens is not None and first is not None and number >= first else FULL,
    )
    width = fields.integer("moe_intermediate_size")
    num_shared = fields.optional("n_shared_experts") or 0
    experts = MoeFfn(
        num_experts=fields.integer("n_routed_experts", "num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=width,
        num_shared_experts=num_shared,
        shared_width=num_shared * width,
        correction_bias=True,
    )
    is_sparse = dense_first(fields, num_layers, default=0)
    dense = DenseFfn(1 if all(is_sparse) else fields.integer("intermediate_size"))
    layers = tuple(
        Layer((mixer,), (experts if sparse else dense,), decoder_norms(hidden))
        for mixer, sparse in zip(windowed(attention, kinds, tokens), is_sparse, strict=True)
    )
    return finish(fields, family="dots1", defaults="transformers 5.23.0 Dots1Config", layers=layers, tied_default=False)
