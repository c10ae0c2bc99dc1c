"""NLLB-MoE beside transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.weights import parameters
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

SEQ2SEQ = "AutoModelForSeq2SeqLM"
SMALL: dict[str, Any] = {
    "model_type": "nllb-moe",
    "vocab_size": 90,
    "d_model": 48,
    "encoder_layers": 4,
    "decoder_layers": 3,
    "encoder_ffn_dim": 50,
    "decoder_ffn_dim": 38,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 6,
    "num_experts": 5,
    "encoder_sparse_step": 2,
    "decoder_sparse_step": 3,
    "max_position_embeddings": 32,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"router_bias": True},
        {"encoder_sparse_step": 1, "decoder_sparse_step": 0},
    ],
    ids=str,
)
def test_small_models_agree(changes: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | changes, SEQ2SEQ)


def test_the_published_model_agrees() -> None:
    # facebook/nllb-moe-54b
    sizes = {
        "vocab_size": 256206,
        "d_model": 2048,
        "encoder_layers": 24,
        "decoder_layers": 24,
        "encoder_ffn_dim": 8192,
        "decoder_ffn_dim": 8192,
        "encoder_attention_heads": 16,
        "decoder_attention_heads": 16,
        "num_experts": 128,
        "encoder_sparse_step": 4,
        "decoder_sparse_step": 4,
    }
    spec = assert_counts_agree(SMALL | sizes, SEQ2SEQ)
    assert 54e9 < parameters(spec).total < 55e9


def test_tensor_names_are_the_published_ones(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL, tmp_path, SEQ2SEQ)


def test_two_experts_per_token_are_active() -> None:
    counts = parameters(read_config(SMALL))
    assert 5 * (counts.total - counts.active) == 3 * counts.by_role["routed_experts"]
