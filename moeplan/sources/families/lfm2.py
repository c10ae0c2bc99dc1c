"""LFM2 MoE: gated short convolutions with a few attention layers, dense layers first."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Layer, ModelSpec, MoeFfn, ShortConvolution
from moeplan.core.weights import norms
from moeplan.sources.families.blocks import finish, grouped_attention
from moeplan.sources.families.fields import Fields

RENAMES = (
    (".gate_proj", ".w1"),
    (".up_proj", ".w3"),
    (".down_proj", ".w2"),
    (".self_attn.o_proj", ".self_attn.out_proj"),
    (".self_attn.q_norm", ".self_attn.q_layernorm"),
    (".self_attn.k_norm", ".self_attn.k_layernorm"),
    (".gate.e_score_correction_bias", ".expert_bias"),
)


def lfm2_moe(fields: Fields) -> ModelSpec:
    """LiquidAI/LFM2-8B-A1B and kin: `layer_types` says which layers are convolutions."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    attention = grouped_attention(fields, qk_norm="head")
    convolution = ShortConvolution(
        channels=hidden,
        conv_kernel=fields.integer("conv_L_cache", default=3),
        bias=fields.flag("conv_bias", False),
    )
    experts = MoeFfn(
        num_experts=fields.integer("num_experts", "num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=fields.integer("moe_intermediate_size"),
        correction_bias=fields.flag("use_expert_bias", True),
        name="feed_forward",
    )
    dense = DenseFfn(fields.integer("intermediate_size"), name="feed_forward")
    num_dense = fields.integer("num_dense_layers", default=2, minimum=0)
    layers = tuple(
        Layer(
            (convolution if is_convolution else attention,),
            (dense if number < num_dense else experts,),
            norms(hidden, "operator_norm", "ffn_norm"),
        )
        for number, is_convolution in enumerate(_convolutions(fields, num_layers))
    )
    return finish(
        fields,
        family="lfm2_moe",
        defaults="transformers 5.23.0 Lfm2MoeConfig",
        layers=layers,
        # The older spelling wins over the newer one, as in the config class.
        tied=fields.flag("tie_embedding", True) if fields.has("tie_embedding") else None,
        tied_default=True,
        extras=norms(hidden, "model.embedding_norm"),
        renames=RENAMES,
    )


def _convolutions(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    kinds = fields.strings("layer_types", num_layers)
    if kinds is not None:
        unknown = sorted(set(kinds) - {"conv", "full_attention"})
        if unknown:
            raise fields.wrong("layer_types", f"holds {unknown[0]!r}; known are conv and full_attention")
        return tuple(kind == "conv" for kind in kinds)
    attention_layers = fields.integers("full_attn_idxs")
    if attention_layers is None:
        fields.need("layer_types")
        return (False,) * num_layers
    return tuple(number not in attention_layers for number in range(num_layers))
