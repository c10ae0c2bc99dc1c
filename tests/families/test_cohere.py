"""Cohere2 MoE beside transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.model import GroupedAttention
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

SMALL: dict[str, Any] = {
    "model_type": "cohere2_moe",
    "hidden_size": 48,
    "vocab_size": 90,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "intermediate_size": 50,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "sliding_window": 16,
    "bos_token_id": None,
    "eos_token_id": None,
    "tie_word_embeddings": True,
}


def _windows(config: dict[str, Any]) -> list[int | None]:
    mixers = [mixer for layer in read_config(config).layers for mixer in layer.mixers]
    return [mixer.window_tokens for mixer in mixers if isinstance(mixer, GroupedAttention)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_bias": True, "num_shared_experts": 2},
        {"first_k_dense_replace": 2, "prefix_dense_intermediate_size": 70},
        {"mlp_layer_types": ["sparse"] * 5 + ["dense"], "prefix_dense_intermediate_size": 70},
        {"rms_norm_eps": 1e-5},
        {"tie_word_embeddings": False},
    ],
    ids=str,
)
def test_small_models_agree(changes: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | changes)


def test_the_sizes_of_the_class_defaults_agree() -> None:
    sizes = {
        "hidden_size": 8192,
        "vocab_size": 256000,
        "num_hidden_layers": 40,
        "num_attention_heads": 64,
        "num_key_value_heads": 64,
        "head_dim": 128,
        "intermediate_size": 22528,
        "num_experts": 8,
    }
    assert_counts_agree(SMALL | sizes)


def test_tensor_names_are_the_published_ones(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL, tmp_path)


def test_dense_first_layers_count_their_windows_apart() -> None:
    assert _windows(SMALL) == [16, 16, 16, None, 16, 16]
    dense = {"first_k_dense_replace": 1, "prefix_dense_intermediate_size": 70}
    assert _windows(SMALL | dense) == [None, 16, 16, 16, None, 16]
