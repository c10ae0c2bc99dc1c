"""JetMoE: experts in the feed-forward and in the attention's query and output projections."""

from __future__ import annotations

from moeplan.core.model import Layer, ModelSpec, MoeFfn, RoutedAttention
from moeplan.core.weights import vector
from moeplan.sources.families.blocks import decoder_norms, finish
from moeplan.sources.families.fields import Fields


def jetmoe(fields: Fields) -> ModelSpec:
    """jetmoe/jetmoe-8b: as many heads as experts per token times key/value heads; keys and values are shared."""
    hidden = fields.integer("hidden_size")
    num_experts = fields.integer("num_local_experts", "moe_num_experts")
    per_token = fields.integer("num_experts_per_tok", "moe_top_k")
    attention = RoutedAttention(
        num_experts=num_experts,
        experts_per_token=per_token,
        num_kv_heads=fields.integer("num_key_value_heads"),
        head_dim=fields.integer("kv_channels", "head_dim"),
        extras=(vector("experts.bias", "other", hidden),),
    )
    experts = MoeFfn(
        num_experts=num_experts,
        experts_per_token=per_token,
        expert_width=fields.integer("intermediate_size", "ffn_hidden_size"),
        extras=(vector("bias", "other", hidden),),
        router_name="router.layer",
    )
    layer = Layer((attention,), (experts,), decoder_norms(hidden))
    return finish(
        fields,
        family="jetmoe",
        defaults="transformers 5.23.0 JetMoeConfig",
        layers=(layer,) * fields.num_layers("num_hidden_layers"),
        tied_default=True,
        renames=(  # stacked in the checkpoint
            (".mlp.experts.{expert}.gate_proj", ".mlp.input_linear"),
            (".mlp.experts.{expert}.up_proj", ".mlp.input_linear"),
            (".mlp.experts.{expert}.down_proj", ".mlp.output_linear"),
        ),
    )
