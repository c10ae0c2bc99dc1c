"""ERNIE 4.5 MoE beside transformers: counts, tensor names, which layers are sparse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.weights import parameters
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

SMALL: dict[str, Any] = {
    "model_type": "ernie4_5_moe",
    "vocab_size": 97,
    "hidden_size": 36,
    "intermediate_size": 28,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "moe_intermediate_size": 20,
    "moe_num_experts": 5,
    "moe_k": 2,
}
# baidu/ERNIE-4.5-21B-A3B-PT
PUBLISHED: dict[str, Any] = {
    "model_type": "ernie4_5_moe",
    "vocab_size": 103424,
    "hidden_size": 2560,
    "intermediate_size": 12288,
    "num_hidden_layers": 28,
    "num_attention_heads": 20,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 1536,
    "moe_num_experts": 64,
    "moe_num_shared_experts": 2,
    "moe_k": 6,
    "moe_layer_start_index": 1,
    "moe_layer_end_index": 27,
    "moe_layer_interval": 1,
    "tie_word_embeddings": True,
    "use_bias": False,
}
# baidu/ERNIE-4.5-VL-28B-A3B-PT
VL_PUBLISHED: dict[str, Any] = {
    "model_type": "ernie4_5_vl_moe",
    "text_config": {
        "model_type": "ernie4_5_vl_moe_text",
        "vocab_size": 103424,
        "hidden_size": 2560,
        "intermediate_size": 12288,
        "num_hidden_layers": 28,
        "num_attention_heads": 20,
        "num_key_value_heads": 4,
        "moe_intermediate_size": [1536, 512],
        "moe_num_experts": 64,
        "moe_num_shared_experts": 2,
        "moe_k": 6,
        "mlp_layer_types": ["dense"] + ["sparse"] * 27,
    },
    "vision_config": {
        "model_type": "ernie4_5_vl_moe_vision",
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "depth": 32,
        "num_heads": 16,
        "patch_size": 14,
        "in_channels": 3,
        "spatial_merge_size": 2,
        "temporal_merge_size": 2,
    },
    "tie_word_embeddings": True,
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"moe_layer_end_index": 2},
        {"moe_layer_start_index": 0, "moe_layer_interval": 2},
        {"moe_num_shared_experts": 0},
        {"use_bias": True},
        {"tie_word_embeddings": False},
    ],
    ids=str,
)
def test_counts(change: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | change)


def test_published_counts() -> None:
    assert_counts_agree(PUBLISHED)


@pytest.mark.parametrize("change", [{}, {"use_bias": True}, {"mlp_layer_types": ["dense", "sparse", "dense"]}], ids=str)
def test_vl_counts(change: dict[str, Any]) -> None:
    text = VL_PUBLISHED["text_config"] | {"num_hidden_layers": 3, "mlp_layer_types": ["dense", "sparse", "sparse"]}
    vision = VL_PUBLISHED["vision_config"] | {"depth": 2, "temporal_merge_size": 3}
    config = VL_PUBLISHED | {"text_config": text | change, "vision_config": vision}
    assert_counts_agree(config, "AutoModelForImageTextToText")


def test_vl_published_counts() -> None:
    spec = assert_counts_agree(VL_PUBLISHED, "AutoModelForImageTextToText")
    # its name: A3B, experts of images not among them
    assert round(parameters(spec).active / 1e9) == 3


def test_checkpoint(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL | {"use_bias": True, "tie_word_embeddings": False}, tmp_path)


def test_mtp_modules_stand_beside_the_total_and_say_that_nothing_confirms_them() -> None:
    without, spec = read_config(SMALL), read_config(SMALL | {"num_nextn_predict_layers": 1})
    assert parameters(spec).total == parameters(without).total
    assert parameters(spec).mtp_unique > 0
    assert parameters(spec).mtp_duplicate == 0
    assert "mtp-not-confirmed" in [remark.code for remark in spec.remarks]
