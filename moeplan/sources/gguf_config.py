"""GGUF metadata as a config in Hugging Face field names, for the families to read.

One row per architecture of llama.cpp. What the metadata leaves open is taken from the tensors where they determine
it: biases and norms from presence, a tied head from the absence of `output.weight`, kinds of layers from what a
block holds. Source of the keys: gguf-py 0.19.0 constants.py and llama.cpp's converters (conversion/*.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moeplan.core.checkpoint import StoredTensor
from moeplan.core.errors import ConfigError, InputError
from moeplan.core.model import Remark
from moeplan.sources.gguf_metadata import Described, Value

Config = dict[str, Any]
Reader = Callable[[Described, Config], str | None]
"""Adds an architecture's fields to the common ones; gives the family's `model_type`, or None where none fits."""

NO_MODELS = {
    "clip": "a vision or audio projector (mmproj)",
    "adapter": "an adapter (LoRA)",
    "mmproj": "a vision or audio projector (mmproj)",
    "imatrix": "an importance matrix",
    "controlvector": "a control vector",
}
FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"


def gguf_config(
    values: Mapping[str, Value], tensors: Sequence[StoredTensor], where: str
) -> tuple[Config, str, tuple[Remark, ...]]:
    """(config, architecture, remarks) of a model by its metadata and all its tensors.

    Fields that the file does not determine are left out, so that the family's error names them. Raises InputError for
    files that are no language model, ConfigError for values that cannot be meant.
    """
    architecture = _architecture(values, where)
    described = Described(values, tensors, architecture, where)
    config = _common(described)
    reader = READERS.get(architecture)
    model_type = None if reader is None else reader(described, config)
    remarks: tuple[Remark, ...] = ()
    if model_type is None:
        config = _general(described)
        # Never the name of a family: that one's own reader would expect its own fields.
        model_type = f"gguf {architecture}"
        message = f"architecture {architecture!r} of this file is read by the general rules, not as a known family"
        remarks += (Remark("gguf-architecture-unknown", "warning", message, "general.architecture"),)
    return {"model_type": model_type, **config}, architecture, remarks + _remarks(described)


def _architecture(values: Mapping[str, Value], where: str) -> str:
    architecture = values.get("general.architecture")
    kind = values.get("general.type")
    for told in (kind, architecture):
        if isinstance(told, str) and told in NO_MODELS:
            raise InputError(
                f"{where}: the file is {NO_MODELS[told]}, not a language model",
                hint="give the file of the model that it belongs to",
            )
    if not isinstance(architecture, str) or not architecture:
        raise ConfigError(
            f"{where}: the metadata does not state `general.architecture`",
            hint="convert the model again with a current llama.cpp",
        )
    return architecture


def _remarks(d: Described) -> tuple[Remark, ...]:
    remarks: tuple[Remark, ...] = ()
    if d.from_tensors:
        message = f"not in the metadata, taken from the tensors of the file: {', '.join(d.from_tensors)}"
        remarks += (Remark("gguf-from-tensors", "info", message),)
    if d.varying:
        message = (
            f"differs from layer to layer, which this architecture's reading does not know: {', '.join(d.varying)}"
        )
        remarks += (Remark("gguf-per-layer", "warning", message),)
    remarks += tuple(Remark("gguf-metadata", "warning", doubt) for doubt in d.doubts)
    missing = (d.number("nextn_predict_layers") or 0) - d.num_nextn_layers
    if missing > 0:
        message = f"{missing} layer(s) that predict further tokens are stated in the metadata but not in the file"
        remarks += (Remark("gguf-mtp-left-out", "info", message, f"{d.architecture}.nextn_predict_layers"),)
    return remarks


# Fields that all share -------------------------------------------------------------------------------------


def _put(config: Config, name: str, value: object) -> None:
    if value is not None:
        config[name] = value


def _common(d: Described) -> Config:
    config: Config = {}
    hidden, heads = d.number("embedding_length", 1), d.number("attention.head_count")
    _put(config, "hidden_size", hidden)
    config["num_hidden_layers"] = d.num_layers
    _put(config, "num_attention_heads", heads or None)
    kv_heads = d.number("attention.head_count_kv") if d.numbers("attention.head_count_kv") else heads
    _put(config, "num_key_value_heads", kv_heads or None)
    head_dim = d.number("attention.key_length", 1)
    if head_dim is None and hidden and heads:
        head_dim = hidden // heads  # llama.cpp's rule
    _put(config, "head_dim", head_dim or None)
    _put(config, "intermediate_size", d.number("feed_forward_length") or None)
    _put(config, "vocab_size", _vocab_size(d))
    _put(config, "max_position_embeddings", d.number("context_length", 1))
    config["tie_word_embeddings"] = "output.weight" not in d.shapes
    d.told_by_tensors("tie_word_embeddings")
    return config


def _vocab_size(d: Described) -> int | None:
    """Rows of the table; the tokenizer's list may be shorter than the padded table."""
    table, stated = d.shapes.get("token_embd.weight"), d.number("vocab_size", 1)
    if table is None:
        return stated
    if stated is None:
        d.told_by_tensors("vocab_size")
    elif stated != table[0]:
        d.doubts.append(f"vocab_size is {stated}, but the table has {table[0]} rows: the table is taken")
    return table[0]


def _presence(d: Described, config: Config, **parts: str) -> None:
    """Fields that are true where some layer has a tensor of that name."""
    for field, part in parts.items():
        config[field] = d.any_layer(part)
        d.told_by_tensors(field)


def _expert_width(d: Described) -> int | None:
    stated = d.number("expert_feed_forward_length")
    if stated:
        return stated
    down = d.shape_in_layers("ffn_down_exps.weight", "ffn_down.0.weight")
    if down is None:
        return None
    d.told_by_tensors("expert_feed_forward_length")
    return down[-1]


def _shared_width(d: Described) -> int:
    down = d.shape_in_layers("ffn_down_shexp.weight")
    if down is None:
        return 0
    d.told_by_tensors("shared expert width")
    return down[-1]


def _experts(d: Described, config: Config, count: str, width: str, per_token: str = "num_experts_per_tok") -> bool:
    """Routed experts under a family's names; False where the model has none."""
    num_experts = d.number("expert_count")
    if not num_experts:
        return False
    config[count] = num_experts
    _put(config, per_token, d.number("expert_used_count") or None)
    _put(config, width, _expert_width(d))
    return True


def _shared_experts(d: Described, config: Config, name: str) -> None:
    """Number of shared experts, each as wide as a routed one."""
    count, width = d.number("expert_shared_count"), _expert_width(d)
    if count is None and width:
        count = _shared_width(d) // width
    config[name] = count or 0


def _sparse(d: Described) -> tuple[bool, ...]:
    return d.layers_with("ffn_gate_inp.weight")


def _dense_first(d: Described, config: Config) -> None:
    """Which layers are sparse: the ones with a router."""
    sparse = _sparse(d)
    first = sparse.index(True) if True in sparse else len(sparse)
    if all(sparse[first:]):
        config["first_k_dense_replace"] = first
    else:
        config["mlp_layer_types"] = ["sparse" if is_sparse else "dense" for is_sparse in sparse]
    d.told_by_tensors("sparse layers")


def _mtp(d: Described, config: Config, name: str = "num_nextn_predict_layers") -> None:
    config[name] = d.num_nextn_layers


def _kinds(d: Described, config: Config, beginning: str, kind: str, otherwise: str, name: str = "layer_types") -> None:
    config[name] = [kind if is_kind else otherwise for is_kind in d.layers_with(beginning)]
    d.told_by_tensors(name)


def _windows(d: Described, config: Config) -> None:
    """`sliding_window`, and which layers have it where the file lists them."""
    _put(config, "sliding_window", d.number("attention.sliding_window") or None)
    key = "attention.sliding_window_pattern"
    if not d.is_array(key):
        _put(config, "sliding_window_pattern", d.number(key) or None)
        return
    pattern = d.per_layer(key) or ()
    config["layer_types"] = [SLIDING if is_windowed else FULL for is_windowed in pattern]


def _indices(d: Described, which: tuple[bool, ...], what: str) -> tuple[int, int]:
    """(period, offset) of the layers that are true in `which`."""
    numbers = [number for number, is_one in enumerate(which) if is_one]
    if not numbers:
        raise d.wrong("blk.*", f"no block has {what}")
    period = numbers[1] - numbers[0] if len(numbers) > 1 else len(which)
    if numbers != list(range(numbers[0], len(which), period)):
        raise d.wrong("blk.*", f"the blocks with {what} do not follow one another at one distance")
    return period, numbers[0]


# Grouped attention -----------------------------------------------------------------------------------------


def _llama(d: Described, c: Config) -> str:
    if _experts(d, c, "num_local_experts", "intermediate_size"):
        return "mixtral"
    _presence(d, c, attention_bias="attn_output.bias", mlp_bias="ffn_up.bias")
    return "llama"


def _dense(model_type: str) -> Reader:
    """Models without experts whose biases and norms the family knows."""

    def read(d: Described, c: Config) -> str:
        _windows(d, c)
        return model_type

    return read


def _qwen3(model_type: str) -> Reader:
    def read(d: Described, c: Config) -> str:
        if d.number("expert_count"):
            _qwen_moe(d, c)
        _presence(d, c, attention_bias="attn_q.bias")
        return model_type

    return read


def _qwen_moe(d: Described, c: Config) -> None:
    _experts(d, c, "num_experts", "moe_intermediate_size")
    c["mlp_only_layers"] = [number for number, is_sparse in enumerate(_sparse(d)) if not is_sparse]
    c["decoder_sparse_step"] = 1
    shared = d.number("expert_shared_feed_forward_length") or _shared_width(d)
    if shared:
        c["shared_expert_intermediate_size"] = shared


def _qwen2moe(d: Described, c: Config) -> str:
    _qwen_moe(d, c)
    _presence(d, c, qkv_bias="attn_q.bias")
    return "qwen2_moe"


def _qwen_hybrid(model_type: str) -> Reader:
    def read(d: Described, c: Config) -> str:
        if d.number("expert_count"):
            _qwen_moe(d, c)
        values, inner = d.number("ssm.time_step_rank"), d.number("ssm.inner_size")
        _put(c, "linear_num_value_heads", values or None)
        _put(c, "linear_num_key_heads", d.number("ssm.group_count") or None)
        _put(c, "linear_key_head_dim", d.number("ssm.state_size") or None)
        if values and inner:
            c["linear_value_head_dim"] = inner // values
        _put(c, "linear_conv_kernel_dim", d.number("ssm.conv_kernel") or None)
        _kinds(d, c, "ssm_", LINEAR, FULL)
        _presence(d, c, attention_bias="attn_q.bias")
        _mtp(d, c, "mtp_num_hidden_layers")
        return model_type

    return read


def _deepseek(d: Described, c: Config) -> str:
    _experts(d, c, "n_routed_experts", "moe_intermediate_size")
    _shared_experts(d, c, "n_shared_experts")
    _dense_first(d, c)
    return "deepseek"


def _glm4moe(d: Described, c: Config) -> str:
    _deepseek(d, c)
    _presence(d, c, attention_bias="attn_q.bias", use_qk_norm="attn_q_norm.")
    _mtp(d, c)
    return "glm4_moe"


def _dots1(d: Described, c: Config) -> str:
    _deepseek(d, c)
    _presence(d, c, attention_bias="attn_q.bias")
    return "dots1"


def _gpt_oss(d: Described, c: Config) -> str:
    _experts(d, c, "num_local_experts", "intermediate_size")
    _windows(d, c)
    _presence(d, c, attention_bias="attn_q.bias")
    return "gpt_oss"


def _llama4(d: Described, c: Config) -> str:
    _put(c, "intermediate_size_mlp", c.pop("intermediate_size", None))
    _experts(d, c, "num_local_experts", "intermediate_size")
    c["moe_layers"] = [number for number, is_sparse in enumerate(_sparse(d)) if is_sparse]
    _put(c, "attention_chunk_size", d.number("attention.chunk_size") or None)
    d.told_by_tensors("moe_layers")
    return "llama4_text"


def _olmoe(d: Described, c: Config) -> str:
    _experts(d, c, "num_experts", "intermediate_size")
    return "olmoe"


def _phimoe(d: Described, c: Config) -> str:
    _experts(d, c, "num_local_experts", "intermediate_size")
    _windows(d, c)
    _presence(d, c, attention_bias="attn_q.bias")
    c["lm_head_bias"] = "output.bias" in d.shapes
    return "phimoe"


def _dbrx(d: Described, c: Config) -> str:
    ffn: Config = {}
    _experts(d, ffn, "moe_num_experts", "ffn_hidden_size", "moe_top_k")
    c["ffn_config"] = ffn
    c["attn_config"] = {"kv_n_heads": c.get("num_key_value_heads")}
    return "dbrx"


def _minimax_m2(d: Described, c: Config) -> str:
    _experts(d, c, "num_local_experts", "intermediate_size")
    _presence(d, c, use_qk_norm="attn_q_norm.", use_routing_bias="exp_probs_b")
    return "minimax_m2"


def _ernie(d: Described, c: Config) -> str:
    _experts(d, c, "moe_num_experts", "moe_intermediate_size", "moe_k")
    _shared_experts(d, c, "moe_num_shared_experts")
    period, first = _indices(d, _sparse(d), "experts")
    # The family counts intervals from layer 0, so that with one the offset is all that matters.
    c["moe_layer_start_index"], c["moe_layer_interval"] = first, period if sum(_sparse(d)) > 1 else 1
    _presence(d, c, use_bias="attn_output.bias")
    return "ernie4_5_moe"


def _bailing(model_type: str) -> Reader:
    def read(d: Described, c: Config) -> str:
        _experts(d, c, "num_experts", "moe_intermediate_size")
        _shared_experts(d, c, "num_shared_experts")
        _dense_first(d, c)
        _presence(d, c, use_bias="attn_output.bias", use_qk_norm="attn_q_norm.")
        c["use_qkv_bias"] = d.any_layer("attn_q.bias", "attn_qkv.bias")
        _presence(d, c, moe_router_enable_expert_bias="exp_probs_b")
        _mtp(d, c)
        return model_type

    return read


def _hunyuan(d: Described, c: Config) -> str:
    _experts(d, c, "num_experts", "moe_intermediate_size", "moe_topk")
    num_shared, shared = d.number("expert_shared_count"), _shared_width(d)
    c["use_mixed_mlp_moe"] = bool(shared)
    if shared:
        c["num_shared_expert"] = num_shared or 1
        c["intermediate_size"] = shared // (num_shared or 1)
    _presence(d, c, use_qk_norm="attn_q_norm.", attention_bias="attn_q.bias")
    return "hunyuan"


def _grok(d: Described, c: Config) -> str | None:
    if d.any_layer("ffn_up.weight"):
        return None  # Grok-2 has a dense feed-forward beside the experts
    _experts(d, c, "num_experts", "moe_intermediate_size")
    return "grok-1"


def _arctic(d: Described, c: Config) -> str | None:
    if not all(_sparse(d)):
        return None
    _experts(d, c, "num_local_experts", "intermediate_size")
    c["moe_layer_frequency"] = 1
    _presence(d, c, parallel_attn_mlp_res="ffn_norm_exps.")
    return "arctic"


def _gemma4(d: Described, c: Config) -> str:
    _windows(d, c)
    kinds = c.get("layer_types") or ()
    _put(c, "global_head_dim", d.number("attention.key_length"))
    _put(c, "head_dim", d.number("attention.key_length_swa"))
    kv_heads = d.per_layer("attention.head_count_kv") or ()
    by_kind = dict(zip(kinds, kv_heads, strict=False))
    _put(c, "num_key_value_heads", by_kind.get(SLIDING) or by_kind.get(FULL))
    _put(c, "num_global_key_value_heads", by_kind.get(FULL))
    values = d.layers_with("attn_v.")
    keys = d.layers_with("attn_k.")
    c["attention_k_eq_v"] = any(has_key and not has_value for has_key, has_value in zip(keys, values, strict=True))
    c["num_kv_shared_layers"] = d.number("attention.shared_kv_layers") or 0
    c["hidden_size_per_layer_input"] = d.number("embedding_length_per_layer_input") or 0
    table = d.shapes.get("per_layer_token_embd.weight")
    _put(c, "vocab_size_per_layer_input", table[0] if table else None)
    widths = sorted({width for width in d.numbers("feed_forward_length") or () if width})
    if len(widths) == 2 and widths[1] == 2 * widths[0]:
        d.varying[:] = [key for key in d.varying if key != "feed_forward_length"]
        c["intermediate_size"], c["use_double_wide_mlp"] = widths[0], True
    d.varying[:] = [key for key in d.varying if key != "attention.head_count_kv"]
    c["enable_moe_block"] = _experts(d, c, "num_experts", "moe_intermediate_size", "top_k_experts")
    return "gemma4_text"


# Latent attention ------------------------------------------------------------------------------------------


def _latent(d: Described, c: Config) -> None:
    """Widths of latent attention. Files since llama.cpp absorbs the up-projection (2025) say `key_length_mla`; before
    that `key_length` was the width of a whole head."""
    rope = d.number("rope.dimension_count")
    key = d.number("attention.key_length_mla") or d.number("attention.key_length")
    value = d.number("attention.value_length_mla") or d.number("attention.value_length")
    for name in ("head_dim", "num_key_value_heads"):
        c.pop(name, None)
    _put(c, "kv_lora_rank", d.number("attention.kv_lora_rank") or None)
    _put(c, "q_lora_rank", d.number("attention.q_lora_rank") or None)
    _put(c, "qk_rope_head_dim", rope or None)
    if rope and key and key > rope:
        c["qk_nope_head_dim"] = key - rope
    _put(c, "v_head_dim", value or None)
    if d.number("attention.indexer.head_count"):
        _put(c, "index_n_heads", d.number("attention.indexer.head_count"))
        _put(c, "index_head_dim", d.number("attention.indexer.key_length"))
        _put(c, "index_topk", d.number("attention.indexer.top_k"))


def _deepseek2(d: Described, c: Config) -> str | None:
    if not d.number("attention.kv_lora_rank") or not d.number("expert_count"):
        return None
    _latent(d, c)
    _deepseek(d, c)
    _presence(d, c, attention_bias="attn_output.bias")
    if not d.any_layer("exp_probs_b"):
        return "deepseek_v2"
    _mtp(d, c)
    return "deepseek_v32" if "index_topk" in c else "deepseek_v3"


def _glm_dsa(d: Described, c: Config) -> str:
    _latent(d, c)
    _deepseek(d, c)
    _presence(d, c, attention_bias="attn_output.bias")
    _kinds(d, c, "indexer.", "full", "shared", "indexer_types")
    _mtp(d, c)
    return "glm_moe_dsa"


def _mistral4(d: Described, c: Config) -> str:
    _latent(d, c)
    _deepseek(d, c)
    _presence(d, c, attention_bias="attn_output.bias")
    return "mistral4"


def _kimi_linear(d: Described, c: Config) -> str:
    _latent(d, c)
    _experts(d, c, "num_experts", "moe_intermediate_size", "num_experts_per_token")
    _shared_experts(d, c, "num_shared_experts")
    _dense_first(d, c)
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
    _experts(d, c, "num_local_experts", "intermediate_size")
    shared = d.number("expert_shared_feed_forward_length") or _shared_width(d)
    _presence(d, c, attention_bias="attn_q.bias")
    if not shared:
        return "granitemoe"
    c["shared_intermediate_size"] = shared
    return "granitemoeshared"


def _granite_hybrid(d: Described, c: Config) -> str:
    if _experts(d, c, "num_local_experts", "intermediate_size"):
        _put(c, "shared_intermediate_size", d.number("expert_shared_feed_forward_length") or _shared_width(d))
    else:
        c["num_local_experts"] = 0
        _put(c, "shared_intermediate_size", c.get("intermediate_size"))
    _kinds(d, c, "ssm_", "mamba", "attention")
    _expand(d, c)
    heads, width = _heads(d)
    _put(c, "mamba_n_heads", heads)
    _put(c, "mamba_d_head", width)
    _put(c, "mamba_d_state", d.number("ssm.state_size") or None)
    _put(c, "mamba_n_groups", d.number("ssm.group_count") or None)
    _put(c, "mamba_d_conv", d.number("ssm.conv_kernel") or None)
    _presence(d, c, mamba_conv_bias="ssm_conv1d.bias", mamba_proj_bias="ssm_in.bias", attention_bias="attn_q.bias")
    return "granitemoehybrid"


def _jamba(d: Described, c: Config) -> str:
    _experts(d, c, "num_experts", "intermediate_size")
    c["attn_layer_period"], c["attn_layer_offset"] = _indices(d, d.layers_with("attn_q."), "attention")
    if "num_experts" in c:
        c["expert_layer_period"], c["expert_layer_offset"] = _indices(d, _sparse(d), "experts")
    _expand(d, c)
    _put(c, "mamba_d_state", d.number("ssm.state_size") or None)
    _put(c, "mamba_d_conv", d.number("ssm.conv_kernel") or None)
    _put(c, "mamba_dt_rank", d.number("ssm.time_step_rank") or None)
    _presence(d, c, mamba_conv_bias="ssm_conv1d.bias", mamba_proj_bias="ssm_in.bias")
    return "jamba"


def _nemotron_h(d: Described, c: Config) -> str:
    mamba, attention, sparse = d.layers_with("ssm_"), d.layers_with("attn_q."), _sparse(d)
    c["layers_block_type"] = [
        "mamba" if mamba[n] else "attention" if attention[n] else "moe" if sparse[n] else "mlp"
        for n in range(d.num_layers)
    ]
    d.told_by_tensors("layers_block_type")
    if _experts(d, c, "n_routed_experts", "moe_intermediate_size"):
        c["n_shared_experts"] = d.number("expert_shared_count") or 0
        shared = d.number("expert_shared_feed_forward_length")
        c["moe_shared_expert_intermediate_size"] = _shared_width(d) if shared is None else shared
        _put(c, "moe_latent_size", d.number("moe_latent_size") or None)
    heads, width = _heads(d)
    _put(c, "mamba_num_heads", heads)
    _put(c, "mamba_head_dim", width)
    _put(c, "ssm_state_size", d.number("ssm.state_size") or None)
    _put(c, "n_groups", d.number("ssm.group_count") or None)
    _put(c, "conv_kernel", d.number("ssm.conv_kernel") or None)
    _presence(d, c, use_conv_bias="ssm_conv1d.bias", use_bias="ssm_in.bias", mlp_bias="ffn_up.bias")
    if d.num_nextn_layers:
        # The converter folds both blocks of a module, attention and experts, into one.
        c["num_nextn_predict_layers"], c["mtp_hybrid_override_pattern"] = d.num_nextn_layers, "*E"
    return "nemotron_h"


def _lfm2moe(d: Described, c: Config) -> str:
    _experts(d, c, "num_experts", "moe_intermediate_size")
    _kinds(d, c, "shortconv.", "conv", FULL)
    _put(c, "conv_L_cache", d.number("shortconv.l_cache") or None)
    c["num_dense_layers"] = sum(not is_sparse for is_sparse in _sparse(d))
    _presence(d, c, conv_bias="shortconv.conv.bias", use_expert_bias="exp_probs_b")
    return "lfm2_moe"


# Everything else -------------------------------------------------------------------------------------------


def _general(d: Described) -> Config:
    """Fields for the general rules, by the usual keys. Layers with a state say so, which those rules refuse."""
    c = _common(d)
    _windows(d, c)
    if d.any_layer("ssm_", "shortconv.", "time_mix_"):
        c["layer_types"] = [
            LINEAR if has_state else FULL for has_state in d.layers_with("ssm_", "shortconv.", "time_mix_")
        ]
    if d.number("attention.kv_lora_rank"):
        _latent(d, c)
    elif d.number("attention.value_length") not in (None, c.get("head_dim")):
        c["v_head_dim"] = d.number("attention.value_length")
    c["qkv_bias"] = d.any_layer("attn_q.bias", "attn_qkv.bias")
    _presence(d, c, attention_bias="attn_output.bias", mlp_bias="ffn_up.bias", use_qk_norm="attn_q_norm.")
    gated = d.any_layer("ffn_gate.", "ffn_gate_exps.", "ffn_gate_up_exps.")
    c["hidden_act"] = "silu" if gated else "relu"
    d.told_by_tensors(f"hidden_act (feed-forwards with {'a' if gated else 'no'} gate)")
    if _experts(d, c, "num_experts", "moe_intermediate_size"):
        sparse = _sparse(d)
        c["mlp_layer_types"] = ["sparse" if is_sparse else "dense" for is_sparse in sparse]
        shared = _shared_width(d)
        if shared:
            c["shared_intermediate_size"] = shared
    return c


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
