"""K-EXAONE beside transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import GroupedAttention
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

SMALL: dict[str, Any] = {
    "model_type": "exaone_moe",
    "hidden_size": 48,
    "vocab_size": 190,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "intermediate_size": 50,
    "moe_intermediate_size": 14,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "num_shared_experts": 1,
    "first_k_dense_replace": 1,
    "sliding_window": 16,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_shared_experts": 2, "first_k_dense_replace": 0},
        {"mlp_layer_types": ["dense", "sparse", "dense", "sparse", "sparse"]},
        {"tie_word_embeddings": True},
    ],
    ids=str,
)
def test_small_models_agree(changes: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | changes)


def test_the_published_model_agrees() -> None:
    # LGAI-EXAONE/K-EXAONE-236B-A23B
    sizes = {
        "hidden_size": 6144,
        "vocab_size": 153600,
        "num_hidden_layers": 48,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "sliding_window": 128,
        "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 12,
    }
    assert_counts_agree(SMALL | sizes)


def test_tensor_names_are_the_published_ones(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL, tmp_path)


@pytest.mark.parametrize("pattern", ["LLLG", 4])
def test_letters_and_intervals_say_the_same(pattern: str | int) -> None:
    mixers = [
        mixer for layer in read_config(SMALL | {"sliding_window_pattern": pattern}).layers for mixer in layer.mixers
    ]
    windows = [mixer.window_tokens for mixer in mixers if isinstance(mixer, GroupedAttention)]
    assert windows == [16, 16, 16, None, 16]


def test_unknown_letters_are_an_error() -> None:
    with pytest.raises(ConfigError, match="sliding_window_pattern"):
        read_config(SMALL | {"sliding_window_pattern": "LLX"})


def test_mtp_modules_of_unknown_shape_are_named() -> None:
    spec = read_config(SMALL | {"num_nextn_predict_layers": 1})
    assert spec.mtp is None
    assert "mtp-left-out" in {remark.code for remark in spec.remarks}
