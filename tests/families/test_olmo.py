"""OLMoE and FlexOlmo beside transformers: counts and tensor names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.families.agreement import assert_checkpoint_agrees, assert_counts_agree

SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 36,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_experts": 5,
    "num_experts_per_tok": 2,
    "pad_token_id": 1,
}
# allenai/OLMoE-1B-7B-0924
PUBLISHED: dict[str, Any] = {
    "model_type": "olmoe",
    "vocab_size": 50304,
    "hidden_size": 2048,
    "intermediate_size": 1024,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize("model_type", ["olmoe", "flex_olmo"])
@pytest.mark.parametrize(
    "change",
    [{}, {"num_key_value_heads": 2}, {"attention_bias": True}, {"tie_word_embeddings": True}],
    ids=str,
)
def test_counts(model_type: str, change: dict[str, Any]) -> None:
    assert_counts_agree(SMALL | change | {"model_type": model_type})


def test_published_counts() -> None:
    assert_counts_agree(PUBLISHED)


@pytest.mark.parametrize("model_type", ["olmoe", "flex_olmo"])
def test_checkpoint(model_type: str, tmp_path: Path) -> None:
    assert_checkpoint_agrees(SMALL | {"model_type": model_type, "num_key_value_heads": 2}, tmp_path)
