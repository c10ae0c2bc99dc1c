"""Mistral Small 4 and Large 4 beside transformers: counts, tensor names, shared latents, towers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import LatentAttention
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

IMAGE = "AutoModelForImageTextToText"
SMALL4: dict[str, Any] = {
    "model_type": "mistral4",
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 56,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_shared_experts": 1,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "kv_lora_rank": 12,
    "q_lora_rank": 14,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 6,
    "v_head_dim": 10,
    "first_k_dense_replace": 0,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
VISION: dict[str, Any] = {
    "model_type": "pixtral",
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "head_dim": 12,
    "patch_size": 4,
    "image_size": 12,
}
WRAPPED: dict[str, Any] = {
    "model_type": "mistral3",
    "tie_word_embeddings": False,
    "text_config": SMALL4,
    "vision_config": VISION,
}
DENSE: dict[str, Any] = {
    "model_type": "mistral3",
    "tie_word_embeddings": True,
    "multimodal_projector_bias": True,
    "text_config": {
        "model_type": "mistral",
        "vocab_size": 97,
        "hidden_size": 48,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 10,
    },
    "vision_config": VISION,
}
LARGE_TEXT: dict[str, Any] = {
    name: value for name, value in SMALL4.items() if name not in ("model_type", "q_lora_rank")
} | {
    "num_hidden_layers": 6,
    "first_k_dense_replace": 1,
    "index_topk": 16,
    "index_head_dim": 8,
    "index_n_heads": 3,
}
LARGE4: dict[str, Any] = {
    "model_type": "mistral_large4",
    "tie_word_embeddings": False,
    "text_config": LARGE_TEXT,
    "vision_config": VISION,
}
# mistralai/Mistral-Small-4-119B-2603
SMALL4_PUBLISHED: dict[str, Any] = {
    "model_type": "mistral4",
    "vocab_size": 131072,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "n_shared_experts": 1,
    "n_routed_experts": 128,
    "num_experts_per_tok": 4,
    "kv_lora_rank": 256,
    "q_lora_rank": 1024,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 64,
    "v_head_dim": 128,
    "first_k_dense_replace": 0,
    "attention_bias": False,
    "tie_word_embeddings": False,
}
SHARED: dict[str, Any] = {"no_rope_layers": [1, 1, 1, 0, 1, 0], "kv_source_layers": [0, 1, 2, 3, 2, 3]}
LARGE_CHANGES: list[dict[str, Any]] = [
    {},
    {"attention_bias": True},
    SHARED,
    SHARED | {"index_topk_freq": 2},
    {"mlp_layer_types": ["sparse", "dense", *["sparse"] * 4], "indexer_types": ["full", "shared"] * 3},
]


@pytest.mark.parametrize(
    "change",
    [{}, {"q_lora_rank": None}, {"attention_bias": True}, {"first_k_dense_replace": 1}, {"tie_word_embeddings": True}],
    ids=str,
)
def test_small4_counts(change: dict[str, Any]) -> None:
    assert_counts_agree(SMALL4 | change, IMAGE)


def test_small4_published_counts() -> None:
    assert_counts_agree(SMALL4_PUBLISHED, IMAGE)


@pytest.mark.parametrize(
    "config",
    [WRAPPED, WRAPPED | {"spatial_merge_size": 3}, WRAPPED | {"vision_feature_layer": [-1, -2]}, DENSE],
    ids=["small4", "merge", "features", "dense"],
)
def test_wrapper_counts(config: dict[str, Any]) -> None:
    assert_counts_agree(config, IMAGE)


@pytest.mark.parametrize("change", LARGE_CHANGES, ids=str)
def test_large4_counts(change: dict[str, Any]) -> None:
    assert_counts_agree(LARGE4 | {"text_config": LARGE_TEXT | change}, IMAGE)


@pytest.mark.parametrize(
    "config",
    [SMALL4, WRAPPED, DENSE, LARGE4, LARGE4 | {"text_config": LARGE_TEXT | SHARED}],
    ids=["small4", "wrapped", "dense", "large4", "shared"],
)
def test_tensor_names_and_sizes(config: dict[str, Any], tmp_path: Path) -> None:
    assert_checkpoint_agrees(config, tmp_path, IMAGE)


def test_large4_layers_that_share_a_latent_or_do_not_rotate() -> None:
    spec = read_config(LARGE4 | {"text_config": LARGE_TEXT | SHARED})
    mixers = [layer.mixers[0] for layer in spec.layers]
    assert all(isinstance(mixer, LatentAttention) and mixer.indexer for mixer in mixers)
    assert [mixer.shares_cache_of for mixer in mixers if isinstance(mixer, LatentAttention)] == [None] * 4 + [2, 3]
    assert [mixer.qk_rope_head_dim for mixer in mixers if isinstance(mixer, LatentAttention)] == [8, 8, 8, 0, 8, 0]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kv_source_layers": [0, 2, 2, 3, 4, 5]}, "kv_source_layers"),
        ({"no_rope_layers": [1, 1]}, "no_rope_layers"),
        ({"index_n_heads": None}, "index_n_heads"),
    ],
)
def test_large4_refuses_what_it_does_not_know(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read_config(LARGE4 | {"text_config": LARGE_TEXT | change})


def test_wrapper_refuses_another_text_model() -> None:
    with pytest.raises(ConfigError, match="model_type"):
        read_config(WRAPPED | {"text_config": SMALL4 | {"model_type": "gemma"}})
