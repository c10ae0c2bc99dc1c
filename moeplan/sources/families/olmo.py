"""OLMoE and FlexOlmo: every layer sparse, queries and keys normed over all heads' width."""

from __future__ import annotations

from moeplan.core.model import Layer, ModelSpec, MoeFfn, Weight
from moeplan.core.weights import norms
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields


def olmoe(fields: Fields) -> ModelSpec:
    """allenai/OLMoE-1B-7B."""
    return _all_sparse(fields, "olmoe", "OlmoeConfig", decoder_norms(fields.integer("hidden_size")))


def flex_olmo(fields: Fields) -> ModelSpec:
    """allenai/FlexOlmo: norms behind attention and feed-forward, none in front."""
    after = norms(fields.integer("hidden_size"), "post_attention_layernorm", "post_feedforward_layernorm")
    return _all_sparse(fields, "flex_olmo", "FlexOlmoConfig", after)


def _all_sparse(fields: Fields, family: str, config_class: str, layer_norms: tuple[Weight, ...]) -> ModelSpec:
    bias = fields.flag("attention_bias", False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, qk_norm="full")
    experts = MoeFfn(
        num_experts=fields.integer("num_experts", "num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=fields.integer("intermediate_size"),
    )
    return finish(
        fields,
        family=family,
        defaults=f"transformers 5.23.0 {config_class}",
        layers=(Layer((attention,), (experts,), layer_norms),) * fields.num_layers("num_hidden_layers"),
        tied_default=False,
        card_convention="active" if family == "olmoe" else None,
    )
