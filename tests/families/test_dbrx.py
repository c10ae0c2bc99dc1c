"""DBRX beside transformers: counts, tensor names, nested fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

SMALL: dict[str, Any] = {
    "model_type": "dbrx",
    "vocab_size": 97,
    "d_model": 36,
    "n_heads": 6,
    "n_layers": 2,
    "max_seq_len": 64,
    "attn_config": {"kv_n_heads": 2, "rope_theta": 500000, "clip_qkv": 8},
    "ffn_config": {"ffn_hidden_size": 20, "moe_num_experts": 5, "moe_top_k": 3},
}
# databricks/dbrx-instruct
PUBLISHED: dict[str, Any] = {
    "model_type": "dbrx",
    "vocab_size": 100352,
    "d_model": 6144,
    "n_heads": 48,
    "n_layers": 40,
    "max_seq_len": 32768,
    "attn_config": {"kv_n_heads": 8, "rope_theta": 500000, "clip_qkv": 8},
    "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4},
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize("config", [SMALL, PUBLISHED], ids=["small", "published"])
def test_counts(config: dict[str, Any]) -> None:
    spec = assert_counts_agree(config)
    assert spec.max_context_tokens == config["max_seq_len"]


def test_checkpoint(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL, tmp_path)


def test_missing_objects_are_errors_that_name_the_fields_inside() -> None:
    config = {name: value for name, value in SMALL.items() if name not in ("attn_config", "ffn_config")}
    with pytest.raises(ConfigError) as caught:
        read_config(config)
    for name in ("attn_config.kv_n_heads", "ffn_config.moe_num_experts", "ffn_config.ffn_hidden_size"):
        assert name in caught.value.message
