"""Arcee Trinity beside transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.model import GroupedAttention
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

SMALL: dict[str, Any] = {
    "model_type": "afmoe",
    "hidden_size": 48,
    "vocab_size": 90,
    "num_hidden_layers": 5,
    "num_dense_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "intermediate_size": 50,
    "moe_intermediate_size": 14,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "num_shared_experts": 1,
    "sliding_window": 16,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_bias": True},
        {"num_dense_layers": 0, "num_shared_experts": 2},
        {"tie_word_embeddings": True},
    ],
    ids=str,
)
def test_small_models_agree(changes: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | changes)


def test_the_published_model_agrees() -> None:
    # arcee-ai/Trinity-Mini
    sizes = {
        "hidden_size": 2048,
        "vocab_size": 200192,
        "num_hidden_layers": 32,
        "num_dense_layers": 2,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "intermediate_size": 6144,
        "moe_intermediate_size": 1024,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "sliding_window": 2048,
        "global_attn_every_n_layers": 4,
    }
    assert_counts_agree(SMALL | sizes)


def test_tensor_names_are_the_published_ones(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL, tmp_path)


def test_every_fourth_layer_sees_everything() -> None:
    mixers = [mixer for layer in read_config(SMALL).layers for mixer in layer.mixers]
    windows = [mixer.window_tokens for mixer in mixers if isinstance(mixer, GroupedAttention)]
    assert windows == [16, 16, 16, None, 16]
