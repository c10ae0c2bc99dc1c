"""Granite MoE beside transformers: counts, tensor names, windows, hybrid layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import Mamba2
from moeplan.core.weights import parameters
from moeplan.sources.families import read_config
from tests import oracle
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree, grouped
from tests.families.cache_agreement import assert_cache_layers_agree

SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 36,
    "intermediate_size": 20,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
}
HYBRID: dict[str, Any] = SMALL | {
    "model_type": "granitemoehybrid",
    "shared_intermediate_size": 28,
    "mamba_n_heads": 9,
    "mamba_n_groups": 3,
    "mamba_d_state": 7,
    "mamba_d_conv": 3,
    "layer_types": ["mamba", "attention", "mamba", "mamba", "attention"],
}
# ibm-granite/granite-4.0-h-tiny
H_TINY: dict[str, Any] = {
    "model_type": "granitemoehybrid",
    "vocab_size": 100352,
    "hidden_size": 1536,
    "intermediate_size": 512,
    "shared_intermediate_size": 1024,
    "num_hidden_layers": 40,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "num_local_experts": 64,
    "num_experts_per_tok": 6,
    "mamba_n_heads": 48,
    "mamba_d_head": 64,
    "mamba_n_groups": 1,
    "mamba_d_state": 128,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "layer_types": ["attention" if number % 10 == 5 else "mamba" for number in range(40)],
    "tie_word_embeddings": True,
}


def _in_transformers_words(config: dict[str, Any]) -> dict[str, Any]:
    """The published layer names as the config class of transformers 5 takes them."""
    words = {"mamba": "linear_attention", "attention": "full_attention"}
    return config | {"layer_types": [words[kind] for kind in config["layer_types"]]}


@pytest.mark.parametrize("model_type", ["granitemoe", "granitemoeshared", "granitemoe_swa"])
@pytest.mark.parametrize(
    "change",
    [{}, {"attention_bias": True}, {"shared_intermediate_size": 28}, {"tie_word_embeddings": True}],
    ids=str,
)
def test_counts(model_type: str, change: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | change | {"model_type": model_type})


@pytest.mark.parametrize(
    "change",
    [{}, {"mamba_conv_bias": False}, {"mamba_proj_bias": True}, {"mamba_d_head": 8}, {"attention_bias": True}],
    ids=str,
)
def test_hybrid_counts(change: dict[str, Any]) -> None:
    assert_counts_agree(_in_transformers_words(HYBRID) | change)


def test_published_hybrid_counts() -> None:
    assert_counts_agree(_in_transformers_words(H_TINY))


def test_hybrid_without_experts_counts_its_feed_forward_as_dense() -> None:
    config = _in_transformers_words(HYBRID) | {"num_local_experts": 0}
    ours, built = parameters(read_config(config)), oracle.by_role(oracle.build(config))
    assert ours.total == ours.active == sum(built.values())
    assert ours.by_role["dense_mlp"] == built["shared_experts"]


@pytest.mark.parametrize("model_type", ["granitemoe", "granitemoeshared", "granitemoe_swa"])
def test_checkpoint(model_type: str, tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL | {"model_type": model_type, "shared_intermediate_size": 28}, tmp_path)


def test_hybrid_checkpoint(tmp_path: Path) -> None:
    assert_checkpoint_agrees(_in_transformers_words(HYBRID), tmp_path)


def test_hybrid_cache_layers() -> None:
    assert_cache_layers_agree(_in_transformers_words(HYBRID))


def test_both_spellings_of_the_layer_list_read_alike() -> None:
    older = {name: value for name, value in HYBRID.items() if name != "layer_types"}
    older["layers_block_type"] = HYBRID["layer_types"]
    layers = read_config(HYBRID).layers
    assert read_config(older).layers == read_config(_in_transformers_words(HYBRID)).layers == layers
    assert [isinstance(layer.mixers[0], Mamba2) for layer in layers] == [True, False, True, True, False]


@pytest.mark.parametrize("change", [{}, {"layer_types": ["sliding_attention"] * 4 + ["full_attention"]}])
def test_windows_follow_the_layer_types_that_transformers_derives(change: dict[str, Any]) -> None:
    from transformers import AutoConfig

    config = SMALL | change | {"model_type": "granitemoe_swa", "sliding_window": 7}
    theirs = AutoConfig.for_model(**config).layer_types
    ours = [mixer.window_tokens for mixer in grouped(read_config(config))]
    assert ours == [7 if kind == "sliding_attention" else None for kind in theirs]


def test_mamba_heads_that_do_not_make_up_the_inner_size_are_an_error() -> None:
    with pytest.raises(ConfigError, match="mamba_n_heads"):
        read_config(HYBRID | {"mamba_n_heads": 7})
