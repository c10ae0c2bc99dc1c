"""Kimi beside transformers, and Kimi K3 beside the tensor list of its checkpoint."""

from __future__ import annotations

from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import KimiDelta
from moeplan.core.weights import parameters
from moeplan.sources.families import read_config
from tests.families.agreement import assert_counts_agree, our_tensors

TEXT: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 56,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "n_shared_experts": 1,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "kv_lora_rank": 12,
    "q_lora_rank": 14,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 6,
    "v_head_dim": 10,
    "first_k_dense_replace": 1,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
VISION: dict[str, Any] = {
    "patch_size": 4,
    "pos_emb_height": 6,
    "pos_emb_width": 5,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "hidden_size": 24,
    "intermediate_size": 40,
    "merge_kernel_size": [2, 2],
}
K25: dict[str, Any] = {
    "model_type": "kimi_k25",
    "tie_word_embeddings": False,
    "projection_hidden_size": 24,
    "text_config": TEXT,
    "vision_config": VISION,
}
LINEAR: dict[str, Any] = {
    "model_type": "kimi_linear",
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 56,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_experts": 6,
    "num_experts_per_token": 2,
    "num_shared_experts": 1,
    "kv_lora_rank": 12,
    "q_lora_rank": None,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 6,
    "v_head_dim": 10,
    "first_k_dense_replace": 1,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "linear_attn_config": {
        "kda_layers": [1, 3, 4],
        "full_attn_layers": [2],
        "num_heads": 3,
        "head_dim": 10,
        "short_conv_kernel_size": 3,
    },
}
AS_TRANSFORMERS_WRITES: dict[str, Any] = {
    "linear_attn_config": None,
    "first_k_dense_replace": None,
    "layer_types": ["linear_attention", "full_attention", "linear_attention", "linear_attention"],
    "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
    "linear_num_heads": 3,
    "linear_head_dim": 10,
    "linear_conv_kernel_dim": 3,
}
# moonshotai/Kimi-Linear-48B-A3B-Instruct
LINEAR_PUBLISHED: dict[str, Any] = {
    "model_type": "kimi_linear",
    "vocab_size": 163840,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "moe_intermediate_size": 1024,
    "num_hidden_layers": 27,
    "num_attention_heads": 32,
    "num_experts": 256,
    "num_experts_per_token": 8,
    "num_shared_experts": 1,
    "kv_lora_rank": 512,
    "q_lora_rank": None,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "tie_word_embeddings": False,
    "linear_attn_config": {
        "kda_layers": [number for number in range(1, 27) if number % 4],
        "full_attn_layers": [4, 8, 12, 16, 20, 24, 27],
        "num_heads": 32,
        "head_dim": 128,
        "short_conv_kernel_size": 4,
    },
}
# moonshotai/Kimi-K3
K3: dict[str, Any] = {
    "model_type": "kimi_k3",
    "tie_word_embeddings": False,
    "text_config": {
        "model_type": "kimi_linear",
        "vocab_size": 163840,
        "hidden_size": 7168,
        "intermediate_size": 33792,
        "moe_intermediate_size": 3072,
        "num_hidden_layers": 93,
        "num_attention_heads": 96,
        "num_experts": 896,
        "num_experts_per_token": 16,
        "num_shared_experts": 2,
        "routed_expert_hidden_size": 3584,
        "latent_moe_use_norm": True,
        "attn_res_block_size": 12,
        "mla_use_output_gate": True,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
        "first_k_dense_replace": 1,
        "top_k": 50,
        "linear_attn_config": {
            "kda_layers": [number for number in range(1, 93) if number % 4],
            "full_attn_layers": [*range(4, 93, 4), 93],
            "num_heads": 96,
            "head_dim": 128,
            "short_conv_kernel_size": 4,
            "use_full_rank_gate": True,
        },
    },
    "vision_config": {
        "attn_bias": False,
        "linear_bias": False,
        "patch_embed_proj_bias": False,
        "norm_type": "rmsnorm",
        "mm_projector_type": "patchmergerv2",
        "init_pos_emb_height": 64,
        "init_pos_emb_width": 64,
        "merge_kernel_size": [2, 2],
        "patch_size": 14,
        "qkv_hidden_size": 1536,
        "vt_hidden_size": 1024,
        "vt_intermediate_size": 4096,
        "vt_num_hidden_layers": 27,
    },
}


@pytest.mark.parametrize("change", [{}, {"tie_word_embeddings": True}], ids=str)
def test_k25_counts(change: dict[str, Any]) -> None:
    assert_counts_agree(K25 | change, "AutoModelForImageTextToText")


def test_k2_is_read_as_deepseek_v3() -> None:
    k2, v3 = read_config(TEXT | {"model_type": "kimi_k2"}), read_config(TEXT)
    assert k2.layers == v3.layers
    assert k2.model_type == "kimi_k2"


def test_k25_published_spelling_of_the_tower_counts_the_same() -> None:
    published = {
        "patch_size": 4,
        "init_pos_emb_height": 6,
        "init_pos_emb_width": 5,
        "vt_num_attention_heads": 2,
        "vt_num_hidden_layers": 3,
        "vt_hidden_size": 24,
        "vt_intermediate_size": 40,
        "merge_kernel_size": [2, 2],
        "mm_projector_type": "patchmerger",
    }
    assert read_config(K25 | {"vision_config": published}).towers == read_config(K25).towers


def test_k25_without_a_tower_says_so() -> None:
    spec = read_config({name: value for name, value in K25.items() if name != "vision_config"})
    assert not spec.towers
    assert "tower-left-out" in {remark.code for remark in spec.remarks}


def test_k25_names_are_the_published_ones() -> None:
    names = set(our_tensors(read_config(K25)))
    # Tensor names of moonshotai/Kimi-K2.5, as its and its quantisers' configs name modules.
    assert {
        "language_model.model.layers.0.self_attn.q_a_proj.weight",
        "language_model.model.layers.1.mlp.experts.5.gate_proj.weight",
        "language_model.lm_head.weight",
        "vision_tower.encoder.blocks.2.wqkv.weight",
        "vision_tower.patch_embed.pos_emb.weight",
        "mm_projector.proj.0.weight",
    } <= names


@pytest.mark.parametrize(
    "config", [LINEAR, LINEAR | AS_TRANSFORMERS_WRITES, LINEAR | {"q_lora_rank": 14}], ids=range(3)
)
def test_linear_counts(config: dict[str, Any]) -> None:
    stated = {name: value for name, value in config.items() if name == "q_lora_rank" or value is not None}
    assert_counts_agree(stated)


def test_linear_published_counts() -> None:
    spec = assert_counts_agree(LINEAR_PUBLISHED)
    is_delta = [isinstance(layer.mixers[0], KimiDelta) for layer in spec.layers]
    assert [number for number, delta in enumerate(is_delta, start=1) if not delta] == [4, 8, 12, 16, 20, 24, 27]


def test_linear_spellings_mean_the_same_layers() -> None:
    assert read_config(LINEAR | AS_TRANSFORMERS_WRITES).layers == read_config(LINEAR).layers


def test_linear_names_are_the_published_ones() -> None:
    names = set(our_tensors(read_config(LINEAR)))
    # Source names in transformers' table of kimi_linear checkpoint names.
    stem = "model.layers.2."
    assert {
        f"{stem}block_sparse_moe.experts.0.w1.weight",
        f"{stem}block_sparse_moe.shared_experts.gate_proj.weight",
        f"{stem}self_attn.q_conv1d.weight",
        f"{stem}self_attn.f_a_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
    } <= names


def test_linear_without_layer_kinds_is_an_error() -> None:
    with pytest.raises(ConfigError, match="layer_types"):
        read_config(LINEAR | {"linear_attn_config": {"num_heads": 3, "head_dim": 10}})


def test_linear_layers_that_are_named_twice_are_an_error() -> None:
    broken = LINEAR["linear_attn_config"] | {"full_attn_layers": [2, 3]}
    with pytest.raises(ConfigError, match="full_attn_layers"):
        read_config(LINEAR | {"linear_attn_config": broken})


def test_k3_agrees_with_the_tensors_of_its_checkpoint() -> None:
    spec = read_config(K3)
    counts = parameters(spec)
    # 497,220 tensors of 1,503,647,073,024 elements: experts are stored as bytes of two 4-bit values with one scale
    # byte for 32, and `A_log` is padded from 96 heads to 128 in the 69 delta layers.
    experts = counts.by_role["routed_experts"]
    stored = counts.total - experts + experts // 2 + experts // 32 + counts.buffers + 69 * (128 - 96)
    assert stored == 1_503_647_073_024
    names = our_tensors(spec)
    assert len(names) + sum(".experts." in name for name in names) == 497_220
    assert not spec.verified


def test_k3_names_are_the_published_ones() -> None:
    names = set(our_tensors(read_config(K3)))
    stem = "language_model.model.layers.3."
    assert {
        f"{stem}self_attn.g_proj.weight",
        f"{stem}block_sparse_moe.routed_expert_down_proj.weight",
        f"{stem}block_sparse_moe.routed_expert_norm.weight",
        f"{stem}mlp_res_proj.weight",
        "language_model.model.output_attn_res_norm.weight",
        "mm_projector.post_norm.weight",
    } <= names
