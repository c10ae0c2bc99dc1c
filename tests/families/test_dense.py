"""Llama, Mistral, Ministral, Phi-3 and OLMo beside transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import GroupedAttention
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree
from tests.families.cache_agreement import assert_cache_layers_agree

SHAPE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 70,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
KINDS = ["sliding_attention", "full_attention", "full_attention", "sliding_attention", "full_attention"]

SMALL: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **SHAPE},
    "llama, biases, tied": {
        "model_type": "llama",
        **SHAPE,
        "head_dim": 10,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
    },
    "llama, null heads": {"model_type": "llama", **SHAPE, "num_key_value_heads": None},
    "mistral, window": {"model_type": "mistral", **SHAPE, "head_dim": 12, "sliding_window": 7},
    "mistral, null window": {"model_type": "mistral", **SHAPE, "sliding_window": None, "tie_word_embeddings": True},
    "mistral, window left open": {"model_type": "mistral", **SHAPE},
    "ministral": {"model_type": "ministral", **SHAPE, "head_dim": 12, "sliding_window": 9, "layer_types": KINDS},
    "ministral, kinds left open": {"model_type": "ministral", **SHAPE, "head_dim": 12, "sliding_window": 9},
    "ministral, null window": {"model_type": "ministral", **SHAPE, "head_dim": 12, "sliding_window": None},
    "ministral3": {"model_type": "ministral3", **SHAPE},
    "ministral3, window": {"model_type": "ministral3", **SHAPE, "head_dim": 6, "sliding_window": 5},
    "phi3": {"model_type": "phi3", **SHAPE, "sliding_window": 11},
    "phi3, every head its own": {"model_type": "phi3", **SHAPE, "num_key_value_heads": None},
    "olmo2": {"model_type": "olmo2", **SHAPE, "attention_bias": True},
    "olmo3": {"model_type": "olmo3", **SHAPE, "sliding_window": 8},
    "olmo3, kinds stated": {"model_type": "olmo3", **SHAPE, "layer_types": KINDS, "tie_word_embeddings": True},
}

LLAMA_3_1_8B: dict[str, Any] = {
    # meta-llama/Meta-Llama-3.1-8B
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "attention_bias": False,
    "mlp_bias": False,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


@pytest.mark.parametrize("name", SMALL)
def test_counts_are_those_of_transformers(name: str) -> None:
    assert_counts_agree(SMALL[name])


@pytest.mark.parametrize("name", SMALL)
def test_cache_layers_are_those_of_transformers(name: str) -> None:
    assert_cache_layers_agree(SMALL[name])


@pytest.mark.parametrize("name", ["llama, biases, tied", "ministral", "phi3", "olmo2"])
def test_tensors_are_those_of_the_checkpoint(name: str, tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL[name], tmp_path)


def test_llama_3_1_8b_is_counted_to_the_last_parameter() -> None:
    spec = assert_counts_agree(LLAMA_3_1_8B)
    assert spec.dtype_stated
    assert spec.max_context_tokens == 131072


def test_a_class_default_is_noted() -> None:
    spec = read_config(SMALL["mistral, window left open"])
    (note,) = (remark for remark in spec.remarks if remark.code == "family-default")
    assert "sliding_window=4096" in note.message
    assert "MistralConfig" in note.message


def test_a_stated_null_window_is_no_default() -> None:
    spec = read_config(SMALL["mistral, null window"])
    assert all(
        isinstance(mixer, GroupedAttention) and mixer.window_tokens is None
        for layer in spec.layers
        for mixer in layer.mixers
    )
    assert not any("sliding_window" in remark.message for remark in spec.remarks)


@pytest.mark.parametrize("field", sorted(set(SHAPE) - {"pad_token_id"}))
def test_a_size_that_is_missing_is_an_error_that_names_it(field: str) -> None:
    config = {name: value for name, value in SMALL["mistral, window"].items() if name != field}
    with pytest.raises(ConfigError, match=field):
        read_config(config)


def test_an_unknown_kind_of_layer_is_an_error() -> None:
    config = {**SMALL["ministral"], "layer_types": ["full_attention"] * 4 + ["retention"]}
    with pytest.raises(ConfigError, match="retention"):
        read_config(config)
