"""A.X K1: DeepSeek-V3 with a norm behind the experts."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Layer, ModelSpec, MoeFfn
from moeplan.core.weights import norms
from moeplan.sources.families.blocks import decoder_norms, dense_first, finish, latent_attention
from moeplan.sources.families.fields import Fields


def axk1(fields: Fields) -> ModelSpec:
    """skt/A.X-K1: sparse layers have a third norm."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    biased = fields.flag("attention_bias", False)
    attention = latent_attention(fields, qkv_bias=biased, output_bias=biased)
    width = fields.integer("moe_intermediate_size")
    num_shared = fields.integer("n_shared_experts", minimum=0)
    experts = MoeFfn(
        num_experts=fields.integer("n_routed_experts", "num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=width,
        num_shared_experts=num_shared,
        shared_width=num_shared * width,
        correction_bias=True,
    )
    dense = Layer((attention,), (DenseFfn(fields.integer("intermediate_size")),), decoder_norms(hidden))
    sparse = Layer((attention,), (experts,), decoder_norms(hidden) + norms(hidden, "post_mlp_layernorm"))
    return finish(
        fields,
        family="axk1",
        defaults="transformers 5.23.0 AXK1Config",
        layers=tuple(sparse if is_sparse else dense for is_sparse in dense_first(fields, num_layers, default=1)),
        tied_default=False,
    )
