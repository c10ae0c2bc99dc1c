"""LFM2 MoE beside transformers: counts, tensor names, older spellings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree
from tests.families.cache_agreement import assert_cache_layers_agree

SMALL: dict[str, Any] = {
    "model_type": "lfm2_moe",
    "vocab_size": 97,
    "hidden_size": 36,
    "intermediate_size": 28,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "num_experts": 5,
    "num_experts_per_tok": 2,
    "num_dense_layers": 1,
    "layer_types": ["conv", "full_attention", "conv", "conv", "full_attention"],
}
# LiquidAI/LFM2-8B-A1B
PUBLISHED: dict[str, Any] = {
    "model_type": "lfm2_moe",
    "vocab_size": 65536,
    "hidden_size": 2048,
    "intermediate_size": 7168,
    "moe_intermediate_size": 1792,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_experts": 32,
    "num_experts_per_tok": 4,
    "num_dense_layers": 2,
    "conv_L_cache": 3,
    "conv_bias": False,
    "use_expert_bias": True,
    "layer_types": ["full_attention" if number in (2, 6, 10, 14, 18, 21) else "conv" for number in range(24)],
    "tie_word_embeddings": True,
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"conv_bias": True},
        {"conv_L_cache": 5},
        {"num_dense_layers": 0},
        {"use_expert_bias": False},
        {"tie_word_embeddings": False},
        {"tie_embedding": False, "tie_word_embeddings": True},
    ],
    ids=str,
)
def test_counts(change: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | change)


def test_published_counts() -> None:
    assert_counts_agree(PUBLISHED)


@pytest.mark.parametrize("use_expert_bias", [True, False])
def test_checkpoint(use_expert_bias: bool, tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL | {"use_expert_bias": use_expert_bias, "conv_bias": True}, tmp_path)


def test_cache_layers() -> None:
    assert_cache_layers_agree(SMALL)


def test_a_list_of_attention_layers_reads_like_layer_types() -> None:
    older = {name: value for name, value in SMALL.items() if name != "layer_types"}
    assert read_config(older | {"full_attn_idxs": [1, 4]}).layers == read_config(SMALL).layers
    with pytest.raises(ConfigError, match="layer_types"):
        read_config(older)
