"""Bytes of a decode step: worked out by hand, against drawn routing, and what must hold for every model."""

from __future__ import annotations

import random
from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.kv_cache import CacheRules, cache_cost, cache_rows
from moeplan.core.layout import Division, Place, Stage
from moeplan.core.model import DenseFfn, GroupedAttention, Layer, ModelSpec, MoeFfn
from moeplan.core.quant import BF16, BY_DTYPE, Holding, Quantisation, fold_bytes, holdings
from moeplan.core.step_bytes import StepReads, cache_reads, step_bytes, step_reads
from moeplan.core.weights import inventory, parameters
from moeplan.sources.models import find_model

RULES = CacheRules("bfloat16", "float32", "bfloat16")
ATTENTION = GroupedAttention(num_heads=4, num_kv_heads=2, key_head_dim=8, value_head_dim=8)
MODELS = (
    "mixtral-8x7b",
    "deepseek-v3",
    "qwen3-30b-a3b",
    "jetmoe-8b",
    "gpt-oss-120b",
    "longcat-flash-chat",
    "llama-3.1-8b-instruct",
)


def small(ffn: DenseFfn | MoeFfn, *, tied: bool = False) -> ModelSpec:
    """Three layers, 16 wide, 100 words."""
    return ModelSpec(
        "toy", "toy", 16, 100, (Layer((ATTENTION,), (ffn,)),) * 3, tied, 1000, "bfloat16", dtype_stated=True
    )


def held(spec: ModelSpec, quantisation: Quantisation | None = None) -> tuple[Holding, ...]:
    stored = holdings(inventory(spec), quantisation or Quantisation("plain", BY_DTYPE[spec.dtype]))
    return tuple(each for each in stored if not each.part.startswith("mtp"))


@lru_cache(maxsize=16)
def read(name: str, context_tokens: int = 4096) -> tuple[ModelSpec, tuple[Holding, ...], StepReads]:
    loaded = find_model(name)
    kept = held(loaded.spec, loaded.quantisation)
    cache = cache_reads(loaded.spec, RULES, context_tokens)
    return loaded.spec, kept, step_reads(loaded.spec, kept, cache)


# By hand -----------------------------------------------------------------------------------------------------


def test_a_small_moe_by_hand() -> None:
    """Queries and output 16 x 32, keys and values 16 x 16 each; 5 experts of three matrices 16 x 24, 2 per token."""
    spec = small(MoeFfn(num_experts=5, experts_per_token=2, expert_width=24))
    attention, router, head = 2 * 16 * 32 + 2 * 16 * 16, 5 * 16, 100 * 16
    cache = cache_reads(spec, RULES, 50)
    assert cache == 3 * 50 * 2 * 2 * 8 * 2  # layers, tokens, keys and values, heads, width, bytes
    for sequences, touched in ((1, 2), (2, 5 * (1 - 0.6**2)), (7, 5 * (1 - 0.6**7))):
        found = step_bytes(spec, held(spec), cache, sequences)
        assert found.dense_bytes == 2 * (3 * (attention + router) + head + sequences * 16)
        assert found.expert_bytes == pytest.approx(2 * 3 * touched * 3 * 16 * 24)
        assert found.cache_bytes == sequences * cache
        assert found.total_bytes == found.dense_bytes + found.expert_bytes + found.cache_bytes


def test_a_small_dense_model_by_hand() -> None:
    spec = small(DenseFfn(24))
    found = step_bytes(spec, held(spec), cache_reads(spec, RULES, 0), 3)
    attention, mlp, head = 2 * 16 * 32 + 2 * 16 * 16, 3 * 16 * 24, 100 * 16
    assert found == (2 * (3 * (attention + mlp) + head + 3 * 16), 0.0, 0)


def test_a_tied_table_is_read_as_the_head_and_not_looked_up_besides() -> None:
    spec = small(DenseFfn(24), tied=True)
    apart = small(DenseFfn(24))
    both = step_bytes(apart, held(apart), 0, 3).dense_bytes
    assert step_bytes(spec, held(spec), 0, 3).dense_bytes == both - 2 * 3 * 16


def test_windows_and_choices_limit_what_is_read() -> None:
    window = ATTENTION._replace(window_tokens=10)
    spec = small(DenseFfn(24))._replace(
        layers=(Layer((window,), (DenseFfn(24),)), Layer((ATTENTION,), (DenseFfn(24),)))
    )
    entry = 2 * 2 * 8 * 2
    assert cache_reads(spec, RULES, 50) == (10 + 50) * entry
    # An engine that keeps all of it does not read all of it.
    assert cache_reads(spec, RULES._replace(accounting="manager_off"), 50) == (10 + 50) * entry
    # A layer without a cache of its own reads that of another.
    lent = spec._replace(layers=(*spec.layers, Layer((ATTENTION._replace(shares_cache_of=1),), (DenseFfn(24),))))
    assert cache_reads(lent, RULES, 50) == (10 + 50 + 50) * entry
    assert cache_cost(cache_rows(lent), RULES, 50).bytes_at_context == (10 + 50) * entry


def test_sparse_attention_reads_its_choice_and_the_indexers_keys() -> None:
    """DeepSeek-V3.2: 61 layers, latents of 512 + 64, keys of 128 for every token, 2,048 tokens chosen."""
    spec = find_model("deepseek-v3.2").spec
    assert cache_reads(spec, RULES, 8000) == 61 * 2 * (2048 * 576 + 8000 * 128)
    assert cache_reads(spec, RULES, 1000) == 61 * 2 * 1000 * (576 + 128)


# Against what else is known -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mixtral-8x7b", "qwen3-30b-a3b", "jetmoe-8b"])
def test_one_token_reads_its_active_parameters(name: str) -> None:
    """At batch 1 the 16-bit bytes of active parameters, a row of the table in place of all of it where it is not tied."""
    spec, _, reads = read(name)
    counts = parameters(spec)
    one = reads.at(1)
    row = 0 if spec.tied_embedding else spec.hidden_size
    assert one.dense_bytes + one.expert_bytes == pytest.approx(2 * (counts.active_without_embedding + row), rel=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_a_large_batch_reads_all_that_is_resident_but_tables_and_towers(name: str) -> None:
    spec, kept, reads = read(name)
    sums = fold_bytes(kept)
    experts = sums.by_role["routed_experts"]
    assert reads.at(10**7).expert_bytes == pytest.approx(experts, rel=1e-9)
    looked_up = 0 if spec.tied_embedding else sums.by_role["embedding"]
    assert reads.dense_bytes == sums.total_bytes - experts - looked_up - sums.by_role["towers"]


@pytest.mark.parametrize("name", ["llama-3.1-8b-instruct", "qwen3-8b", "gemma-3-27b-it"])
def test_a_dense_model_reads_no_experts(name: str) -> None:
    reads = read(name)[2]
    assert reads.experts == ()
    assert all(reads.at(sequences).expert_bytes == 0 for sequences in (1, 64, 4096))


@pytest.mark.parametrize(
    ("name", "sequences"), [("mixtral-8x7b", 3), ("qwen3-30b-a3b", 8), ("qwen3-30b-a3b", 64), ("deepseek-v3", 32)]
)
def test_experts_against_drawn_routing(name: str, sequences: int) -> None:
    """Every token draws its experts; layers are alike, so many layers are many draws."""
    spec, kept, reads = read(name)
    (ffn,) = {ffn for layer in spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)}
    generator, draws = random.Random(7), 2000  # noqa: S311 - draws, no secrets
    touched = 0
    for _ in range(draws):
        drawn = (generator.sample(range(ffn.num_experts), ffn.experts_per_token) for _ in range(sequences))
        touched += len({expert for token in drawn for expert in token})
    experts = fold_bytes(kept).by_role["routed_experts"]
    assert reads.at(sequences).expert_bytes == pytest.approx(experts * touched / draws / ffn.num_experts, rel=0.015)


# What must hold ----------------------------------------------------------------------------------------------


@given(name=st.sampled_from(MODELS), sequences=st.integers(1, 4096), skew=st.sampled_from([0.0, 0.3, 0.65]))
def test_more_sequences_read_more_in_all_and_less_for_each(name: str, sequences: int, skew: float) -> None:
    reads = read(name)[2]._replace(skew=skew)
    now, more = reads.at(sequences), reads.at(sequences + 1)
    assert now.total_bytes < more.total_bytes
    assert now.expert_bytes <= more.expert_bytes
    assert more.total_bytes / (sequences + 1) < now.total_bytes / sequences


@given(sequences=st.integers(1, 4096))
def test_skew_never_reads_more(sequences: int) -> None:
    even = read("qwen3-30b-a3b")[2]
    assert even._replace(skew=0.65).at(sequences).expert_bytes <= even.at(sequences).expert_bytes * (1 + 1e-6)


@pytest.mark.parametrize("name", ["mixtral-8x7b", "deepseek-v3"])
def test_stages_read_what_the_whole_model_reads(name: str) -> None:
    spec, kept, whole = read(name)
    layers = len(spec.layers)
    places = (Place((0,), Stage(0, 0, 11, True, False)), Place((1,), Stage(1, 11, layers, False, True)))
    found = [step_reads(spec, kept, 0, place=place) for place in places]
    for sequences in (1, 64):
        parts = [each.at(sequences) for each in found]
        assert sum(part.dense_bytes for part in parts) == pytest.approx(whole.at(sequences).dense_bytes, rel=1e-9)
        assert sum(part.expert_bytes for part in parts) == pytest.approx(whole.at(sequences).expert_bytes, rel=1e-9)


def test_ranks_that_share_the_width_of_experts_read_their_part_of_each() -> None:
    spec, kept, whole = read("mixtral-8x7b")
    part = step_reads(spec, kept, 0, division=Division(attention=4, expert_tp=4, lm_head=4))
    assert part.at(5).expert_bytes == pytest.approx(whole.at(5).expert_bytes / 4)


def test_the_busiest_of_ranks_with_whole_experts_reads_more_than_its_share() -> None:
    spec, kept, whole = read("deepseek-v3")
    part = step_reads(spec, kept, 0, division=Division(expert_ep=8))
    share = whole.at(16).expert_bytes / 8
    assert share < part.at(16).expert_bytes < 1.6 * share
    assert part.at(10**6).expert_bytes == pytest.approx(whole.at(10**6).expert_bytes / 8, rel=1e-6)


def test_formats_count_in_their_own_bytes() -> None:
    spec = small(MoeFfn(num_experts=5, experts_per_token=2, expert_width=24))
    plain = step_bytes(spec, held(spec, Quantisation("bf16", BF16)), 0, 2)
    wide = step_bytes(spec, held(spec, Quantisation("fp32", BY_DTYPE["float32"])), 0, 2)
    assert wide.total_bytes == pytest.approx(2 * plain.total_bytes)
