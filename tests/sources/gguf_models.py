"""Tiny models as transformers configs, each beside the metadata that llama.cpp's converter writes for such a config.

Source of the metadata: `set_gguf_parameters` of the architecture's class in llama.cpp conversion/*.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Model(NamedTuple):
    """One architecture of llama.cpp."""

    architecture: str
    config: dict[str, Any]
    values: dict[str, Any]


BASE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
EXPERTS: dict[str, Any] = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LOCAL: dict[str, Any] = {"num_local_experts": 8, "num_experts_per_tok": 2}
ROUTED: dict[str, Any] = {
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
}
LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
}
DELTA: dict[str, Any] = {
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}

PLAIN: dict[str, Any] = {
    "block_count": 4,
    "context_length": 512,
    "embedding_length": 64,
    "feed_forward_length": 96,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.key_length": 16,
    "attention.value_length": 16,
    "general.file_type": 0,
}
USED: dict[str, Any] = {"expert_count": 8, "expert_used_count": 2}
NARROW: dict[str, Any] = {**USED, "expert_feed_forward_length": 32}
SHARED: dict[str, Any] = {**NARROW, "expert_shared_count": 2, "leading_dense_block_count": 1}
ABSORBED: dict[str, Any] = {
    "attention.head_count_kv": 1,
    "attention.q_lora_rank": 24,
    "attention.kv_lora_rank": 32,
    "attention.key_length": 40,
    "attention.value_length": 32,
    "attention.key_length_mla": 24,
    "attention.value_length_mla": 16,
    "rope.dimension_count": 8,
    "vocab_size": 96,
}
STATE: dict[str, Any] = {
    "ssm.conv_kernel": 4,
    "ssm.state_size": 8,
    "ssm.group_count": 2,
    "ssm.time_step_rank": 4,
    "ssm.inner_size": 64,
    "full_attention_interval": 4,
}
MAMBA: dict[str, Any] = {
    "ssm.conv_kernel": 4,
    "ssm.state_size": 8,
    "ssm.group_count": 1,
    "ssm.time_step_rank": 8,
    "ssm.inner_size": 128,
}

MODELS: dict[str, Model] = {
    "mixtral": Model("llama", {"model_type": "mixtral", **BASE, **LOCAL}, {**PLAIN, **USED}),
    "llama": Model("llama", {"model_type": "llama", **BASE}, PLAIN),
    "llama, biases": Model("llama", {"model_type": "llama", **BASE, "attention_bias": True, "mlp_bias": True}, PLAIN),
    "qwen2": Model("qwen2", {"model_type": "qwen2", **BASE}, PLAIN),
    "qwen3, tied": Model("qwen3", {"model_type": "qwen3", **BASE, "tie_word_embeddings": True}, PLAIN),
    "qwen2moe": Model(
        "qwen2moe",
        {"model_type": "qwen2_moe", **BASE, **EXPERTS, "shared_expert_intermediate_size": 48},
        {**PLAIN, **NARROW, "expert_shared_feed_forward_length": 48},
    ),
    "qwen3moe": Model("qwen3moe", {"model_type": "qwen3_moe", **BASE, **EXPERTS}, {**PLAIN, **NARROW}),
    "qwen3next": Model(
        "qwen3next",
        {
            "model_type": "qwen3_next", **BASE, **EXPERTS, **DELTA, "shared_expert_intermediate_size": 48,
            "num_nextn_predict_layers": 0,
        },
        {**PLAIN, **NARROW, **STATE, "expert_shared_feed_forward_length": 48},
    ),
    "qwen35moe": Model(
        "qwen35moe",
        {"model_type": "qwen3_5_moe_text", **BASE, **EXPERTS, **DELTA, "shared_expert_intermediate_size": 48},
        {**PLAIN, **NARROW, **STATE, "expert_shared_feed_forward_length": 48},
    ),
    "deepseek2 without correction": Model(
        "deepseek2", {"model_type": "deepseek_v2", **BASE, **LATENT, **ROUTED}, {**PLAIN, **SHARED, **ABSORBED}
    ),
    "deepseek2": Model(
        "deepseek2", {"model_type": "deepseek_v3", **BASE, **LATENT, **ROUTED}, {**PLAIN, **SHARED, **ABSORBED}
    ),
    "deepseek2 without query latent": Model(
        "deepseek2",
        {"model_type": "deepseek_v3", **BASE, **LATENT, **ROUTED, "q_lora_rank": None},
        {key: value for key, value in {**PLAIN, **SHARED, **ABSORBED}.items() if key != "attention.q_lora_rank"},
    ),
    "glm-dsa": Model(
        "glm-dsa",
        {
            "model_type": "glm_moe_dsa", **BASE, **LATENT, **ROUTED, "index_n_heads": 2, "index_head_dim": 16,
            "index_topk": 64,
        },
        {
            **PLAIN, **SHARED, **ABSORBED, "attention.indexer.head_count": 2, "attention.indexer.key_length": 16,
            "attention.indexer.top_k": 64,
        },
    ),
    "gpt-oss": Model(
        "gpt-oss",
        {"model_type": "gpt_oss", **BASE, **LOCAL, "sliding_window": 128},
        {**PLAIN, **USED, "expert_feed_forward_length": 96, "attention.sliding_window": 128},
    ),
    "glm4moe": Model(
        "glm4moe",
        {"model_type": "glm4_moe", **BASE, **ROUTED, "attention_bias": True, "use_qk_norm": True},
        {**PLAIN, **SHARED},
    ),
    "dots1": Model("dots1", {"model_type": "dots1", **BASE, **ROUTED}, {**PLAIN, **SHARED}),
    "llama4": Model(
        "llama4",
        {
            "model_type": "llama4_text", **BASE, **LOCAL, "intermediate_size": 32, "intermediate_size_mlp": 96,
            "num_experts_per_tok": 1, "interleave_moe_layer_step": 2,
        },
        {**PLAIN, **NARROW, "expert_used_count": 1, "interleave_moe_layer_step": 2},
    ),
    "olmoe": Model(
        "olmoe", {"model_type": "olmoe", **BASE, "num_experts": 8, "num_experts_per_tok": 2, "eos_token_id": 1},
        {**PLAIN, **USED},
    ),
    "phimoe": Model(
        "phimoe",
        {"model_type": "phimoe", **BASE, **LOCAL, "attention_bias": True, "lm_head_bias": True, "sliding_window": 64},
        {**PLAIN, **USED, "attention.sliding_window": 64},
    ),
    "dbrx": Model(
        "dbrx",
        {
            "model_type": "dbrx", "d_model": 64, "n_heads": 4, "n_layers": 4, "vocab_size": 96, "max_seq_len": 512,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0},
            "ffn_config": {"moe_num_experts": 8, "moe_top_k": 2, "ffn_hidden_size": 96},
        },
        {key: value for key, value in {**PLAIN, **USED}.items() if not key.endswith(("key_length", "value_length"))},
    ),
    "minimax-m2": Model(
        "minimax-m2",
        {"model_type": "minimax_m2", **BASE, **LOCAL, "bos_token_id": 1, "eos_token_id": 2},
        {**PLAIN, **USED, "expert_feed_forward_length": 96},
    ),
    "ernie4_5-moe": Model(
        "ernie4_5-moe",
        {
            "model_type": "ernie4_5_moe", **BASE, "moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": 32,
            "moe_num_shared_experts": 2, "moe_layer_start_index": 1,
        },
        # The converter really writes a width of shared experts that has nothing to do with their tensors.
        {**PLAIN, **SHARED, "interleave_moe_layer_step": 1, "expert_shared_feed_forward_length": 48},
    ),
    "hunyuan-moe": Model(
        "hunyuan-moe",
        {"model_type": "hunyuan_v1_moe", **BASE, "num_experts": 8, "moe_topk": 2, "num_shared_expert": 1},
        {**PLAIN, **USED, "expert_feed_forward_length": 96, "expert_shared_count": 1},
    ),
    "lfm2moe": Model(
        "lfm2moe",
        {
            "model_type": "lfm2_moe", **BASE, **EXPERTS, "num_dense_layers": 1, "conv_L_cache": 3,
            "layer_types": ["conv", "full_attention", "conv", "conv"], "tie_word_embeddings": True,
        },
        {
            **PLAIN, **NARROW, "attention.head_count_kv": [0, 2, 0, 0], "leading_dense_block_count": 1,
            "shortconv.l_cache": 3,
        },
    ),
    "granitemoe": Model("granitemoe", {"model_type": "granitemoe", **BASE, **LOCAL}, {**PLAIN, **USED}),
    "granitemoe, shared": Model(
        "granitemoe",
        {"model_type": "granitemoeshared", **BASE, **LOCAL, "shared_intermediate_size": 48},
        {**PLAIN, **USED, "expert_shared_feed_forward_length": 48},
    ),
    "granitehybrid": Model(
        "granitehybrid",
        {
            "model_type": "granitemoehybrid", **BASE, **LOCAL, "shared_intermediate_size": 48,
            "layer_types": ["mamba", "attention", "mamba", "mamba"], "mamba_n_heads": 8, "mamba_d_head": 16,
            "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_expand": 2,
        },
        {**PLAIN, **USED, **MAMBA, "attention.head_count_kv": [0, 2, 0, 0], "expert_shared_feed_forward_length": 48},
    ),
    "jamba": Model(
        "jamba",
        {
            "model_type": "jamba", **BASE, "num_experts": 8, "num_experts_per_tok": 2, "attn_layer_period": 4,
            "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "mamba_dt_rank": 6,
            "mamba_d_state": 8,
        },
        {**PLAIN, **USED, **MAMBA, "ssm.time_step_rank": 6, "attention.head_count_kv": [0, 2, 0, 0]},
    ),
    "nemotron_h_moe": Model(
        "nemotron_h_moe",
        {
            "model_type": "nemotron_h", **BASE, "hybrid_override_pattern": "ME*-", **ROUTED, "n_shared_experts": 1,
            "moe_shared_expert_intermediate_size": 48, "mamba_num_heads": 8, "mamba_head_dim": 16,
            "ssm_state_size": 8, "n_groups": 1,
        },
        {
            **PLAIN, **NARROW, **MAMBA, "expert_shared_count": 1, "expert_shared_feed_forward_length": 48,
            "attention.head_count_kv": [0, 0, 2, 0], "feed_forward_length": [0, 0, 0, 96],
        },
    ),
    "kimi-linear": Model(
        "kimi-linear",
        {
            "model_type": "kimi_linear", **BASE, **LATENT, **ROUTED, "num_experts": 8, "num_shared_experts": 2,
            "linear_num_heads": 4, "linear_head_dim": 16, "linear_conv_kernel_dim": 4,
            "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
            "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2,
        },
        {
            **PLAIN, **SHARED, **ABSORBED, "attention.head_count_kv": [0, 0, 0, 1], "ssm.conv_kernel": 4,
            "kda.head_dim": 16,
        },
    ),
    "mistral3": Model("mistral3", {"model_type": "ministral3", **BASE}, PLAIN),
    "gemma4": Model(
        "gemma4",
        {
            "model_type": "gemma4_text", **BASE, "num_hidden_layers": 6, "tie_word_embeddings": True,
            "sliding_window": 64, "global_head_dim": 32, "num_global_key_value_heads": 1, "attention_k_eq_v": True,
            "enable_moe_block": True, "num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 32,
            "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0,
            "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
        },
        {
            **PLAIN, **NARROW, "block_count": 6, "attention.head_count_kv": [2, 2, 2, 2, 2, 1],
            "attention.key_length": 32, "attention.value_length": 32, "attention.key_length_swa": 16,
            "attention.value_length_swa": 16, "attention.sliding_window": 64, "attention.shared_kv_layers": 0,
            "attention.sliding_window_pattern": [True] * 5 + [False], "embedding_length_per_layer_input": 0,
        },
    ),
    "qwen35": Model("qwen35", {"model_type": "qwen3_5_text", **BASE, **DELTA}, {**PLAIN, **STATE}),
    "gemma": Model("gemma", {"model_type": "gemma", **BASE, "tie_word_embeddings": True}, PLAIN),
    "olmo2": Model("olmo2", {"model_type": "olmo2", **BASE, "eos_token_id": 1}, PLAIN),
    "phi3": Model("phi3", {"model_type": "phi3", **BASE, "pad_token_id": 0}, PLAIN),
    "gemma2": Model(
        "gemma2", {"model_type": "gemma2", **BASE, "tie_word_embeddings": True, "sliding_window": 64},
        {**PLAIN, "attention.sliding_window": 64},
    ),
    "gemma3": Model(
        "gemma3", {"model_type": "gemma3_text", **BASE, "tie_word_embeddings": True, "sliding_window": 64},
        {**PLAIN, "attention.sliding_window": 64},
    ),
}  # fmt: skip
