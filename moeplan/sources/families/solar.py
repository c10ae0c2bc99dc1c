"""Solar Open: every layer sparse, one shared expert."""

from __future__ import annotations

from moeplan.core.model import Layer, ModelSpec, MoeFfn
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields


def solar_open(fields: Fields) -> ModelSpec:
    """upstage/Solar-Open-100B: DeepSeek's router on grouped attention."""
    attention = grouped_attention(fields, qkv_bias=fields.flag("attention_bias", False))
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
    layer = Layer((attention,), (experts,), decoder_norms(fields.integer("hidden_size")))
    return finish(
        fields,
        family="solar_open",
        defaults="transformers 5.23.0 SolarOpenConfig",
        layers=(layer,) * fields.num_layers("num_hidden_layers"),
        tied_default=False,
    )
