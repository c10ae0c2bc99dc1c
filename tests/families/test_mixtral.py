"""Mixtral beside transformers: counts, tensor names, window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree
from tests.families.cache_agreement import assert_cache_layers_agree

SMALL: dict[str, Any] = {
    "model_type": "mixtral",
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
    "tie_word_embeddings": False,
}
# mistralai/Mixtral-8x7B-v0.1
PUBLISHED: dict[str, Any] = {
    "model_type": "mixtral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "sliding_window": None,
    "tie_word_embeddings": False,
}
CHANGES: list[dict[str, Any]] = [{}, {"head_dim": 10}, {"tie_word_embeddings": True}, {"num_key_value_heads": 6}]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_counts(change: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | change)


def test_published_counts() -> None:
    assert_counts_agree(PUBLISHED)


def test_tensor_names_and_sizes(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL, tmp_path)


@pytest.mark.parametrize("window", [None, 7])
def test_windows(window: int | None) -> None:
    assert_cache_layers_agree(SMALL | {"sliding_window": window})


@pytest.mark.parametrize(
    "name", ["num_local_experts", "num_experts_per_tok", "intermediate_size", "num_key_value_heads"]
)
def test_a_missing_size_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        read_config({key: value for key, value in SMALL.items() if key != name})
