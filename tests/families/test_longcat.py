"""LongCat-Flash beside transformers: two attentions and two feed-forwards per layer, zero-computation experts."""

from __future__ import annotations

from typing import Any

import pytest

from moeplan.core.model import LatentAttention, ModelSpec, MoeFfn
from moeplan.core.weights import parameters
from moeplan.sources.families import read_config
from tests import oracle

SMALL: dict[str, Any] = {
    "model_type": "longcat_flash",
    "hidden_size": 40,
    "vocab_size": 90,
    "num_layers": 3,
    "num_attention_heads": 4,
    "ffn_hidden_size": 50,
    "expert_ffn_hidden_size": 14,
    "n_routed_experts": 6,
    "zero_expert_num": 3,
    "moe_topk": 2,
    "q_lora_rank": 20,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 6,
    "v_head_dim": 8,
    "tie_word_embeddings": False,
}
# meituan-longcat/LongCat-Flash-Chat
PUBLISHED: dict[str, Any] = {
    "model_type": "longcat_flash",
    "hidden_size": 6144,
    "vocab_size": 131072,
    "num_layers": 28,
    "num_attention_heads": 64,
    "ffn_hidden_size": 12288,
    "expert_ffn_hidden_size": 2048,
    "n_routed_experts": 512,
    "zero_expert_num": 256,
    "moe_topk": 12,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "tie_word_embeddings": False,
}


def _assert_agrees(config: dict[str, Any]) -> ModelSpec:
    """Role by role, but for gate and up matrices that transformers gives to zero-computation experts as well: no
    checkpoint holds them, and its own down projection has none."""
    spec = read_config(config)
    ours = {role: count for role, count in parameters(spec).by_role.items() if count}
    built = oracle.by_role(oracle.build(config))
    width, zero = config["expert_ffn_hidden_size"], config["zero_expert_num"]
    built["routed_experts"] -= config["num_layers"] * zero * 2 * width * config["hidden_size"]
    assert ours == built
    return spec


@pytest.mark.parametrize(
    "changes",
    [{}, {"attention_bias": True}, {"zero_expert_num": 0}, {"router_bias": True}, {"tie_word_embeddings": True}],
    ids=str,
)
def test_small_models_agree(changes: dict[str, Any]) -> None:
    _assert_agrees(SMALL | changes)


def test_the_published_model_agrees_and_its_active_parameters_vary() -> None:
    spec = _assert_agrees(PUBLISHED)
    counts = parameters(spec)
    # The report (arXiv 2509.01322) says 560B in all and 18.6B to 31.3B active, 27B on average, without one table.
    table = counts.by_role["embedding"]
    assert round(counts.total / 1e9, -1) == 560
    assert abs(counts.active_low - table - 18.6e9) < 0.15e9
    assert abs(counts.active - table - 27e9) < 0.5e9
    assert abs(counts.active_high - table - 31.3e9) < 0.15e9


def test_each_layer_caches_two_latents_and_routes_over_empty_experts() -> None:
    layer = read_config(SMALL).layers[0]
    assert [type(mixer) for mixer in layer.mixers] == [LatentAttention, LatentAttention]
    experts = layer.ffns[0]
    assert isinstance(experts, MoeFfn)
    assert experts.num_zero_experts == 3


def test_num_hidden_layers_counts_attentions() -> None:
    transformers_spelling = {name: value for name, value in SMALL.items() if name != "num_layers"}
    assert read_config(transformers_spelling | {"num_hidden_layers": 6}).layers == read_config(SMALL).layers


def test_mtp_modules_count_beside_the_total() -> None:
    counts = parameters(read_config(SMALL | {"num_nextn_predict_layers": 1}))
    plain = parameters(read_config(SMALL))
    assert counts.total == plain.total
    attention = plain.by_role["attention"] // 6
    dense = plain.by_role["dense_mlp"] // 6
    assert counts.mtp_unique == attention + dense + 2 * 40 * 40 + 5 * 40
    assert counts.mtp_duplicate == 90 * 40
