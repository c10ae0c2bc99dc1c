"""Switch Transformers beside transformers: both stacks, every sparse step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.errors import ConfigError
from moeplan.core.model import CrossAttention, MoeFfn
from moeplan.core.weights import parameters
from moeplan.sources.families import read_config
from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

SEQ2SEQ = "AutoModelForSeq2SeqLM"
SMALL: dict[str, Any] = {
    "model_type": "switch_transformers",
    "vocab_size": 90,
    "d_model": 40,
    "d_kv": 12,
    "d_ff": 50,
    "num_layers": 4,
    "num_decoder_layers": 6,
    "num_sparse_encoder_layers": 2,
    "num_sparse_decoder_layers": 2,
    "num_heads": 3,
    "num_experts": 5,
    "relative_attention_num_buckets": 8,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"router_bias": True},
        {"num_sparse_encoder_layers": 4, "num_sparse_decoder_layers": 0},
        {"num_sparse_encoder_layers": 0, "num_sparse_decoder_layers": 3},
        {"num_decoder_layers": None},
    ],
    ids=str,
)
def test_small_models_agree(changes: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | changes, SEQ2SEQ)


def test_the_published_model_agrees() -> None:
    # google/switch-base-8
    sizes = {
        "vocab_size": 32128,
        "d_model": 768,
        "d_kv": 64,
        "d_ff": 3072,
        "num_layers": 12,
        "num_decoder_layers": 12,
        "num_sparse_encoder_layers": 6,
        "num_sparse_decoder_layers": 6,
        "num_heads": 12,
        "num_experts": 8,
        "relative_attention_num_buckets": 32,
    }
    spec = assert_counts_agree(SMALL | sizes, SEQ2SEQ)
    assert spec.is_encoder_decoder
    sparse = sum(isinstance(layer.ffns[0], MoeFfn) for layer in (*spec.layers, *spec.encoder_layers))
    assert sparse == 12
    assert all(any(isinstance(mixer, CrossAttention) for mixer in layer.mixers) for layer in spec.layers)


def test_tensor_names_are_the_published_ones(tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL, tmp_path, SEQ2SEQ)


def test_one_expert_per_token_is_active() -> None:
    counts = parameters(read_config(SMALL))
    assert 5 * (counts.total - counts.active) == 4 * counts.by_role["routed_experts"]


def test_missing_sizes_are_listed_together() -> None:
    with pytest.raises(ConfigError, match=r"missing.*d_kv.*num_experts"):
        read_config({name: value for name, value in SMALL.items() if name not in ("d_kv", "num_experts")})
