"""OpenMoE: shapes of the published code; no independent build exists."""

from __future__ import annotations

from typing import Any

from moeplan.core.model import DenseFfn, MoeFfn
from moeplan.core.weights import parameters
from moeplan.sources.families import read_config

# OrionZheng/openmoe-8b
OPENMOE: dict[str, Any] = {
    "model_type": "openmoe",
    "hidden_size": 2048,
    "vocab_size": 256384,
    "num_hidden_layers": 24,
    "num_attention_heads": 24,
    "num_key_value_heads": 24,
    "head_dim": 128,
    "intermediate_size": 8192,
    "num_experts": 32,
    "router_topk": 2,
    "moe_layer_interval": 6,
    "mlp_gated": True,
    "hidden_act": "swiglu",
    "tie_word_embeddings": False,
}


def test_every_sixth_layer_is_sparse_with_a_dense_feed_forward_behind() -> None:
    spec = read_config(OPENMOE)
    kinds = [[type(ffn) for ffn in layer.ffns] for layer in spec.layers]
    assert kinds == ([[DenseFfn]] * 5 + [[MoeFfn, DenseFfn]]) * 4
    assert not spec.verified
    assert "not-verified" in {remark.code for remark in spec.remarks}


def test_with_a_plain_gate_the_count_is_that_of_the_paper() -> None:
    # arXiv 2402.01739 counts three matrices of 8192 and one table: 8.7B for OpenMoE-8B/32E.
    paper = parameters(read_config(OPENMOE | {"hidden_act": "silu", "tie_word_embeddings": True}))
    assert abs(paper.total - 8.7e9) < 0.1e9


def test_swiglu_doubles_the_gate_and_nothing_else() -> None:
    doubled, plain = parameters(read_config(OPENMOE)), parameters(read_config(OPENMOE | {"hidden_act": "silu"}))
    for role in ("routed_experts", "dense_mlp"):
        assert 3 * doubled.by_role[role] == 4 * plain.by_role[role]
    assert doubled.total - plain.total == (32 * 4 + 24) * 2048 * 8192
    assert 32 * 3 * (doubled.total - doubled.active) == 30 * 4 * plain.by_role["routed_experts"]
