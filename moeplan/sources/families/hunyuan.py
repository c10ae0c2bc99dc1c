"""Hunyuan: A13B and Large with per-layer lists and caches shared between layers, Hy3 with a sigmoid router."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, GroupedAttention, Layer, ModelSpec, MoeFfn, Mtp, Remark, Weight
from moeplan.core.weights import norms, vector
from moeplan.sources.families.blocks import decoder_norms, dense_first, finish, grouped_attention
from moeplan.sources.families.fields import Fields

V1_RENAMES = (
    (".q_norm.", ".query_layernorm."),
    (".k_norm.", ".key_layernorm."),
)


def hunyuan(fields: Fields) -> ModelSpec:
    """tencent/Hunyuan-A13B and Hunyuan-Large as published; `use_cla` shares a cache between neighbouring layers."""
    return _v1(fields, defaults="the published HunYuanConfig", plain=True)


def hunyuan_v1_moe(fields: Fields) -> ModelSpec:
    """The same in transformers' spelling, which always has query and key norms and one shared expert."""
    return _v1(fields, defaults="transformers 5.23.0 HunYuanMoEV1Config", plain=False)


def _v1(fields: Fields, *, defaults: str, plain: bool) -> ModelSpec:
    num_layers = fields.num_layers("num_hidden_layers")
    if fields.raw("use_mla") is True:
        raise fields.wrong("use_mla", "is true; no published Hunyuan has latent attention, its shapes are unknown")
    # A published checkpoint without these fields has neither norms nor shared experts.
    qk_norm = fields.flag("use_qk_norm", not plain)
    with_shared = fields.flag("use_mixed_mlp_moe", not plain)
    mixers, remarks = _attention(fields, num_layers, qk_norm=qk_norm)
    width = fields.integer("intermediate_size")
    num_experts = fields.per_layer("num_experts", num_layers)
    per_token = fields.per_layer("moe_topk" if fields.has("moe_topk") else "num_experts_per_tok", num_layers)
    expert_widths = (width,) * num_layers
    if fields.has("moe_intermediate_size"):
        expert_widths = fields.per_layer("moe_intermediate_size", num_layers)
    num_shared = (0,) * num_layers
    if with_shared:
        num_shared = fields.per_layer("num_shared_expert", num_layers, default=1)
    num_dense = fields.optional("moe_layer_num_skipped") or 0
    layers = []
    for number, mixer in enumerate(mixers):
        experts = MoeFfn(
            num_experts=num_experts[number],
            experts_per_token=per_token[number],
            expert_width=expert_widths[number],
            num_shared_experts=num_shared[number],
            shared_width=num_shared[number] * width,
            router_name="gate.wg",
            shared_name="shared_mlp",
        )
        is_sparse = number >= num_dense and num_experts[number] > 1
        ffn = experts if is_sparse else DenseFfn(width, bias=fields.raw("mlp_bias") is True)
        layers.append(Layer((mixer,), (ffn,), decoder_norms(fields.integer("hidden_size"))))
    return finish(
        fields,
        family="hunyuan",
        defaults=defaults,
        layers=tuple(layers),
        tied_default=False,
        remarks=remarks,
        verified=not remarks,
        renames=V1_RENAMES,
        card_convention="active",
    )


def _attention(
    fields: Fields, num_layers: int, *, qk_norm: bool
) -> tuple[tuple[GroupedAttention, ...], tuple[Remark, ...]]:
    head_dim = fields.optional("head_dim", minimum=1) or fields.optional("attention_head_dim", minimum=1)
    head_dim = head_dim or fields.integer("hidden_size") // fields.integer("num_attention_heads")
    bias = fields.flag("attention_bias", False)
    own = grouped_attention(
        fields,
        key_head_dim=head_dim,
        value_head_dim=head_dim,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm="head" if qk_norm else "none",
    )
    every = fields.integer("cla_share_factor") if fields.raw("use_cla") is True else 1
    if every == 1:
        return (own,) * num_layers, ()
    message = (
        "cross-layer attention: of each group of layers only the first projects and caches keys and values, "
        "as vLLM's hunyuan_v1 builds it; no independent build confirms the count"
    )
    # The shared keys come before their norm, so every layer norms them itself.
    key_norm = (vector("k_norm.weight", "attention", head_dim),) if qk_norm else ()
    mixers = tuple(
        own._replace(shares_cache_of=number - number % every, extras=key_norm) if number % every else own
        for number in range(num_layers)
    )
    return mixers, (Remark("not-verified", "warning", message, where="use_cla"),)


def hy_v3(fields: Fields) -> ModelSpec:
    """tencent/Hy3: first layer dense, sigmoid router with a correction bias, one MTP layer in the checkpoint."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    head_dim, bias = fields.integer("head_dim"), fields.flag("attention_bias", False)
    attention = grouped_attention(
        fields,
        key_head_dim=head_dim,
        value_head_dim=head_dim,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm="head",
    )
    mlp_bias = fields.flag("mlp_bias", False)
    dense = DenseFfn(fields.integer("intermediate_size"), bias=mlp_bias)
    sparse = Layer((attention,), (_hy_v3_experts(fields, hidden, bias=mlp_bias),), decoder_norms(hidden))
    layers = tuple(
        sparse if is_sparse else sparse._replace(ffns=(dense,))
        for is_sparse in dense_first(fields, num_layers, default=1)
    )
    mtp, remarks = _hy_v3_mtp(hidden, sparse, fields.optional("num_nextn_predict_layers") or 0, num_layers)
    return finish(
        fields,
        family="hy_v3",
        defaults="transformers 5.23.0 HYV3Config",
        layers=layers,
        tied_default=False,
        mtp=mtp,
        remarks=remarks,
        renames=((".router.gate.e_score_correction_bias", ".expert_bias"),),
    )


def _hy_v3_experts(fields: Fields, hidden: int, *, bias: bool) -> MoeFfn:
    width = fields.integer("moe_intermediate_size", "expert_hidden_dim")
    num_shared = fields.integer("num_shared_experts", default=1, minimum=0)
    shared_width = num_shared * width
    extras: tuple[Weight, ...] = ()
    if bias and shared_width:
        for part in ("gate_proj", "up_proj"):
            extras += (vector(f"shared_mlp.{part}.bias", "shared_experts", shared_width, "column", shared_width),)
        extras += (vector("shared_mlp.down_proj.bias", "shared_experts", hidden),)
    return MoeFfn(
        num_experts=fields.integer("num_experts", "num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=width,
        num_shared_experts=num_shared,
        shared_width=shared_width,
        correction_bias=True,
        extras=extras,
        router_name="router.gate",
        shared_name="shared_mlp",
    )


def _hy_v3_mtp(hidden: int, layer: Layer, num_modules: int, first_layer: int) -> tuple[Mtp | None, tuple[Remark, ...]]:
    """One sparse layer with a projection and three norms per module, tables shared (vLLM hy_v3_mtp)."""
    if not num_modules:
        return None, ()
    extras: tuple[Weight, ...] = ()
    for number in range(first_layer, first_layer + num_modules):
        stem = f"model.layers.{number}."
        extras += norms(hidden, f"{stem}enorm", f"{stem}hnorm", f"{stem}final_layernorm")
        extras += (Weight(f"{stem}eh_proj.weight", "other", (hidden, 2 * hidden), linear=True),)
    message = "MTP modules are sized as vLLM's hy_v3_mtp reads them; no independent build confirms their shapes"
    remark = Remark("mtp-not-confirmed", "info", message, where="num_nextn_predict_layers")
    return Mtp((layer,) * num_modules, extras, first_layer=first_layer), (remark,)
