"""Llama 4 beside transformers: counts, tensor names, the tower, chunks, which layers are sparse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import MoeFfn
from moeplan.core.weights import parameters
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree, grouped, our_tensors

SMALL: dict[str, Any] = {
    "model_type": "llama4_text",
    "vocab_size": 97,
    "hidden_size": 36,
    "intermediate_size": 20,
    "intermediate_size_mlp": 28,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "num_local_experts": 5,
    "num_experts_per_tok": 1,
    "attention_chunk_size": 16,
}
TOWER: dict[str, Any] = {
    "model_type": "llama4_vision_model",
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 42,
    "patch_size": 7,
    "num_channels": 3,
    "projector_input_dim": 12,
    "projector_output_dim": 12,
    "vision_output_dim": 12,
    "pixel_shuffle_ratio": 0.5,
}
# meta-llama/Llama-4-Scout-17B-16E-Instruct
SCOUT: dict[str, Any] = {
    "model_type": "llama4",
    "text_config": {
        "model_type": "llama4_text",
        "vocab_size": 202048,
        "hidden_size": 5120,
        "intermediate_size": 8192,
        "intermediate_size_mlp": 16384,
        "num_hidden_layers": 48,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "num_local_experts": 16,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 1,
        "attention_chunk_size": 8192,
        "no_rope_layers": [],
    },
    "vision_config": {
        "model_type": "llama4_vision_model",
        "hidden_size": 1408,
        "intermediate_size": 5632,
        "num_hidden_layers": 34,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
        "num_channels": 3,
        "projector_input_dim": 4096,
        "projector_output_dim": 4096,
        "vision_output_dim": 4096,
    },
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"interleave_moe_layer_step": 2},
        {"moe_layers": [0, 3]},
        {"attention_bias": True},
        {"tie_word_embeddings": True},
    ],
    ids=str,
)
def test_counts(change: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | change)


def test_counts_with_a_tower() -> None:
    config = {"model_type": "llama4", "text_config": SMALL, "vision_config": TOWER}
    spec = assert_counts_agree(config, "AutoModelForImageTextToText")
    assert not [remark for remark in spec.remarks if remark.code == "tower-left-out"]


def test_published_counts() -> None:
    assert_counts_agree(SCOUT, "AutoModelForImageTextToText")


def test_checkpoint_of_the_text_model(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL | {"interleave_moe_layer_step": 2}, tmp_path)


def test_checkpoint_with_a_tower(tmp_path: Path) -> None:
    config = {"model_type": "llama4", "text_config": SMALL, "vision_config": TOWER}
    assert_checkpoint_agrees(config, tmp_path, "AutoModelForImageTextToText")


def test_a_config_without_vision_config_has_no_tower_and_says_so() -> None:
    spec = read_config({name: value for name, value in SCOUT.items() if name != "vision_config"})
    assert not spec.towers
    assert "tower-left-out" in [remark.code for remark in spec.remarks]
    with_tower = parameters(read_config(SCOUT))
    assert parameters(spec).total == with_tower.total - with_tower.by_role["towers"] == with_tower.text_total


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"no_rope_layers": []},
        {"no_rope_layers": [0, 1, 1, 0, 1]},
        {"no_rope_layer_interval": 2},
        {"layer_types": ["chunked_attention", "full_attention", "full_attention", "full_attention", "full_attention"]},
    ],
    ids=str,
)
def test_chunks_follow_the_layer_types_that_transformers_derives(change: dict[str, Any]) -> None:
    from transformers import AutoConfig

    config = SMALL | change
    theirs = AutoConfig.for_model(**config).layer_types
    mixers = grouped(read_config(config))
    assert [mixer.chunked for mixer in mixers] == [kind == "chunked_attention" for kind in theirs]
    assert [mixer.window_tokens for mixer in mixers] == [16 if kind == "chunked_attention" else None for kind in theirs]


@pytest.mark.parametrize("change", [{}, {"interleave_moe_layer_step": 2}, {"moe_layers": []}, {"moe_layers": [1, 4]}])
def test_sparse_layers_are_those_of_transformers(change: dict[str, Any]) -> None:
    from transformers import AutoConfig

    config = SMALL | change
    ours = [number for number, layer in enumerate(read_config(config).layers) if isinstance(layer.ffns[0], MoeFfn)]
    assert ours == AutoConfig.for_model(**config).moe_layers


def test_llm_compressor_stores_experts_one_by_one() -> None:
    # RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic sets the flag
    names = our_tensors(read_config(SMALL | {"for_llm_compressor": True}))
    assert "model.layers.0.feed_forward.experts.4.down_proj.weight" in names
    assert "model.layers.0.feed_forward.experts.down_proj" not in names


def test_no_rope_layers_shorter_than_the_model_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no_rope_layers"):
        read_config(SMALL | {"no_rope_layers": [1, 0]})
