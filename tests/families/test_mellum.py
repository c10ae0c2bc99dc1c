"""Mellum beside transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.model import GroupedAttention
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

SMALL: dict[str, Any] = {
    "model_type": "mellum",
    "hidden_size": 48,
    "vocab_size": 90,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "moe_intermediate_size": 14,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "intermediate_size": 50,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    "changes", [{}, {"attention_bias": True}, {"mlp_layer_types": ["sparse", "dense"] * 2}], ids=str
)
def test_small_models_agree(changes: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | changes)


def test_the_sizes_of_the_class_defaults_agree() -> None:
    # transformers 5.23.0 MellumConfig
    sizes = {
        "hidden_size": 2304,
        "vocab_size": 98304,
        "num_hidden_layers": 28,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "moe_intermediate_size": 896,
        "num_experts": 64,
        "num_experts_per_tok": 8,
    }
    assert_counts_agree(SMALL | sizes)


def test_tensor_names_are_the_published_ones(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL, tmp_path)


def test_windows_by_layer() -> None:
    mixers = [
        mixer
        for layer in read_config(
            SMALL | {"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"] * 2}
        ).layers
        for mixer in layer.mixers
    ]
    assert [mixer.window_tokens for mixer in mixers if isinstance(mixer, GroupedAttention)] == [None, 8, None, 8]
