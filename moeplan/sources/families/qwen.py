"""Qwen2, Qwen3, Qwen3-Next, Qwen3.5 and Qwen3-VL, dense and MoE."""

from __future__ import annotations

from moeplan.core.model import (
    DenseFfn,
    GatedDelta,
    GroupedAttention,
    Layer,
    Mixer,
    ModelSpec,
    MoeFfn,
    Mtp,
    Remark,
    Weight,
)
from moeplan.core.weights import norms
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.layer_types import (
    FULL,
    LINEAR,
    SLIDING,
    every,
    layer_types,
    need_kv_heads,
    window,
    windowed,
)
from moeplan.sources.families.nested import inner, left_out, tied
from moeplan.sources.families.qwen_towers import vision

# Qwen3-VL and Qwen3.5 store the experts of a layer stacked in two tensors.
STACKED_EXPERTS = (
    (".experts.{expert}.gate_proj.weight", ".experts.gate_up_proj"),
    (".experts.{expert}.up_proj.weight", ".experts.gate_up_proj"),
    (".experts.{expert}.down_proj.weight", ".experts.down_proj"),
)


# Parts -----------------------------------------------------------------------------------------------------


def normed_attention(fields: Fields, head_dim: int | None = None, **differences: object) -> GroupedAttention:
    """Qwen3's attention: norms over each head, `attention_bias` on all four projections."""
    need_kv_heads(fields)
    bias = fields.flag("attention_bias", False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias, qk_norm="head", **differences)
    if head_dim is not None:
        width = fields.integer("head_dim", default=head_dim)
        attention = attention._replace(key_head_dim=width, value_head_dim=width)
    return attention


def experts(fields: Fields, *, shared: bool) -> MoeFfn:
    """Qwen's experts: softmax router, and with `shared` one gated shared expert."""
    shared_width = fields.integer("shared_expert_intermediate_size", minimum=0) if shared else 0
    return MoeFfn(
        num_experts=fields.integer("num_experts", "num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=fields.integer("moe_intermediate_size"),
        num_shared_experts=1 if shared else 0,
        shared_width=shared_width,
        shared_gate=shared,
        shared_name="shared_expert",
    )


def _sparse_layers(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    """Every `decoder_sparse_step`-th layer, less `mlp_only_layers`. Source: transformers 5.23.0 Qwen3MoeDecoderLayer."""
    dense = fields.integers("mlp_only_layers") or ()
    step = fields.integer("decoder_sparse_step", default=1)
    return tuple(number not in dense and (number + 1) % step == 0 for number in range(num_layers))


def moe_layers(fields: Fields, mixers: tuple[Mixer, ...], moe: MoeFfn) -> tuple[Layer, ...]:
    """Layers around `mixers`, with the experts in the sparse ones and a dense feed-forward in the others."""
    around = decoder_norms(fields.integer("hidden_size"))
    sparse = _sparse_layers(fields, len(mixers))
    if all(sparse):
        return tuple(Layer((mixer,), (moe,), around) for mixer in mixers)
    dense = DenseFfn(fields.integer("intermediate_size"))
    return tuple(
        Layer((mixer,), (moe if is_sparse else dense,), around) for mixer, is_sparse in zip(mixers, sparse, strict=True)
    )


def _gated_delta(fields: Fields, *, fused_projections: bool) -> GatedDelta:
    return GatedDelta(
        num_key_heads=fields.integer("linear_num_key_heads"),
        num_value_heads=fields.integer("linear_num_value_heads"),
        key_head_dim=fields.integer("linear_key_head_dim"),
        value_head_dim=fields.integer("linear_value_head_dim"),
        conv_kernel=fields.integer("linear_conv_kernel_dim", default=4),
        fused_projections=fused_projections,
        state_dtype=fields.text("mamba_ssm_dtype"),
    )


def _hybrid(fields: Fields, attention: GroupedAttention, delta: GatedDelta) -> tuple[Mixer, ...]:
    """Full attention in every `full_attention_interval`-th layer, gated delta in the others."""
    num_layers = fields.num_layers("num_hidden_layers")
    interval = 0 if fields.has("layer_types") else fields.integer("full_attention_interval", default=4)
    kinds = layer_types(fields, num_layers, (FULL, LINEAR), every(interval, FULL, LINEAR))
    return tuple(attention if kind == FULL else delta for kind in kinds)


def _mtp(hidden: int, vocab: int, layer: Layer, num_layers: int, *, own_embedding: bool = False) -> Mtp | None:
    """Multi-token prediction: whole layers with full attention behind a projection of hidden state and embedding.

    Source: tensor names `mtp.*` of Qwen/Qwen3-Next-80B-A3B-Instruct and Qwen/Qwen3.5-35B-A3B, as vLLM's
    qwen3_next_mtp and qwen3_5_mtp load them.
    """
    if not num_layers:
        return None
    extras = (
        Weight("mtp.fc.weight", "other", (hidden, 2 * hidden), linear=True),
        *norms(hidden, "mtp.pre_fc_norm_embedding", "mtp.pre_fc_norm_hidden", "mtp.norm"),
    )
    table = Weight("mtp.embed_tokens.weight", "embedding", (vocab, hidden), "vocabulary", vocab)
    return Mtp((layer,) * num_layers, extras, duplicates=(table,) if own_embedding else ())


def _mtp_remark(message: str) -> tuple[Remark, ...]:
    return (Remark("mtp-not-verified", "info", message, "mtp"),)


# Dense -----------------------------------------------------------------------------------------------------


def _qwen_window(fields: Fields, default: int = 4096) -> int | None:
    """`sliding_window`, which counts only with `use_sliding_window`."""
    return window(fields, default) if fields.flag("use_sliding_window", False) else None


def _dense(
    fields: Fields, config_class: str, attention: GroupedAttention, outer: Fields | None = None, **rest: object
) -> ModelSpec:
    num_layers = fields.num_layers("num_hidden_layers")
    tokens = _qwen_window(fields)
    first = fields.integer("max_window_layers", default=28, minimum=0) if tokens is not None else num_layers
    kinds = layer_types(fields, num_layers, (FULL, SLIDING), lambda number: SLIDING if number >= first else FULL)
    layer = Layer((), (DenseFfn(fields.integer("intermediate_size")),), decoder_norms(fields.integer("hidden_size")))
    return finish(
        fields,
        family="qwen",
        defaults=f"transformers 5.23.0 {config_class}",
        layers=tuple(layer._replace(mixers=(mixer,)) for mixer in windowed(attention, kinds, tokens)),
        tied_default=False,
        outer=outer,
        **rest,  # type: ignore[arg-type]
    )


def qwen2(fields: Fields) -> ModelSpec:
    """Qwen/Qwen1.5, 2 and 2.5 dense: biases on q, k and v always."""
    need_kv_heads(fields)
    return _dense(fields, "Qwen2Config", grouped_attention(fields, qkv_bias=True))


def qwen3(fields: Fields) -> ModelSpec:
    """Qwen/Qwen3 dense: norms over each head, no biases."""
    return _dense(fields, "Qwen3Config", normed_attention(fields, head_dim=128))


# MoE -------------------------------------------------------------------------------------------------------


def qwen2_moe(fields: Fields) -> ModelSpec:
    """Qwen/Qwen1.5-MoE-A2.7B and Qwen2-57B-A14B: one gated shared expert.

    With a window it lies in every second layer below `max_window_layers` (transformers 5.23.0 Qwen2MoeConfig).
    """
    need_kv_heads(fields)
    num_layers = fields.num_layers("num_hidden_layers")
    tokens = _qwen_window(fields)
    below = fields.integer("max_window_layers", default=28, minimum=0) if tokens is not None else 0
    kinds = layer_types(
        fields, num_layers, (FULL, SLIDING), lambda number: SLIDING if number % 2 == 0 and number < below else FULL
    )
    attention = grouped_attention(fields, qkv_bias=fields.flag("qkv_bias", True))
    return finish(
        fields,
        family="qwen",
        defaults="transformers 5.23.0 Qwen2MoeConfig",
        layers=moe_layers(fields, windowed(attention, kinds, tokens), experts(fields, shared=True)),
        tied_default=False,
        card_convention="active",
    )


def qwen3_moe(fields: Fields) -> ModelSpec:
    """Qwen/Qwen3-30B-A3B, 235B-A22B, Coder-480B-A35B: no shared expert; a window, where used, is in every layer."""
    attention = normed_attention(fields, window_tokens=_qwen_window(fields))
    mixers = (attention,) * fields.num_layers("num_hidden_layers")
    return finish(
        fields,
        family="qwen",
        defaults="transformers 5.23.0 Qwen3MoeConfig",
        layers=moe_layers(fields, mixers, experts(fields, shared=False)),
        tied_default=False,
        card_convention="active",
    )


def qwen3_next(fields: Fields) -> ModelSpec:
    """Qwen/Qwen3-Next-80B-A3B: gated delta in three of four layers, gated attention in the fourth."""
    attention = normed_attention(fields, head_dim=256, gate="elementwise")
    moe = experts(fields, shared=True)
    layers = moe_layers(fields, _hybrid(fields, attention, _gated_delta(fields, fused_projections=True)), moe)
    hidden, vocab = fields.integer("hidden_size"), fields.integer("vocab_size")
    stated = fields.optional("mtp_num_hidden_layers", "num_nextn_predict_layers")
    origin = "as the config states" if stated is not None else "not in the config, as Qwen3-Next checkpoints store"
    num_mtp_layers = 1 if stated is None else stated
    return finish(
        fields,
        family="qwen",
        defaults="transformers 5.23.0 Qwen3NextConfig",
        layers=layers,
        tied_default=False,
        mtp=_mtp(hidden, vocab, Layer((attention,), (moe,), decoder_norms(hidden)), num_mtp_layers),
        remarks=_mtp_remark(
            f"{num_mtp_layers} MTP layer(s), {origin}; their shapes follow the names of the published tensors"
        ),
    )


# Qwen3.5 ---------------------------------------------------------------------------------------------------


def _qwen3_5(text: Fields, outer: Fields | None, *, sparse: bool) -> ModelSpec:
    attention = normed_attention(text, head_dim=256, gate="elementwise")
    delta = _gated_delta(text, fused_projections=False)
    hidden, vocab = text.integer("hidden_size"), text.integer("vocab_size")
    ffn = experts(text, shared=True) if sparse else DenseFfn(text.integer("intermediate_size"))
    layer = Layer((attention,), (ffn,), decoder_norms(hidden))
    num_mtp_layers = text.optional("mtp_num_hidden_layers") or 0
    config_class = "Qwen3_5MoeTextConfig" if sparse else "Qwen3_5TextConfig"
    remarks: tuple[Remark, ...] = ()
    if num_mtp_layers:
        remarks += _mtp_remark("the shapes of MTP layers follow the names of the published tensors")
    own_embedding = bool(num_mtp_layers) and text.flag("mtp_use_dedicated_embeddings", False)
    return finish(
        text,
        family="qwen",
        defaults=f"transformers 5.23.0 {config_class}",
        layers=tuple(layer._replace(mixers=(mixer,)) for mixer in _hybrid(text, attention, delta)),
        outer=outer,
        tied=None if outer is None else tied(outer, text, False),
        tied_default=False,
        mtp=_mtp(hidden, vocab, layer, num_mtp_layers, own_embedding=own_embedding),
        towers=() if outer is None else vision(outer.sub("vision_config"), "model.visual.", deepstack=False),
        remarks=remarks + (() if outer is None else left_out(outer, "vision_config", "vision tower")),
        prefix="model." if outer is None else "model.language_model.",
        card_convention="active" if sparse else None,
        renames=_stacked_unless_quantised(outer or text),
    )


def _stacked_unless_quantised(fields: Fields) -> tuple[tuple[str, str], ...]:
    """Quantised releases (Qwen's FP8, NVIDIA's NVFP4) store each expert by itself."""
    return () if fields.has("quantization_config") else STACKED_EXPERTS


def qwen3_5(fields: Fields) -> ModelSpec:
    """Qwen/Qwen3.5 dense with its vision tower."""
    return _qwen3_5(inner(fields), fields, sparse=False)


def qwen3_5_text(fields: Fields) -> ModelSpec:
    """The text model of dense Qwen3.5 alone."""
    return _qwen3_5(fields, None, sparse=False)


def qwen3_5_moe(fields: Fields) -> ModelSpec:
    """Qwen/Qwen3.5-35B-A3B, 122B-A10B, 397B-A17B: Qwen3-Next with separate projections, and a vision tower."""
    return _qwen3_5(inner(fields), fields, sparse=True)


def qwen3_5_moe_text(fields: Fields) -> ModelSpec:
    """The text model of Qwen3.5 MoE alone."""
    return _qwen3_5(fields, None, sparse=True)


# Qwen3-VL --------------------------------------------------------------------------------------------------


def _qwen3_vl(
    text: Fields, outer: Fields | None, config_class: str, layers: tuple[Layer, ...], tied_default: bool
) -> ModelSpec:
    return finish(
        text,
        family="qwen",
        defaults=f"transformers 5.23.0 {config_class}",
        layers=layers,
        outer=outer,
        tied=None if outer is None else tied(outer, text, False),
        tied_default=tied_default,
        towers=() if outer is None else vision(outer.sub("vision_config"), "model.visual.", deepstack=True),
        remarks=() if outer is None else left_out(outer, "vision_config", "vision tower"),
        prefix="model." if outer is None else "model.language_model.",
        card_convention="active" if text.has("num_experts", "num_local_experts") else None,
        renames=_stacked_unless_quantised(outer or text),
    )


def _qwen3_vl_dense(text: Fields, outer: Fields | None) -> ModelSpec:
    attention = normed_attention(text, head_dim=128)
    ffn = DenseFfn(text.integer("intermediate_size"))
    layer = Layer((attention,), (ffn,), decoder_norms(text.integer("hidden_size")))
    return _qwen3_vl(text, outer, "Qwen3VLTextConfig", (layer,) * text.num_layers("num_hidden_layers"), False)


def _qwen3_vl_sparse(text: Fields, outer: Fields | None) -> ModelSpec:
    mixers = (normed_attention(text),) * text.num_layers("num_hidden_layers")
    layers = moe_layers(text, mixers, experts(text, shared=False))
    return _qwen3_vl(text, outer, "Qwen3VLMoeTextConfig", layers, True)


def qwen3_vl(fields: Fields) -> ModelSpec:
    """Qwen/Qwen3-VL dense with its vision tower."""
    return _qwen3_vl_dense(inner(fields), fields)


def qwen3_vl_text(fields: Fields) -> ModelSpec:
    """The text model of dense Qwen3-VL alone."""
    return _qwen3_vl_dense(fields, None)


def qwen3_vl_moe(fields: Fields) -> ModelSpec:
    """Qwen/Qwen3-VL-30B-A3B, 235B-A22B: Qwen3 MoE with a vision tower that feeds several layers (deepstack)."""
    return _qwen3_vl_sparse(inner(fields), fields)


def qwen3_vl_moe_text(fields: Fields) -> ModelSpec:
    """The text model of Qwen3-VL MoE alone."""
    return _qwen3_vl_sparse(fields, None)
