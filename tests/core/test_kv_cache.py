"""Caches by hand from the definition of each kind, and the rules of vLLM from figures that its logs print."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.kv_cache import CacheRules, cache_cost, cache_rows, mixer_cache
from moeplan.core.model import (
    CompressedAttention,
    CrossAttention,
    GatedDelta,
    GroupedAttention,
    Indexer,
    KimiDelta,
    LatentAttention,
    Layer,
    LightningAttention,
    Mamba1,
    Mamba2,
    Mixer,
    ModelSpec,
    ShortConvolution,
)
from moeplan.engines import transformers, vllm

BF16 = CacheRules(kv_dtype="bfloat16", state_dtype="float32", conv_dtype="bfloat16")


def model(*mixers: Mixer, family: str = "test") -> ModelSpec:
    layers = tuple(Layer((mixer,), ()) for mixer in mixers)
    return ModelSpec("test", family, 64, 100, layers, False, None, "bfloat16", True)


def cost(*mixers: Mixer, rules: CacheRules = BF16, context: int = 1000, encoder: int = 0) -> tuple[float, int]:
    found = cache_cost(cache_rows(model(*mixers)), rules, context, encoder)
    assert found.bytes_at_context == found.bytes_per_sequence + found.bytes_per_token * context
    return found.bytes_per_token, found.bytes_per_sequence


def test_grouped_attention_holds_keys_and_values_of_its_key_value_heads() -> None:
    assert cost(GroupedAttention(32, 8, 128, 128)) == (8 * (128 + 128) * 2, 0)


def test_keys_and_values_may_differ_in_width() -> None:
    assert cost(GroupedAttention(64, 4, 192, 128)) == (4 * (192 + 128) * 2, 0)


def test_latent_attention_holds_the_latent_and_never_heads() -> None:
    assert cost(LatentAttention(128, 1536, 512, 128, 64, 128)) == (576 * 2, 0)


def test_the_indexer_adds_its_keys() -> None:
    indexed = LatentAttention(128, 1536, 512, 128, 64, 128, Indexer(64, 128, 2048))
    assert cost(indexed) == ((576 + 128) * 2, 0)


def test_a_window_stops_growing_and_a_short_sequence_does_not_fill_it() -> None:
    window = GroupedAttention(8, 2, 16, 16, window_tokens=128)
    assert cost(window, context=1000) == (0, 128 * 128)
    assert cost(window, context=100) == (0, 100 * 128)
    assert cost(window, rules=BF16._replace(accounting="manager_off")) == (128, 0)


def test_whole_blocks_and_one_more_where_a_window_straddles() -> None:
    rules = BF16._replace(accounting="hybrid_manager", block_tokens=16)
    window = GroupedAttention(8, 2, 16, 16, window_tokens=128)
    assert cache_cost(cache_rows(model(window)), rules, 1000).bytes_per_sequence == 9 * 16 * 128


def test_a_layer_that_shares_a_cache_owns_none() -> None:
    assert cost(GroupedAttention(8, 2, 16, 16), GroupedAttention(8, 2, 16, 16, shares_cache_of=0)) == (128, 0)


def test_a_shared_latent_still_has_its_own_indexer_keys() -> None:
    shared = LatentAttention(128, 1536, 512, 128, 64, 128, Indexer(64, 128, 2048), shares_cache_of=0)
    assert cost(shared) == (128 * 2, 0)
    pooled = shared._replace(indexer=Indexer(64, 128, 2048, pooled=True))
    assert cost(pooled) == ((2 * 128 + 1) * 2, 0)


def test_cross_attention_is_paid_once_by_encoder_length() -> None:
    assert cost(CrossAttention(4, 16), encoder=50) == (0, 2 * 4 * 16 * 2 * 50)


@pytest.mark.parametrize(
    ("mixer", "conv_elements", "state_elements"),
    [
        (GatedDelta(16, 32, 128, 128, 4), (2 * 16 * 128 + 32 * 128) * 3, 32 * 128 * 128),
        (KimiDelta(32, 128, 4), 3 * 32 * 128 * 3, 32 * 128 * 128),
        (LightningAttention(64, 128), 0, 64 * 128 * 128),
        (Mamba1(8192, 16, 4, 256), 8192 * 3, 8192 * 16),
        (Mamba2(64, 64, 128, 8, 4), (64 * 64 + 2 * 8 * 128) * 3, 64 * 64 * 128),
        (ShortConvolution(2048, 3), 2048 * 2, 0),
    ],
)
def test_recurrent_state_is_fixed_per_sequence(mixer: Mixer, conv_elements: int, state_elements: int) -> None:
    # vLLM 0.33.0 layers/mamba/mamba_utils.py: kernel - 1 columns beside the state.
    assert cost(mixer) == (0, conv_elements * 2 + state_elements * 4)


def test_compressed_attention_spans_several_tokens_with_one_entry() -> None:
    sparse = CompressedAttention(64, 512, 64, 1024, 8, 1024, 128, 4, Indexer(64, 128, 512))
    heavy = sparse._replace(tokens_per_entry=128, indexer=None)
    found = cache_cost(cache_rows(model(sparse, heavy)), BF16, 1280)
    assert found.bytes_per_token == ((512 + 128) / 4 + 512 / 128) * 2
    overlap = 2 * 4 * (512 + 128)
    assert found.bytes_per_sequence == 2 * 128 * 512 * 2 + overlap * 4


def test_a_part_of_an_entry_waits_in_a_buffer() -> None:
    heavy = CompressedAttention(64, 512, 64, 1024, 8, 1024, 128, 128)
    whole, more = (cache_cost(cache_rows(model(heavy)), BF16, tokens).bytes_at_context for tokens in (1280, 1281))
    assert more - whole == 2 * 512 * 2


# vLLM: what its logs print ---------------------------------------------------------------------------------


def vllm_rules(spec: ModelSpec, asked: str | None = None, scheme: str | None = None) -> CacheRules:
    return vllm.cache_rules(spec, asked=asked, scheme=scheme, weight_dtype="bfloat16", capability="9.0")


def test_deepseek_v3_pool_of_a_log() -> None:
    # A public log of a DeepSeek-V3 class model on vLLM (2025-12): 635,648 tokens in a pool printed as 41.6 GiB.
    spec = model(*[LatentAttention(128, 1536, 512, 128, 64, 128)] * 61)
    per_token = cache_cost(cache_rows(spec), vllm_rules(spec), 8192).bytes_per_token
    assert round(635_648 * per_token / 2**30, 2) == 41.6


def test_glm_4_7_flash_pool_of_a_log() -> None:
    # 47 layers of latent attention: 1152 bytes each, whatever the number of heads.
    spec = model(*[LatentAttention(20, 768, 512, 192, 64, 256)] * 47)
    assert cache_cost(cache_rows(spec), vllm_rules(spec), 8192).bytes_per_token == 47 * 1152


@pytest.mark.parametrize(("asked", "latent", "keys"), [(None, 1152, 132), ("fp8", 656, 132)])
def test_indexed_latents_have_records(asked: str | None, latent: int, keys: int) -> None:
    # vLLM 0.33.0: fp8_ds_mla is 512 fp8 + 4 fp32 scales + 64 16-bit rope; indexer keys 128 fp8 + one fp32 scale.
    spec = model(LatentAttention(128, 1536, 512, 128, 64, 128, Indexer(64, 128, 2048)))
    assert cache_cost(cache_rows(spec), vllm_rules(spec, asked), 8192).bytes_per_token == latent + keys


def test_deepseek_v4_record() -> None:
    # vLLM 0.33.0 models/deepseek_v4/attention.py: 448 fp8 + 128 rope + 8 scale bytes, on `auto` too.
    spec = model(CompressedAttention(64, 512, 64, 1024, 8, 1024, 128, 128))
    rules = vllm_rules(spec)
    assert rules.kv_dtype == "fp8"
    assert cache_cost(cache_rows(spec), rules, 1280).bytes_per_token == 584 / 128


def test_the_cache_dtype_is_asked_for_or_the_checkpoints_scheme_but_never_the_weights() -> None:
    spec = model(GroupedAttention(32, 8, 128, 128))
    assert vllm_rules(spec).kv_dtype == "bfloat16"
    assert vllm_rules(spec, scheme="fp8").kv_dtype == "fp8"
    assert vllm_rules(spec, asked="bfloat16", scheme="fp8").kv_dtype == "bfloat16"


def test_recurrent_state_dtypes_on_auto() -> None:
    # vLLM 0.33.0: Kimi delta attention fp32, gated delta net the model's dtype unless the config asks for more.
    assert vllm_rules(model(KimiDelta(32, 128, 4))).state_dtype == "float32"
    assert vllm_rules(model(GatedDelta(16, 32, 128, 128, 4))).state_dtype == "bfloat16"
    asks = model(GatedDelta(1, 1, 8, 8, 4, state_dtype="float32"))
    conv = 3 * 8 * 3
    assert cache_cost(cache_rows(asks), vllm_rules(asks), 10).bytes_per_sequence == conv * 2 + 64 * 4


# Properties ------------------------------------------------------------------------------------------------

MIXERS: list[Mixer] = [
    GroupedAttention(8, 2, 16, 16),
    GroupedAttention(8, 2, 16, 16, window_tokens=64),
    GroupedAttention(8, 2, 16, 16, window_tokens=64, chunked=True),
    LatentAttention(4, 24, 32, 16, 8, 16, Indexer(2, 16, 8)),
    CompressedAttention(4, 32, 8, 16, 2, 16, 32, 4, Indexer(2, 16, 8)),
    CompressedAttention(4, 32, 8, 16, 2, 16, 32, 16),
    CompressedAttention(4, 32, 8, 16, 2, 16, 32, 0),
    GatedDelta(2, 4, 16, 16, 4),
    Mamba2(4, 16, 16, 2, 4),
    ShortConvolution(64, 3),
]


@given(st.lists(st.sampled_from(MIXERS), min_size=1, max_size=6), st.integers(1, 5000), st.integers(1, 5000))
def test_more_context_never_needs_less(mixers: list[Mixer], tokens: int, more: int) -> None:
    rows = cache_rows(model(*mixers))
    for rules in (
        BF16,
        BF16._replace(accounting="hybrid_manager", block_tokens=16),
        BF16._replace(accounting="manager_off"),
    ):
        # Half an entry may wait in a wider buffer than the entry it becomes, so compare whole entries.
        first, second = (cache_cost(rows, rules, 16 * count).bytes_at_context for count in (tokens, tokens + more))
        assert first <= second


@given(st.lists(st.sampled_from(MIXERS), min_size=1, max_size=6), st.sampled_from([1, 2, 4, 8]))
def test_a_rank_never_holds_more_than_the_whole_cache(mixers: list[Mixer], ranks: int) -> None:
    rows = cache_rows(model(*mixers))
    whole, share = (cache_cost(rows, BF16, 640, num_ranks=count).bytes_at_context for count in (1, ranks))
    assert whole / ranks <= share <= whole


def test_every_kind_of_mixer_has_rows_and_equal_layers_are_counted() -> None:
    for mixer in MIXERS:
        assert mixer_cache(mixer, 64)
    rows = cache_rows(model(*[MIXERS[0]] * 7))
    assert [row.count for row in rows] == [7]


def test_the_librarys_own_cache_drops_one_token_and_keeps_every_column() -> None:
    # transformers 5.23.0: DynamicSlidingWindowLayer keeps window - 1 tokens, LinearAttentionLayer all columns.
    spec = model(GroupedAttention(8, 2, 16, 16, window_tokens=128), ShortConvolution(2048, 3))
    rules = transformers.cache_rules(spec, asked=None, scheme=None, weight_dtype="bfloat16", capability=None)
    assert cache_cost(cache_rows(spec), rules, 1000).bytes_per_sequence == 127 * 128 + 2048 * 3 * 2
