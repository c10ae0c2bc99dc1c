"""GLM beside transformers: counts, tensor names, indexers, MTP, towers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import KimiDelta, LatentAttention
from moeplan.core.weights import inventory, parameters
from moeplan.sources.families import read_config
from tests import oracle
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

IMAGE = "AutoModelForImageTextToText"
GLM4: dict[str, Any] = {
    "model_type": "glm4_moe",
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 56,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "n_shared_experts": 1,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "attention_bias": True,
    "use_qk_norm": True,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
LITE: dict[str, Any] = {
    "model_type": "glm4_moe_lite",
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 56,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "n_shared_experts": 1,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "kv_lora_rank": 12,
    "q_lora_rank": 14,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 6,
    "v_head_dim": 10,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
SPARSE = LITE | {
    "model_type": "glm_moe_dsa",
    "num_hidden_layers": 6,
    "first_k_dense_replace": 2,
    "index_topk": 16,
    "index_head_dim": 8,
    "index_n_heads": 3,
}
GLM4V: dict[str, Any] = {
    "model_type": "glm4v_moe",
    "tie_word_embeddings": False,
    "text_config": {name: value for name, value in GLM4.items() if name not in ("use_qk_norm", "model_type")},
    "vision_config": {
        "depth": 2,
        "hidden_size": 24,
        "num_heads": 2,
        "out_hidden_size": 48,
        "intermediate_size": 60,
        "image_size": 12,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    },
}
NEXT_TEXT: dict[str, Any] = {name: value for name, value in SPARSE.items() if name != "model_type"} | {
    "num_key_value_heads": 4,
    "num_hidden_layers": 5,
    "first_k_dense_replace": None,
    "qk_rope_head_dim": 0,
    "layer_types": ["linear_attention", *["indexed_attention", "linear_attention"] * 2],
    "indexer_types": ["full", "full", "full", "shared", "shared"],
    "mlp_layer_types": ["dense", "sparse", "dense", "sparse", "sparse"],
    "linear_attn_config": {"num_heads": 3, "head_dim": 10, "short_conv_kernel_size": 3},
    "hc_mult": 3,
    "index_kpool": 4,
}
NEXT: dict[str, Any] = {
    "model_type": "glm5_next",
    "tie_word_embeddings": False,
    "text_config": {name: value for name, value in NEXT_TEXT.items() if value is not None},
    "vision_config": GLM4V["vision_config"] | {"projection_intermediate_size": 36},
}
# zai-org/GLM-4.5
GLM45_PUBLISHED: dict[str, Any] = {
    "model_type": "glm4_moe",
    "vocab_size": 151552,
    "hidden_size": 5120,
    "intermediate_size": 12288,
    "moe_intermediate_size": 1536,
    "num_hidden_layers": 92,
    "num_attention_heads": 96,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "n_shared_experts": 1,
    "n_routed_experts": 160,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "num_nextn_predict_layers": 1,
    "attention_bias": True,
    "use_qk_norm": True,
    "tie_word_embeddings": False,
}
# zai-org/GLM-4.7-Flash
GLM47_FLASH: dict[str, Any] = {
    "model_type": "glm4_moe_lite",
    "vocab_size": 154880,
    "hidden_size": 2048,
    "intermediate_size": 10240,
    "moe_intermediate_size": 1536,
    "num_hidden_layers": 47,
    "num_attention_heads": 20,
    "num_key_value_heads": 20,
    "n_shared_experts": 1,
    "n_routed_experts": 64,
    "num_experts_per_tok": 4,
    "kv_lora_rank": 512,
    "q_lora_rank": 768,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 192,
    "v_head_dim": 256,
    "first_k_dense_replace": 1,
    "num_nextn_predict_layers": 1,
    "attention_bias": False,
    "tie_word_embeddings": False,
}
# zai-org/GLM-5.2
GLM52_PUBLISHED: dict[str, Any] = {
    "model_type": "glm_moe_dsa",
    "vocab_size": 154880,
    "hidden_size": 6144,
    "intermediate_size": 12288,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 78,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "n_shared_experts": 1,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "kv_lora_rank": 512,
    "q_lora_rank": 2048,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 192,
    "v_head_dim": 256,
    "first_k_dense_replace": 3,
    "index_head_dim": 128,
    "index_n_heads": 32,
    "index_topk": 2048,
    "index_topk_freq": 4,
    "index_skip_topk_offset": 3,
    "num_nextn_predict_layers": 1,
    "attention_bias": False,
    "tie_word_embeddings": False,
}
# zai-org/GLM-5.3-Flash
GLM53_FLASH: dict[str, Any] = {
    "model_type": "glm5_next",
    "tie_word_embeddings": False,
    "text_config": {
        "vocab_size": 154880,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "moe_intermediate_size": 2048,
        "num_hidden_layers": 45,
        "num_attention_heads": 64,
        "num_key_value_heads": 64,
        "n_shared_experts": 1,
        "n_routed_experts": 288,
        "num_experts_per_tok": 8,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_rope_head_dim": 0,
        "qk_nope_head_dim": 256,
        "v_head_dim": 256,
        "index_head_dim": 128,
        "index_n_heads": 32,
        "index_topk": 2048,
        "index_kpool": 16,
        "layer_types": ["indexed_attention" if number % 4 == 3 else "linear_attention" for number in range(45)],
        "mlp_layer_types": ["dense"] * 3 + ["sparse"] * 42,
        "indexer_types": ["full"] * 45,
        "linear_attn_config": {"num_heads": 64, "head_dim": 128, "short_conv_kernel_size": 4},
        "hc_mult": 4,
        "num_nextn_predict_layers": 1,
        "tie_word_embeddings": False,
    },
    "vision_config": {
        "depth": 24,
        "hidden_size": 1024,
        "num_heads": 16,
        "out_hidden_size": 1536,
        "intermediate_size": 4096,
        "projection_intermediate_size": 10240,
        "attention_bias": True,
    },
}

GLM4_CHANGES: list[dict[str, Any]] = [
    {},
    {"attention_bias": False, "use_qk_norm": False},
    {"tie_word_embeddings": True, "n_shared_experts": 2, "first_k_dense_replace": 2},
    {"head_dim": None},
]
LITE_CHANGES: list[dict[str, Any]] = [
    {},
    {"q_lora_rank": None},
    {"attention_bias": True, "mlp_layer_types": ["sparse", "dense", "sparse"]},
]
SPARSE_CHANGES: list[dict[str, Any]] = [
    {},
    {"index_topk_freq": 4, "index_skip_topk_offset": 3},
    {"index_topk_freq": 3},
    {"index_topk_pattern": "FSFFSS"},
    {"indexer_types": ["full", "shared", "full", "shared", "full", "full"], "attention_bias": True},
]


@pytest.mark.parametrize("change", GLM4_CHANGES, ids=str)
def test_glm4_counts(change: dict[str, Any]) -> None:
    assert_counts_agree({name: value for name, value in (GLM4 | change).items() if value is not None})


@pytest.mark.parametrize("change", LITE_CHANGES, ids=str)
def test_lite_counts(change: dict[str, Any]) -> None:
    assert_counts_agree(LITE | change)


@pytest.mark.parametrize("change", SPARSE_CHANGES, ids=str)
def test_sparse_counts_and_indexers(change: dict[str, Any]) -> None:
    import transformers

    config = SPARSE | change
    spec = assert_counts_agree(config)
    values = {name: value for name, value in config.items() if name != "model_type"}
    theirs = transformers.AutoConfig.for_model("glm_moe_dsa", **values).indexer_types
    ours = [
        "full" if isinstance(m := layer.mixers[0], LatentAttention) and m.indexer else "shared" for layer in spec.layers
    ]
    assert ours == theirs


@pytest.mark.parametrize("vision", [{}, {"attention_bias": True, "in_channels": 1}], ids=str)
def test_glm4v_counts(vision: dict[str, Any]) -> None:
    assert_counts_agree(GLM4V | {"vision_config": GLM4V["vision_config"] | vision}, IMAGE)


@pytest.mark.parametrize("vision", [{}, {"attention_bias": False, "spatial_merge_size": 3}], ids=str)
@pytest.mark.parametrize("text", [{}, {"attention_bias": True, "hc_mult": 2}], ids=str)
def test_next_counts(text: dict[str, Any], vision: dict[str, Any]) -> None:
    config = NEXT | {"text_config": NEXT["text_config"] | text, "vision_config": NEXT["vision_config"] | vision}
    assert_counts_agree(config, IMAGE)


def test_published_counts() -> None:
    assert_counts_agree(GLM45_PUBLISHED)
    spec = assert_counts_agree(GLM53_FLASH, IMAGE)
    assert sum(isinstance(layer.mixers[0], KimiDelta) for layer in spec.layers) == 34


@pytest.mark.parametrize(
    ("config", "auto_class"),
    [(GLM4, "AutoModelForCausalLM"), (LITE, "AutoModelForCausalLM"), (SPARSE, "AutoModelForCausalLM"), (GLM4V, IMAGE), (NEXT, IMAGE)],
    ids=["glm4", "lite", "sparse", "glm4v", "next"],
)  # fmt: skip
def test_tensor_names_and_sizes(config: dict[str, Any], auto_class: str, tmp_path: Path) -> None:
    assert_checkpoint_agrees(config, tmp_path, auto_class)


def test_glm52_runs_an_indexer_in_the_layers_that_its_checkpoint_lists() -> None:
    owners = [
        number
        for number, layer in enumerate(read_config(GLM52_PUBLISHED).layers)
        if isinstance(layer.mixers[0], LatentAttention) and layer.mixers[0].indexer
    ]
    # `indexer_types` of zai-org/GLM-5.2-FP8: two layers, then every fourth.
    assert owners == [0, 1, *range(2, 78, 4)]


# MTP -------------------------------------------------------------------------------------------------------


def test_glm4_mtp_equals_what_transformers_builds() -> None:
    import torch
    from transformers.modeling_layers import MtpModel

    config = GLM4 | {"num_nextn_predict_layers": 1}
    model = oracle.build(config)
    with torch.device("meta"):
        built = MtpModel(model, 1).layers
    assert parameters(read_config(config)).mtp_unique == sum(tensor.numel() for tensor in built.parameters())


def test_glm47_flash_with_mtp_is_the_whole_checkpoint() -> None:
    counts = parameters(read_config(GLM47_FLASH))
    bias = GLM47_FLASH["n_routed_experts"]
    # All tensors of zai-org/GLM-4.7-Flash, layer 47 and its router bias included.
    whole = counts.total + counts.buffers + counts.mtp_unique + counts.mtp_duplicate + bias
    assert whole == 31_221_488_576


def test_glm5_mtp_is_one_more_layer_with_an_indexer_and_no_copies() -> None:
    names = mtp_names(GLM52_PUBLISHED)
    # Layer 78 in the list of unquantised modules of zai-org/GLM-5.2-FP8: the indexer is named, no embedding or head.
    assert {"model.layers.78.self_attn.indexer.k_norm.bias", "model.layers.78.shared_head.norm.weight"} <= names
    assert not {name for name in names if "embed_tokens" in name or "shared_head.head" in name}


def test_next_mtp_has_the_tensors_of_the_checkpoint() -> None:
    names = mtp_names(GLM53_FLASH)
    # Layer 45 of zai-org/GLM-5.3-Flash: 25 tensors beside the experts, without hyper-connections.
    assert len(names) == 25 + 3 * 288
    assert all(name.startswith("model.language_model.layers.45.") for name in names)
    assert not {name for name in names if "hc_" in name}


def mtp_names(config: dict[str, Any]) -> set[str]:
    """Names of every tensor of the MTP modules."""
    return {
        entry.weight.name.replace("{layer}", str(layer)).replace("{expert}", str(expert))
        for entry in inventory(read_config(config))
        if entry.part.startswith("mtp")
        for layer in entry.layers or (0,)
        for expert in range(entry.weight.count)
    }


# Refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"index_topk_pattern": "FSX"}, "index_topk_pattern"),
        ({"index_topk_pattern": "FSXFFF"}, "index_topk_pattern"),
        ({"indexer_types": ["full"] * 3}, "indexer_types"),
        ({"mlp_layer_types": ["moe"] * 6}, "mlp_layer_types"),
        ({"index_head_dim": None}, "index_head_dim"),
    ],
)
def test_sparse_refuses_what_it_does_not_know(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read_config(SPARSE | change)


def test_next_without_layer_kinds_is_an_error() -> None:
    text = {name: value for name, value in NEXT["text_config"].items() if name != "layer_types"}
    with pytest.raises(ConfigError, match="layer_types"):
        read_config(NEXT | {"text_config": text})


def test_a_wrapper_without_a_text_config_is_an_error() -> None:
    with pytest.raises(ConfigError, match="text_config"):
        read_config({"model_type": "glm4v_moe"})


def test_a_left_out_tower_is_said() -> None:
    spec = read_config({name: value for name, value in GLM4V.items() if name != "vision_config"})
    assert "tower-left-out" in {remark.code for remark in spec.remarks}
