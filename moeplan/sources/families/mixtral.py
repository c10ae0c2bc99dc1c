"""Mixtral: every layer sparse, experts as wide as `intermediate_size`."""

from __future__ import annotations

from moeplan.core.model import Layer, ModelSpec, MoeFfn
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.layer_types import need_kv_heads


def mixtral(fields: Fields) -> ModelSpec:
    """mistralai/Mixtral-8x7B and kin."""
    need_kv_heads(fields)
    attention = grouped_attention(fields, window_tokens=fields.optional("sliding_window", minimum=1))
    experts = MoeFfn(
        num_experts=fields.integer("num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=fields.integer("intermediate_size"),
        name="block_sparse_moe",
    )
    layer = Layer((attention,), (experts,), decoder_norms(fields.integer("hidden_size")))
    return finish(
        fields,
        family="mixtral",
        defaults="transformers 5.23.0 MixtralConfig",
        layers=(layer,) * fields.num_layers("num_hidden_layers"),
        tied_default=False,
        renames=((".gate_proj", ".w1"), (".up_proj", ".w3"), (".down_proj", ".w2")),
    )
