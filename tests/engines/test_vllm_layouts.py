"""vLLM's layouts worked by hand on published models: what the fullest rank holds, and which layouts are refused."""

from __future__ import annotations

from typing import Any

import pytest

import moeplan
from moeplan.core.errors import InputError
from moeplan.engines import vllm
from moeplan.estimate import Estimate
from moeplan.sources.models import find_model
from moeplan.sources.quantisation import what_if
from tests.engines.serving import ranks, serving, settings

GIB = 2**30


def estimate(name: str, gpu: str, **asked: object) -> Estimate:
    return moeplan.estimate(name, gpu=gpu, offline=True, **asked)  # type: ignore[arg-type]


def weight_elements(found: Estimate, rank: int = 0) -> int:
    """Elements of a rank's checkpoint weights, where all of them are 16 bit."""
    lines = [entry for entry in found.ranks[rank].lines if entry.code.startswith("weights.")]
    return sum(entry.bytes for entry in lines) // 2


# DeepSeek-V3: 61 layers, 3 of them dense (width 18,432), 256 experts of 2,048, one shared, h 7,168, 128 heads, latents of
# 1,536 and 512 + 64, heads of 128 + 64 and 128, vocabulary 129,280 (its config.json).
H, LAYERS, DENSE, EXPERT = 7168, 61, 3, 3 * 7168 * 2048
REPLICATED = LAYERS * (H * 1536 + H * 576 + 1536 + 512) + LAYERS * 2 * H + H
BY_HEADS = LAYERS * (1536 * 128 * 192 + 512 * 128 * 256 + 128 * 128 * H)
ROUTER = (LAYERS - DENSE) * (256 * H + 2 * 256)  # its correction bias is fp32: two 16-bit elements each
SHARED = (LAYERS - DENSE) * EXPERT
DENSE_MLP = DENSE * 3 * H * 18_432
TABLES = 2 * 129_280 * H


def test_deepseek_v3_over_eight_ranks_with_whole_experts() -> None:
    found = estimate("deepseek-v3", "8xb300", tp=8, ep=8, quant="bf16", context=1024)
    routed = (LAYERS - DENSE) * 32 * EXPERT
    by_hand = REPLICATED + ROUTER + routed + (BY_HEADS + SHARED + DENSE_MLP + TABLES) // 8
    assert weight_elements(found) == by_hand
    assert round(by_hand / 1e9, 1) == 84.8
    assert [rank.ranks for rank in found.ranks if rank.device == "gpu"] == [tuple(range(8))]


def test_deepseek_v3_with_attention_on_every_rank_and_redundant_experts() -> None:
    # Data-parallel attention: all but routed experts is whole on every rank; (256 + 32) / 8 = 36 experts each.
    found = estimate("deepseek-v3", "8xb300", tp=1, dp=8, ep=8, redundant_experts=32, quant="bf16", context=1024)
    routed = (LAYERS - DENSE) * 36 * EXPERT
    assert weight_elements(found) == REPLICATED + ROUTER + routed + BY_HEADS + SHARED + DENSE_MLP + TABLES
    assert found.layout.dp_attention
    assert found.capacity.per == "attention_dp_rank"
    plain = estimate("deepseek-v3", "8xb300", tp=1, dp=8, ep=8, quant="bf16", context=1024)
    assert round(weight_elements(plain) / 1e9, 1) == 98.9


def test_deepseek_v3_in_two_uneven_stages() -> None:
    # 61 layers: 31 with the dense ones and the input table, 30 with the head and the final norm.
    found = estimate("deepseek-v3", "16xb300", tp=8, pp=2, quant="bf16", context=1024)
    assert found.layout.pp_layers == (31, 30)
    per_layer = (H * 1536 + H * 576 + 1536 + 512) + 2 * H
    heads = (1536 * 128 * 192 + 512 * 128 * 256 + 128 * 128 * H) // 8
    sparse = 256 * EXPERT // 8 + EXPERT // 8 + 256 * H + 512
    first = 31 * (per_layer + heads) + 28 * sparse + DENSE_MLP // 8 + TABLES // 2 // 8
    last = 30 * (per_layer + heads) + 30 * sparse + TABLES // 2 // 8 + H
    assert [weight_elements(found, rank) for rank in (0, 1)] == [first, last]
    assert [rank.ranks for rank in found.ranks if rank.device == "gpu"] == [tuple(range(8)), tuple(range(8, 16))]
    assert found.verdict.worst_rank == 8  # 30 sparse layers outweigh 28 and the dense ones
    cache = [rank.kv_bytes_per_token for rank in found.ranks if rank.device == "gpu"]
    assert cache == [31 * 1152, 30 * 1152]


def test_a_stated_partition_is_kept() -> None:
    found = estimate("deepseek-v3", "16xb300", tp=8, pp=2, pp_layers=(33, 28), quant="bf16", context=1024)
    assert found.layout.pp_layers == (33, 28)
    assert found.ranks[0].kv_bytes_per_token == 33 * 1152
    with pytest.raises(InputError, match="33,27: 2 stages of 60 layers"):
        estimate("deepseek-v3", "16xb300", tp=8, pp=2, pp_layers=(33, 27))


def test_qwen3_235b_copies_its_four_key_value_heads() -> None:
    # obs-d-026: 54.9206 GiB on each of eight ranks. 94 layers, h 4,096, 64 query and 4 key/value heads of 128, 128 experts
    # of 1,536, vocabulary 151,936.
    h, head = 4096, 128
    attention = 94 * (2 * h * 64 * head // 8 + 2 * h * head + 2 * head)
    experts, router = 94 * 128 * 3 * h * 1536 // 8, 94 * 128 * h
    by_hand = attention + experts + router + 94 * 2 * h + h + 2 * 151_936 * h // 8
    found = estimate("qwen3-235b-a22b", "8xh100")
    assert weight_elements(found) == by_hand
    assert abs(2 * by_hand / GIB / 54.9206 - 1) < 0.0003
    assert found.ranks[0].kv_bytes_per_token == 94 * 2 * head * 2


@pytest.mark.parametrize(
    ("backend", "gpu", "width", "hidden"),
    # vLLM 0.33.0 fused_moe/oracle/mxfp4.py; 2,880 is both the hidden size and the width of gpt-oss.
    [
        ("marlin", "a100-80gb", 2944, 3072),
        ("flashinfer_trtllm", "b200", 2944, 3072),
        ("cutlass", "b200", 2944, 2944),
        ("deep_gemm", "h100", 2944, 2944),
        ("triton", "h100", 2880, 3072),
    ],
)
def test_gpt_oss_is_padded_as_its_kernels_need(backend: str, gpu: str, width: int, hidden: int) -> None:
    found = estimate("gpt-oss-20b", gpu, engine_args=["--moe-backend", backend])
    lines = {entry.code: entry for entry in found.ranks[0].lines}
    experts = lines["weights.routed_experts"].bytes
    assert abs(lines["expert_padding"].bytes - experts * (width * hidden / 2880**2 - 1)) <= 1
    assert lines["expert_padding"].basis == "derived"
    assert found.layout.expert_backend == backend


def test_padding_is_of_one_ranks_width() -> None:
    # Four ranks: 720 wide, which Marlin rounds up to 768; whole experts stay 2,880 and become 2,944.
    for asked, share in (({"tp": 4}, 768 * 3072 / (720 * 2880)), ({"tp": 4, "ep": 4}, 2944 * 3072 / 2880**2)):
        found = estimate("gpt-oss-20b", "4xa100-80gb", engine_args=["--moe-backend", "marlin"], **asked)
        lines = {entry.code: entry.bytes for entry in found.ranks[0].lines}
        assert abs(lines["expert_padding"] - lines["weights.routed_experts"] * (share - 1)) <= 1


def test_experts_that_do_not_divide_weigh_on_the_first_ranks() -> None:
    # DeepSeek-V2: 160 experts over 3 x 4 ranks: 14, 14, 14, 14, then 13.
    found = estimate("deepseek-v2", "12xh200", tp=4, dp=3, ep=12)
    assert [rank.ranks for rank in found.ranks if rank.device == "gpu"] == [(0, 1, 2, 3), tuple(range(4, 12))]
    assert found.verdict.worst_rank == 0
    one_expert = 59 * 3 * 5120 * 1536 * 2
    assert found.ranks[0].weights_bytes - found.ranks[1].weights_bytes == one_expert


def test_data_parallel_ranks_share_out_sequences() -> None:
    one = estimate("deepseek-v3", "8xh200", dp=8, ep=8, context=4096, concurrency=64)
    # And one block of 16 tokens that 0.33 holds back (v1/core/kv_cache_planning.py:get_kv_cache_configs, check_memory).
    assert one.ranks[0].kv_cache_bytes == (8 * 4096 + 16) * 61 * 1152


def test_decode_context_parallel_ranks_share_tokens() -> None:
    found = estimate("deepseek-v3", "8xh200", tp=8, dcp=8, context=32_768)
    alone = estimate("deepseek-v3", "8xh200", tp=8, context=32_768)
    assert found.ranks[0].kv_bytes_per_token * 8 == alone.ranks[0].kv_bytes_per_token == 61 * 1152
    # The block that 0.33 holds back is whole on every rank (v1/core/kv_cache_planning.py:get_kv_cache_configs).
    held_back = 16 * 61 * 1152
    assert (found.ranks[0].kv_cache_bytes - held_back) * 8 == alone.ranks[0].kv_cache_bytes - held_back


# Beside the checkpoint's weights ---------------------------------------------------------------------------


def test_adapter_slots_by_hand() -> None:
    # Mixtral, 2 ranks, 4 slots of rank 16: q 4096 -> 4096 / 2, k and v 4096 -> 1024 / 2, o 4096 / 2 -> 4096. Column
    # splits keep A whole, row splits keep B whole (vLLM 0.33.0 lora/layers).
    flags = ["--enable-lora", "--max-loras", "4", "--max-lora-rank", "16"]
    found = estimate("mixtral-8x7b", "2xh100", engine_args=flags)
    line = next(entry for entry in found.ranks[0].lines if entry.code == "adapter_slots")
    q, kv, o = 4096 + 2048, 2 * (4096 + 512), 2048 + 4096
    assert line.low_bytes == 4 * 16 * 2 * 32 * (q + kv + o)
    # Routed experts have slots too (lora/utils.py:get_supported_lora_modules adds every MoERunner), the router (4096 -> 8,
    # a ReplicatedLinear), and the two tables of 32,000 x 4096 (mixtral.py:embedding_modules), whole on every rank.
    experts = 8 * (2 * (4096 + 7168) + 7168 + 4096)
    beside = 4 * 16 * 2 * (32 * (experts + 4096 + 8) + 2 * (32_000 + 4096))
    assert line.bytes == line.high_bytes == line.low_bytes + beside


def test_offloaded_weights_move_to_the_host() -> None:
    here = estimate("mixtral-8x7b", "2xh100")
    moved = estimate("mixtral-8x7b", "2xh100", engine_args=["--cpu-offload-gb", "10"])
    assert here.ranks[0].weights_bytes - moved.ranks[0].weights_bytes == 10 * GIB
    assert moved.ranks[-1].device == "host"
    assert sum(entry.bytes for entry in moved.ranks[-1].lines if entry.code == "host.offloaded") == 2 * 10 * GIB


def test_draft_layers_are_resident_with_speculation_alone() -> None:
    config = '{"method": "mtp", "num_speculative_tokens": 1}'
    without = estimate("deepseek-v3", "8xb200", context=8192)
    found = estimate("deepseek-v3", "8xb200", context=8192, engine_args=["--speculative-config", config])
    assert found.ranks[0].kv_bytes_per_token == without.ranks[0].kv_bytes_per_token + 1152
    assert found.ranks[0].weights_bytes > without.ranks[0].weights_bytes + 11.5e9 / 8


def test_latents_are_projected_up_in_the_profiling_pass() -> None:
    # layers/attention/mla_attention.py: rows x heads x (nope + value) x 2 B; at most 64 Ki rows, 128 Ki in early 2025.
    # DeepSeek-V3, 8 ranks: 16 heads of 128 + 128. 256 sequences: 4 x 256 x 16 = 16 Ki rows; 8 x 1024 are fewer.
    def latents(context: int, version: str, sequences: int = 256) -> int:
        flags = ["--max-num-seqs", str(sequences)]
        found = estimate("deepseek-v3", "8xh200", context=context, engine_version=version, engine_args=flags)
        line = next(entry for entry in found.ranks[0].lines if entry.code == "activations")
        size: int = line.why.inputs["latent_prefill_bytes"]
        return size

    assert latents(1024, "0.33.0") == 16 * 1024 * 16 * 256 * 2
    assert latents(4096, "0.33.0") == 32 * 1024 * 16 * 256 * 2
    assert latents(32_768, "0.33.0") == 64 * 1024 * 16 * 256 * 2
    assert latents(32_768, "0.8.5") == 128 * 1024 * 16 * 256 * 2


# What the engine prints ------------------------------------------------------------------------------------


def test_both_token_rules_on_one_pool() -> None:
    # obs-d-021: 8.99 GiB for gpt-oss-120b; a block is 16 tokens x 2,048 B x 18 layers, two tables of them.
    pool = round(8.99 * GIB)
    flags = f"--kv-cache-memory-bytes {pool} --max-model-len 98304 --max-num-batched-tokens 2048 --max-num-seqs 6"
    blocks = pool // (16 * 2048 * 18)
    old = estimate("gpt-oss-120b", "h200", engine_version="0.11.2", engine_args=flags).capacity.engine_prints
    assert old is not None
    assert old.kv_tokens == blocks // 2 * 16 == 130_912
    new = estimate("gpt-oss-120b", "h200", engine_version="0.33.0", engine_args=flags).capacity.engine_prints
    one = 98_304 // 16 + -(-(127 + 2 * 2048) // 16) + 1
    assert new is not None
    assert new.kv_tokens == int(blocks / one * 98_304)
    assert new.concurrency == round(blocks / one, 2)


def test_qwen3_5_prints_the_tokens_of_a_public_log() -> None:
    # obs-d-032: 5.98 GiB, 131,072 tokens a request: 567,978 tokens, 4.33 times. Pages grow to 2,096 tokens to hold a state.
    flags = f"--kv-cache-memory-bytes {round(5.98 * GIB)} --max-model-len 131072 --max-num-seqs 1 --kv-cache-dtype fp8"
    found = estimate("qwen3.5-35b-a3b", "rtx-5090", engine_version="0.24.0", quant="nvfp4", engine_args=flags)
    prints = found.capacity.engine_prints
    assert prints is not None
    assert (prints.kv_tokens, prints.concurrency) == (567_978, 4.33)


def test_graphs_came_on_top_of_the_share_until_0_21() -> None:
    def pool(version: str, *flags: str) -> int:
        found = estimate("mixtral-8x7b", "2xh100", engine_version=version, utilization=0.9, engine_args=flags)
        assert found.capacity.kv_pool_bytes is not None
        return found.capacity.kv_pool_bytes

    graphs = next(
        entry.bytes for entry in estimate("mixtral-8x7b", "2xh100").ranks[0].lines if entry.code == "cuda_graphs"
    )
    assert pool("0.20.1") - pool("0.21.0") == graphs
    assert pool("0.20.1") == pool("0.21.0", "--enforce-eager")


def test_the_default_share_follows_the_version() -> None:
    for version, share in (("0.11.2", 0.9), ("0.33.0", 0.92)):
        assert estimate("mixtral-8x7b", "2xh100", engine_version=version).layout.options[0].value == share


# Refusals --------------------------------------------------------------------------------------------------


def codes(
    name: str, gpu: str | None = None, quant: str | None = None, version: str | None = None, **degrees: Any
) -> list[str]:
    spec = find_model(name).spec
    quantisation = what_if(quant, spec) if quant else find_model(name).quantisation
    asked = serving(spec, gpu=gpu, quantisation=quantisation, version=version, **degrees)
    return [refusal.code for refusal in vllm.refusals(asked, settings(asked))]


@pytest.mark.parametrize(
    ("name", "degrees", "expected"),
    [
        ("llama-3.1-8b-instruct", {"tp": 2, "expert_parallel": True}, ["ep-on-dense"]),
        ("mixtral-8x7b", {"tp": 2, "expert_parallel": True}, []),
        # 8 + 3 experts over 2 ranks.
        ("mixtral-8x7b", {"tp": 2, "expert_parallel": True, "redundant_experts": 3}, ["experts-not-divisible"]),
        ("mixtral-8x7b", {"tp": 2, "expert_parallel": True, "redundant_experts": 4}, []),
        ("mixtral-8x7b", {"tp": 2, "redundant_experts": 4}, ["redundancy-without-ep"]),
        # 16 ranks, 8 experts.
        ("mixtral-8x7b", {"tp": 8, "dp": 2, "expert_parallel": True}, ["ep-beyond-experts"]),
        # DeepSeek-V3 on 3 data-parallel groups: 2,048 / 24 leaves a rest; whole experts do not care.
        ("deepseek-v3", {"tp": 8, "dp": 3}, ["width-not-divisible"]),
        ("deepseek-v3", {"tp": 8, "dp": 3, "expert_parallel": True}, []),
        # Decode context parallelism: latents take any divisor of tp; grouped heads need ranks beyond their own.
        ("deepseek-v3", {"tp": 8, "dcp": 8}, []),
        ("deepseek-v3", {"tp": 8, "dcp": 3}, ["dcp-not-dividing-tp"]),
        ("qwen3-235b-a22b", {"tp": 8, "dcp": 2}, []),
        ("qwen3-235b-a22b", {"tp": 4, "dcp": 2}, ["dcp-too-few-ranks"]),
        ("qwen3-235b-a22b", {"tp": 8, "dcp": 4}, ["dcp-too-many"]),
        ("llama-3.1-8b-instruct", {"pp": 33}, ["stages-beyond-layers"]),
    ],
)
def test_layouts_that_are_refused(name: str, degrees: dict[str, Any], expected: list[str]) -> None:
    assert codes(name, **degrees) == expected


def test_blocks_of_experts_are_refused_by_engines_of_2025_alone() -> None:
    # Qwen3-30B-A3B-FP8: 768 / 4 = 192 is no whole block of 128.
    assert codes("qwen3-30b-a3b-fp8", tp=4, version="0.11.0") == ["block-not-divisible"]
    assert codes("qwen3-30b-a3b-fp8", tp=4, version="0.33.0") == []
    assert codes("qwen3-30b-a3b-fp8", tp=4, version="0.11.0", expert_parallel=True) == []


def test_each_refusal_shows_its_arithmetic_and_a_way_out() -> None:
    spec = find_model("qwen3-235b-a22b").spec
    asked = serving(spec, tp=12)
    told = {refusal.code: refusal.message for refusal in vllm.refusals(asked, settings(asked))}
    assert told["heads-not-divisible"] == "64 attention heads do not divide over 12 GPUs; --tp 8 does"
    # 64 / 8 heads, and 8 ranks for 4 key/value heads.
    assert codes("qwen3-235b-a22b", tp=8) == []


def test_a_layout_wants_as_many_gpus_as_its_degrees_multiply_to() -> None:
    found = estimate("deepseek-v3", "8xh200", tp=8, pp=2)
    assert found.verdict.fits is False
    reason = next(reason for reason in found.verdict.reasons if reason.code == "gpus-too-few")
    assert reason.message.startswith("tp 8 x pp 2 = 16 GPUs, but 8 were named")
    idle = estimate("mixtral-8x7b", "8xh200", tp=2)
    assert any(note.code == "gpus-idle" and "2 of 8" in note.message for note in idle.notes)


def test_one_request_that_does_not_fit_is_refused_with_the_length_that_does() -> None:
    # obs-d-023: a pool of 2.44 GiB, 131,072 tokens, 3.1 GiB needed. Windows of that time have room for one batch (pull
    # request 47728 came later), of 4096 tokens by this log and its neighbour: see test_vllm_blocks.py.
    flags = f"--kv-cache-memory-bytes {round(2.44 * GIB)} --max-model-len 131072 --moe-backend marlin"
    flags += " --max-num-batched-tokens 4096"
    found = estimate("gpt-oss-20b", "rtx-4090", engine_version="0.19.0", engine_args=flags)
    assert found.verdict.fits is False
    reason = next(reason for reason in found.verdict.reasons if reason.code == "request-does-not-fit")
    assert "3.10 GiB" in reason.message
    assert "2.44 GiB" in reason.message
    assert f"--max-model-len {found.capacity.max_context_tokens}" in reason.message


def test_vllm_takes_expert_parallelism_over_all_ranks_or_none() -> None:
    with pytest.raises(InputError, match="all 8 ranks"):
        estimate("deepseek-v3", "8xh200", tp=8, ep=4)
    with pytest.raises(InputError, match="contradict"):
        estimate("deepseek-v3", "8xh200", tp=8, ep=1, engine_args=["--enable-expert-parallel"])
    with pytest.raises(InputError, match="do not divide"):
        estimate("deepseek-v3", "8xh200", pp=3)


def test_shared_experts_are_whole_where_tokens_are_split_by_sequence() -> None:
    # vLLM 0.33.0 config/parallel.py:use_sequence_parallel_moe: tensor and data and expert parallel together.
    asked = serving(find_model("deepseek-v3").spec, tp=2, dp=4, expert_parallel=True)
    assert ranks(asked)[0].division.shared_experts == 1
    asked = serving(find_model("deepseek-v3").spec, tp=8, expert_parallel=True)
    assert ranks(asked)[0].division.shared_experts == 8


def test_draft_models_are_a_doubt() -> None:
    config = '{"model": "meta-llama/Llama-3.1-8B-Instruct", "num_speculative_tokens": 5}'
    found = estimate("llama-3.1-70b-instruct", gpu="4xh200", engine_args=["-tp", "4", "--speculative-config", config])
    assert found.verdict.certain is False
    assert any("draft model meta-llama/Llama-3.1-8B-Instruct" in note.message for note in found.notes)
    mtp = '{"method": "mtp", "num_speculative_tokens": 1}'
    found = estimate("mixtral-8x7b", gpu="h200", engine_args=["--speculative-config", mtp])
    assert any("has no draft layers" in note.message for note in found.notes)


def test_a_dropped_family_is_served_by_the_release_that_had_it() -> None:
    asked = {"gpu": "8xh200", "context": 4096}
    codes = [each.code for each in estimate("snowflake-arctic-instruct", **asked).verdict.reasons]  # type: ignore[arg-type]
    assert "not-supported" in codes
    older = estimate("snowflake-arctic-instruct", engine_version="0.11.0", **asked)  # type: ignore[arg-type]
    assert "not-supported" not in [each.code for each in older.verdict.reasons]


def test_the_variable_that_allows_long_contexts_counts_by_its_value() -> None:
    words = ["vllm", "serve", "mixtral-8x7b", "--max-model-len", "40000"]
    for value, refused in (("0", True), ("1", False)):
        line = [f"VLLM_ALLOW_LONG_MAX_MODEL_LEN={value}", *words]
        found = estimate("mixtral-8x7b", gpu="2xh200", engine_args=line)
        assert ("context-beyond-model" in [each.code for each in found.verdict.reasons]) is refused


@pytest.mark.parametrize(
    ("model", "gpu", "flags", "code"),
    [
        ("nvidia-nemotron-3-nano-30b-a3b-bf16", "16xh200", "-tp 16 --max-model-len 4096", "heads-not-divisible"),
        ("deepseek-v3", "8xb200", "-tp 8 --max-model-len 4096 --kv-cache-dtype nvfp4", "no-kernel"),
        ("deepseek-v3", "8xh200", "-tp 8 --max-model-len 4096 --enable-eplb", "redundancy-without-ep"),
        (
            "deepseek-v3", "8xh200", "-tp 8 --max-model-len 4096 -ep --eplb-config.num_redundant_experts 32",
            "redundancy-without-eplb",
        ),
        (
            "qwen3-next-80b-a3b-instruct", "4xh200", "-tp 4 --max-model-len 4096 --disable-hybrid-kv-cache-manager",
            "hybrid-manager-needed",
        ),
    ],
)  # fmt: skip
def test_what_the_engine_says_no_to(model: str, gpu: str, flags: str, code: str) -> None:
    found = estimate(model, gpu, engine_args=flags)
    assert found.verdict.fits is False
    assert code in [reason.code for reason in found.verdict.reasons]


def test_balanced_copies_of_experts_are_taken() -> None:
    flags = "-tp 8 --max-model-len 4096 -ep --enable-eplb --eplb-config.num_redundant_experts 32"
    found = estimate("deepseek-v3", "8xh200", engine_args=flags)
    assert found.verdict.fits is True
    assert not any(note.code == "flag-not-modelled" for note in found.notes)
