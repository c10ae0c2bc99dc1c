"""Gemma 1 to 4 beside transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import ROLES
from moeplan.core.weights import parameters
from moeplan.sources.families import read_config
from tests import oracle
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree, oracle_tensors, our_tensors
from tests.families.cache_agreement import assert_cache_layers_agree

IMAGES = "AutoModelForImageTextToText"

SHAPE: dict[str, Any] = {
    "vocab_size": 67,
    "hidden_size": 40,
    "intermediate_size": 56,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
}
SIGLIP: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 24,
    "intermediate_size": 30,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "patch_size": 7,
    "image_size": 28,
}
GEMMA4_VISION: dict[str, Any] = {
    "model_type": "gemma4_vision",
    "hidden_size": 24,
    "intermediate_size": 30,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "head_dim": 8,
    "patch_size": 4,
    "position_embedding_size": 50,
}
GEMMA4_AUDIO: dict[str, Any] = {
    "model_type": "gemma4_audio",
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "subsampling_conv_channels": [16, 4],
    "conv_kernel_size": 3,
    "output_proj_dims": 20,
}
GEMMA4 = {
    **SHAPE,
    "model_type": "gemma4_text",
    "global_head_dim": 20,
    "vocab_size_per_layer_input": 59,
    "hidden_size_per_layer_input": 0,
    "sliding_window": 6,
}
MOE: dict[str, Any] = {"enable_moe_block": True, "num_experts": 5, "top_k_experts": 2, "moe_intermediate_size": 18}
SHARED: dict[str, Any] = {"num_hidden_layers": 13, "num_kv_shared_layers": 6, "use_double_wide_mlp": True}
PER_LAYER = {"hidden_size_per_layer_input": 10}

TEXT: dict[str, dict[str, Any]] = {
    "gemma": {"model_type": "gemma", **SHAPE},
    "gemma, biases, untied": {"model_type": "gemma", **SHAPE, "attention_bias": True, "tie_word_embeddings": False},
    "gemma2": {"model_type": "gemma2", **SHAPE, "sliding_window": 5},
    "gemma2, biases": {"model_type": "gemma2", **SHAPE, "attention_bias": True},
    "gemma3_text": {"model_type": "gemma3_text", **SHAPE, "sliding_window": 5},
    "gemma3_text, pattern, biases": {
        "model_type": "gemma3_text",
        **SHAPE,
        "sliding_window_pattern": 3,
        "attention_bias": True,
        "tie_word_embeddings": False,
    },
    "gemma3_text, both directions": {
        "model_type": "gemma3_text",
        **SHAPE,
        "sliding_window": 9,
        "use_bidirectional_attention": True,
    },
    "gemma4_text": GEMMA4,
    "gemma4_text, experts, keys as values": {
        **GEMMA4,
        **MOE,
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
        "attention_bias": True,
    },
    "gemma4_text, own heads without keys as values": {**GEMMA4, "num_global_key_value_heads": 1},
    "gemma4_text, shared caches": {**GEMMA4, **SHARED, "attention_k_eq_v": True, "tie_word_embeddings": False},
    "gemma4_text, last layer forced": {**GEMMA4, "layer_types": ["sliding_attention"] * 7},
}
"""Text models without per-layer inputs."""

WITH_TOWERS: dict[str, dict[str, Any]] = {
    "gemma3": {
        "model_type": "gemma3",
        "text_config": {"model_type": "gemma3_text", **SHAPE},
        "vision_config": {**SIGLIP, "vision_use_head": False},
    },
    "gemma3, pooling head": {
        "model_type": "gemma3",
        "text_config": {"model_type": "gemma3_text", **SHAPE},
        "vision_config": SIGLIP,
        "tie_word_embeddings": False,
    },
    "gemma4": {
        "model_type": "gemma4",
        "text_config": {**GEMMA4, **MOE},
        "vision_config": GEMMA4_VISION,
        "audio_config": None,
    },
    "gemma4, audio, clipping": {
        "model_type": "gemma4",
        "text_config": {**GEMMA4, **SHARED},
        "vision_config": {**GEMMA4_VISION, "use_clipped_linears": True, "standardize": True},
        "audio_config": GEMMA4_AUDIO,
    },
}

GEMMA_4_26B_A4B: dict[str, Any] = {
    # google/gemma-4-26B-A4B
    "model_type": "gemma4",
    "audio_config": None,
    "dtype": "bfloat16",
    "text_config": {
        "model_type": "gemma4_text",
        "attention_k_eq_v": True,
        "enable_moe_block": True,
        "global_head_dim": 512,
        "head_dim": 256,
        "hidden_size": 2816,
        "hidden_size_per_layer_input": 0,
        "intermediate_size": 2112,
        "max_position_embeddings": 262144,
        "moe_intermediate_size": 704,
        "num_attention_heads": 16,
        "num_experts": 128,
        "num_global_key_value_heads": 2,
        "num_hidden_layers": 30,
        "num_key_value_heads": 8,
        "num_kv_shared_layers": 0,
        "sliding_window": 1024,
        "top_k_experts": 8,
        "use_bidirectional_attention": "vision",
        "vocab_size": 262144,
    },
    "vision_config": {
        "model_type": "gemma4_vision",
        "head_dim": 72,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "num_key_value_heads": 16,
        "standardize": True,
    },
}


@pytest.mark.parametrize("name", TEXT)
def test_counts_are_those_of_transformers(name: str) -> None:
    assert_counts_agree(TEXT[name])


@pytest.mark.parametrize("name", WITH_TOWERS)
def test_counts_with_towers_are_those_of_transformers(name: str) -> None:
    assert_counts_agree(WITH_TOWERS[name], IMAGES)


@pytest.mark.parametrize("name", [*TEXT, *WITH_TOWERS])
def test_cache_layers_are_those_of_transformers(name: str) -> None:
    assert_cache_layers_agree({**TEXT, **WITH_TOWERS}[name])


@pytest.mark.parametrize("name", ["gemma", "gemma2", "gemma3_text", "gemma4_text, shared caches"])
def test_tensors_are_those_of_the_checkpoint(name: str, tmp_path: Path) -> None:
    assert_checkpoint_agrees(TEXT[name], tmp_path)


@pytest.mark.parametrize("name", ["gemma4", "gemma4, audio, clipping"])
def test_tensors_with_towers_are_those_of_the_checkpoint(name: str, tmp_path: Path) -> None:
    assert_checkpoint_agrees(WITH_TOWERS[name], tmp_path, IMAGES)


@pytest.mark.parametrize("name", ["gemma3", "gemma3, pooling head"])
def test_tensors_of_gemma_3_are_those_of_the_checkpoint(name: str, tmp_path: Path) -> None:
    """The published checkpoints keep a level `vision_model` that transformers 5 no longer writes."""
    ours = our_tensors(read_config(WITH_TOWERS[name]))
    assert any(tensor.startswith("vision_tower.vision_model.") for tensor in ours)
    today = {tensor.replace(".vision_model.", "."): elements for tensor, elements in ours.items()}
    assert today == oracle_tensors(WITH_TOWERS[name], tmp_path, IMAGES)


def test_per_layer_inputs_are_a_second_embedding(tmp_path: Path) -> None:
    """The oracle sorts by name and knows no second table; by what it is, it is an embedding."""
    config = {**GEMMA4, **SHARED, **PER_LAYER}
    model = oracle.build(config)
    expected = dict.fromkeys(ROLES, 0) | oracle.by_role(model)
    table = model.model.embed_tokens_per_layer.weight.numel()
    expected["embedding"] += table
    expected["other"] -= table
    assert parameters(read_config(config)).by_role == expected
    assert_checkpoint_agrees(config, tmp_path)


def test_layers_as_transformers_5_writes_them_give_the_same_model() -> None:
    import transformers

    config = {**GEMMA4, **MOE, "attention_k_eq_v": True, "num_global_key_value_heads": 1}
    values = {name: value for name, value in config.items() if name != "model_type"}
    written = transformers.AutoConfig.for_model("gemma4_text", **values).to_dict()
    assert "global_head_dim" not in written
    assert read_config(written).layers == read_config(config).layers


def test_gemma_4_26b_a4b_is_counted_to_the_last_parameter() -> None:
    spec = assert_counts_agree(GEMMA_4_26B_A4B, IMAGES)
    assert spec.max_context_tokens == 262144
    # The model card says 25.2B in all and 3.8B active, both of the text model.
    counts = parameters(spec)
    assert round(counts.text_total / 1e9, 1) == 25.2
    assert round(counts.active / 1e9, 1) == 3.8


def test_effective_parameters_leave_out_the_per_layer_table_alone() -> None:
    """google/gemma-4-E2B: the card says 2.3B effective; the table itself is 262144 x (35 x 256)."""
    config = {
        "model_type": "gemma4_text",
        "global_head_dim": 512,
        "head_dim": 256,
        "hidden_size": 1536,
        "hidden_size_per_layer_input": 256,
        "intermediate_size": 6144,
        "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 7,
        "num_attention_heads": 8,
        "num_hidden_layers": 35,
        "num_key_value_heads": 1,
        "num_kv_shared_layers": 20,
        "use_double_wide_mlp": True,
        "vocab_size": 262144,
        "vocab_size_per_layer_input": 262144,
    }
    spec = read_config(config)
    counts = parameters(spec)
    assert spec.card_convention == "active_without_embedding"
    assert counts.active - counts.active_without_embedding == 262144 * 35 * 256
    assert round(counts.active_without_embedding / 1e9, 1) == 2.3


def test_a_tower_that_the_config_does_not_describe_is_left_out_aloud() -> None:
    config = {name: value for name, value in WITH_TOWERS["gemma3"].items() if name != "vision_config"}
    spec = read_config(config)
    assert not spec.towers
    assert "tower-left-out" in {remark.code for remark in spec.remarks}


def test_a_tower_that_the_config_denies_is_no_matter_for_a_remark() -> None:
    spec = read_config({**WITH_TOWERS["gemma4"], "vision_config": None})
    assert not spec.towers
    assert "tower-left-out" not in {remark.code for remark in spec.remarks}


def test_shared_caches_need_a_layer_to_share() -> None:
    with pytest.raises(ConfigError, match="num_kv_shared_layers"):
        read_config({**GEMMA4, "num_kv_shared_layers": 6})


def test_missing_expert_fields_are_listed_together() -> None:
    config = {name: value for name, value in {**GEMMA4, **MOE}.items() if name not in ("num_experts", "top_k_experts")}
    with pytest.raises(ConfigError, match=r"num_experts.*top_k_experts"):
        read_config(config)
