"""Ways out: each is pasted into the command that it belongs to, and must keep what it promised."""

from __future__ import annotations

import re

import pytest

from moeplan.engines.sglang.budget import BEFORE_WEIGHTS, WITHIN_SHARE
from moeplan.estimate import Estimate
from moeplan.estimate.ways_out import MOST_WAYS
from moeplan.estimate.ways_out.change import device_name
from tests.pasting import asked

COMMANDS = [
    # Not enough memory, on one GPU and on many.
    "mixtral-8x7b --gpu h100",
    "mixtral-8x7b --gpu '4 x rtx 4090' --context 4096",
    "mixtral-8x7b --gpu 2xh100 --context 32K --concurrency 64",
    "qwen3-30b-a3b --gpu rtx-4090",
    "deepseek-v3 --gpu 8xh100",
    "deepseek-v3 --gpu rtx-4090",
    "kimi-k2-instruct --gpu 8xa100 --engine sglang",
    "gpt-oss-120b --gpu H100:1 --context 131072 --concurrency 16",
    "qwen3-235b-a22b-nvfp4 --gpu b200 --concurrency 128",
    "deepseek-v3 --gpu 16xh200 --concurrency 64 --context 32k",
    "deepseek-v3 --gpu 16xh200 --engine sglang --context 32k --concurrency 128",
    "deepseek-v3 --gpu 16xh200 --engine trtllm --context 32k --concurrency 128",
    "deepseek-v3 --gpu 8xh100 --engine trtllm --context 4k --dp-attention",
    "qwen3-30b-a3b --gpu h100 --context 40k --concurrency 64 -- --kv-cache-dtype bfloat16",
    "gpt-oss-120b --gpu rtx-4090 --engine llamacpp",
    "gpt-oss-120b --gpu rtx-4090 -- llama-server -c 65536 -np 2 --n-cpu-moe 20",
    "gpt-oss-20b --gpu rtx-4090 -- llama-server -c 2000000 -np 8 -ctk f16 -ctv f16",
    "mixtral-8x7b --gpu l40s --engine transformers",
    # The engine's own words.
    "mixtral-8x7b --gpu 2xh100 -- vllm serve x --max-model-len 32768 -tp 1",
    "qwen3-30b-a3b-instruct-2507 --gpu h100 -- vllm serve x --max-model-len 262144 -tp 1",
    "qwen3-30b-a3b-instruct-2507 --gpu h100 -- --gpu-memory-utilization 0.6 --max-model-len 8192",
    "qwen3-235b-a22b --gpu 4xh200 -- python -m sglang.launch_server --tp 4 --ep-size 4 --mem-fraction-static 0.7",
    # Degrees that multiply to more GPUs than there are.
    "deepseek-v3 --gpu 8xh200 --tp 16",
    "deepseek-v3 --gpu 8xh200 --tp 8 --dp 2",
    "deepseek-v3 --gpu 8xh200 -- -tp 8 -pp 2",
    "deepseek-v3 --gpu 8xh200 -- trtllm-serve x --tp_size 16 --enable_attention_dp",
    # Refused divisions.
    "mixtral-8x7b --gpu 3xh100",
    "mixtral-8x7b --gpu H100 -- -tp 3",
    "qwen3-235b-a22b --quant fp8 --gpu 8xh100 --engine-version 0.9.2",
    "qwen3-235b-a22b --quant fp8 --gpu 8xh100 --engine sglang",
    "qwen3-235b-a22b --quant fp8 --gpu 8xh100 --engine trtllm",
    "deepseek-v3 --gpu 8xh200 --dcp 3",
    "deepseek-v3 --gpu 8xh200 --ep 8 --redundant-experts 5",
    "deepseek-v3 --gpu 8xh200 --engine sglang --dp 3 --dp-attention",
    "deepseek-v3 --gpu 8xh200 --engine sglang --ep 16",
    "deepseek-v3 --gpu 16xh100 --engine trtllm --context 32k -- --tp_size 16 --ep_size 3",
    "mixtral-8x7b --gpu 16xh100 -- --tensor-parallel-size 8 --data-parallel-size 2 --enable-expert-parallel",
    "llama-3.1-70b-instruct --gpu 4xh100 -- -tp 4 --enable-expert-parallel",
    "qwen3-next-80b-a3b-instruct --gpu 8xh100 --engine sglang --tp 4 --pp 2",
    "deepseek-v3 --gpu 16xh200 --engine sglang --tp 12 --ep 5 --dcp 3 --redundant-experts 5",
    "deepseek-v3 --gpu 16xh200 --tp 12 --ep 12 --dcp 5 --redundant-experts 5",
    # What no layout helps against.
    "mixtral-8x7b --gpu 2xh100 --context 64K",
    "olmoe-1b-7b-0924 --gpu 8xh100 --engine transformers",
    "mixtral-8x7b --gpu 8xh100 --engine transformers",
    "switch-base-8 --gpu 2xh100 --engine vllm",
    "deepseek-v3 --gpu 8xh200 --engine llamacpp",
    "qwen3-30b-a3b --gpu a100-80gb --kv-dtype nvfp4",
]


def changes(found: Estimate) -> list[str]:
    return [way.change for way in found.verdict.ways_out]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_way_out_keeps_its_promise_when_it_is_pasted(command: str) -> None:
    refused = asked(command)
    assert refused.verdict.fits is False
    assert 0 < len(refused.verdict.ways_out) <= MOST_WAYS
    for way in refused.verdict.ways_out:
        taken = asked(command, way.change)
        assert taken.verdict.fits is True, way.change
        assert taken.verdict.headroom_bytes == way.headroom_bytes >= 0, way.change


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        # 256 + 8 = 264 = 8 x 33.
        ("deepseek-v3 --gpu 8xh200 --ep 8 --redundant-experts 5", ["--redundant-experts 8"]),
        ("deepseek-v3 --gpu 8xh200 --dcp 3", ["--dcp 2"]),
        ("deepseek-v3 --gpu 8xh200 --engine sglang --dp 3 --dp-attention", ["--dp 2"]),
        ("deepseek-v3 --gpu 8xh200 --engine sglang --ep 16", ["--ep 8"]),
        ("deepseek-v3 --gpu 8xh200 --tp 16", ["--tp 8", "--gpu 16xh200"]),
        ("deepseek-v3 --gpu 8xh200 --tp 8 --dp 2", ["--tp 8 --dp 1", "--tp 4", "--gpu 16xh200"]),
        ("deepseek-v3 --gpu 8xh200 -- -tp 8 -pp 2", ["-- --tensor-parallel-size 4"]),
        # Experts of 1536 are 12 blocks of 128: not over 8 ranks, whole or over 4.
        ("qwen3-235b-a22b --quant fp8 --gpu 8xh100 --engine sglang", ["--ep 8", "--gpu 4xh100"]),
        ("qwen3-235b-a22b --quant fp8 --gpu 8xh100 --engine trtllm", ["--ep 8", "--tp 4 --pp 2"]),
        ("mixtral-8x7b --gpu 8xh100 --engine transformers", ["--engine vllm"]),
        ("olmoe-1b-7b-0924 --gpu 8xh100 --engine transformers", ["--gpu 1xh100", "--engine vllm"]),
        ("mixtral-8x7b --gpu 2xh100 -- -tp 1 --max-model-len 8192", ["--gpu 4xh100 -- --tensor-parallel-size 4"]),
    ],
)
def test_the_natural_way_out_is_named(command: str, expected: list[str]) -> None:
    found = changes(asked(command))
    assert [change for change in expected if change in found] == expected


@pytest.mark.parametrize(
    ("command", "start", "step"),
    [
        ("gpt-oss-120b --gpu rtx-4090 --engine llamacpp", "--context 32768 -- --n-cpu-moe ", 1),
        ("gpt-oss-120b --gpu 2xrtx-4090 -- llama-server -c 8192 --n-cpu-moe 2", "-- --n-cpu-moe ", 1),
        ("qwen3-30b-a3b --gpu h100 --utilization 0.6 --context 8k", "--utilization ", 0.01),
        ("qwen3-30b-a3b --gpu h100 -- --gpu-memory-utilization 0.6", "-- --gpu-memory-utilization ", 0.01),
        ("glm-5-fp8 --gpu 8xh200 --engine sglang --dp 8 --dp-attention --ep 8 --context 32k --concurrency 32", "--utilization ", 0.01),
    ],
)  # fmt: skip
def test_numbers_are_the_smallest_that_do(command: str, start: str, step: float) -> None:
    (change,) = (each for each in changes(asked(command)) if each.startswith(start))
    number = float(change.removeprefix(start))
    assert asked(command, change).verdict.fits is True
    assert asked(command, f"{start}{number - step:g}").verdict.fits is False


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_latents_that_every_rank_holds_are_shared_out_by_groups_and_by_stages(engine: str) -> None:
    # DeepSeek-V3 caches (512 + 64) x 2 B in 61 layers: 70,272 B of a token, 2 GiB of 32,000. On every one of 16
    # tensor-parallel ranks 128 sequences are 268 GiB; a rank of 16 groups holds 8 of them, a stage of 2 half the layers.
    found = changes(asked(f"deepseek-v3 --gpu 16xh200 --engine {engine} --concurrency 128 --context 32k"))
    groups = {"vllm": r"--tp \d+ --dp \d+ --ep 16", "sglang": r"--dp \d+ --dp-attention --ep 16"}
    assert any(re.fullmatch(groups.get(engine, "--dp-attention --ep 16"), change) for change in found)
    assert any(re.fullmatch(r"--tp \d --pp \d", change) for change in found)


def test_fewer_sequences_of_llama_cpp_keep_their_length() -> None:
    # `-c` is shared out: 2,000,000 over 8 sequences is 250,000 each.
    found = changes(asked("gpt-oss-20b --gpu rtx-4090 -- llama-server -c 2000000 -np 8"))
    pairs = [re.fullmatch(r"-- --ctx-size (\d+) --parallel (\d+)", change) for change in found]
    ((length, sequences),) = (map(int, pair.groups()) for pair in pairs if pair)
    assert length == 250_000 * sequences < 2_000_000


def test_a_share_that_is_offered_leaves_room_for_what_lies_beside_it() -> None:
    # SGLang takes all of its share for weights and cache; graphs and activations must find their room beside it.
    command = "glm-5-fp8 --gpu 8xh200 --engine sglang --dp 8 --dp-attention --ep 8 --context 32k --concurrency 32"
    (change,) = (each for each in changes(asked(command)) if each.startswith("--utilization "))
    taken = asked(command, change)
    assert taken.hardware is not None
    memory, lines = taken.hardware.usable_bytes, taken.ranks[0].lines
    assert memory is not None
    before = sum(entry.bytes for entry in lines if entry.code in BEFORE_WEIGHTS)
    within = ("weights.", "kv_cache", *WITHIN_SHARE)
    beside = sum(entry.bytes for entry in lines if not entry.code.startswith(within))
    assert float(change.removeprefix("--utilization ")) * (memory - before) + beside <= memory


def test_a_way_out_without_more_room_than_a_part_of_it_is_not_named() -> None:
    found = [
        set(change.split(" --"))
        for change in changes(asked("deepseek-v3 --gpu 8xh200 --engine sglang --dp 3 --dp-attention"))
    ]
    assert not [(one, other) for one in found for other in found if one < other]


@pytest.mark.parametrize(
    ("gpu", "count", "name"),
    [
        ("h100", 1, "h100"),
        ("8xh100", 8, "h100"),
        ("8 x h100", 8, "h100"),
        ("h100:8", 8, "h100"),
        ("H100 x 8", 8, "H100"),
        ("8 h100", 8, "h100"),
        ("rtx 4090", 1, "rtx 4090"),
        ("rtx4090", None, "rtx4090"),
        ("2 x RTX 4090", 2, "RTX 4090"),
        ("rtx-4090:4", 4, "rtx-4090"),
    ],
)
def test_the_number_is_taken_off_a_device_and_nothing_else(gpu: str, count: int | None, name: str) -> None:
    assert device_name(gpu, count) == name


def test_a_way_out_says_what_it_gives_up() -> None:
    """Two slots of llama.cpp share --ctx-size: 17,408 leave each sequence 8,704 of the 32,768 tokens that were asked for."""
    command = "gpt-oss-120b --gpu rtx-4090 -- llama-server -c 65536 -np 2 --n-cpu-moe 24"
    ways = {way.change: way.gives_up for way in asked(command).verdict.ways_out}
    (shorter,) = (change for change in ways if "--ctx-size" in change)
    taken = asked(command, shorter)
    assert ways[shorter] == f"sequences of {taken.request.context_tokens:,} tokens, not 32,768"
    assert taken.request.context_tokens < 32_768
    assert all(told is None for change, told in ways.items() if change != shorter)
    fewer = asked("mixtral-8x7b --gpu 2xh100 --context 32k --concurrency 64 --quant fp8").verdict.ways_out
    (count,) = (way for way in fewer if "--concurrency" in way.change)
    assert count.gives_up == f"{count.change.split()[-1]} sequences, not 64"


def test_llamacpp_has_no_pool() -> None:
    reasons = asked("gpt-oss-120b --gpu rtx-4090 -- llama-server -c 65536 -np 2 --n-cpu-moe 24").verdict.reasons
    told = " ".join(reason.message for reason in reasons)
    assert "GiB are left for it" in told
    assert "pool" not in told
    pooled = asked("qwen3-30b-a3b --gpu h100 --context 256k -- --kv-cache-memory-bytes 1073741824")
    assert "the pool is" in " ".join(reason.message for reason in pooled.verdict.reasons)
