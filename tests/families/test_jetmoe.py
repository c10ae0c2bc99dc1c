"""JetMoE beside transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.weights import parameters
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

SMALL: dict[str, Any] = {
    "model_type": "jetmoe",
    "hidden_size": 40,
    "vocab_size": 90,
    "num_hidden_layers": 3,
    "num_key_value_heads": 3,
    "kv_channels": 10,
    "intermediate_size": 50,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
    "tie_word_embeddings": True,
}


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}, {"num_experts_per_tok": 1}], ids=str)
def test_small_models_agree(changes: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | changes)


def test_the_published_model_agrees_and_so_do_its_active_parameters() -> None:
    # jetmoe/jetmoe-8b; its card says 8B parameters and 2.2B active.
    sizes = {
        "hidden_size": 2048,
        "vocab_size": 32000,
        "num_hidden_layers": 24,
        "num_key_value_heads": 16,
        "kv_channels": 128,
        "intermediate_size": 5632,
        "num_local_experts": 8,
    }
    counts = parameters(assert_counts_agree(SMALL | sizes))
    assert round(counts.total / 1e9, 1) == 8.5
    assert 2.2e9 < counts.active_without_embedding_and_head < 2.3e9


def test_tensor_names_are_the_published_ones(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL, tmp_path)


def test_experts_of_attention_and_feed_forward_are_both_visited_in_part() -> None:
    counts = parameters(read_config(SMALL))
    assert 5 * (counts.total - counts.active) == 3 * counts.by_role["routed_experts"]
