"""MiMo-V2-Flash beside transformers, in the published spelling and in that of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import GroupedAttention
from moeplan.core.weights import inventory, parameters
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

SMALL: dict[str, Any] = {
    "model_type": "mimo_v2_flash",
    "hidden_size": 40,
    "vocab_size": 90,
    "num_hidden_layers": 7,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "v_head_dim": 6,
    "intermediate_size": 50,
    "moe_intermediate_size": 14,
    "n_routed_experts": 5,
    "num_experts_per_tok": 2,
    "sliding_window": 9,
    "tie_word_embeddings": False,
}
# What XiaomiMiMo/MiMo-V2-Flash adds to fields that its transformers class knows.
PUBLISHED_SPELLING: dict[str, Any] = {
    "hybrid_layer_pattern": [0, 1, 1, 1, 1, 0, 1],
    "moe_layer_freq": [0, 1, 1, 1, 1, 1, 1],
    "swa_num_attention_heads": 8,
    "swa_num_key_value_heads": 4,
    "swa_head_dim": 12,
    "swa_v_head_dim": 6,
    "sliding_window": 8,
    "sliding_window_size": 8,
    "attention_chunk_size": 8,
    "n_shared_experts": None,
    "add_swa_attention_sink_bias": True,
    "add_full_attention_sink_bias": False,
}
# XiaomiMiMo/MiMo-V2-Flash
PUBLISHED: dict[str, Any] = {
    "model_type": "mimo_v2_flash",
    "hidden_size": 4096,
    "vocab_size": 152576,
    "num_hidden_layers": 48,
    "num_attention_heads": 64,
    "num_key_value_heads": 4,
    "head_dim": 192,
    "v_head_dim": 128,
    "swa_num_attention_heads": 64,
    "swa_num_key_value_heads": 8,
    "swa_head_dim": 192,
    "swa_v_head_dim": 128,
    "sliding_window": 128,
    "sliding_window_size": 128,
    "hybrid_layer_pattern": [0, *([1, 1, 1, 1, 0] + [1, 1, 1, 1, 1, 0] * 7)],
    "moe_layer_freq": [0] + [1] * 47,
    "intermediate_size": 16384,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_bias": True, "tie_word_embeddings": True},
        {"mlp_layer_types": ["sparse", "dense"] + ["sparse"] * 5},
        {"layer_types": ["sliding_attention"] * 6 + ["full_attention"]},
        PUBLISHED_SPELLING,
    ],
    ids=["plain", "biased and tied", "ffn kinds", "attention kinds", "published spelling"],
)
def test_small_models_agree(changes: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | changes)


def test_the_published_model_agrees() -> None:
    spec = assert_counts_agree(PUBLISHED)
    attentions = [mixer for layer in spec.layers for mixer in layer.mixers if isinstance(mixer, GroupedAttention)]
    assert [attention.window_tokens for attention in attentions[:7]] == [None, 129, 129, 129, 129, None, 129]
    assert sum(attention.window_tokens is None for attention in attentions) == 9


def test_tensor_names_are_the_published_ones(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL, tmp_path)


def test_both_spellings_give_the_same_layers() -> None:
    assert read_config(SMALL | PUBLISHED_SPELLING).layers == read_config(SMALL).layers


def test_mtp_modules_count_beside_the_total() -> None:
    spec = read_config(SMALL | {"num_nextn_predict_layers": 3})
    plain, counts = parameters(read_config(SMALL)), parameters(spec)
    assert counts.total == plain.total
    dense_layer = {"num_hidden_layers": 1, "mlp_layer_types": ["dense"], "layer_types": ["sliding_attention"]}
    frame = 2 * 90 * 40 + 40
    block = parameters(read_config(SMALL | dense_layer)).total - frame
    assert counts.mtp_unique == 3 * (block + 2 * 40 * 40 + 3 * 40)
    assert {entry.weight.name.split(".{layer}")[0] for entry in inventory(spec) if entry.part == "mtp"} == {
        "model.mtp.layers"
    }


def test_a_pattern_of_the_wrong_length_is_an_error() -> None:
    with pytest.raises(ConfigError, match="hybrid_layer_pattern"):
        read_config(SMALL | {"hybrid_layer_pattern": [0, 1]})
