"""vLLM's blocks worked by hand: pipeline stages, batches in flight, states, the null block, stated pools.

Sources are named as `vLLM 0.33.0 path`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

import moeplan
from moeplan.core.deployment import Serving, Value
from moeplan.core.kv_cache import CacheRules, cache_cost, cache_rows
from moeplan.core.model import GroupedAttention, Layer, ModelSpec
from moeplan.core.units import MIB
from moeplan.engines import vllm
from moeplan.engines.vllm.blocks import block_plan
from moeplan.estimate import Estimate
from moeplan.sources.models import find_model
from tests.engines.serving import ranks, serving, settings

GIB = 2**30
NO_NULL_BLOCK = "0.32"
"""Rules of batches in flight as in 0.33, without the block that is held back and without checkpoint states."""


def estimate(name: str, gpu: str, flags: str = "", **asked: object) -> Estimate:
    return moeplan.estimate(name, gpu=gpu, offline=True, engine_args=flags, **asked)  # type: ignore[arg-type]


def asked_of(
    name: str,
    gpu: str | None = "h100",
    *,
    context: int = 8192,
    version: str | None = None,
    stated: Mapping[str, Value] | None = None,
    pp: int = 1,
    tp: int = 1,
) -> Serving:
    return serving(find_model(name).spec, gpu=gpu, context=context, version=version, stated=stated, pp=pp, tp=tp)


def rules_of(of: Serving) -> CacheRules:
    return vllm.cache_rules(of.spec, asked=None, scheme=None, weight_dtype=of.spec.dtype, capability="9.0")


def one_request(of: Serving) -> list[int]:
    """Bytes of one request of the context on each stage."""
    context = of.deployment.context_tokens
    return [vllm.managed_cache_bytes(of, settings(of), rank, rules_of(of), context, 1) for rank in ranks(of)]


# Pipeline stages -------------------------------------------------------------------------------------------


def window_blocks(window: int, batches: int, batch: int = 8192) -> int:
    """vLLM 0.33.0 v1/kv_cache_interface.py SlidingWindowSpec, in blocks of 16."""
    return math.ceil((window - 1 + batches * batch) / 16) + 1


def test_gemma_3_27b_is_grouped_as_a_whole() -> None:
    # 10 full layers give the groups' size, 52 windows make 6; layer i of the windows is in group i modulo 6. A stage of
    # 15 or 16 layers has at most 3 of any group. Five batches are in flight over four stages
    # (vLLM 0.33.0 v1/core/kv_cache_planning.py _project_kv_cache_groups_to_worker, config/vllm.py max_in_flight_tokens).
    block = 3 * 16 * 16 * (128 + 128) * 2
    by_hand = (6250 + 6 * window_blocks(1024, 5)) * block
    assert by_hand // MIB == 8250
    found = one_request(asked_of("gemma-3-27b-it", context=100_000, version=NO_NULL_BLOCK, pp=4))
    assert found == [by_hand] * 4


def test_gpt_oss_120b_over_four_stages() -> None:
    # 18 full layers and 18 windows of 128 in turns: two groups, of which a stage of 9 layers has 5 and 4.
    block = 5 * 16 * 8 * (64 + 64) * 2
    by_hand = (6250 + window_blocks(128, 5)) * block
    assert by_hand // MIB == 1377
    assert one_request(asked_of("gpt-oss-120b", context=100_000, version=NO_NULL_BLOCK, pp=4)) == [by_hand] * 4


def test_gpt_oss_120b_over_four_stages_prints_its_concurrency() -> None:
    # On a pool of 51.96 GiB on the fullest rank: 32.2 requests of 128,000 tokens, where groups per stage gave 37.7.
    of = asked_of("gpt-oss-120b", context=128_000, pp=4)
    pool = round(51.96 * GIB)
    told = [vllm.prints(of, settings(of), rank, rules_of(of), pool) for rank in ranks(of)]
    blocks = pool // (5 * 16 * 8 * (64 + 64) * 2)
    assert [prints.concurrency for prints in told if prints] == [round(blocks / (8000 + window_blocks(128, 5)), 2)] * 4
    assert told[0] is not None
    assert round(told[0].concurrency or 0, 1) == 32.2


@pytest.mark.parametrize(
    ("name", "pp", "tp", "blocks", "block_bytes", "mebibytes"),
    # 100,000 tokens; vLLM 0.33.0 get_kv_cache_configs.
    [
        # 5 full layers (2 heads of 512: pages of 32 tokens), 25 windows (8 heads of 256) in 5 groups; a stage has at most
        # two layers of a group.
        ("gemma-4-26b-a4b", 4, 1, 3125 + 5 * (math.ceil((1023 + 5 * 8192) / 16) + 1), 2 * 16 * 8 * 512 * 2, 4062),
        # 15 full layers of one head of 256 on a rank, 45 recurrent in 3 groups; at most 8 of a group on a stage. A state of
        # 3 x 12,288 / 4 x 2 B and 64 / 4 x 128 x 128 x 4 B takes 1056 tokens.
        ("qwen3.5-397b-a17b", 2, 4, math.ceil(100_000 / 1056) + 3 * 2, 8 * 1056 * 512 * 2, 833),
        # 6 full layers (8 heads of 64), 18 short convolutions in 3 groups; at most two of a group on a stage.
        ("lfm2-8b-a1b", 4, 1, 6250 + 3 * 2, 2 * 16 * 8 * 128 * 2, 391),
    ],
)
def test_stages_of_other_hybrids(name: str, pp: int, tp: int, blocks: int, block_bytes: int, mebibytes: int) -> None:
    found = one_request(asked_of(name, context=100_000, version=NO_NULL_BLOCK, pp=pp, tp=tp))
    assert found == [blocks * block_bytes] * pp
    assert found[0] // MIB == mebibytes


def test_stages_of_one_sort_hold_their_layers() -> None:
    # DeepSeek-V3: one group; 31 and 30 latents of 1152 bytes.
    found = one_request(asked_of("deepseek-v3", "h200", context=16, version=NO_NULL_BLOCK, pp=2))
    assert found == [31 * 16 * 1152, 30 * 16 * 1152]


def test_a_stage_without_a_sort_draws_blocks_for_it() -> None:
    # Two full layers on the first stage, two windows on the second: both groups draw on both stages, and a block holds
    # two pages on either (vLLM 0.33.0 v1/core/kv_cache_planning.py _max_memory_usage_bytes_from_groups).
    full = Layer((GroupedAttention(8, 2, 16, 16),), ())
    window = Layer((GroupedAttention(8, 2, 16, 16, window_tokens=128),), ())
    spec = ModelSpec("test", "test", 64, 100, (full, full, window, window), False, None, "bfloat16", True)
    of = serving(spec, context=1600, version=NO_NULL_BLOCK, stated={"--max-num-batched-tokens": 0}, pp=2)
    page = 16 * 2 * (16 + 16) * 2
    assert one_request(of) == [(100 + 9) * 2 * page] * 2


# Batches in flight -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "pp", "stated", "batches"),
    # vLLM 0.33.0 config/vllm.py max_concurrent_batches: stages, and one more with asynchronous scheduling. Before pull
    # request 47728 of July 2026 windows had room for max_num_batched_tokens once.
    [
        ("0.33.0", 1, {}, 2),
        ("0.33.0", 1, {"--async-scheduling": False}, 1),
        ("0.33.0", 4, {}, 5),
        ("0.33.0", 4, {"--async-scheduling": False}, 4),
        ("0.26.0", 4, {}, 5),
        ("0.24.0", 4, {}, 1),
        ("0.11.2", 1, {}, 1),
    ],
)
def test_batches_in_flight(version: str, pp: int, stated: dict[str, Value], batches: int) -> None:
    of = asked_of("gpt-oss-20b", version=version, stated={"--max-num-batched-tokens": 1000, **stated}, pp=pp)
    plan = block_plan(of, settings(of), ranks(of)[0], rules_of(of))
    assert plan.in_flight_tokens == batches * 1000


@pytest.mark.parametrize(
    ("name", "context", "gibibytes"), [("gpt-oss-20b", 131_072, 3.1), ("gemma-4-26b-a4b", 262_144, 5.98)]
)
def test_two_logs_of_one_script_need_what_is_counted(name: str, context: int, gibibytes: float) -> None:
    # Refusals of one script in April 2026 (obs-d-023 and its neighbour): the batch limit is not told, one of 4096 tokens
    # explains both, one of 2048 neither (3.05 and 5.78). Windows hold one batch.
    for batch, agrees in ((4096, True), (2048, False)):
        stated: dict[str, Value] = {"--max-num-batched-tokens": batch}
        (found,) = one_request(asked_of(name, context=context, version="0.19.0", stated=stated))
        assert (round(found / GIB, 2) == gibibytes) is agrees


# Recurrent states ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gpu", "version", "stated", "states", "block_tokens"),
    # vLLM 0.33.0 v1/kv_cache_interface.py MambaSpec: 2 in align mode, 1 without prefix caching, one more for a drafted
    # token, and one where layers write checkpoints: Mamba2 always (mamba_mixer2.py), gated delta attention where FlashInfer
    # runs its prefill (qwen_gdn_linear_attn.py _resolve_gdn_prefill_backend), with blocks in steps of 64: 544 to 576.
    [
        ("nvidia-nemotron-3-nano-30b-a3b-bf16", "a100-80gb", None, {}, 3, 2096),
        ("nvidia-nemotron-3-nano-30b-a3b-bf16", "h100", "0.24.0", {}, 2, 2096),
        ("nvidia-nemotron-3-nano-30b-a3b-bf16", "h100", None, {"--enable-prefix-caching": False}, 1, 2096),
        ("qwen3-next-80b-a3b-instruct", "h100", None, {}, 3, 576),
        ("qwen3-next-80b-a3b-instruct", "b200", None, {}, 3, 576),
        ("qwen3-next-80b-a3b-instruct", "rtx-pro-6000", None, {}, 3, 576),
        ("qwen3-next-80b-a3b-instruct", "a100-80gb", None, {}, 2, 544),
        ("qwen3-next-80b-a3b-instruct", "h100", "0.24.0", {}, 2, 544),
        ("qwen3-next-80b-a3b-instruct", "h100", None, {"--enable-prefix-caching": False}, 1, 544),
        ("qwen3-next-80b-a3b-instruct", "h100", None, {"--gdn-prefill-backend": "triton"}, 2, 544),
        # No checkpoints: short convolutions, and Kimi Linear, whose gate has no bound (FlashKDA asks for one).
        ("lfm2-8b-a1b", "h100", None, {}, 2, 16),
        ("kimi-linear-48b-a3b-instruct", "h100", None, {}, 2, 1920),
    ],
)
def test_states_by_mixer_card_and_version(
    name: str, gpu: str, version: str | None, stated: dict[str, Value], states: int, block_tokens: int
) -> None:
    of = asked_of(name, gpu, version=version, stated=stated)
    groups = block_plan(of, settings(of), ranks(of)[0], rules_of(of)).groups
    assert {group.states for group in groups if group.sort == "recurrent"} == {states}
    assert {group.block_tokens for group in groups if group.sort == "full"} == {block_tokens}


def test_drafted_tokens_take_states_and_columns() -> None:
    # vLLM 0.33.0 mamba_utils.py gated_delta_net_state_shape: kernel - 1 + num_spec columns of 8192 channels, 32 states of
    # 128 x 128; a token of full attention is 2 heads of 256 + 256, all in 16 bit.
    config = '{"method": "ngram", "num_speculative_tokens": 4}'
    of = asked_of("qwen3-next-80b-a3b-instruct", "a100-80gb", stated={"--speculative-config": config})
    plan = block_plan(of, settings(of), ranks(of)[0], rules_of(of))
    state = ((3 + 4) * 8192 + 32 * 128 * 128) * 2
    tokens = math.ceil(state / (16 * 2048)) * 16
    assert tokens == 576
    assert {group.block_tokens for group in plan.groups} == {tokens}
    assert {group.states for group in plan.groups if group.sort == "recurrent"} == {2 + 4}


def test_nemotron_3_nano_prints_its_concurrency() -> None:
    # 32,768 tokens are 16 blocks of 2096; 23 recurrent layers are 4 groups of 6 with three states each: 28 blocks of one
    # request where two states made 24: 225.8 for 263.4 requests on the same pool.
    of = asked_of("nvidia-nemotron-3-nano-30b-a3b-bf16", context=32_768, tp=2)
    plan = block_plan(of, settings(of), ranks(of)[0], rules_of(of))
    assert plan.one_request(32_768) == 16 + 4 * 3
    block = 6 * 2096 * 1 * 256 * 2
    assert plan.block_bytes == block
    pool = 6321 * block
    told = vllm.prints(of, settings(of), ranks(of)[0], rules_of(of), pool)
    assert told is not None
    assert told.concurrency == round(6321 / 28, 2) == 225.75
    assert round(6321 / 24, 2) == 263.38


# The null block, and stated pools --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "most"),
    # Qwen3-30B-A3B: a block is 16 x 2048 B x 48 layers. 1 GiB has 682 and 10 are stated; the check at start holds one back
    # (vLLM 0.33.0 v1/core/kv_cache_planning.py get_kv_cache_configs, check_memory).
    [("--kv-cache-memory-bytes 1G", 681 * 16), ("--num-gpu-blocks-override 10", 9 * 16)],
)
def test_one_block_is_held_back(flags: str, most: int) -> None:
    found = estimate("qwen3-30b-a3b", "h100", f"{flags} --max-model-len {most}")
    assert found.verdict.fits is True
    assert found.capacity.max_context_tokens == most
    assert estimate("qwen3-30b-a3b", "h100", f"{flags} --max-model-len {most + 1}").verdict.fits is False
    before = estimate("qwen3-30b-a3b", "h100", f"{flags} --max-model-len {most}", engine_version="0.24.0")
    assert before.capacity.max_context_tokens == most + 16


@pytest.mark.parametrize(
    ("flags", "pool"),
    [
        ("--kv-cache-memory-bytes 70G", 70 * GIB),
        ("--num-gpu-blocks-override 1000000", 1_000_000 * 16 * 2048 * 48),
        # The number of blocks overrules (get_kv_cache_configs: override).
        ("--num-gpu-blocks-override 1000000 --kv-cache-memory-bytes 1G", 1_000_000 * 16 * 2048 * 48),
    ],
)
def test_a_pool_beyond_the_card_does_not_fit(flags: str, pool: int) -> None:
    # The engine allocates what was stated (vLLM 0.33.0 v1/worker/gpu_worker.py, kv_cache_memory_bytes).
    found = estimate("qwen3-30b-a3b", "h100", flags)
    assert found.verdict.fits is False
    rank = found.ranks[0]
    assert rank.kv_cache_bytes == pool
    needed = sum(entry.bytes for entry in rank.lines)
    memory = needed + (rank.free_bytes or 0)
    assert rank.weights_bytes + pool < needed
    assert memory < 80 * GIB
    assert found.capacity.max_concurrency == 0


def test_a_pool_that_the_card_has_counts_what_sequences_hold() -> None:
    found = estimate("qwen3-30b-a3b", "h100", "--kv-cache-memory-bytes 10G --max-model-len 16000")
    assert found.verdict.fits is True
    assert found.ranks[0].kv_cache_bytes == 1001 * 16 * 2048 * 48
    assert found.ranks[0].free_bytes == 10 * GIB - 1001 * 16 * 2048 * 48


def test_the_manager_turned_off_is_told_by_the_rules() -> None:
    # gpt-oss-20b: 24 layers of 2048 B for a token, 12 of them windows of 128; without the hybrid manager all are charged as
    # full attention (vLLM 0.33.0 v1/core/kv_cache_planning.py unify_hybrid_kv_cache_specs).
    of = asked_of("gpt-oss-20b", stated={"--disable-hybrid-kv-cache-manager": True})
    spec, stated = of.spec, of.deployment.stated
    rules = vllm.cache_rules(spec, asked=None, scheme=None, weight_dtype=spec.dtype, capability="9.0", stated=stated)
    assert rules.accounting == "manager_off"
    assert cache_cost(cache_rows(spec), rules, 8192).bytes_per_token == 24 * 2048 == 49_152
    assert rules_of(of).accounting == "ideal"
    assert block_plan(of, settings(of), ranks(of)[0], rules).block_bytes == 16 * 24 * 2048
