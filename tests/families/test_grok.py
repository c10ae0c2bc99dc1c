"""Grok-1 beside what its authors say."""

from __future__ import annotations

from moeplan.core.weights import inventory, parameters
from moeplan.sources.families import read_config

# hpcai-tech/grok-1; xai-org/grok-1 says 314B parameters, 2 of 8 experts per token.
GROK = {
    "model_type": "grok-1",
    "hidden_size": 6144,
    "vocab_size": 131072,
    "num_hidden_layers": 64,
    "num_attention_heads": 48,
    "num_key_value_heads": 8,
    "intermediate_size": 32768,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "tie_word_embeddings": True,
}


def test_counts_agree_with_what_the_authors_say() -> None:
    spec = read_config(GROK)
    counts = parameters(spec)
    assert 314e9 < counts.total < 317e9
    assert counts.by_role["norm"] == (4 * 64 + 1) * 6144
    # xAI: a quarter of the expert weights is active on a given token.
    idle = counts.total - counts.active
    assert 4 * idle == 3 * counts.by_role["routed_experts"]
    assert not spec.verified
    assert "not-verified" in {remark.code for remark in spec.remarks}


def test_names_are_the_published_ones() -> None:
    names = {entry.weight.name for entry in inventory(read_config(GROK))}
    assert "model.layers.{layer}.moe_block.experts.{expert}.linear_v.weight" in names
    assert "model.layers.{layer}.moe_block.experts.{expert}.linear_1.weight" in names
    assert "model.layers.{layer}.attn.q_proj.weight" in names
    assert "lm_head.weight" not in names
