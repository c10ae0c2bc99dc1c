"""dots.llm1 beside transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.model import GroupedAttention
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

SMALL: dict[str, Any] = {
    "model_type": "dots1",
    "hidden_size": 48,
    "vocab_size": 90,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 50,
    "moe_intermediate_size": 14,
    "n_routed_experts": 6,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "tie_word_embeddings": False,
}
# rednote-hilab/dots.llm1.inst
PUBLISHED: dict[str, Any] = {
    "model_type": "dots1",
    "hidden_size": 4096,
    "vocab_size": 152064,
    "num_hidden_layers": 62,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 128,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
    "tie_word_embeddings": False,
}


def _windows(config: dict[str, Any]) -> list[int | None]:
    mixers = [mixer for layer in read_config(config).layers for mixer in layer.mixers]
    return [mixer.window_tokens for mixer in mixers if isinstance(mixer, GroupedAttention)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_bias": True, "tie_word_embeddings": True},
        {"n_shared_experts": 1, "first_k_dense_replace": 0},
        {"head_dim": 20},
    ],
    ids=str,
)
def test_small_models_agree(changes: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | changes)


def test_the_published_model_agrees() -> None:
    assert_counts_agree(PUBLISHED)


def test_tensor_names_are_the_published_ones(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL, tmp_path)


def test_windows_begin_where_max_window_layers_says() -> None:
    windowed = SMALL | {"sliding_window": 16, "max_window_layers": 3}
    assert _windows(windowed) == [None, None, None, 16]
    assert _windows(windowed | {"use_sliding_window": False}) == [None] * 4
    assert _windows(windowed | {"layer_types": ["sliding_attention"] * 4}) == [16] * 4
