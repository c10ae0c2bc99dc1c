"""Activations of a prefill beside the tensors that the library makes for it.

`data/activation_oracle.csv` holds what was alive at the peak of one forward pass of transformers 5.23.0 (torch 2.13.0) over
whole prompts, beside weights and cache, on the meta device: models of the catalogue, the first `layers` layers, bfloat16,
every tensor counted from its birth to its end, fused attention counted as its result alone.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from moeplan.core.kv_cache import cache_rows
from moeplan.core.model import GroupedAttention, Layer, ModelSpec, MoeFfn
from moeplan.engines import transformers
from moeplan.engines.transformers.activations import TRACED, held_window_bytes, prefill_peak
from moeplan.sources.models import find_model

TABLE = Path(__file__).parents[1] / "data" / "activation_oracle.csv"


def rows() -> list[tuple[str, int, int, int, int, int]]:
    with TABLE.open(encoding="utf-8", newline="") as lines:
        read = list(csv.reader(lines))[1:]
    return [(name, *(int(number) for number in numbers)) for name, *numbers in read]  # type: ignore[misc]


def trimmed(name: str, layers: int) -> ModelSpec:
    spec = find_model(name).spec
    return spec._replace(layers=spec.layers[:layers])


@pytest.mark.parametrize(("name", "layers", "sequences", "prompt_tokens", "alive_bytes", "held_bytes"), rows())
def test_tensors_of_a_prefill(
    name: str, layers: int, sequences: int, prompt_tokens: int, alive_bytes: int, held_bytes: int
) -> None:
    spec = trimmed(name, layers)
    found = prefill_peak(spec, sequences, prompt_tokens, 2).bytes
    if spec.model_type in TRACED:
        assert found == pytest.approx(alive_bytes, rel=0.011)
    else:
        assert alive_bytes / 2.01 <= found <= 2 * alive_bytes
    if spec.model_type == "deepseek_v4":
        return  # keys are values there, and compressed entries hold other storages
    rules = transformers.cache_rules(spec, asked=None, scheme=None, weight_dtype="bfloat16", capability=None)
    assert held_window_bytes(cache_rows(spec), rules, sequences, prompt_tokens) == held_bytes


def test_experts_by_hand() -> None:
    attention = GroupedAttention(4, 2, 8, 8)
    spec = ModelSpec(
        model_type="mixtral", family="mixtral", hidden_size=32, vocab_size=96, tied_embedding=False,
        layers=(Layer((attention,), (MoeFfn(4, 2, 48),)),) * 2, max_context_tokens=None, dtype="bfloat16",
        dtype_stated=True,
    )  # fmt: skip
    # 10 tokens, 20 rows: rows of 32, gate and up of 96, activated gate and product of 48, indices of 46 bytes; four
    # tensors of 32 for each token; logits of 4 experts in float32; sines and cosines of width 8.
    expected = 20 * (2 * (32 + 96 + 48 + 48) + 46) + 10 * (4 * 32 * 2 + 4 * 4 + 2 * 8 * 2)
    assert prefill_peak(spec, 1, 10, 2) == (expected, "experts")
