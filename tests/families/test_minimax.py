"""MiniMax Text-01 and M2 beside transformers: counts, tensor names, which layers are linear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import LightningAttention
from moeplan.core.weights import parameters
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree, oracle_tensors, our_tensors

SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 36,
    "intermediate_size": 20,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
}
# MiniMaxAI/MiniMax-Text-01: one softmax layer behind every seven lightning layers
TEXT_01: dict[str, Any] = {
    "model_type": "minimax",
    "vocab_size": 200064,
    "hidden_size": 6144,
    "intermediate_size": 9216,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "num_local_experts": 32,
    "num_experts_per_tok": 2,
    "layer_types": (["linear_attention"] * 7 + ["full_attention"]) * 10,
    "tie_word_embeddings": False,
}
# MiniMaxAI/MiniMax-M2.5
M2: dict[str, Any] = {
    "model_type": "minimax_m2",
    "vocab_size": 200064,
    "hidden_size": 3072,
    "intermediate_size": 1536,
    "num_hidden_layers": 62,
    "num_attention_heads": 48,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "num_local_experts": 256,
    "num_experts_per_tok": 8,
    "tie_word_embeddings": False,
    "use_qk_norm": True,
    "use_routing_bias": True,
    "use_mtp": True,
    "mtp_transformer_layers": 1,
    "num_mtp_modules": 3,
    "shared_intermediate_size": 0,
}


@pytest.mark.parametrize("model_type", ["minimax", "minimax_m2"])
@pytest.mark.parametrize("change", [{}, {"tie_word_embeddings": True}], ids=str)
def test_counts(model_type: str, change: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | change | {"model_type": model_type})


@pytest.mark.parametrize("config", [TEXT_01, M2], ids=["text-01", "m2"])
def test_published_counts(config: dict[str, Any]) -> None:
    assert_counts_agree(config)


def test_text_01_counts_are_those_of_its_card() -> None:
    # the card of MiniMaxAI/MiniMax-Text-01: 456B parameters, 45.9B of them active
    counts = parameters(read_config(TEXT_01))
    assert round(counts.total / 1e9) == 456
    assert counts.card_convention == "active_without_embedding_and_head"
    assert counts.active_without_embedding_and_head / 1e9 == pytest.approx(45.9, abs=0.05)


def test_checkpoint_of_m2(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL | {"model_type": "minimax_m2"}, tmp_path)


def test_checkpoint_of_text_01(tmp_path: Path) -> None:
    config = SMALL | {"model_type": "minimax"}
    theirs = oracle_tensors(config, tmp_path, "AutoModelForCausalLM")
    # transformers writes the decay tables too, which follow from the number of heads
    trained = {name: size for name, size in theirs.items() if not name.endswith(("_decay", "slope_rate"))}
    assert our_tensors(read_config(config)) == trained


@pytest.mark.parametrize(
    "change", [{}, {"layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"]}]
)
def test_linear_layers_are_those_of_transformers(change: dict[str, Any]) -> None:
    from transformers import AutoConfig

    config = SMALL | change | {"model_type": "minimax"}
    theirs = AutoConfig.for_model(**config).layer_types
    ours = [isinstance(layer.mixers[0], LightningAttention) for layer in read_config(config).layers]
    assert ours == [kind == "linear_attention" for kind in theirs]


@pytest.mark.parametrize("model_type", ["minimax_text_01", "minimax_m1"])
def test_the_published_spelling_reads_like_the_one_of_transformers(model_type: str) -> None:
    published = {name: value for name, value in TEXT_01.items() if name != "layer_types"}
    published |= {"model_type": model_type, "attn_type_list": ([0] * 7 + [1]) * 10}
    assert read_config(published).layers == read_config(TEXT_01).layers


def test_the_published_spelling_needs_its_list() -> None:
    with pytest.raises(ConfigError, match="attn_type_list"):
        read_config(SMALL | {"model_type": "minimax_text_01"})


def test_mtp_modules_that_are_only_declared_are_not_counted_and_this_is_said() -> None:
    spec = read_config(M2)
    assert spec.mtp is None
    assert "mtp-not-published" in [remark.code for remark in spec.remarks]
    silent = read_config({name: value for name, value in M2.items() if name != "num_mtp_modules"})
    assert "mtp-not-published" not in [remark.code for remark in silent.remarks]
