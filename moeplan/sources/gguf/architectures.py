"""How each architecture of llama.cpp becomes the config of a family: one short function per architecture.

Source of the keys: gguf-py 0.19.0 constants.py and llama.cpp's converters (conversion/*.py).
"""

from __future__ import annotations

from collections.abc import Callable

from moeplan.sources.gguf.fields import (
    FULL,
    LINEAR,
    SLIDING,
    Config,
    period_and_offset,
    put,
    put_dense_first,
    put_experts,
    put_kinds,
    put_latent,
    put_mtp,
    put_presence,
    put_shared_experts,
    put_windows,
    shared_width,
    sparse_layers,
)
from moeplan.sources.gguf.metadata import Described

Reader = Callable[[Described, Config], str | None]
"""Adds an architecture's fields to the common ones; gives the family's `model_type`, or None where none fits."""


# Grouped attention -----------------------------------------------------------------------------------------


def _llama(d: Described, c: Config) -> str:
    if put_experts(d, c, "num_local_experts", "intermediate_size"):
        return "mixtral"
    put_presence(d, c, attention_bias="attn_output.bias", mlp_bias="ffn_up.bias")
    return "llama"


def _dense(model_type: str) -> Reader:
    """Models without experts whose biases and norms the family knows."""

    def read(d: Described, c: Config) -> str:
        put_windows(d, c)
        return model_type

    return read


def _qwen3(model_type: str) -> Reader:
    def read(d: Described, c: Config) -> str:
        if d.number("expert_count"):
            _qwen_moe(d, c)
        put_presence(d, c, attention_bias="attn_q.bias")
        return model_type

    return read


def _qwen_moe(d: Described, c: Config) -> None:
    put_experts(d, c, "num_experts", "moe_intermediate_size")
    c["mlp_only_layers"] = [number for number, is_sparse in enumerate(sparse_layers(d)) if not is_sparse]
    c["decoder_sparse_step"] = 1
    shared = d.number("expert_shared_feed_forward_length") or shared_width(d)
    if shared:
        c["shared_expert_intermediate_size"] = shared


def _qwen2moe(d: Described, c: Config) -> str:
    _qwen_moe(d, c)
    put_presence(d, c, qkv_bias="attn_q.bias")
    return "qwen2_moe"


def _qwen_hybrid(model_type: str) -> Reader:
    def read(d: Described, c: Config) -> str:
        if d.number("expert_count"):
            _qwen_moe(d, c)
        values, inner = d.number("ssm.time_step_rank"), d.number("ssm.inner_size")
        put(c, "linear_num_value_heads", values or None)
        put(c, "linear_num_key_heads", d.number("ssm.group_count") or None)
        put(c, "linear_key_head_dim", d.number("ssm.state_size") or None)
        if values and inner:
            c["linear_value_head_dim"] = inner // values
        put(c, "linear_conv_kernel_dim", d.number("ssm.conv_kernel") or None)
        put_kinds(d, c, "ssm_", LINEAR, FULL)
        put_presence(d, c, attention_bias="attn_q.bias")
        put_mtp(d, c, "mtp_num_hidden_layers")
        return model_type

    return read


def _deepseek(d: Described, c: Config) -> str:
    put_experts(d, c, "n_routed_experts", "moe_intermediate_size")
    put_shared_experts(d, c, "n_shared_experts")
    put_dense_first(d, c)
    return "deepseek"


def _glm4moe(d: Described, c: Config) -> str:
    _deepseek(d, c)
    put_presence(d, c, attention_bias="attn_q.bias", use_qk_norm="attn_q_norm.")
    put_mtp(d, c)
    return "glm4_moe"


def _dots1(d: Described, c: Config) -> str:
    _deepseek(d, c)
    put_presence(d, c, attention_bias="attn_q.bias")
    return "dots1"


def _gpt_oss(d: Described, c: Config) -> str:
    put_experts(d, c, "num_local_experts", "intermediate_size")
    put_windows(d, c)
    put_presence(d, c, attention_bias="attn_q.bias")
    return "gpt_oss"


def _llama4(d: Described, c: Config) -> str:
    put(c, "intermediate_size_mlp", c.pop("intermediate_size", None))
    put_experts(d, c, "num_local_experts", "intermediate_size")
    c["moe_layers"] = [number for number, is_sparse in enumerate(sparse_layers(d)) if is_sparse]
    put(c, "attention_chunk_size", d.number("attention.chunk_size") or None)
    d.told_by_tensors("moe_layers")
    return "llama4_text"


def _olmoe(d: Described, c: Config) -> str:
    put_experts(d, c, "num_experts", "intermediate_size")
    return "olmoe"


def _phimoe(d: Described, c: Config) -> str:
    put_experts(d, c, "num_local_experts", "intermediate_size")
    put_windows(d, c)
    put_presence(d, c, attention_bias="attn_q.bias")
    c["lm_head_bias"] = "output.bias" in d.shapes
    return "phimoe"


def _dbrx(d: Described, c: Config) -> str:
    ffn: Config = {}
    put_experts(d, ffn, "moe_num_experts", "ffn_hidden_size", "moe_top_k")
    c["ffn_config"] = ffn
    c["attn_config"] = {"kv_n_heads": c.get("num_key_value_heads")}
    return "dbrx"


def _minimax_m2(d: Described, c: Config) -> str:
    put_experts(d, c, "num_local_experts", "intermediate_size")
    put_presence(d, c, use_qk_norm="attn_q_norm.", use_routing_bias="exp_probs_b")
    return "minimax_m2"


def _ernie(d: Described, c: Config) -> str:
    put_experts(d, c, "moe_num_experts", "moe_intermediate_size", "moe_k")
    put_shared_experts(d, c, "moe_num_shared_experts")
    period, first = period_and_offset(d, sparse_layers(d), "experts")
    # The family counts intervals from layer 0, so that with one the offset is all that matters.
    c["moe_layer_start_index"], c["moe_layer_interval"] = first, period if sum(sparse_layers(d)) > 1 else 1
    put_presence(d, c, use_bias="attn_output.bias")
    return "ernie4_5_moe"


def _bailing(model_type: str) -> Reader:
    def read(d: Described, c: Config) -> str:
        put_experts(d, c, "num_experts", "moe_intermediate_size")
        put_shared_experts(d, c, "num_shared_experts")
        put_dense_first(d, c)
        put_presence(d, c, use_bias="attn_output.bias", use_qk_norm="attn_q_norm.")
        c["use_qkv_bias"] = d.any_layer("attn_q.bias", "attn_qkv.bias")
        put_presence(d, c, moe_router_enable_expert_bias="exp_probs_b")
        put_mtp(d, c)
        return model_type

    return read


def _hunyuan(d: Described, c: Config) -> str:
    put_experts(d, c, "num_experts", "moe_intermediate_size", "moe_topk")
    num_shared, shared = d.number("expert_shared_count"), shared_width(d)
    c["use_mixed_mlp_moe"] = bool(shared)
    if shared:
        c["num_shared_expert"] = num_shared or 1
        c["intermediate_size"] = shared // (num_shared or 1)
    put_presence(d, c, use_qk_norm="attn_q_norm.", attention_bias="attn_q.bias")
    return "hunyuan"


def _grok(d: Described, c: Config) -> str | None:
    if d.any_layer("ffn_up.weight"):
        return None  # Grok-2 has a dense feed-forward beside the experts
    put_experts(d, c, "num_experts", "moe_intermediate_size")
    return "grok-1"


def _arctic(d: Described, c: Config) -> str | None:
    if not all(sparse_layers(d)):
        return None
    put_experts(d, c, "num_local_experts", "intermediate_size")
    c["moe_layer_frequency"] = 1
    put_presence(d, c, parallel_attn_mlp_res="ffn_norm_exps.")
    return "arctic"


def _gemma4(d: Described, c: Config) -> str:
    put_windows(d, c)
    kinds = c.get("layer_types") or ()
    put(c, "global_head_dim", d.number("attention.key_length"))
    put(c, "head_dim", d.number("attention.key_length_swa"))
    kv_heads = d.per_layer("attention.head_count_kv") or ()
    by_kind = dict(zip(kinds, kv_heads, strict=False))
    put(c, "num_key_value_heads", by_kind.get(SLIDING) or by_kind.get(FULL))
    put(c, "num_global_key_value_heads", by_kind.get(FULL))
    values = d.layers_with("attn_v.")
    keys = d.layers_with("attn_k.")
    c["attention_k_eq_v"] = any(has_key and not has_value for has_key, has_value in zip(keys, values, strict=True))
    c["num_kv_shared_layers"] = d.number("attention.shared_kv_layers") or 0
    c["hidden_size_per_layer_input"] = d.number("embedding_length_per_layer_input") or 0
    table = d.shapes.get("per_layer_token_embd.weight")
    put(c, "vocab_size_per_layer_input", table[0] if table else None)
    widths = sorted({width for width in d.numbers("feed_forward_length") or () if width})
    if len(widths) == 2 and widths[1] == 2 * widths[0]:
        d.varying[:] = [key for key in d.varying if key != "feed_forward_length"]
        c["intermediate_size"], c["use_double_wide_mlp"] = widths[0], True
    d.varying[:] = [key for key in d.varying if key != "attention.head_count_kv"]
    c["enable_moe_block"] = put_experts(d, c, "num_experts", "moe_intermediate_size", "top_k_experts")
    return "gemma4_text"


# Latent attention ------------------------------------------------------------------------------------------


def _deepseek2(d: Described, c: Config) -> str | None:
    if not d.number("attention.kv_lora_rank") or not d.number("expert_count"):
        return None
    put_latent(d, c)
    _deepseek(d, c)
    put_presence(d, c, attention_bias="attn_output.bias")
    if not d.any_layer("exp_probs_b"):
        return "deepseek_v2"
    put_mtp(d, c)
    return "deepseek_v32" if "index_topk" in c else "deepseek_v3"


def _glm_dsa(d: Described, c: Config) -> str:
    put_latent(d, c)
    _deepseek(d, c)
    put_presence(d, c, attention_bias="attn_output.bias")
    put_kinds(d, c, "indexer.", "full", "shared", "indexer_types")
    put_mtp(d, c)
    return "glm_moe_dsa"


def _mistral4(d: Described, c: Config) -> str:
    put_latent(d, c)
    _deepseek(d, c)
    put_presence(d, c, attention_bias="attn_output.bias")
    return "mistral4"


def _kimi_linear(d: Described, c: Config) -> str:
    put_latent(d, c)
    put_experts(d, c, "num_experts", "moe_intermediate_size", "num_experts_per_token")
    put_shared_experts(d, c, "num_shared_experts")
    put_dense_first(d, c)
    delta = d.layers_with("ssm_")
    c["linear_attn_config"] = {
        "num_heads": c.get("num_attention_heads"),
        "head_dim": d.number("kda.head_dim"),
        "short_conv_kernel_size": d.number("ssm.conv_kernel"),
        "kda_layers": [number + 1 for number, is_delta in enumerate(delta) if is_delta],
        "full_attn_layers": [number + 1 for number, is_delta in enumerate(delta) if not is_delta],
    }
    d.told_by_tensors("linear_attn_config")
    return "kimi_linear"


# State spaces and convolutions -----------------------------------------------------------------------------


def _expand(d: Described, c: Config) -> None:
    hidden, inner = c.get("hidden_size"), d.number("ssm.inner_size")
    if hidden and inner:
        if inner % hidden:
            raise d.wrong(f"{d.architecture}.ssm.inner_size", f"is {inner}, no multiple of the hidden size {hidden}")
        c["mamba_expand"] = inner // hidden


def _heads(d: Described) -> tuple[int | None, int | None]:
    """(heads, width of a head) of Mamba-2."""
    heads, inner = d.number("ssm.time_step_rank") or None, d.number("ssm.inner_size") or None
    return heads, inner // heads if heads and inner else None


def _granite_moe(d: Described, c: Config) -> str:
    put_experts(d, c, "num_local_experts", "intermediate_size")
    shared = d.number("expert_shared_feed_forward_length") or shared_width(d)
    put_presence(d, c, attention_bias="attn_q.bias")
    if not shared:
        return "granitemoe"
    c["shared_intermediate_size"] = shared
    return "granitemoeshared"


def _granite_hybrid(d: Described, c: Config) -> str:
    if put_experts(d, c, "num_local_experts", "intermediate_size"):
        put(c, "shared_intermediate_size", d.number("expert_shared_feed_forward_length") or shared_width(d))
    else:
        c["num_local_experts"] = 0
        put(c, "shared_intermediate_size", c.get("intermediate_size"))
    put_kinds(d, c, "ssm_", "mamba", "attention")
    _expand(d, c)
    heads, width = _heads(d)
    put(c, "mamba_n_heads", heads)
    put(c, "mamba_d_head", width)
    put(c, "mamba_d_state", d.number("ssm.state_size") or None)
    put(c, "mamba_n_groups", d.number("ssm.group_count") or None)
    put(c, "mamba_d_conv", d.number("ssm.conv_kernel") or None)
    put_presence(d, c, mamba_conv_bias="ssm_conv1d.bias", mamba_proj_bias="ssm_in.bias", attention_bias="attn_q.bias")
    return "granitemoehybrid"


def _jamba(d: Described, c: Config) -> str:
    put_experts(d, c, "num_experts", "intermediate_size")
    c["attn_layer_period"], c["attn_layer_offset"] = period_and_offset(d, d.layers_with("attn_q."), "attention")
    if "num_experts" in c:
        c["expert_layer_period"], c["expert_layer_offset"] = period_and_offset(d, sparse_layers(d), "experts")
    _expand(d, c)
    put(c, "mamba_d_state", d.number("ssm.state_size") or None)
    put(c, "mamba_d_conv", d.number("ssm.conv_kernel") or None)
    put(c, "mamba_dt_rank", d.number("ssm.time_step_rank") or None)
    put_presence(d, c, mamba_conv_bias="ssm_conv1d.bias", mamba_proj_bias="ssm_in.bias")
    return "jamba"


def _nemotron_h(d: Described, c: Config) -> str:
    mamba, attention, sparse = d.layers_with("ssm_"), d.layers_with("attn_q."), sparse_layers(d)
    c["layers_block_type"] = [
        "mamba" if mamba[n] else "attention" if attention[n] else "moe" if sparse[n] else "mlp"
        for n in range(d.num_layers)
    ]
    d.told_by_tensors("layers_block_type")
    if put_experts(d, c, "n_routed_experts", "moe_intermediate_size"):
        c["n_shared_experts"] = d.number("expert_shared_count") or 0
        shared = d.number("expert_shared_feed_forward_length")
        c["moe_shared_expert_intermediate_size"] = shared_width(d) if shared is None else shared
        put(c, "moe_latent_size", d.number("moe_latent_size") or None)
    heads, width = _heads(d)
    put(c, "mamba_num_heads", heads)
    put(c, "mamba_head_dim", width)
    put(c, "ssm_state_size", d.number("ssm.state_size") or None)
    put(c, "n_groups", d.number("ssm.group_count") or None)
    put(c, "conv_kernel", d.number("ssm.conv_kernel") or None)
    put_presence(d, c, use_conv_bias="ssm_conv1d.bias", use_bias="ssm_in.bias", mlp_bias="ffn_up.bias")
    if d.num_nextn_layers:
        # The converter folds both blocks of a module, attention and experts, into one.
        c["num_nextn_predict_layers"], c["mtp_hybrid_override_pattern"] = d.num_nextn_layers, "*E"
    return "nemotron_h"


def _lfm2moe(d: Described, c: Config) -> str:
    put_experts(d, c, "num_experts", "moe_intermediate_size")
    put_kinds(d, c, "shortconv.", "conv", FULL)
    put(c, "conv_L_cache", d.number("shortconv.l_cache") or None)
    c["num_dense_layers"] = sum(not is_sparse for is_sparse in sparse_layers(d))
    put_presence(d, c, conv_bias="shortconv.conv.bias", use_expert_bias="exp_probs_b")
    return "lfm2_moe"


READERS: dict[str, Reader] = {
    # general.architecture: how it is read
    "arctic": _arctic,
    "bailingmoe": _bailing("bailing_moe"),
    "bailingmoe2": _bailing("bailing_moe_v2"),
    "dbrx": _dbrx,
    "deepseek": _deepseek,
    "deepseek2": _deepseek2,
    "dots1": _dots1,
    "ernie4_5-moe": _ernie,
    "gemma": _dense("gemma"),
    "gemma2": _dense("gemma2"),
    "gemma3": _dense("gemma3_text"),
    "gemma4": _gemma4,
    "glm-dsa": _glm_dsa,
    "glm4moe": _glm4moe,
    "gpt-oss": _gpt_oss,
    "granitehybrid": _granite_hybrid,
    "granitemoe": _granite_moe,
    "grok": _grok,
    "hunyuan-moe": _hunyuan,
    "jamba": _jamba,
    "kimi-linear": _kimi_linear,
    "lfm2moe": _lfm2moe,
    "llama": _llama,
    "llama4": _llama4,
    "minimax-m2": _minimax_m2,
    "mistral3": _dense("ministral3"),
    "mistral4": _mistral4,
    "nemotron_h": _nemotron_h,
    "nemotron_h_moe": _nemotron_h,
    "olmo2": _dense("olmo2"),
    "olmoe": _olmoe,
    "phi3": _dense("phi3"),
    "phimoe": _phimoe,
    "qwen2": _dense("qwen2"),
    "qwen2moe": _qwen2moe,
    "qwen3": _qwen3("qwen3"),
    "qwen35": _qwen_hybrid("qwen3_5_text"),
    "qwen35moe": _qwen_hybrid("qwen3_5_moe_text"),
    "qwen3moe": _qwen3("qwen3_moe"),
    "qwen3next": _qwen_hybrid("qwen3_next"),
    "qwen3vl": _qwen3("qwen3_vl_text"),
    "qwen3vlmoe": _qwen3("qwen3_vl_moe_text"),
}
