"""Snowflake Arctic beside its card: no build that is independent of the published code exists."""

from __future__ import annotations

from typing import Any

from moeplan.core.model import DenseFfn, MoeFfn
from moeplan.core.weights import inventory, parameters
from moeplan.sources.families import read_config

# Snowflake/snowflake-arctic-instruct; its card says 480B in all, 17B active: a 10B dense model and 128 x 3.66B.
ARCTIC: dict[str, Any] = {
    "model_type": "arctic",
    "hidden_size": 7168,
    "vocab_size": 32000,
    "num_hidden_layers": 35,
    "num_attention_heads": 56,
    "num_key_value_heads": 8,
    "intermediate_size": 4864,
    "num_local_experts": 128,
    "num_experts_per_tok": 2,
    "moe_layer_frequency": 1,
    "parallel_attn_mlp_res": True,
    "tie_word_embeddings": False,
}


def test_counts_agree_with_the_card() -> None:
    spec = read_config(ARCTIC)
    counts = parameters(spec)
    assert round(counts.total / 1e9, -1) == 480
    assert round(counts.active / 1e9) == 17
    dense = counts.total - counts.by_role["routed_experts"] - counts.by_role["router"]
    assert round(dense / 1e9) == 10
    assert round(counts.by_role["routed_experts"] / 128 / 1e9, 2) == 3.66
    assert not spec.verified
    assert "not-verified" in {remark.code for remark in spec.remarks}


def test_sparse_layers_have_a_dense_neighbour_and_the_others_a_plain_one() -> None:
    layers = read_config(ARCTIC | {"moe_layer_frequency": 2, "num_hidden_layers": 4}).layers
    assert [[type(ffn) for ffn in layer.ffns] for layer in layers] == [[DenseFfn], [MoeFfn, DenseFfn]] * 2
    without = read_config(ARCTIC | {"parallel_attn_mlp_res": False}).layers[0]
    assert [type(ffn) for ffn in without.ffns] == [MoeFfn]


def test_names_are_those_that_vllm_loads() -> None:
    names = {entry.weight.name for entry in inventory(read_config(ARCTIC))}
    assert "model.layers.{layer}.block_sparse_moe.experts.{expert}.w1.weight" in names
    assert "model.layers.{layer}.residual_mlp.w3.weight" in names
    assert "model.layers.{layer}.residual_layernorm.weight" in names
