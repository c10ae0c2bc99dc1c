"""DeepSeek MoE, V2, V3, V3.2, V4, and what is built on V3 (Moonlight, Kimi K2)."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Layer, ModelSpec, MoeFfn
from moeplan.sources.families.blocks import decoder_norms, deepseek_mtp, dense_first, finish, latent_attention
from moeplan.sources.families.fields import Fields


def _experts(fields: Fields, *, correction_bias: bool) -> MoeFfn:
    width = fields.integer("moe_intermediate_size")
    num_shared = fields.optional("n_shared_experts") or 0
    return MoeFfn(
        num_experts=fields.integer("n_routed_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=width,
        num_shared_experts=num_shared,
        shared_width=num_shared * width,
        correction_bias=correction_bias,
    )


def deepseek_v3(fields: Fields, *, family: str = "deepseek_v3", config_class: str = "DeepseekV3Config") -> ModelSpec:
    """DeepSeek-V3, R1, V3.1, Moonlight; with an indexer when the config has one (V3.2)."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    attention = latent_attention(fields, indexed=fields.has("index_topk"))
    experts = _experts(fields, correction_bias=True)
    dense = DenseFfn(fields.integer("intermediate_size"))
    sparse = Layer((attention,), (experts,), decoder_norms(hidden))
    layers = tuple(
        sparse if is_sparse else sparse._replace(ffns=(dense,)) for is_sparse in dense_first(fields, num_layers)
    )
    num_modules = fields.optional("num_nextn_predict_layers") or 0
    return finish(
        fields,
        family=family,
        defaults=f"transformers 5.23.0 {config_class}",
        layers=layers,
        tied_default=False,
        mtp=deepseek_mtp(hidden, fields.integer("vocab_size"), sparse, num_modules, num_layers),
    )
