"""gpt-oss: attention sinks, every other layer windowed, biases everywhere, experts stacked in one tensor."""

from __future__ import annotations

from moeplan.core.model import Layer, ModelSpec, MoeFfn
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields

# The checkpoint keeps all experts in one tensor, gate and up interleaved: parts of it share its name.
STACKED = (
    (".experts.{expert}.gate_proj.weight", ".experts.gate_up_proj"),
    (".experts.{expert}.up_proj.weight", ".experts.gate_up_proj"),
    (".experts.{expert}.down_proj.weight", ".experts.down_proj"),
    (".experts.{expert}.gate_proj.bias", ".experts.gate_up_proj_bias"),
    (".experts.{expert}.up_proj.bias", ".experts.gate_up_proj_bias"),
    (".experts.{expert}.down_proj.bias", ".experts.down_proj_bias"),
)


def gpt_oss(fields: Fields) -> ModelSpec:
    """openai/gpt-oss-20b and -120b; as MXFP4 the expert tensors end in `_blocks` and `_scales`."""
    num_layers = fields.num_layers("num_hidden_layers")
    bias = fields.flag("attention_bias", True)
    # 64 heads of 64 on a hidden size of 2880: the heads' width never follows from the hidden size.
    head_dim = fields.integer("head_dim")
    full = grouped_attention(
        fields, key_head_dim=head_dim, value_head_dim=head_dim, qkv_bias=bias, output_bias=bias, sinks=True
    )
    window = fields.integer("sliding_window", default=128)
    experts = MoeFfn(
        num_experts=fields.integer("num_local_experts", "num_experts"),
        experts_per_token=fields.integer("num_experts_per_tok", "experts_per_token"),
        expert_width=fields.integer("intermediate_size"),
        expert_bias=True,
        router_bias=True,
        router_name="router",
    )
    norms = decoder_norms(fields.integer("hidden_size"))
    layers = tuple(
        Layer((full._replace(window_tokens=window) if windowed else full,), (experts,), norms)
        for windowed in _windowed(fields, num_layers)
    )
    return finish(
        fields,
        family="gpt_oss",
        defaults="transformers 5.23.0 GptOssConfig",
        layers=layers,
        tied_default=False,
        renames=STACKED,
        card_convention="active_without_embedding",
    )


def _windowed(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    kinds = fields.strings("layer_types", num_layers)
    if kinds is None:
        fields.defaulted["layer_types"] = "sliding_attention, full_attention, and so on"
        return tuple(number % 2 == 0 for number in range(num_layers))
    unknown = sorted(set(kinds) - {"sliding_attention", "full_attention"})
    if unknown:
        raise fields.wrong("layer_types", f"holds {unknown[0]!r}; known are sliding_attention and full_attention")
    return tuple(kind == "sliding_attention" for kind in kinds)
