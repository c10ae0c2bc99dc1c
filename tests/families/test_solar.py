"""Solar Open beside transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

SMALL: dict[str, Any] = {
    "model_type": "solar_open",
    "hidden_size": 48,
    "vocab_size": 90,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "moe_intermediate_size": 14,
    "n_routed_experts": 6,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    "changes",
    [{}, {"attention_bias": True}, {"n_shared_experts": 3}, {"tie_word_embeddings": True}],
    ids=str,
)
def test_small_models_agree(changes: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | changes)


def test_the_published_model_agrees() -> None:
    # upstage/Solar-Open-100B
    sizes = {
        "hidden_size": 4096,
        "vocab_size": 196608,
        "num_hidden_layers": 48,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "moe_intermediate_size": 1280,
        "n_routed_experts": 128,
        "num_experts_per_tok": 8,
    }
    assert_counts_agree(SMALL | sizes)


def test_tensor_names_are_the_published_ones(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL, tmp_path)


@pytest.mark.parametrize("name", ["hidden_size", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"])
def test_a_missing_size_is_named(name: str) -> None:
    broken = {key: value for key, value in SMALL.items() if key != name}
    with pytest.raises(ConfigError, match=f"missing {name}"):
        read_config(broken)
