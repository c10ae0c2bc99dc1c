"""Phi-3.5-MoE beside transformers: counts, tensor names, the window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree, grouped

SMALL: dict[str, Any] = {
    "model_type": "phimoe",
    "vocab_size": 97,
    "hidden_size": 36,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
}
# microsoft/Phi-3.5-MoE-instruct, with the biases that its checkpoint has
PUBLISHED: dict[str, Any] = {
    "model_type": "phimoe",
    "vocab_size": 32064,
    "hidden_size": 4096,
    "intermediate_size": 6400,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 16,
    "num_experts_per_tok": 2,
    "attention_bias": True,
    "lm_head_bias": True,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    "change",
    [{}, {"attention_bias": True}, {"lm_head_bias": True}, {"tie_word_embeddings": True}],
    ids=str,
)
def test_counts(change: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | change)


def test_published_counts() -> None:
    assert_counts_agree(PUBLISHED)


def test_checkpoint(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL | {"attention_bias": True, "lm_head_bias": True}, tmp_path)


@pytest.mark.parametrize("stated", [None, 9])
def test_the_window_is_the_stated_one(stated: int | None) -> None:
    for mixer in grouped(read_config(SMALL | {"sliding_window": stated})):
        assert mixer.window_tokens == stated
