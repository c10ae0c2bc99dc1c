"""Qwen2, Qwen3, Qwen3-Next, Qwen3.5, Qwen3-VL and Qwen3-Omni beside transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import GatedDelta
from moeplan.core.weights import inventory, parameters
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree, oracle_tensors, our_tensors
from tests.families.cache_agreement import assert_cache_layers_agree

IMAGES = "AutoModelForImageTextToText"
SPEECH = "AutoModelForTextToWaveform"

SHAPE: dict[str, Any] = {
    "vocab_size": 71,
    "hidden_size": 48,
    "intermediate_size": 52,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}
EXPERTS: dict[str, Any] = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 14}
SHARED: dict[str, Any] = {**EXPERTS, "shared_expert_intermediate_size": 22}
DELTA: dict[str, Any] = {
    "head_dim": 12,
    "linear_conv_kernel_dim": 3,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 10,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
WINDOW: dict[str, Any] = {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 4}
UNUSED_WINDOW: dict[str, Any] = {**WINDOW, "use_sliding_window": False}
VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 24,
    "intermediate_size": 34,
    "num_heads": 3,
    "out_hidden_size": 48,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "num_position_embeddings": 25,
}
AUDIO: dict[str, Any] = {
    "d_model": 24,
    "encoder_layers": 2,
    "encoder_attention_heads": 3,
    "encoder_ffn_dim": 30,
    "downsample_hidden_size": 10,
    "num_mel_bins": 37,
    "output_dim": 48,
}
NESTED = {name: value for name, value in SHAPE.items() if name != "tie_word_embeddings"}

TEXT: dict[str, dict[str, Any]] = {
    "qwen2": {"model_type": "qwen2", **SHAPE, **UNUSED_WINDOW},
    "qwen2, window, tied": {"model_type": "qwen2", **SHAPE, **WINDOW, "tie_word_embeddings": True},
    "qwen2, window of the class": {"model_type": "qwen2", **SHAPE, "use_sliding_window": True, "max_window_layers": 2},
    "qwen3": {"model_type": "qwen3", **SHAPE, **UNUSED_WINDOW},
    "qwen3, biases, window": {"model_type": "qwen3", **SHAPE, **WINDOW, "head_dim": 10, "attention_bias": True},
    "qwen3, kinds stated": {
        "model_type": "qwen3",
        **SHAPE,
        **WINDOW,
        "layer_types": ["full_attention", "sliding_attention"] * 3,
    },
    "qwen2_moe": {"model_type": "qwen2_moe", **SHAPE, **SHARED, **UNUSED_WINDOW},
    "qwen2_moe, window, dense layers, no bias": {
        "model_type": "qwen2_moe",
        **SHAPE,
        **SHARED,
        **WINDOW,
        "mlp_only_layers": [0, 3],
        "qkv_bias": False,
        "tie_word_embeddings": True,
    },
    "qwen3_moe": {"model_type": "qwen3_moe", **SHAPE, **EXPERTS, "head_dim": 10, **UNUSED_WINDOW},
    "qwen3_moe, window, step, biases": {
        "model_type": "qwen3_moe",
        **SHAPE,
        **EXPERTS,
        **WINDOW,
        "decoder_sparse_step": 2,
        "mlp_only_layers": [1],
        "attention_bias": True,
        "tie_word_embeddings": True,
    },
    "qwen3_next": {"model_type": "qwen3_next", **SHAPE, **SHARED, **DELTA},
    "qwen3_next, interval, biases, dense layers": {
        "model_type": "qwen3_next",
        **SHAPE,
        **SHARED,
        **DELTA,
        "full_attention_interval": 2,
        "attention_bias": True,
        "mlp_only_layers": [2],
        "tie_word_embeddings": True,
    },
    "qwen3_5_text": {"model_type": "qwen3_5_text", **SHAPE, **DELTA, "tie_word_embeddings": True},
    "qwen3_5_moe_text": {"model_type": "qwen3_5_moe_text", **SHAPE, **SHARED, **DELTA, "attention_bias": True},
    "qwen3_5_moe_text, kinds stated": {
        "model_type": "qwen3_5_moe_text",
        **SHAPE,
        **SHARED,
        **DELTA,
        "layer_types": ["full_attention", "linear_attention"] * 3,
        "mtp_num_hidden_layers": 1,
    },
}

WITH_TOWERS: dict[str, dict[str, Any]] = {
    "qwen3_5": {"model_type": "qwen3_5", "text_config": {**NESTED, **DELTA}, "vision_config": VISION},
    "qwen3_5, tied by the wrapper": {
        "model_type": "qwen3_5",
        "text_config": {**NESTED, **DELTA, "tie_word_embeddings": False},
        "vision_config": VISION,
        "tie_word_embeddings": True,
    },
    "qwen3_5_moe": {
        "model_type": "qwen3_5_moe",
        "text_config": {**NESTED, **SHARED, **DELTA},
        "vision_config": {**VISION, "deepstack_visual_indexes": []},
        "tie_word_embeddings": False,
    },
    "qwen3_vl": {
        "model_type": "qwen3_vl",
        "text_config": NESTED,
        "vision_config": {**VISION, "deepstack_visual_indexes": [0]},
        "tie_word_embeddings": True,
    },
    "qwen3_vl_moe": {
        "model_type": "qwen3_vl_moe",
        "text_config": {**NESTED, **EXPERTS, "mlp_only_layers": [1], "attention_bias": True},
        "vision_config": {**VISION, "deepstack_visual_indexes": [0, 1]},
    },
    "qwen3_vl_moe, layers fed by the class": {
        "model_type": "qwen3_vl_moe",
        "text_config": {**NESTED, **EXPERTS, "head_dim": 10},
        "vision_config": VISION,
        "tie_word_embeddings": False,
    },
}

OMNI: dict[str, Any] = {
    "model_type": "qwen3_omni_moe",
    "enable_audio_output": True,
    "thinker_config": {
        "text_config": {**NESTED, **EXPERTS, "head_dim": 10},
        "vision_config": {**VISION, "deepstack_visual_indexes": [0, 1]},
        "audio_config": AUDIO,
    },
    "talker_config": {
        "text_config": {**NESTED, **SHARED, "hidden_size": 30, "head_dim": 8, "attention_bias": True},
        "code_predictor_config": {**NESTED, "hidden_size": 30, "num_code_groups": 4, "head_dim": 6},
        "thinker_hidden_size": 48,
        "spatial_merge_size": 2,
    },
    "code2wav_config": {
        "codebook_size": 9,
        "hidden_size": 24,
        "intermediate_size": 28,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_quantizers": 3,
        "decoder_dim": 32,
        "upsample_rates": [4, 3],
        "upsampling_ratios": [2, 2],
    },
}

QWEN3_30B_A3B: dict[str, Any] = {
    # Qwen/Qwen3-30B-A3B
    "model_type": "qwen3_moe",
    "decoder_sparse_step": 1,
    "head_dim": 128,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "max_window_layers": 48,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3_5_35B_A3B: dict[str, Any] = {
    # Qwen/Qwen3.5-35B-A3B
    "model_type": "qwen3_5_moe",
    "text_config": {
        "model_type": "qwen3_5_moe_text",
        "dtype": "bfloat16",
        "full_attention_interval": 4,
        "head_dim": 256,
        "hidden_size": 2048,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_value_head_dim": 128,
        "mamba_ssm_dtype": "float32",
        "moe_intermediate_size": 512,
        "mtp_num_hidden_layers": 1,
        "mtp_use_dedicated_embeddings": False,
        "num_attention_heads": 16,
        "num_experts": 256,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 40,
        "num_key_value_heads": 2,
        "shared_expert_intermediate_size": 512,
        "vocab_size": 248320,
    },
    "tie_word_embeddings": False,
    "vision_config": {
        "deepstack_visual_indexes": [],
        "depth": 27,
        "hidden_size": 1152,
        "in_channels": 3,
        "intermediate_size": 4304,
        "num_heads": 16,
        "num_position_embeddings": 2304,
        "out_hidden_size": 2048,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    },
}


def without(config: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in names}


# Counts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXT)
def test_counts_are_those_of_transformers(name: str) -> None:
    assert_counts_agree(TEXT[name])


@pytest.mark.parametrize("name", WITH_TOWERS)
def test_counts_with_towers_are_those_of_transformers(name: str) -> None:
    assert_counts_agree(WITH_TOWERS[name], IMAGES)


def test_counts_of_omni_are_those_of_transformers() -> None:
    spec = assert_counts_agree(OMNI, SPEECH)
    assert {tower.name for tower in spec.towers} == {"audio", "vision", "talker", "code2wav"}
    assert "talker-is-tower" in {remark.code for remark in spec.remarks}


def test_omni_without_speech_has_no_talker() -> None:
    spec = assert_counts_agree({**OMNI, "enable_audio_output": False}, SPEECH)
    assert {tower.name for tower in spec.towers} == {"audio", "vision"}


def test_the_thinker_alone_is_that_of_transformers() -> None:
    assert_counts_agree({"model_type": "qwen3_omni_moe_thinker", **OMNI["thinker_config"]}, IMAGES)


@pytest.mark.parametrize("config", [QWEN3_30B_A3B, QWEN3_5_35B_A3B], ids=["Qwen3-30B-A3B", "Qwen3.5-35B-A3B"])
def test_published_models_are_counted_to_the_last_parameter(config: dict[str, Any]) -> None:
    assert_counts_agree(config, IMAGES if "text_config" in config else "AutoModelForCausalLM")


def test_experts_may_carry_the_name_of_transformers_5() -> None:
    config = TEXT["qwen3_moe"]
    renamed = {**without(config, "num_experts"), "num_local_experts": config["num_experts"]}
    assert read_config(renamed).layers == read_config(config).layers


# Layers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TEXT, *WITH_TOWERS])
def test_cache_layers_are_those_of_transformers(name: str) -> None:
    assert_cache_layers_agree({**TEXT, **WITH_TOWERS}[name])


def test_the_state_has_the_dtype_that_the_config_asks_for() -> None:
    states = {
        mixer.state_dtype
        for layer in read_config(QWEN3_5_35B_A3B).layers
        for mixer in layer.mixers
        if isinstance(mixer, GatedDelta)
    }
    assert states == {"float32"}


# Names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "qwen2_moe", "qwen3_moe, window, step, biases", "qwen3_next"])
def test_tensors_are_those_of_the_checkpoint(name: str, tmp_path: Path) -> None:
    assert_checkpoint_agrees(TEXT[name], tmp_path)


@pytest.mark.parametrize("name", [name for name in WITH_TOWERS if name != "qwen3_5_moe"])
def test_tensors_with_towers_are_those_of_the_checkpoint(name: str, tmp_path: Path) -> None:
    assert_checkpoint_agrees(WITH_TOWERS[name], tmp_path, IMAGES)


def test_quantised_qwen3_5_stores_each_expert_by_itself(tmp_path: Path) -> None:
    """Transformers writes Qwen3.5 that way too; the published checkpoint stacks the experts of a layer."""
    config = WITH_TOWERS["qwen3_5_moe"]
    apart = our_tensors(read_config({**config, "quantization_config": {"quant_method": "fp8"}}))
    assert apart == oracle_tensors(config, tmp_path, IMAGES)
    stacked = our_tensors(read_config(config))
    stem = "model.language_model.layers.3.mlp.experts."
    assert {name for name in stacked if name.startswith(stem)} == {f"{stem}gate_up_proj", f"{stem}down_proj"}
    assert sum(stacked.values()) == sum(apart.values())


# Multi-token prediction --------------------------------------------------------------------------------------


def mtp_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {
        entry.weight.name: entry.weight.shape
        for entry in inventory(read_config(config))
        if entry.part.startswith("mtp")
    }


def test_an_mtp_layer_is_a_full_attention_layer_of_the_model() -> None:
    """As in vLLM, a draft layer is built by the decoder layer class with full attention; transformers has that layer."""
    from tests import oracle

    config = {**TEXT["qwen3_next"], "mtp_num_hidden_layers": 1}
    built = oracle.parameters_by_name(oracle.build(config))
    layer = sum(
        size[0] * (size[1] if len(size) > 1 else 1) * (size[2] if len(size) > 2 else 1)
        for name, size in built.items()
        if name.startswith("model.layers.3.")
    )
    hidden = config["hidden_size"]
    assert parameters(read_config(config)).mtp_unique == layer + 2 * hidden * hidden + 3 * hidden


def test_mtp_names_are_the_published_ones() -> None:
    shapes = mtp_shapes({**TEXT["qwen3_next"], "mtp_num_hidden_layers": 1})
    assert shapes["mtp.fc.weight"] == (48, 96)
    assert shapes["mtp.pre_fc_norm_embedding.weight"] == shapes["mtp.pre_fc_norm_hidden.weight"] == (48,)
    assert "mtp.norm.weight" in shapes
    assert "mtp.layers.{layer}.self_attn.q_proj.weight" in shapes
    assert "mtp.layers.{layer}.mlp.shared_expert_gate.weight" in shapes


def test_qwen3_next_has_one_mtp_layer_that_its_config_does_not_state() -> None:
    spec = read_config(TEXT["qwen3_next"])
    assert spec.mtp is not None
    assert len(spec.mtp.layers) == 1
    assert any(remark.code == "mtp-not-verified" and "not in the config" in remark.message for remark in spec.remarks)
    assert read_config({**TEXT["qwen3_next"], "mtp_num_hidden_layers": 0}).mtp is None


def test_qwen3_5_has_the_mtp_layers_that_its_config_states() -> None:
    text = TEXT["qwen3_5_moe_text, kinds stated"]
    assert read_config(without(text, "mtp_num_hidden_layers")).mtp is None
    counts = parameters(read_config({**text, "mtp_use_dedicated_embeddings": True}))
    assert counts.mtp_unique == parameters(read_config(text)).mtp_unique > 0
    assert counts.mtp_duplicate == text["vocab_size"] * text["hidden_size"]
    assert counts.total == parameters(read_config(without(text, "mtp_num_hidden_layers"))).total


# What is missing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    ["num_experts", "num_experts_per_tok", "moe_intermediate_size", "num_key_value_heads", "linear_num_value_heads"],
)
def test_a_size_that_is_missing_is_an_error_that_names_it(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        read_config(without(TEXT["qwen3_next"], field))


def test_a_wrapper_without_text_config_is_an_error() -> None:
    with pytest.raises(ConfigError, match="text_config"):
        read_config(without(WITH_TOWERS["qwen3_5_moe"], "text_config"))


def test_a_tower_that_the_config_does_not_describe_is_left_out_aloud() -> None:
    spec = read_config(without(WITH_TOWERS["qwen3_5_moe"], "vision_config"))
    assert not spec.towers
    assert "tower-left-out" in {remark.code for remark in spec.remarks}
