"""Kimi K2, K2.5 (with MoonViT), Kimi Linear and Kimi K3."""

from __future__ import annotations

from typing import Any

from moeplan.core.model import KimiDelta, LatentAttention, Layer, ModelSpec, MoeFfn, Remark, Weight
from moeplan.core.weights import linear, norms
from moeplan.sources.families.blocks import decoder_norms, dense_first, finish
from moeplan.sources.families.deepseek import (
    biased_latent_attention,
    deepseek_v3,
    dense_or_sparse,
    shared_experts,
)
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.moonvit import moonvit
from moeplan.sources.families.nested import inner, left_out, tied


def kimi_k2(fields: Fields) -> ModelSpec:
    """moonshotai/Kimi-K2: DeepSeek-V3 in all but numbers."""
    return deepseek_v3(fields, family="kimi_k2")


def kimi_k25(fields: Fields) -> ModelSpec:
    """moonshotai/Kimi-K2.5: Kimi K2 under `language_model.`, with the MoonViT tower."""
    text = inner(fields)
    return deepseek_v3(
        text,
        family="kimi_k25",
        config_class="Kimi_K25Config",
        remarks=left_out(fields, "vision_config", "vision tower"),
        **_wrapped(fields, text, tied_default=True),
    )


def kimi_linear(fields: Fields, **differences: Any) -> ModelSpec:
    """moonshotai/Kimi-Linear: Kimi delta attention, with latent attention (no rotation) every few layers.

    Layer kinds and widths stand in `linear_attn_config` as published (layers counted from 1), or in `layer_types`
    and `linear_...` as transformers writes them. What only Kimi K3 states (experts behind a latent, output gate,
    residual attention) is read where it stands.
    """
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    delta, latent = kimi_delta(fields), _latent(fields, hidden)
    extras = decoder_norms(hidden)
    final = norms(hidden, f"{differences.get('prefix', 'model.')}norm")
    if fields.optional("attn_res_block_size"):
        extras += _residual_attention(hidden, "self_attention_res", "mlp_res")
        final += _residual_attention(hidden, f"{differences.get('prefix', 'model.')}output_attn_res")
    sparse = Layer((delta,), (_experts(fields),), extras)
    by_ffn = dense_or_sparse(fields, sparse, dense_first(fields, num_layers, default=1))
    layers = tuple(
        layer if is_linear else layer._replace(mixers=(latent,))
        for layer, is_linear in zip(by_ffn, _linear_layers(fields, num_layers), strict=True)
    )
    shape: dict[str, Any] = {"family": "kimi_linear", "tied_default": False}
    return finish(
        fields,
        defaults="transformers 5.23.0 KimiLinearConfig",
        layers=layers,
        extras=final,
        renames=(
            (".experts.{expert}.gate_proj", ".experts.{expert}.w1"),
            (".experts.{expert}.up_proj", ".experts.{expert}.w3"),
            (".experts.{expert}.down_proj", ".experts.{expert}.w2"),
            (".fc1_latent_proj", ".routed_expert_down_proj"),
            (".fc2_latent_proj", ".routed_expert_up_proj"),
        ),
        **(shape | differences),
    )


def kimi_k3(fields: Fields) -> ModelSpec:
    """moonshotai/Kimi-K3: Kimi Linear with experts behind a latent, gated attention and attention over residuals.

    The checkpoint pads `A_log` to 128 values; as its model code does, we count one per head.
    """
    text = inner(fields)
    source = "shapes from the tensor names and shapes of moonshotai/Kimi-K3; transformers 5.23.0 does not build it"
    return kimi_linear(
        text,
        family="kimi_k3",
        verified=False,
        remarks=(Remark("not-verified", "info", source), *left_out(fields, "vision_config", "vision tower")),
        **_wrapped(fields, text, tied_default=False),
    )


def kimi_delta(fields: Fields) -> KimiDelta:
    """Kimi delta attention by `linear_attn_config` (published) or by `linear_...` fields (transformers)."""
    stated = fields.sub("linear_attn_config")
    if stated is not None:
        return KimiDelta(
            num_heads=stated.integer("num_heads"),
            head_dim=stated.integer("head_dim"),
            conv_kernel=stated.integer("short_conv_kernel_size", default=4),
            full_rank_gate=stated.has("use_full_rank_gate") and stated.flag("use_full_rank_gate", False),
        )
    return KimiDelta(
        num_heads=fields.integer("linear_num_heads"),
        head_dim=fields.integer("linear_head_dim"),
        conv_kernel=fields.integer("linear_conv_kernel_dim", default=4),
    )


def _wrapped(fields: Fields, text: Fields, *, tied_default: bool) -> dict[str, Any]:
    vision = fields.sub("vision_config")
    return {
        "outer": fields,
        "tied": tied(fields, text, tied_default),
        "towers": () if vision is None else (moonvit(vision, text.integer("hidden_size")),),
        "prefix": "language_model.model.",
        "lm_head_name": "language_model.lm_head.weight",
    }


def _latent(fields: Fields, hidden: int) -> LatentAttention:
    latent = biased_latent_attention(fields)
    if not (fields.has("mla_use_output_gate") and fields.flag("mla_use_output_gate", False)):
        return latent
    gate = linear("g_proj", "attention", latent.num_heads * latent.v_head_dim, hidden, "column", latent.num_heads)
    return latent._replace(extras=gate)


def _residual_attention(hidden: int, *names: str) -> tuple[Weight, ...]:
    weights: tuple[Weight, ...] = ()
    for name in names:
        weights += norms(hidden, f"{name}_norm") + linear(f"{name}_proj", "other", 1, hidden)
    return weights


def _experts(fields: Fields) -> MoeFfn:
    width = fields.integer("moe_intermediate_size")
    num_shared = shared_experts(fields, "num_shared_experts", "n_shared_experts", default=1)
    latent_size = fields.optional("routed_expert_hidden_size", minimum=1)
    normed = latent_size is not None and fields.has("latent_moe_use_norm") and fields.flag("latent_moe_use_norm", False)
    return MoeFfn(
        num_experts=fields.integer("num_experts", "num_local_experts", "n_routed_experts"),
        experts_per_token=fields.integer("num_experts_per_token", "num_experts_per_tok"),
        expert_width=width,
        num_shared_experts=num_shared,
        shared_width=num_shared * width,
        latent_size=latent_size,
        correction_bias=True,
        extras=(Weight("routed_expert_norm.weight", "moe_latent", (latent_size,)),) if latent_size and normed else (),
        name="block_sparse_moe",
    )


def _linear_layers(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    kinds = fields.strings("layer_types", num_layers)
    if kinds is not None:
        unknown = sorted(set(kinds) - {"linear_attention", "full_attention"})
        if unknown:
            raise fields.wrong("layer_types", f"holds {unknown[0]!r}; known are linear_attention and full_attention")
        return tuple(kind == "linear_attention" for kind in kinds)
    stated = fields.sub("linear_attn_config")
    full = stated.integers("full_attn_layers") if stated else None
    delta = stated.integers("kda_layers") if stated else None
    if stated is None or full is None or delta is None:
        fields.need("layer_types")
        return (True,) * num_layers
    if sorted(full + delta) != list(range(1, num_layers + 1)):
        raise stated.wrong("full_attn_layers", f"and kda_layers do not name each of {num_layers} layers once")
    return tuple(number + 1 in delta for number in range(num_layers))
