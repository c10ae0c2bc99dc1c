"""Snowflake Arctic: a dense feed-forward as wide as the model beside the experts of each sparse layer."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Layer, ModelSpec, MoeFfn, Remark
from moeplan.core.weights import norms
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields


def arctic(fields: Fields) -> ModelSpec:
    """Snowflake/snowflake-arctic: every `moe_layer_frequency`-th layer sparse, with a dense residual at its side."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    width = fields.integer("intermediate_size")
    every = fields.integer("moe_layer_frequency", default=2)
    flag = "parallel_attn_mlp_res" if fields.has("parallel_attn_mlp_res") else "use_residual"
    with_residual = fields.flag(flag, False)
    attention = grouped_attention(fields)
    experts = MoeFfn(
        num_experts=fields.integer("num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=width,
        name="block_sparse_moe",
    )
    dense = Layer((attention,), (DenseFfn(width, name="block_sparse_moe.mlp"),), decoder_norms(hidden))
    sparse = dense._replace(ffns=(experts,))
    if with_residual:
        residual = DenseFfn(hidden, name="residual_mlp")
        sparse = Layer((attention,), (experts, residual), decoder_norms(hidden) + norms(hidden, "residual_layernorm"))
    message = (
        "shapes follow Snowflake's published ArcticConfig and vLLM 0.33.0 arctic.py; no independent build confirms them"
    )
    return finish(
        fields,
        family="arctic",
        defaults="the published ArcticConfig",
        layers=tuple(dense if (number + 1) % every else sparse for number in range(num_layers)),
        tied_default=False,
        remarks=(Remark("not-verified", "warning", message),),
        renames=((".gate_proj", ".w1"), (".up_proj", ".w3"), (".down_proj", ".w2")),
        verified=False,
    )
