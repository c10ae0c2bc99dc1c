"""Configs of very small MoE models, one of each kind of router. Widths are multiples of 8: torch's grouped matmul asks for it."""

from __future__ import annotations

from typing import Any

from tests.measure.tiny_models import TINY

_COMMON = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "moe_intermediate_size": 16,
}
_HEADS = {**_COMMON, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 16}
_LATENT = {
    **_COMMON, "intermediate_size": 32, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8, "v_head_dim": 8,
}  # fmt: skip
ROUTED: dict[str, dict[str, Any]] = {
    **TINY,
    "deepseek_v3": {
        "model_type": "deepseek_v3", **_LATENT, "n_routed_experts": 16, "num_experts_per_tok": 3, "n_group": 4,
        "topk_group": 2, "n_shared_experts": 1, "first_k_dense_replace": 1,
    },
    "minimax_m2": {"model_type": "minimax_m2", **_HEADS, "num_local_experts": 8, "num_experts_per_tok": 3},
    "lfm2_moe": {
        "model_type": "lfm2_moe", **_HEADS, "num_experts": 8, "num_experts_per_tok": 2, "num_dense_layers": 1,
        "use_expert_bias": True, "layer_types": ["conv", "full_attention", "conv"],
    },
    "ernie4_5_moe": {
        "model_type": "ernie4_5_moe", **_HEADS, "moe_num_experts": 8, "moe_k": 2, "moe_num_shared_experts": 1,
        "moe_layer_start_index": 1, "moe_layer_end_index": 2, "moe_layer_interval": 1,
    },
    "phimoe": {"model_type": "phimoe", **_HEADS, "num_local_experts": 8, "num_experts_per_tok": 2},
    "granitemoe": {"model_type": "granitemoe", **_HEADS, "num_local_experts": 8, "num_experts_per_tok": 2},
    "longcat_flash": {
        "model_type": "longcat_flash", "vocab_size": 96, "hidden_size": 32, "num_attention_heads": 4, "num_layers": 2,
        "ffn_hidden_size": 32, "expert_ffn_hidden_size": 16, "n_routed_experts": 6, "zero_expert_num": 4, "moe_topk": 3,
        "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "head_dim": 8,
        "tie_word_embeddings": False,
    },
    "dbrx": {
        "model_type": "dbrx", "vocab_size": 96, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 8, "moe_top_k": 3},
    },
}  # fmt: skip
"""Their experts are called with ids: (hidden, experts [T, K], weights [T, K])."""

LLAMA4: dict[str, Any] = {
    "model_type": "llama4_text", **_HEADS, "intermediate_size_mlp": 32, "num_local_experts": 6, "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 1,
}  # fmt: skip
JETMOE: dict[str, Any] = {
    "model_type": "jetmoe", "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_key_value_heads": 2,
    "kv_channels": 8, "intermediate_size": 16, "num_local_experts": 6, "num_experts_per_tok": 2,
}  # fmt: skip
ZAYA: dict[str, Any] = {
    "model_type": "zaya", **_HEADS, "num_experts": 5, "num_experts_per_tok": 1, "ffn_hidden_size": 32, "router_hidden_size": 16,
}  # fmt: skip
SWITCH: dict[str, Any] = {
    "model_type": "switch_transformers", "vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 4,
    "num_decoder_layers": 4, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 2, "num_heads": 4,
    "num_experts": 4, "expert_capacity": 6, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
NLLB: dict[str, Any] = {
    "model_type": "nllb-moe", "vocab_size": 96, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
    "encoder_sparse_step": 2, "decoder_sparse_step": 1, "num_experts": 4, "max_position_embeddings": 128,
    "moe_eval_capacity_token_fraction": 0.3, "pad_token_id": 1,
}  # fmt: skip
DENSE: dict[str, Any] = {"model_type": "llama", **_HEADS, "intermediate_size": 32}


def build(config: dict[str, Any], seed: int = 0) -> Any:
    """The model with random weights, its choices spread: gates and correction biases are drawn wide."""
    import torch
    import transformers

    fields = {name: value for name, value in config.items() if name != "model_type"}
    read = transformers.AutoConfig.for_model(config["model_type"], **fields)
    kind = transformers.AutoModelForSeq2SeqLM if read.is_encoder_decoder else transformers.AutoModelForCausalLM
    torch.manual_seed(seed)
    model = kind.from_config(read, dtype=torch.float32).eval()
    for name, tensor in [*model.named_buffers(), *model.named_parameters()]:
        if name.endswith(("e_score_correction_bias", "expert_bias", "balancing_biases")):
            tensor.data.normal_(0.0, 0.1)
        elif tensor.is_floating_point() and tensor.ndim == 2:
            tensor.data.normal_(0.0, 0.2)
    return model
