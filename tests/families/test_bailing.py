"""Ling: the hybrid beside transformers; Ling-lite and Ling 2.0, which it cannot build, beside their cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.model import KimiDelta, LatentAttention
from moeplan.core.weights import inventory, parameters
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

HYBRID: dict[str, Any] = {
    "model_type": "bailing_hybrid",
    "hidden_size": 40,
    "vocab_size": 90,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 12,
    "intermediate_size": 50,
    "moe_intermediate_size": 14,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "num_shared_experts": 1,
    "first_k_dense_replace": 1,
    "layer_group_size": 3,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 6,
    "v_head_dim": 8,
    "short_conv_kernel_size": 4,
    "n_group": 2,
    "topk_group": 1,
    "num_nextn_predict_layers": 0,
    "pad_token_id": None,
    "eos_token_id": None,
    "tie_word_embeddings": False,
}
# inclusionAI/Ling-lite; its card says 16.8B parameters, 2.75B of them active.
LING_LITE: dict[str, Any] = {
    "model_type": "bailing_moe",
    "hidden_size": 2048,
    "vocab_size": 126464,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "intermediate_size": 5632,
    "moe_intermediate_size": 1408,
    "num_experts": 64,
    "num_experts_per_tok": 6,
    "num_shared_experts": 2,
    "first_k_dense_replace": 0,
    "use_bias": False,
    "use_qkv_bias": False,
    "tie_word_embeddings": False,
}
# inclusionAI/Ling-mini-2.0; its card says 16B parameters, 1.4B active.
LING_MINI_2: dict[str, Any] = {
    "model_type": "bailing_moe_v2",
    "hidden_size": 2048,
    "vocab_size": 157184,
    "num_hidden_layers": 20,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 5120,
    "moe_intermediate_size": 512,
    "num_experts": 256,
    "num_experts_per_tok": 8,
    "num_shared_experts": 1,
    "first_k_dense_replace": 1,
    "use_qk_norm": True,
    "moe_router_enable_expert_bias": True,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_bias": True},
        {"num_shared_experts": 2, "first_k_dense_replace": 0},
        {"layer_types": ["full_attention"] + ["linear_attention"] * 4},
    ],
    ids=str,
)
def test_small_hybrids_agree(changes: dict[str, Any]) -> None:
    assert_counts_agree(HYBRID | changes)


def test_hybrid_tensor_names_are_the_published_ones(tmp_path: Path) -> None:
    assert_checkpoint_agrees(HYBRID, tmp_path)


def test_the_hybrid_of_the_class_defaults_agrees() -> None:
    sizes = {
        "hidden_size": 2560,
        "vocab_size": 157184,
        "num_hidden_layers": 42,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 512,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 2,
        "layer_group_size": 6,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_group": 8,
        "topk_group": 4,
    }
    spec = assert_counts_agree(HYBRID | sizes)
    kinds = [type(layer.mixers[0]) for layer in spec.layers]
    assert kinds[:6] == [KimiDelta] * 5 + [LatentAttention]


def test_ling_lite_agrees_with_its_card() -> None:
    spec = read_config(LING_LITE)
    counts = parameters(spec)
    assert round(counts.total / 1e9, 1) == 16.8
    assert round(counts.active / 1e9, 2) == 2.75
    assert not spec.verified
    assert "not-verified" in {remark.code for remark in spec.remarks}
    names = {entry.weight.name for entry in inventory(spec)}
    assert "model.layers.{layer}.attention.query_key_value.weight" in names
    assert "model.word_embeddings.weight" in names


def test_ling_mini_2_agrees_with_its_card() -> None:
    counts = parameters(read_config(LING_MINI_2))
    assert 16e9 < counts.total < 16.5e9
    assert 0.7e9 < counts.active_without_embedding_and_head < 1.0e9  # the card: 789M without embeddings
    assert counts.buffers == 19 * 256


def test_mtp_modules_are_sparse_layers_with_a_projection() -> None:
    plain = parameters(read_config(LING_MINI_2 | {"num_hidden_layers": 2}))
    counts = parameters(read_config(LING_MINI_2 | {"num_hidden_layers": 2, "num_nextn_predict_layers": 1}))
    deeper = parameters(read_config(LING_MINI_2 | {"num_hidden_layers": 3}))
    assert counts.total == plain.total
    assert counts.mtp_unique == deeper.total - plain.total + 2 * 2048 * 2048 + 3 * 2048
