"""Ling and Ring (bailing): Ling-lite and -plus, Ling 2.0, and the hybrid with Kimi delta attention."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, KimiDelta, LatentAttention, Layer, ModelSpec, MoeFfn, Mtp, Remark, Weight
from moeplan.core.weights import linear, norms
from moeplan.sources.families.blocks import decoder_norms, dense_first, finish, grouped_attention, latent_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.layer_types import FULL, LINEAR, every, layer_types

_NAMES = (
    ("embed_tokens.", "word_embeddings."),
    (".self_attn.q_proj.", ".attention.query_key_value."),  # one matrix in the checkpoint
    (".self_attn.k_proj.", ".attention.query_key_value."),
    (".self_attn.v_proj.", ".attention.query_key_value."),
    (".self_attn.o_proj.", ".attention.dense."),
    (".self_attn.q_norm.", ".attention.query_layernorm."),
    (".self_attn.k_norm.", ".attention.key_layernorm."),
    (".gate.e_score_correction_bias", ".gate.expert_bias"),
)


def bailing_moe(fields: Fields) -> ModelSpec:
    """inclusionAI/Ling-lite, Ling-plus (`bailing_moe`) and Ling-mini-2.0, Ling-flash-2.0 (`bailing_moe_v2`)."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    biased = fields.flag("use_bias", False)
    attention = grouped_attention(
        fields,
        qkv_bias=fields.flag("use_qkv_bias", biased),
        output_bias=biased,
        qk_norm="head" if fields.flag("use_qk_norm", False) else "none",
    )
    experts = _experts(fields, correction_bias=fields.flag("moe_router_enable_expert_bias", False))
    sparse = Layer((attention,), (experts,), decoder_norms(hidden))
    is_sparse = dense_first(fields, num_layers, default=0)
    layers = (sparse,) * num_layers if all(is_sparse) else _with_dense(fields, sparse, is_sparse)
    num_modules = fields.optional("num_nextn_predict_layers") or 0
    message = "shapes follow inclusionAI's published modeling_bailing_moe code; no independent build confirms them"
    return finish(
        fields,
        family="bailing_moe",
        defaults="the published BailingMoeConfig",
        layers=layers,
        tied_default=False,
        mtp=_mtp(sparse, hidden, num_modules, num_layers),
        remarks=(Remark("not-verified", "warning", message),),
        renames=_NAMES,
        verified=False,
    )


def bailing_hybrid(fields: Fields) -> ModelSpec:
    """Ling hybrid: Kimi delta attention with full-rank gates, and in every `layer_group_size`-th layer latent
    attention with one output gate per head."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    fields.finish()
    num_heads = fields.integer("num_attention_heads")
    delta = KimiDelta(
        num_heads=num_heads,
        head_dim=fields.integer("linear_head_dim", "head_dim"),
        conv_kernel=fields.integer("short_conv_kernel_size", "linear_conv_kernel_dim", default=4),
        full_rank_gate=True,
        full_rank_forget=True,
    )
    latent = _gated_latent(fields, hidden, num_heads)
    group = 1 if fields.has("layer_types") else fields.integer("layer_group_size")
    kinds = layer_types(fields, num_layers, (FULL, LINEAR), every(group, FULL, LINEAR))
    sparse = Layer((delta,), (_experts(fields, correction_bias=True),), decoder_norms(hidden))
    by_ffn = _with_dense(fields, sparse, dense_first(fields, num_layers, default=2))
    layers = tuple(
        layer._replace(mixers=(latent,)) if kind == FULL else layer for layer, kind in zip(by_ffn, kinds, strict=True)
    )
    num_modules = fields.optional("num_nextn_predict_layers", "num_mtp_layers") or 0
    remarks: tuple[Remark, ...] = ()
    if num_modules:
        message = "sizes of the MTP modules follow Ling 2.0; no independent build confirms them"
        remarks = (Remark("mtp-not-verified", "info", message),)
    return finish(
        fields,
        family="bailing_hybrid",
        defaults="transformers 5.23.0 BailingHybridConfig",
        layers=layers,
        tied_default=False,
        mtp=_mtp(sparse._replace(mixers=(latent,)), hidden, num_modules, num_layers),
        remarks=remarks,
        renames=(
            ("embed_tokens.", "word_embeddings."),
            (".self_attn.o_proj.", ".attention.dense."),
            (".self_attn.", ".attention."),
            (".gate.e_score_correction_bias", ".gate.expert_bias"),
        ),
    )


def _gated_latent(fields: Fields, hidden: int, num_heads: int) -> LatentAttention:
    gate = linear("g_proj", "attention", num_heads, hidden, "column", num_heads)
    biased = fields.flag("attention_bias", False)
    return latent_attention(fields, qkv_bias=biased, output_bias=biased, extras=gate)


def _experts(fields: Fields, *, correction_bias: bool) -> MoeFfn:
    width = fields.integer("moe_intermediate_size")
    num_shared = fields.optional("num_shared_experts", "n_shared_experts") or 0
    return MoeFfn(
        num_experts=fields.integer("num_experts", "num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok", "num_experts_per_token"),
        expert_width=width,
        num_shared_experts=num_shared,
        shared_width=num_shared * width,
        correction_bias=correction_bias,
    )


def _with_dense(fields: Fields, sparse: Layer, is_sparse: tuple[bool, ...]) -> tuple[Layer, ...]:
    dense = sparse._replace(ffns=(DenseFfn(fields.integer("intermediate_size")),))
    return tuple(sparse if layer_is_sparse else dense for layer_is_sparse in is_sparse)


def _mtp(layer: Layer, hidden: int, num_modules: int, num_layers: int) -> Mtp | None:
    """Sparse layers behind the last one, embedding and head shared. Source: inclusionAI's modeling_bailing_moe_v2."""
    if not num_modules:
        return None
    extras: tuple[Weight, ...] = ()
    for number in range(num_layers, num_layers + num_modules):
        stem = f"model.layers.{number}."
        extras += norms(hidden, f"{stem}enorm", f"{stem}hnorm", f"{stem}final_layernorm")
        extras += linear(f"{stem}eh_proj", "other", hidden, 2 * hidden)
    return Mtp((layer,) * num_modules, extras, first_layer=num_layers)
