"""Grok-1: every layer sparse, four norms per layer."""

from __future__ import annotations

from moeplan.core.model import Layer, ModelSpec, MoeFfn, Remark
from moeplan.core.weights import norms
from moeplan.sources.families.blocks import finish, grouped_attention
from moeplan.sources.families.fields import Fields


def grok_1(fields: Fields) -> ModelSpec:
    """hpcai-tech/grok-1, the conversion of xai-org/grok-1: experts of three matrices."""
    hidden = fields.integer("hidden_size")
    experts = MoeFfn(
        num_experts=fields.integer("num_experts", "num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=fields.integer("moe_intermediate_size", "intermediate_size"),
        name="moe_block",
    )
    layer = Layer(
        (grouped_attention(fields, name="attn"),),
        (experts,),
        norms(hidden, "pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"),
    )
    message = "shapes follow the published Grok1Config and modeling_grok1 code; no independent build confirms them"
    return finish(
        fields,
        family="grok",
        defaults="the published Grok1Config",
        layers=(layer,) * fields.num_layers("num_hidden_layers"),
        tied_default=True,
        remarks=(Remark("not-verified", "warning", message),),
        renames=((".gate_proj", ".linear"), (".up_proj", ".linear_v"), (".down_proj", ".linear_1")),
        verified=False,
    )
