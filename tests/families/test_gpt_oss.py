"""gpt-oss beside transformers: counts, tensor names, windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree, grouped

SMALL: dict[str, Any] = {
    "model_type": "gpt_oss",
    "vocab_size": 97,
    "hidden_size": 36,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
    "sliding_window": 7,
    "pad_token_id": 1,
}
# openai/gpt-oss-20b
PUBLISHED: dict[str, Any] = {
    "model_type": "gpt_oss",
    "vocab_size": 201088,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
    "attention_bias": True,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"attention_bias": False},
        {"tie_word_embeddings": True},
        {"layer_types": ["full_attention", "full_attention", "sliding_attention"]},
    ],
    ids=str,
)
def test_counts(change: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | change)


def test_published_counts() -> None:
    assert_counts_agree(PUBLISHED)


def test_checkpoint(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL, tmp_path)


@pytest.mark.parametrize("change", [{}, {"layer_types": ["full_attention", "full_attention", "sliding_attention"]}])
def test_windows_follow_the_layer_types_that_transformers_derives(change: dict[str, Any]) -> None:
    from transformers import AutoConfig

    config = SMALL | change
    theirs = AutoConfig.for_model(**config).layer_types
    ours = [mixer.window_tokens for mixer in grouped(read_config(config))]
    assert ours == [7 if kind == "sliding_attention" else None for kind in theirs]


def test_the_older_spelling_of_experts_per_token_is_read() -> None:
    config = {name: value for name, value in SMALL.items() if name != "num_experts_per_tok"}
    assert read_config(config | {"experts_per_token": 2}).layers == read_config(SMALL).layers


@pytest.mark.parametrize("name", ["head_dim", "num_local_experts", "intermediate_size", "vocab_size"])
def test_a_missing_size_is_an_error_that_names_it(name: str) -> None:
    config = {key: value for key, value in SMALL.items() if key != name}
    with pytest.raises(ConfigError, match=name):
        read_config(config)


def test_an_unknown_layer_type_is_an_error() -> None:
    with pytest.raises(ConfigError, match="chunked_attention"):
        read_config(SMALL | {"layer_types": ["full_attention", "chunked_attention", "full_attention"]})
