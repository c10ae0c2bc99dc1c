"""Flint: head-normed attention with sinks, windows in most layers, one shared expert without a gate."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Layer, ModelSpec, MoeFfn
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.layer_types import FULL, SLIDING, layer_types, window, windowed


def flint(fields: Fields) -> ModelSpec:
    """Flint: the first two layers dense and full, by the config class, unless the config says otherwise."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    fields.finish()
    biased = fields.flag("attention_bias", False)
    attention = grouped_attention(fields, qkv_bias=biased, output_bias=biased, qk_norm="head", sinks=True)
    kinds = layer_types(
        fields,
        num_layers,
        (FULL, SLIDING),
        lambda number: FULL if number < 2 or number % 4 == 1 or number == num_layers - 1 else SLIDING,
    )
    experts = MoeFfn(
        num_experts=fields.integer("num_experts", "num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=fields.integer("moe_intermediate_size"),
        num_shared_experts=1,
        shared_width=fields.integer("shared_expert_intermediate_size"),
        correction_bias=False,
        shared_name="shared_expert",
    )
    dense_numbers = fields.integers("mlp_only_layers")
    if dense_numbers is None:
        dense_numbers = (0, 1)
        fields.defaulted[f"{fields.path}mlp_only_layers"] = [0, 1]
    step = fields.integer("decoder_sparse_step", default=1)
    is_sparse = tuple(number not in dense_numbers and (number + 1) % step == 0 for number in range(num_layers))
    dense = DenseFfn(1 if all(is_sparse) else fields.integer("intermediate_size"))
    return finish(
        fields,
        family="flint",
        defaults="transformers 5.23.0 FlintConfig",
        layers=tuple(
            Layer((mixer,), (experts if sparse else dense,), decoder_norms(hidden))
            for mixer, sparse in zip(windowed(attention, kinds, window(fields, 513)), is_sparse, strict=True)
        ),
        tied_default=False,
        renames=((".self_attn.sinks", ".self_attn.softmax_offset"),),
    )
