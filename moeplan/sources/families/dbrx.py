"""DBRX: its own field names, attention and experts in nested objects, fused tensors."""

from __future__ import annotations

from moeplan.core.model import GroupedAttention, Layer, ModelSpec, MoeFfn
from moeplan.core.weights import norms
from moeplan.sources.families.blocks import finish
from moeplan.sources.families.fields import Fields

# Queries, keys and values are parts of one tensor and share its name; w1, v1 and w2 each hold all experts.
RENAMES = (
    (".attn.q_proj", ".attn.Wqkv"),
    (".attn.k_proj", ".attn.Wqkv"),
    (".attn.v_proj", ".attn.Wqkv"),
    (".attn.o_proj", ".attn.out_proj"),
    (".experts.{expert}.gate_proj.weight", ".experts.mlp.w1"),
    (".experts.{expert}.up_proj.weight", ".experts.mlp.v1"),
    (".experts.{expert}.down_proj.weight", ".experts.mlp.w2"),
    ("transformer.layers.", "transformer.blocks."),
)


def dbrx(fields: Fields) -> ModelSpec:
    """databricks/dbrx-base and -instruct: `attn_config` and `ffn_config`, layer norms without shift."""
    hidden = fields.integer("d_model", "hidden_size")
    num_heads = fields.integer("n_heads", "num_attention_heads")
    # Absent objects read as empty ones, so that the error names the fields inside.
    attention_fields = fields.sub("attn_config") or Fields({}, where=fields.where, path="attn_config.", parent=fields)
    ffn_fields = fields.sub("ffn_config") or Fields({}, where=fields.where, path="ffn_config.", parent=fields)
    attention = GroupedAttention(
        num_heads=num_heads,
        num_kv_heads=attention_fields.integer("kv_n_heads"),
        key_head_dim=hidden // num_heads,
        value_head_dim=hidden // num_heads,
        name="norm_attn_norm.attn",
    )
    experts = MoeFfn(
        num_experts=ffn_fields.integer("moe_num_experts"),
        experts_per_token=ffn_fields.integer("moe_top_k"),
        expert_width=ffn_fields.integer("ffn_hidden_size"),
        name="ffn",
        router_name="router.layer",
    )
    # The checkpoint keeps both norms of a layer inside its attention block, and they count with it.
    block_norms = tuple(
        weight._replace(role="attention") for weight in norms(hidden, "norm_attn_norm.norm_1", "norm_attn_norm.norm_2")
    )
    layer = Layer((attention,), (experts,), block_norms)
    return finish(
        fields,
        family="dbrx",
        defaults="transformers 5.23.0 DbrxConfig",
        layers=(layer,) * fields.num_layers("n_layers", "num_hidden_layers"),
        tied_default=False,
        hidden_size=hidden,
        extras=norms(hidden, "transformer.norm_f"),
        prefix="transformer.",
        embedding_name="wte.weight",
        renames=RENAMES,
    )
