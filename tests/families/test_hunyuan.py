"""Hunyuan and Hy3 beside transformers: counts, tensor names; shared caches beside the published figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import MoeFfn
from moeplan.core.weights import parameters
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree, grouped, moe

SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 36,
    "intermediate_size": 20,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "num_experts": 5,
}
V1: dict[str, Any] = SMALL | {"model_type": "hunyuan_v1_moe", "head_dim": 10, "moe_topk": 2}
HY3: dict[str, Any] = SMALL | {
    "model_type": "hy_v3",
    "head_dim": 10,
    "moe_intermediate_size": 12,
    "num_experts_per_tok": 2,
}
# tencent/Hunyuan-A13B-Instruct, as published
A13B: dict[str, Any] = {
    "model_type": "hunyuan",
    "vocab_size": 128167,
    "hidden_size": 4096,
    "intermediate_size": 3072,
    "moe_intermediate_size": [3072] * 32,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "attention_head_dim": 128,
    "num_experts": 64,
    "moe_topk": [8] * 32,
    "num_shared_expert": [1] * 32,
    "moe_layer_num_skipped": 0,
    "use_mixed_mlp_moe": True,
    "use_qk_norm": True,
    "use_cla": False,
    "cla_share_factor": 2,
    "use_mla": False,
    "kv_lora_rank": None,
    "tie_word_embeddings": True,
}
# tencent/Tencent-Hunyuan-Large (A52B): sizes from its technical report, arXiv 2411.02265
LARGE: dict[str, Any] = {
    "model_type": "hunyuan",
    "vocab_size": 129024,
    "hidden_size": 6400,
    "intermediate_size": 18304,
    "num_hidden_layers": 64,
    "num_attention_heads": 80,
    "num_key_value_heads": 8,
    "num_experts": 16,
    "moe_topk": 1,
    "num_shared_expert": 1,
    "use_mixed_mlp_moe": True,
    "use_qk_norm": True,
    "use_cla": True,
    "cla_share_factor": 2,
    "tie_word_embeddings": True,
}
# tencent/Hy3
HY3_PUBLISHED: dict[str, Any] = {
    "model_type": "hy_v3",
    "vocab_size": 120832,
    "hidden_size": 4096,
    "intermediate_size": 13312,
    "moe_intermediate_size": 1536,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "num_experts": 192,
    "num_experts_per_tok": 8,
    "num_shared_experts": 1,
    "first_k_dense_replace": 1,
    "num_nextn_predict_layers": 1,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    "change",
    [{}, {"moe_topk": [2, 1, 3, 2]}, {"attention_bias": True}, {"tie_word_embeddings": True}],
    ids=str,
)
def test_v1_counts(change: dict[str, Any]) -> None:
    assert_counts_agree(V1 | change)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"num_shared_experts": 2},
        {"mlp_bias": True},
        {"attention_bias": True},
        {"mlp_layer_types": ["dense", "dense", "sparse", "dense"]},
        {"tie_word_embeddings": True},
    ],
    ids=str,
)
def test_hy_v3_counts(change: dict[str, Any]) -> None:
    assert_counts_agree(HY3 | change)


def test_hy_v3_published_counts() -> None:
    spec = assert_counts_agree(HY3_PUBLISHED)
    # its card: 295B parameters, 21B of them active, 3.8B more in the MTP layer
    counts = parameters(spec)
    assert round(counts.total / 1e9) == 295
    assert round(counts.active / 1e9) == 21
    assert round(counts.mtp_unique / 1e9, 1) == 3.8


@pytest.mark.parametrize("config", [V1, HY3 | {"mlp_bias": True}], ids=["v1", "hy_v3"])
def test_checkpoint(config: dict[str, Any], tmp_path: Path) -> None:
    assert_checkpoint_agrees(config, tmp_path)


def test_the_published_spelling_counts_as_transformers_counts_its_own() -> None:
    shared = (*SMALL, "moe_topk", "tie_word_embeddings")
    own = {name: A13B[name] for name in shared} | {"model_type": "hunyuan_v1_moe", "head_dim": 128}
    spec = assert_counts_agree(own)
    assert read_config(A13B).layers == spec.layers


def test_lists_give_each_layer_its_own_experts() -> None:
    config = V1 | {"moe_intermediate_size": [4, 5, 6, 7], "moe_topk": [1, 2, 3, 4], "num_shared_expert": [1, 2, 1, 0]}
    ffns = moe(read_config(config))
    assert [ffn.expert_width for ffn in ffns] == [4, 5, 6, 7]
    assert [ffn.experts_per_token for ffn in ffns] == [1, 2, 3, 4]
    assert [ffn.shared_width for ffn in ffns] == [20, 40, 20, 0]
    with pytest.raises(ConfigError, match="moe_topk"):
        read_config(config | {"moe_topk": [1, 2]})


def test_skipped_layers_are_dense() -> None:
    ffns = [layer.ffns[0] for layer in read_config(V1 | {"moe_layer_num_skipped": 2}).layers]
    assert [isinstance(ffn, MoeFfn) for ffn in ffns] == [False, False, True, True]


def test_cross_layer_attention_shares_the_cache_of_its_group() -> None:
    spec = read_config(V1 | {"use_cla": True, "cla_share_factor": 2})
    assert [mixer.shares_cache_of for mixer in grouped(spec)] == [None, 0, None, 2]
    assert not spec.verified
    plain = parameters(read_config(V1)).by_role["attention"]
    # two of four layers go without a key and a value projection, of two heads each ten wide
    assert plain - parameters(spec).by_role["attention"] == 2 * 2 * (2 * 10 * 36)


def test_hunyuan_large_is_as_large_as_its_report_says() -> None:
    counts = parameters(read_config(LARGE))
    assert counts.total == pytest.approx(389e9, rel=0.005)
    assert counts.active == pytest.approx(52e9, rel=0.02)


def test_latent_attention_is_refused() -> None:
    with pytest.raises(ConfigError, match="use_mla"):
        read_config(A13B | {"use_mla": True})
