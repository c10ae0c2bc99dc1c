"""vLLM's rules worked by hand: block manager, workspaces, padding, settings, refusals and doubts.

Sources are named as `vLLM 0.33.0 path`. A block is a page of every layer of one group; all groups draw from one pool.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import moeplan
from moeplan.core.deployment import Option, Refusal
from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware
from moeplan.core.kv_cache import CacheRules, cache_cost, cache_rows
from moeplan.core.ledger import Line
from moeplan.core.model import (
    CompressedAttention,
    DenseFfn,
    Ffn,
    GatedDelta,
    GroupedAttention,
    Indexer,
    KimiDelta,
    LatentAttention,
    Layer,
    LightningAttention,
    Mamba2,
    Mixer,
    ModelSpec,
    MoeFfn,
    RoutedAttention,
)
from moeplan.core.quant import BF16, Quantisation
from moeplan.engines import vllm
from moeplan.sources.hardware_profiles import find_hardware
from moeplan.sources.models import find_model
from moeplan.sources.quantisation import what_if
from tests.engines.serving import ranks, serving, settings

GIB = 2**30
WINDOW = GroupedAttention(8, 2, 16, 16, window_tokens=128)
FULL = GroupedAttention(8, 2, 16, 16)
ENTRY_BYTES = 2 * (16 + 16) * 2


def model(*mixers: Mixer, ffn: Ffn | None = None, family: str = "test") -> ModelSpec:
    layers = tuple(Layer((mixer,), (ffn,) if ffn else ()) for mixer in mixers)
    return ModelSpec("test", family, 64, 100, layers, False, None, "bfloat16", True)


def published(name: str) -> ModelSpec:
    return find_model(name).spec


def card(name: str) -> Hardware:
    return find_hardware(name)[0]


def rules_of(spec: ModelSpec, capability: str = "9.0") -> CacheRules:
    return vllm.cache_rules(spec, asked=None, scheme=None, weight_dtype=spec.dtype, capability=capability)


def held_bytes(spec: ModelSpec, context: int, *, sequences: int = 1, tp: int = 1, batch: int = 0) -> int:
    """What the block manager holds for sequences on one rank; `batch` is --max-num-batched-tokens. The block that it
    holds back for itself is left out here: test_vllm_blocks.py."""
    asked = serving(spec, context=context, sequences=sequences, tp=tp, stated={"--max-num-batched-tokens": batch})
    held = [
        vllm.managed_cache_bytes(asked, settings(asked), ranks(asked)[0], rules_of(spec), context, count)
        for count in (sequences, 0)
    ]
    return held[0] - held[1]


# Block manager ---------------------------------------------------------------------------------------------


def test_one_sort_of_layers_holds_whole_blocks_and_nothing_else() -> None:
    # DeepSeek-V3: 61 latents of 1152 bytes; vLLM 0.33.0 v1/core/kv_cache_planning.py, one group.
    spec = published("deepseek-v3")
    assert held_bytes(spec, 16) == held_bytes(spec, 1) == 16 * 61 * 1152
    assert held_bytes(spec, 17, sequences=3, batch=8192) == 3 * 32 * 61 * 1152


def test_gpt_oss_20b_has_two_groups_of_twelve() -> None:
    # A page is 16 tokens x 8 heads x (64 + 64) x 2 B, a block 12 of them. Full: one block per 16 tokens. Window 128:
    # 8 blocks and one, for it may straddle (vLLM 0.33.0 v1/kv_cache_interface.py SlidingWindowSpec).
    block = 12 * 16 * 8 * (64 + 64) * 2
    spec = published("gpt-oss-20b")
    assert held_bytes(spec, 131_072) == (8192 + 9) * block
    assert held_bytes(spec, 131_072, sequences=10) == 10 * (8192 + 9) * block


@pytest.mark.parametrize("batch", [2048, 8192, 16384])
def test_two_batches_are_in_flight(batch: int) -> None:
    # vLLM 0.33.0 config/vllm.py max_in_flight_tokens with asynchronous scheduling, and SlidingWindowSpec:
    # ceil((window - 1 + in flight) / block) + 1 blocks for one request.
    block = 12 * 16 * 8 * (64 + 64) * 2
    window_blocks = -(-(128 - 1 + 2 * batch) // 16) + 1
    assert held_bytes(published("gpt-oss-20b"), 131_072, batch=batch) == (8192 + window_blocks) * block


@pytest.mark.parametrize(("context", "window_blocks"), [(100, 8), (4096, 257), (20_000, 8 + 1024 + 1)])
def test_windows_and_batches_are_never_more_than_the_sequence(context: int, window_blocks: int) -> None:
    # vLLM 0.33.0 v1/kv_cache_interface.py SlidingWindowSpec: ceil(min(127 + 16,384, context) / 16) + 1 blocks.
    assert window_blocks == -(-min(127 + 16_384, context) // 16) + 1
    full_blocks = -(-context // 16)
    assert held_bytes(model(FULL, WINDOW), context, batch=8192) == (full_blocks + window_blocks) * 16 * ENTRY_BYTES


def test_gemma_3_27b_pads_52_windows_to_60() -> None:
    # 10 full layers give the group's size; 52 = 6 groups of 10 with 8 padding layers
    # (vLLM 0.33.0 v1/core/kv_cache_planning.py _get_kv_cache_groups_uniform_page_size).
    block = 10 * 16 * 16 * (128 + 128) * 2
    full, windows = 8192 // 16, 1024 // 16 + 1
    assert held_bytes(published("gemma-3-27b-it"), 8192) == (full + 6 * windows) * block


@pytest.mark.parametrize(
    ("full", "windows", "full_slots", "window_slots"),
    # The larger count where it is less than half as many again, else the smaller; both from the comments of
    # vLLM 0.33.0 v1/core/kv_cache_planning.py: (12 sliding, 13 full) becomes (13, 13); 10 and 20 need no padding.
    [(13, 12, 13, 13), (10, 20, 10, 20), (20, 30, 20, 40), (8, 9, 9, 9), (3, 7, 3, 9), (7, 3, 9, 3)],
)
def test_groups_are_padded_to_one_size(full: int, windows: int, full_slots: int, window_slots: int) -> None:
    spec = model(*[FULL] * full, *[WINDOW] * windows)
    assert held_bytes(spec, 1600) == (full_slots * 100 + window_slots * 9) * 16 * ENTRY_BYTES


def test_mimo_has_pages_of_two_sizes() -> None:
    # 9 full layers of 4 heads and 39 windows of 8, each head 192 + 128: the pages of full layers hold twice the tokens
    # (vLLM 0.33.0 v1/core/kv_cache_planning.py unify_kv_cache_spec_page_size); 39 windows take 5 groups of 9.
    block = 9 * 16 * 8 * (192 + 128) * 2
    spec = published("mimo-v2-flash")
    window = next(row.window_tokens for row in cache_rows(spec) if row.kind == "sliding")
    assert window is not None
    full, windows = 32_768 // 32, -(-(window - 1) // 16) + 1
    assert held_bytes(spec, 32_768) == (full + 5 * windows) * block
    # On four ranks: one head of full layers, two of windows.
    assert held_bytes(spec, 32_768, tp=4) == (full + 5 * windows) * block // 4
    # On eight: one each, for the four are replicated.
    assert held_bytes(spec, 32_768, tp=8) == (2 * full + 5 * windows) * block // 8


def test_llama_4_keeps_the_hybrid_manager() -> None:
    # vLLM 0.33.0 envs.py: VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE is 1 where nobody sets it; only 0 turns
    # the manager off (config/vllm.py). A chunk never straddles (v1/kv_cache_interface.py ChunkedLocalAttentionSpec).
    spec = published("llama-4-scout-17b-16e-instruct")
    assert rules_of(spec).accounting == "ideal"
    block = 12 * 16 * 8 * (128 + 128) * 2
    full, chunks = 32_768 // 16, 8192 // 16
    assert held_bytes(spec, 32_768) == (full + 3 * chunks) * block
    in_flight = 2 * 4096 // 16
    assert held_bytes(spec, 32_768, batch=4096) == (full + 3 * (chunks + in_flight)) * block
    hybrid = vllm.window_accountings(serving(spec), rules_of(spec))["hybrid_manager"]
    assert cache_cost(cache_rows(spec), hybrid, 32_768).bytes_per_sequence == 36 * 8192 * 4096


def test_qwen3_next_raises_its_block_to_the_state_and_keeps_two_states() -> None:
    # State: 3 columns of 8192 channels and 32 x 128 x 128, in 16 bit; full layers: 2 heads of 256 + 256. On four ranks
    # a state is 274,432 B and a token 1024 B (one head each), so a block is 17 x 16 = 272 tokens and 12 pages of it.
    state = (3 * 8192 // 4 + 32 * 128 * 128 // 4) * 2
    assert state == 274_432
    block_tokens = -(-state // (16 * 1024)) * 16
    assert block_tokens == 272
    block = 12 * block_tokens * 1024
    assert round(block / 1e6, 2) == 3.34
    # 1024 tokens: four blocks of full attention; 36 recurrent layers are three groups with two states each.
    assert held_bytes(published("qwen3-next-80b-a3b-instruct"), 1024, tp=4) == (4 + 3 * 2) * block


@pytest.mark.parametrize(
    ("name", "block_tokens", "layers", "token_bytes", "state_blocks"),
    # vLLM 0.33.0 platforms/interface.py _align_hybrid_block_size. 544 and 2096 are what public logs print for these
    # models. Latents go in steps of 128: 15 x 128 x 1152 B hold a state of 2,170,880 B, and 14 do not.
    # States: two, three of Mamba2 (mamba_mixer2.py:get_kv_cache_spec, num_prefill_checkpoint_blocks).
    [
        ("qwen3-next-80b-a3b-instruct", 544, 12, 2 * 512 * 2, 3 * 2),
        ("nvidia-nemotron-3-nano-30b-a3b-bf16", 2096, 6, 2 * 256 * 2, 4 * 3),
        ("kimi-linear-48b-a3b-instruct", 1920, 6, 576 * 2, 4 * 2),
    ],
)
def test_hybrid_blocks_are_as_logged(
    name: str, block_tokens: int, layers: int, token_bytes: int, state_blocks: int
) -> None:
    spec = published(name)
    block = layers * block_tokens * token_bytes
    assert held_bytes(spec, block_tokens) == (1 + state_blocks) * block
    assert held_bytes(spec, block_tokens + 1) == (2 + state_blocks) * block


def test_deepseek_v4_keeps_compressor_states_of_tokens_in_flight() -> None:
    # vLLM 0.33.0 models/deepseek_v4/compressor.py: state_dim = 2 x head_dim, twice that where windows overlap, in fp32;
    # a window of 2 x 4 or of 128 tokens. Windows of 128 in records of 584 B.
    spec = published("deepseek-v4-flash")
    in_flight = 43 * 584 + 21 * 4 * (2 * 2 * 512) + 21 * 4 * (2 * 2 * 128) + 20 * 4 * (2 * 512)
    assert held_bytes(spec, 32_768, batch=4096) - held_bytes(spec, 32_768) == 2 * 4096 * in_flight
    entries = 21 * (584 + 132) * 32_768 // 4 + 20 * 584 * 32_768 // 128
    windows = 43 * 584 * (128 + 64)
    states = 21 * 4 * (2048 + 512) * (8 + 16) + 20 * 4 * 1024 * (128 + 16)
    assert held_bytes(spec, 32_768) == entries + windows + states


MIXERS: list[Mixer] = [
    FULL,
    WINDOW,
    WINDOW._replace(chunked=True),
    LatentAttention(4, 24, 32, 16, 8, 16, Indexer(2, 16, 8)),
    CompressedAttention(4, 32, 8, 16, 2, 16, 32, 4, Indexer(2, 16, 8)),
    GatedDelta(2, 4, 16, 16, 4),
    Mamba2(4, 16, 16, 2, 4),
]


@given(
    st.lists(st.sampled_from(MIXERS), min_size=1, max_size=6),
    st.integers(1, 3000),
    st.integers(1, 500),
    st.integers(1, 40),
    st.sampled_from([0, 2048]),
)
def test_more_context_or_more_sequences_are_never_held_in_less(
    mixers: list[Mixer], context: int, more: int, sequences: int, batch: int
) -> None:
    spec = model(*mixers)
    now = held_bytes(spec, context, sequences=sequences, batch=batch)
    assert now <= held_bytes(spec, context + more, sequences=sequences, batch=batch)
    assert now < held_bytes(spec, context, sequences=sequences + 1, batch=batch)


def test_cache_dtypes_are_those_of_the_engine() -> None:
    with pytest.raises(InputError, match="float32"):
        vllm.cache_rules(model(FULL), asked="float32", scheme=None, weight_dtype="bfloat16", capability=None)


@pytest.mark.parametrize(
    ("name", "capability", "dtype", "latent_bytes"),
    # vLLM 0.33.0 model_executor/models/config.py and platforms/cuda.py: sparse latents are packed on 12, GLM-5 is fp8
    # on 10, where the preferred backend stores plain elements.
    [
        ("deepseek-v3.2", "9.0", "bfloat16", 1152),
        ("deepseek-v3.2", "12.0", "fp8", 656),
        ("glm-5-fp8", "9.0", "bfloat16", 1152),
        ("glm-5-fp8", "10.0", "fp8", 576),
        ("deepseek-v3", "12.0", "bfloat16", 1152),
    ],
)
def test_auto_depends_on_the_card(name: str, capability: str, dtype: str, latent_bytes: int) -> None:
    spec = published(name)
    rules = rules_of(spec, capability)
    latents = tuple(row for row in cache_rows(spec) if row.kind == "latent")
    assert rules.kv_dtype == dtype
    assert cache_cost(latents, rules, 1).bytes_per_token == latent_bytes * sum(row.count for row in latents)


# Lines beside weights and cache ----------------------------------------------------------------------------


def lines(name: str, gpu: str, **asked: object) -> dict[str, Line]:
    found = moeplan.estimate(name, gpu=gpu, offline=True, **asked)  # type: ignore[arg-type]
    return {line.code: line for line in found.ranks[0].lines}


def test_the_indexers_workspace_is_the_example_of_its_source() -> None:
    # vLLM 0.33.0 v1/attention/backends/mla/indexer.py: 40 * 163840 * 132 = 865075200 bytes.
    assert lines("deepseek-v3.2", "8xb200", context=163_840)["expert_workspace"].bytes == 865_075_200


def test_beyond_262144_tokens_the_factor_is_smaller() -> None:
    # vLLM 0.33.0 config/vllm.py: 5 up to 256 x 1024 tokens, else 2; each times 1152 // 132 = 8.
    for tokens, factor in ((262_144, 5), (262_145, 2)):
        assert lines("deepseek-v3.2", "8xb200", context=tokens)["expert_workspace"].bytes == tokens * factor * 8 * 132


def test_experts_and_indexer_share_one_workspace() -> None:
    # Experts: 8192 tokens x 8 x (7168 + 7168) x 2 B = 1.75 GiB, more than the indexer's 825 MiB; vLLM 0.33.0
    # v1/worker/workspace.py grows one buffer to the largest request.
    found = lines("deepseek-v3.2", "8xh200", context=163_840)
    assert found["expert_workspace"].bytes == 8192 * 8 * (7168 + 7168) * 2 == round(1.75 * GIB)
    assert found["expert_workspace"].low_bytes == 865_075_200
    assert not [code for code in found if code.startswith("indexer")]


def test_who_takes_the_workspace_is_known_for_16_bit_experts_on_hopper_alone() -> None:
    # Qwen3-30B-A3B: 8 of its experts, hidden 2048, width 768.
    whole = 8192 * 8 * (2048 + 2048) * 2
    known = lines("qwen3-30b-a3b", "h100")["expert_workspace"]
    assert (known.bytes, known.low_bytes, known.high_bytes, known.basis) == (whole, whole, whole, "derived")
    fp8 = lines("qwen3-30b-a3b-fp8", "h100")["expert_workspace"]
    assert (fp8.bytes, fp8.low_bytes, fp8.high_bytes, fp8.basis) == (whole, 0, whole, "assumed")
    blackwell = lines("qwen3-30b-a3b", "b200")["expert_workspace"]
    assert (blackwell.bytes, blackwell.high_bytes, blackwell.basis) == (0, 2 * whole, "assumed")
    mxfp4 = lines("gpt-oss-20b", "h100")["expert_workspace"]
    assert (mxfp4.bytes, mxfp4.high_bytes) == (0, 8192 * 4 * (2880 + 2 * 2880) * 2)
    assert "expert_workspace" not in lines("llama-3.1-8b-instruct", "h100")


@pytest.mark.parametrize(
    ("name", "gpu", "logged_gib"),
    # Public logs of one GPU: Triton on H100 (vllm-project/vllm#33155 and the report of llm-d-planner), Marlin elsewhere.
    [
        ("gpt-oss-120b", "h100", 64.38),
        ("gpt-oss-120b", "a100-80gb", 65.97),
        ("gpt-oss-20b", "h100", 13.47),
        ("gpt-oss-20b", "a100-80gb", 13.72),
    ],
)
def test_padded_experts_are_what_logs_say(name: str, gpu: str, logged_gib: float) -> None:
    found = lines(name, gpu)
    weights = sum(line.bytes for code, line in found.items() if code.startswith("weights."))
    assert abs(weights / GIB / logged_gib - 1) > 0.04
    assert abs((weights + found["expert_padding"].bytes) / GIB / logged_gib - 1) < 0.005
    assert found["expert_padding"].basis == "assumed"
    assert found["expert_padding"].low_bytes == 0


def test_marlin_pads_to_the_shapes_that_a_kernel_test_quotes() -> None:
    # gpt-oss-20b, 24 layers: w13 [32, 5888, 1536] and w2 [32, 3072, 1472] bytes, and a scale byte beside each 16.
    kernels = 24 * (32 * 5888 * 1536 + 32 * 3072 * 1472) * 17 // 16
    found = lines("gpt-oss-20b", "a100-80gb")
    padded = found["weights.routed_experts"].bytes + found["expert_padding"].bytes
    assert abs(padded / kernels - 1) < 0.002


@pytest.mark.parametrize(
    ("gpus", "padded_width", "width"),
    # The width of one rank is padded (vLLM 0.33.0 fused_moe/routed_experts.py hands over the share): 2880 / 2 = 1440 to
    # 1472 for Triton (64) and 1536 for Marlin (128); 2880 / 4 = 720 to 768 for both.
    [("2xh100", 1472, 1440), ("2xa100-80gb", 1536, 1440), ("4xh100", 768, 720), ("4xa100-80gb", 768, 720)],
)
def test_the_width_of_one_rank_is_padded(gpus: str, padded_width: int, width: int) -> None:
    found = lines("gpt-oss-20b", gpus)
    experts = found["weights.routed_experts"].bytes
    both = 3072 * padded_width / (2880 * width)
    assert abs(found["expert_padding"].bytes - experts * (both - 1)) <= 1


def test_only_mxfp4_experts_of_odd_sizes_are_padded() -> None:
    assert "expert_padding" not in lines("gpt-oss-20b", "h100", quant="bf16")
    # Hidden 4096 and width 2048 need none.
    assert "expert_padding" not in lines("deepseek-v4-flash", "4xh200")


def test_latent_attention_keeps_16_bit_copies() -> None:
    # 61 layers x 512 x 16 heads on each of 8 ranks x (128 + 128) x 2 B.
    assert lines("deepseek-v3", "8xh200")["absorbed_projections"].bytes == 61 * 512 * 16 * 256 * 2
    assert "absorbed_projections" not in lines("mixtral-8x7b", "2xh100")


def test_flashinfers_workspace_is_that_of_blackwell_without_latents() -> None:
    # vLLM 0.33.0 envs.py: 394 MiB.
    assert lines("mixtral-8x7b", "b200")["attention_workspace"].bytes == 394 * 2**20
    for name, gpu in (("mixtral-8x7b", "2xh100"), ("deepseek-v3", "8xb200")):
        assert "attention_workspace" not in lines(name, gpu)


def test_several_gpus_hold_more_beyond_torch() -> None:
    one, two = (lines("mixtral-8x7b", gpu)["device_context"] for gpu in ("h100", "2xh100"))
    assert (one.bytes, two.bytes) == (279_172_874, 2_254_857_830)


# Settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "tokens", "sequences"),
    # vLLM 0.33.0 engine/arg_utils.py get_batch_defaults, API server.
    [
        ("b200", 16384, 1024),
        ("mi300x", 16384, 1024),
        ("h200", 8192, 1024),
        ("h100", 8192, 1024),
        ("a100-80gb", 2048, 256),
        ("gb10", 2048, 256),
        ("l40s", 2048, 256),
    ],
)
def test_batch_limits_follow_the_card(gpu: str, tokens: int, sequences: int) -> None:
    found = vllm.settle(serving(model(FULL), gpu=gpu))
    by_flag = {option.flag: (option.value, option.origin) for option in found.options}
    assert by_flag["--max-num-batched-tokens"] == (tokens, "default")
    assert by_flag["--max-num-seqs"] == (sequences, "default")
    assert by_flag["--gpu-memory-utilization"] == (0.92, "default")


def test_more_sequences_than_the_default_are_asked_for() -> None:
    for sequences, expected in ((256, (256, "default")), (257, (257, "inferred"))):
        found = vllm.settle(serving(model(FULL), gpu="l40s", sequences=sequences))
        assert [(o.value, o.origin) for o in found.options if o.flag == "--max-num-seqs"] == [expected]


def test_what_is_stated_is_kept() -> None:
    found = vllm.settle(
        serving(model(FULL), gpu="h100", utilization=0.8, stated={"--max-num-seqs": 6, "--enforce-eager": True})
    )
    assert found.options[0] == Option("--gpu-memory-utilization", 0.8, "stated")
    assert Option("--max-num-seqs", 6, "stated") in found.options
    assert Option("--enforce-eager", True, "stated") in found.options


@pytest.mark.parametrize(
    ("dtype", "capability", "loaded"),
    # vLLM 0.33.0 config/model.py _resolve_auto_dtype; no bfloat16 below compute capability 8.0.
    [
        ("float32", "9.0", "bfloat16"),
        ("float32", "7.5", "float16"),
        ("bfloat16", "7.5", "float16"),
        ("bfloat16", "8.0", "bfloat16"),
        ("bfloat16", None, "bfloat16"),
        ("float16", "9.0", "float16"),
    ],
)
def test_weights_are_loaded_in_16_bit(dtype: str, capability: str | None, loaded: str) -> None:
    assert vllm.loaded_dtype(dtype, capability) == loaded


def test_vocabularies_are_padded_to_64_rows_by_this_engine_alone() -> None:
    # Granite 3.1 1B: 49,155 rows of 1024 in 16 bit; 49,155 = 768 x 64 + 3.
    name = "granite-3.1-1b-a400m-instruct"
    assert lines(name, "h100")["weights.embedding"].bytes == 769 * 64 * 1024 * 2
    assert lines(name, "h100", engine="transformers")["weights.embedding"].bytes == 49_155 * 1024 * 2


# Refusals --------------------------------------------------------------------------------------------------

PLAIN = Quantisation("bf16", BF16)


def refused(
    spec: ModelSpec, tp: int = 1, *, gpu: str | None = None, quantisation: Quantisation = PLAIN
) -> tuple[Refusal, ...]:
    asked = serving(spec, gpu=gpu, context=1024, tp=tp, quantisation=quantisation)
    return vllm.refusals(asked, settings(asked))


def codes(*args: object, **asked: object) -> set[str]:
    return {refusal.code for refusal in refused(*args, **asked)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "served"),
    # vLLM 0.33.0 model_executor/models/registry.py: models, and _PREVIOUSLY_SUPPORTED_MODELS.
    [
        ("snowflake-arctic-instruct", False),
        ("grok-1", False),
        ("minimax-text-01", False),
        ("minimax-m1-80k", False),
        ("nllb-moe-54b", False),
        ("switch-base-8", False),
        ("minimax-m2", True),
        ("mixtral-8x7b", True),
        ("dots.llm1.inst", True),
    ],
)
def test_families_that_are_served(name: str, served: bool) -> None:
    assert codes(published(name)) == (set() if served else {"not-supported"})


@pytest.mark.parametrize(
    ("name", "below", "enough"),
    # vLLM 0.33.0 model_executor/layers/quantization get_min_capability: mxfp4 80, fp8 and AWQ 75, int4 75 of
    # compressed_tensors_wNa16.py. Tesla V100 is 7.0, T4 7.5, A100 8.0.
    [("mxfp4", "t4", "a100-80gb"), ("fp8", "v100-32gb", "t4"), ("int4", "v100-32gb", "t4"), ("awq", "v100-32gb", "t4")],
)
def test_formats_need_a_compute_capability(name: str, below: str, enough: str) -> None:
    spec = published("mixtral-8x7b")
    quantisation = what_if(name, spec)
    assert codes(spec, gpu=below, quantisation=quantisation) == {"no-kernel"}
    assert codes(spec, gpu=enough, quantisation=quantisation) == set()
    assert codes(spec, quantisation=quantisation) == set()


def test_sparse_latent_attention_needs_a_recent_card() -> None:
    # vLLM 0.33.0 v1/attention/backends/mla: flashmla_sparse 9 and 10, flashinfer_mla_sparse 10 and 12.
    for name in ("deepseek-v3.2", "deepseek-v4-flash"):
        assert codes(published(name), gpu="a100-80gb") == {"no-kernel"}
        for gpu in ("h100", "b200", "rtx-pro-6000"):
            assert codes(published(name), gpu=gpu) == set()
    assert codes(published("deepseek-v3"), gpu="a100-80gb") == set()


@pytest.mark.parametrize(
    ("mixer", "bad_tp", "good_tp", "code"),
    [
        (GroupedAttention(12, 4, 16, 16), 8, 4, "heads-not-divisible"),
        # Six heads of keys: not over four ranks, one for two of twelve.
        (GroupedAttention(12, 6, 16, 16), 4, 12, "kv-heads-not-divisible"),
        (LatentAttention(20, None, 32, 16, 8, 16), 8, 4, "heads-not-divisible"),
        (CompressedAttention(64, 32, 8, 16, 8, 16, 32, 4), 16, 8, "heads-not-divisible"),
        (GatedDelta(16, 32, 16, 16, 4), 32, 16, "heads-not-divisible"),
        (KimiDelta(32, 16, 4), 3, 32, "heads-not-divisible"),
        (LightningAttention(32, 16), 3, 32, "heads-not-divisible"),
        (Mamba2(24, 16, 16, 8, 4), 16, 8, "heads-not-divisible"),
        (RoutedAttention(8, 2, 4, 16), 8, 4, "heads-not-divisible"),
    ],
)
def test_heads_must_divide(mixer: Mixer, bad_tp: int, good_tp: int, code: str) -> None:
    assert codes(model(mixer), bad_tp) == {code}
    assert codes(model(mixer), good_tp) == set()


@pytest.mark.parametrize("ffn", [DenseFfn(96), MoeFfn(4, 2, 96)])
def test_widths_must_divide(ffn: Ffn) -> None:
    spec = model(GroupedAttention(64, 64, 4, 4), ffn=ffn)
    assert codes(spec, 64) == {"width-not-divisible"}
    assert codes(spec, 32) == set()


def test_shards_of_block_fp8_are_whole_blocks() -> None:
    # DeepSeek-V3: dense width 18,432 is 9 blocks of 128 on each of 16 ranks and 4.5 on each of 32; the experts' 64 are
    # padded, not refused (vLLM 0.33.0 utils/fp8_utils.py validate_fp8_block_shape, fused_moe/oracle/fp8.py).
    found = find_model("deepseek-v3")
    assert found.quantisation is not None
    assert codes(found.spec, 16, quantisation=found.quantisation) == set()
    told = refused(found.spec, 32, quantisation=found.quantisation)
    assert [refusal.code for refusal in told] == ["block-not-divisible"]
    assert "18432 / 32" in told[0].message
    assert codes(found.spec, 32) == set()


def test_expert_shards_of_block_fp8_are_not_refused() -> None:
    # Qwen3-30B-A3B-FP8: 768 / 4 = 192 is no whole block.
    found = find_model("qwen3-30b-a3b-fp8")
    assert found.quantisation is not None
    assert "block" in found.quantisation.name
    assert codes(found.spec, 4, quantisation=found.quantisation) == set()


# Doubts ----------------------------------------------------------------------------------------------------


def doubts(name: str, gpu: str, **asked: object) -> tuple[list[str], bool]:
    found = moeplan.estimate(name, gpu=gpu, offline=True, **asked)  # type: ignore[arg-type]
    return [note.message for note in found.notes if note.code == "not-modelled"], found.verdict.certain


def test_what_is_modelled_raises_no_doubt() -> None:
    assert doubts("mixtral-8x7b", "4xh100") == ([], True)


@pytest.mark.parametrize(
    ("name", "gpu", "asked", "word"),
    [
        ("dots.llm1.inst", "8xh200", {}, "transformers' modules"),
        ("deepseek-v4-flash", "8xh200", {}, "cache groups"),
        ("mixtral-8x7b", "4xmi300x", {}, "CUDA"),
        ("mixtral-8x7b", "4xh100", {"quant": "q4_k_m"}, "GGUF"),
        ("mixtral-8x7b", "4xh100", {"quant": "nf4"}, "bitsandbytes"),
        ("qwen3-vl-30b-a3b-instruct", "4xh100", {}, "encoder"),
    ],
)
def test_what_is_not_modelled_is_said_and_makes_the_verdict_uncertain(
    name: str, gpu: str, asked: dict[str, object], word: str
) -> None:
    told, certain = doubts(name, gpu, **asked)
    assert len(told) == 1
    assert word in told[0]
    assert certain is False


def test_parts_that_are_not_loaded_are_named() -> None:
    # vLLM 0.33.0 model_executor/models/qwen3_omni_moe_thinker.py maps talker. and code2wav. to nothing.
    for name in ("talker.model.layers.0.mlp.gate.weight", "code2wav.decoder.weight"):
        assert vllm.leaves_out(name)
    for name in ("thinker.model.embed_tokens.weight", "model.talker_norm.weight", "lm_head.weight"):
        assert vllm.leaves_out(name) is None


def test_a_gguf_file_is_told_from_its_formats_and_raises_a_doubt() -> None:
    spec = published("mixtral-8x7b")
    for stored in (Quantisation("gguf q4_k_m", BF16), what_if("q4_k_m", spec)):
        asked = serving(spec, quantisation=stored)
        told = vllm.doubts(asked, settings(asked))
        assert any("GGUF" in remark.message for remark in told)
    asked = serving(spec, quantisation=what_if("fp8", spec))
    assert not vllm.doubts(asked, settings(asked))
