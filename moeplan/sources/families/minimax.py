"""MiniMax: Text-01 and M1 with lightning attention, M2 with full attention and many small experts."""

from __future__ import annotations

from moeplan.core.model import Layer, LightningAttention, ModelSpec, MoeFfn, Remark
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields

PROJECTIONS = ((".gate_proj", ".w1"), (".up_proj", ".w3"), (".down_proj", ".w2"))
SHARED = Remark(
    "not-verified",
    "warning",
    "`shared_intermediate_size` is not zero: the shared expert is counted as vLLM's minimax_text_01 builds it, "
    "no published checkpoint has one",
    where="shared_intermediate_size",
)


def minimax(fields: Fields) -> ModelSpec:
    """MiniMaxAI/MiniMax-Text-01-hf and kin: `layer_types`, by default full and linear attention in turns."""
    return _hybrid(fields)


def minimax_text_01(fields: Fields) -> ModelSpec:
    """MiniMaxAI/MiniMax-Text-01 and MiniMax-M1 as published: `attn_type_list`, 0 is lightning, 1 is softmax."""
    return _hybrid(fields)


def minimax_m2(fields: Fields) -> ModelSpec:
    """MiniMaxAI/MiniMax-M2, M2.1, M2.5, M2.7: sigmoid router with a correction bias, norms over all heads."""
    head_dim = fields.integer("head_dim")
    attention = grouped_attention(
        fields,
        key_head_dim=head_dim,
        value_head_dim=head_dim,
        qk_norm="full" if fields.flag("use_qk_norm", True) else "none",
    )
    experts, remarks = _experts(fields, correction_bias=fields.flag("use_routing_bias", True))
    if fields.raw("use_mtp") is True and fields.optional("num_mtp_modules"):
        message = (
            "the config declares MTP modules, but the published MiniMax-M2 checkpoints hold none "
            "(layers 0 to 61 only; MiniMax-AI/MiniMax-M2.7 issue 16): none is counted"
        )
        remarks += (Remark("mtp-not-published", "info", message, where="num_mtp_modules"),)
    layer = Layer((attention,), (experts,), decoder_norms(fields.integer("hidden_size")))
    return finish(
        fields,
        family="minimax_m2",
        defaults="transformers 5.23.0 MiniMaxM2Config",
        layers=(layer,) * fields.num_layers("num_hidden_layers"),
        tied_default=False,
        renames=(*PROJECTIONS, (".gate.e_score_correction_bias", ".e_score_correction_bias")),
        remarks=remarks,
    )


def _hybrid(fields: Fields) -> ModelSpec:
    num_layers = fields.num_layers("num_hidden_layers")
    full = grouped_attention(fields, window_tokens=fields.optional("sliding_window", minimum=1))
    lightning = LightningAttention(full.num_heads, full.key_head_dim)
    experts, remarks = _experts(fields, correction_bias=False)
    norms = decoder_norms(fields.integer("hidden_size"))
    layers = tuple(
        Layer((lightning if is_linear else full,), (experts,), norms)
        for is_linear in _linear_layers(fields, num_layers)
    )
    return finish(
        fields,
        family="minimax",
        defaults="transformers 5.23.0 MiniMaxConfig",
        layers=layers,
        tied_default=False,
        renames=PROJECTIONS,
        remarks=remarks,
        card_convention="active_without_embedding_and_head",
    )


def _linear_layers(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    numbers = fields.integers("attn_type_list", num_layers)
    if numbers is not None:
        if set(numbers) - {0, 1}:
            raise fields.wrong("attn_type_list", f"holds {max(numbers)}; known are 0 (lightning) and 1 (softmax)")
        return tuple(number == 0 for number in numbers)
    kinds = fields.strings("layer_types", num_layers)
    if kinds is not None:
        unknown = sorted(set(kinds) - {"full_attention", "linear_attention"})
        if unknown:
            raise fields.wrong("layer_types", f"holds {unknown[0]!r}; known are full_attention and linear_attention")
        return tuple(kind == "linear_attention" for kind in kinds)
    if fields.text("model_type") != "minimax":
        fields.need("attn_type_list")
    fields.defaulted["layer_types"] = "full_attention, linear_attention, and so on"
    return tuple(number % 2 == 1 for number in range(num_layers))


def _experts(fields: Fields, *, correction_bias: bool) -> tuple[MoeFfn, tuple[Remark, ...]]:
    shared_width = fields.optional("shared_intermediate_size") or 0
    experts = MoeFfn(
        num_experts=fields.integer("num_local_experts", "num_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=fields.integer("intermediate_size"),
        num_shared_experts=1 if shared_width else 0,
        shared_width=shared_width,
        correction_bias=correction_bias,
        name="block_sparse_moe",
        shared_name="shared_mlp",
    )
    if not shared_width:
        return experts, ()
    return experts, (SHARED,)
