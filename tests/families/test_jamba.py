"""Jamba beside transformers: counts, tensor names, which layers attend and which are sparse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import Mamba1, MoeFfn
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

SMALL: dict[str, Any] = {
    "model_type": "jamba",
    "vocab_size": 97,
    "hidden_size": 36,
    "intermediate_size": 20,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "num_experts": 5,
    "num_experts_per_tok": 2,
    "attn_layer_period": 3,
    "attn_layer_offset": 1,
    "expert_layer_period": 2,
    "expert_layer_offset": 0,
    "mamba_d_state": 5,
    "mamba_d_conv": 3,
    "mamba_expand": 3,
}
# ai21labs/Jamba-v0.1
PUBLISHED: dict[str, Any] = {
    "model_type": "jamba",
    "vocab_size": 65536,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_experts": 16,
    "num_experts_per_tok": 2,
    "attn_layer_period": 8,
    "attn_layer_offset": 4,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_dt_rank": 256,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"mamba_dt_rank": 7},
        {"mamba_dt_rank": "auto"},
        {"mamba_conv_bias": False},
        {"mamba_proj_bias": True},
        {"num_experts": 1},
        {"tie_word_embeddings": True},
    ],
    ids=str,
)
def test_counts(change: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | change)


def test_published_counts() -> None:
    assert_counts_agree(PUBLISHED)


def test_checkpoint(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL | {"mamba_proj_bias": True}, tmp_path)


@pytest.mark.parametrize("config", [SMALL, PUBLISHED], ids=["small", "published"])
def test_layers_are_of_the_kinds_that_transformers_derives(config: dict[str, Any]) -> None:
    from transformers import AutoConfig

    theirs = AutoConfig.for_model(**config)
    layers = read_config(config).layers
    assert [isinstance(layer.mixers[0], Mamba1) for layer in layers] == [
        kind == "mamba" for kind in theirs.layers_block_type
    ]
    assert [isinstance(layer.ffns[0], MoeFfn) for layer in layers] == [
        number > 1 for number in theirs.layers_num_experts
    ]


def test_an_offset_beyond_its_period_is_an_error() -> None:
    with pytest.raises(ConfigError, match="attn_layer_offset"):
        read_config(SMALL | {"attn_layer_offset": 3})
