"""SGLang's log, in the wording of each generation; figures are those of public observations (`obs-d-NNN`).

What SGLang calls GB is 2**30 bytes.
"""

from __future__ import annotations

import pytest

from moeplan.core.engine_log import EngineLog, LogRank, Quantity
from moeplan.sources.engine_logs import read_log_lines

GIB = 2**30

# obs-d-042: Qwen3-30B-A3B FP8 on one H100, 2026-08.
AUGUST_2026 = """\
[2026-08-01 09:59:50] server_args={'model_path': 'Qwen/Qwen3-30B-A3B-FP8', 'tokenizer_path': 'Qwen/Qwen3-30B-A3B-FP8', \
'host': '127.0.0.1', 'api_key': 'sk-secretsecret1', 'tp_size': 1, 'pp_size': 1, 'dp_size': 1, 'ep_size': 1, \
'dtype': 'auto', 'quantization': None, 'kv_cache_dtype': 'auto', 'context_length': None, 'mem_fraction_static': 0.837, \
'chunked_prefill_size': 8192, 'cuda_graph_bs': [1, 2, 4, 8], 'disable_radix_cache': False, 'enable_dp_attention': False, \
'page_size': 1, 'launch_command': 'python -m sglang.launch_server --api-key sk-secretsecret1', 'ep_num_redundant_experts': 0}
[2026-08-01 10:00:00] Memory baseline taken. mem usage=0.15 GB
[2026-08-01 10:00:00] Load weight begin. avail mem=78.48 GB
[2026-08-01 10:00:40] Load weight end. elapsed=40.10 s, type=Qwen3MoeForCausalLM, quant=fp8, fmt=e4m3, avail mem=49.33 GB, \
mem usage=29.15 GB.
[2026-08-01 10:00:41] KV Cache is allocated. dtype: torch.bfloat16, #tokens: 392920, K size: 17.99 GB, V size: 17.99 GB
[2026-08-01 10:00:41] Memory pool end. avail mem=12.70 GB
[2026-08-01 10:00:42] Using default MoE kernel config. Config file not found at /x/E=128,N=768,\
device_name=NVIDIA_H100_80GB_HBM3,dtype=fp8_w8a8,block_shape=[128, 128].json
[2026-08-01 10:00:45] Capture target prefill CUDA graph end. elapsed=3.10 s, mem usage=0.35 GB, avail mem=12.20 GB.
[2026-08-01 10:00:49] Capture target decode CUDA graph end. bs=[1, 2, 4, 8], elapsed=4.10 s, mem usage=0.80 GB, \
avail mem=11.40 GB.
[2026-08-01 10:00:50] max_total_num_tokens=392920, chunked_prefill_size=8192, max_prefill_tokens=16384, \
max_running_requests=2048, context_len=40960, available_gpu_mem=11.38 GB
[2026-08-01 10:01:00] The server is fired up and ready to roll!
"""


def read(text: str) -> EngineLog:
    return read_log_lines(text.splitlines(keepends=True), "sglang.log")


def one(log: EngineLog, quantity: Quantity, part: str | None = None) -> float:
    (value,) = [reading.value for reading in log.told(quantity) if reading.part == part]
    return value


def test_every_figure_of_a_log_of_2026() -> None:
    log = read(AUGUST_2026)
    assert (log.engine, log.version, log.model) == ("sglang", None, "Qwen/Qwen3-30B-A3B-FP8")
    gib = {
        "collectives_bytes": 0.15, "free_before_load_bytes": 78.48, "free_after_load_bytes": 49.33,
        "weights_bytes": 29.15, "kv_key_bytes": 17.99, "kv_value_bytes": 17.99, "free_after_pool_bytes": 12.70,
        "cuda_graphs_bytes": 0.80, "free_after_graphs_bytes": 11.40, "free_when_ready_bytes": 11.38,
    }  # fmt: skip
    whole = {reading.quantity: reading.value for reading in log.readings if reading.part is None}
    assert whole == {name: round(value * GIB) for name, value in gib.items()} | {"kv_tokens": 392_920}
    assert one(log, "cuda_graphs_bytes", "prefill") == round(0.35 * GIB)
    assert log.gpu_name == "NVIDIA H100 80GB HBM3"
    assert log.started is True
    assert log.complete
    assert log.notes == ()
    (weights,) = log.told("weights_bytes")
    assert weights.resolution == pytest.approx(GIB / 100)
    assert weights.line_number == 4


def test_arguments_are_those_that_move_memory_and_hold_no_secret() -> None:
    log = read(AUGUST_2026)
    assert log.arguments == {
        "--tp-size": 1,
        "--pp-size": 1,
        "--dp-size": 1,
        "--ep-size": 1,
        "--mem-fraction-static": 0.837,
        "--chunked-prefill-size": 8192,
        "--cuda-graph-bs": "1 2 4 8",
        "--page-size": 1,
        "--max-prefill-tokens": 16384,
        "--max-running-requests": 2048,
        "--context-length": 40960,
    }
    assert "sk-secretsecret1" not in repr(log)


def test_arguments_as_a_call_the_wording_of_2025() -> None:
    log = read(
        "[2025-08-01 10:00:00] server_args=ServerArgs(model_path='zai-org/GLM-4.7-Flash', tp_size=2, quantization='fp8', "
        "json_model_override_args='{}', enable_dp_attention=True, dp_size=2, device='cuda')\n"
        "[2025-08-01 10:00:00 TP0] Load weight begin. avail mem=78.48 GB\n"
    )
    assert log.model == "zai-org/GLM-4.7-Flash"
    assert log.arguments == {"--tp-size": 2, "--dp-size": 2, "--enable-dp-attention": True}
    assert log.quantization == "fp8"


# obs-d-044: hybrid model on two RTX 4090, 2026-02; the line of 2025 says `Time elapsed`, with the order of its figures.
HYBRID = """\
[2026-02-01 10:00:00 TP0] Load weight end. type=Qwen3_5MoeForConditionalGeneration, dtype=torch.bfloat16, \
avail mem=19.50 GB, mem usage=3.76 GB.
[2026-02-01 10:00:00 TP1] Load weight end. type=Qwen3_5MoeForConditionalGeneration, dtype=torch.bfloat16, \
avail mem=19.40 GB, mem usage=3.86 GB.
[2026-02-01 10:00:01 TP0] Mamba Cache is allocated. max_mamba_cache_size: 82, conv_state size: 0.13GB, ssm_state size: 7.29GB\x20
[2026-02-01 10:00:02 TP0] KV Cache is allocated. #tokens: 580364, K size: 4.15 GB, V size: 4.15 GB
[2026-02-01 10:00:02 TP0] Memory pool end. avail mem=4.02 GB
[2026-02-01 10:00:09 TP0] Capture cuda graph end. Time elapsed: 7.23 s. avail mem=0.53 GB. mem usage=0.93 GB.
"""


def test_recurrent_state_and_ranks() -> None:
    log = read(HYBRID)
    assert one(log, "state_slots") == 82
    assert one(log, "conv_state_bytes") == round(0.13 * GIB)
    assert one(log, "ssm_state_bytes") == round(7.29 * GIB)
    assert one(log, "kv_tokens") == 580_364
    assert one(log, "cuda_graphs_bytes") == round(0.93 * GIB)
    assert one(log, "free_after_graphs_bytes") == round(0.53 * GIB)
    assert [(reading.rank, reading.value) for reading in log.told("weights_bytes")] == [
        (LogRank(tp=0), round(3.76 * GIB)),
        (LogRank(tp=1), round(3.86 * GIB)),
    ]
    assert log.started is None
    assert log.complete  # an excerpt, but one that tells the cache


def test_state_of_speculative_decoding_is_told_apart() -> None:
    log = read(
        "[2026-08-01 10:00:01 TP0] Mamba Cache is allocated. max_mamba_cache_size: 20, conv_state size: 0.13GB, ssm_state "
        "size: 1.59GB intermediate_ssm_state_cache size: 2.50GB intermediate_conv_window_cache size: 0.07GB \n"
    )
    assert one(log, "ssm_intermediate_bytes") == round(2.5 * GIB)
    assert one(log, "conv_intermediate_bytes") == round(0.07 * GIB)


@pytest.mark.parametrize(
    ("line", "figures"),
    [
        # obs-d-039: latent attention, one pool
        ("KV Cache is allocated. #tokens: 383872, KV size: 19.36 GB", {"kv_tokens": 383_872, "kv_bytes": 19.36}),
        (
            "Capture npu graph end. Time elapsed: 20.1 s. mem usage=0.80 GB. avail mem=10.30 GB.",
            {"cuda_graphs_bytes": 0.80, "free_after_graphs_bytes": 10.30},
        ),
        ("Init torch distributed ends. mem usage=1.46 GB", {"collectives_bytes": 1.46}),
        ("Init torch distributed ends. elapsed=1.20 s, mem usage=1.46 GB", {"collectives_bytes": 1.46}),
        # 0.5.23, unified pool: bytes to the last one
        (
            (
                "[unified-memory-pool]   total_bytes=41943040000 (=39.06 GB), full_max=1000, swa_max=200, "
                "max_mamba_cache_size=0, max_num_reqs=8, joint_available=900"
            ),
            {"kv_pool_bytes": 41_943_040_000 / GIB},
        ),
        (
            (
                "DSV4 memory calculation: unified=False, bytes_per_full_token=4301.50, available_bytes=12.34 GB, "
                "swa_fixed=0.10 GB, full_token=3080960"
            ),
            {"kv_pool_bytes": 12.34},
        ),
        # 0.5.23, a pool that is sized after capture: a bound on addresses first, which is no allocation
        ("KV Cache VA upper bound. dtype: torch.bfloat16, #tokens: 999999, K size: 70.00 GB, V size: 70.00 GB", {}),
        (
            (
                "Post-capture KV sizing: KV cache allocated. dtype: torch.bfloat16, #tokens: 1000, KV size: 2.50 GB, avail "
                "mem=3.00 GB"
            ),
            {"kv_tokens": 1000, "kv_bytes": 2.5},
        ),
    ],
)
def test_wordings_old_and_new(line: str, figures: dict[str, float]) -> None:
    log = read(f"[2026-08-01 10:00:00] Load weight begin. avail mem=50.00 GB\n[2026-08-01 10:00:01] {line}\n")
    told = {reading.quantity: reading.value for reading in log.readings[1:]}
    assert told == {
        name: round(value * GIB) if name.endswith("_bytes") else value for name, value in figures.items()
    }  # fmt: skip


def test_pools_of_window_layers_and_their_sum() -> None:
    log = read(
        "[2026-08-01 10:00:00 TP0] SWA KV Cache is allocated. dtype: torch.bfloat16, #tokens: 29664, K size: 0.50 GB, V size: "
        "0.50 GB\n"
        "[2026-08-01 10:00:00 TP0] Full KV Cache is allocated. dtype: torch.bfloat16, #tokens: 37081, K size: 1.09 GB, V size: "
        "1.09 GB\n"
        "[2026-08-01 10:00:00 TP0] SWAKVPool mem usage: 3.18 GB, swa size: 29664, full size: 37081\n"
    )
    assert one(log, "kv_bytes") == round(3.18 * GIB)
    assert one(log, "kv_tokens", "window") == 29_664
    assert one(log, "kv_tokens", "full") == 37_081
    assert one(log, "kv_key_bytes", "window") == round(0.5 * GIB)
    assert one(log, "kv_key_bytes", "full") == round(1.09 * GIB)


def test_pools_that_an_older_version_does_not_name_are_not_taken_for_the_whole() -> None:
    log = read(
        "[2025-08-01 10:00:00] KV Cache is allocated. #tokens: 29664, K size: 0.50 GB, V size: 0.50 GB\n"
        "[2025-08-01 10:00:00] KV Cache is allocated. #tokens: 37081, K size: 1.09 GB, V size: 1.09 GB\n"
        "[2025-08-01 10:00:00] SWAKVPool mem usage: 3.18 GB, swa size: 29664, full size: 37081\n"
    )
    assert one(log, "kv_bytes") == round(3.18 * GIB)
    assert log.told("kv_key_bytes") == ()
    assert one(log, "kv_tokens", "full") == 37_081


# A draft model as the target is loaded first, each with its pool: 2025, and 0.5.23, where both load before both pools.
TARGET_LOAD = "[2026-08-01 10:00:0{} TP0] Load weight end. type=X, dtype=torch.bfloat16, avail mem=40.00 GB, mem usage=20.00 GB.\n"
DRAFT_LOAD = "[2026-08-01 10:00:0{} TP0] Load weight end. type=XMTP, dtype=torch.bfloat16, avail mem=38.00 GB, mem usage=2.00 GB.\n"
TARGET_POOL = (
    "[2026-08-01 10:00:0{} TP0] KV Cache is allocated. #tokens: 1000, K size: 7.63 GB, V size: 7.63 GB\n"
    "[2026-08-01 10:00:0{} TP0] Memory pool end. avail mem=20.00 GB\n"
)
DRAFT_POOL = (
    "[2026-08-01 10:00:0{} TP0] KV Cache is allocated. #tokens: 1000, K size: 2.38 GB, V size: 2.38 GB\n"
    "[2026-08-01 10:00:0{} TP0] Memory pool end. avail mem=15.00 GB\n"
)


@pytest.mark.parametrize(
    "order",
    [(TARGET_LOAD, TARGET_POOL, DRAFT_LOAD, DRAFT_POOL), (TARGET_LOAD, DRAFT_LOAD, TARGET_POOL, DRAFT_POOL)],
    ids=["2025", "0.5.23"],
)
def test_a_draft_model_is_a_part_of_its_own(order: tuple[str, ...]) -> None:
    log = read("".join(order).replace("0{}", "01"))
    assert one(log, "weights_bytes") == 20 * GIB
    assert one(log, "weights_bytes", "draft") == 2 * GIB
    assert one(log, "kv_key_bytes") == round(7.63 * GIB)
    assert one(log, "kv_key_bytes", "draft") == round(2.38 * GIB)
    assert one(log, "free_after_pool_bytes", "draft") == 15 * GIB


@pytest.mark.parametrize(
    ("prefix", "rank"),
    [
        ("[2026-08-01 10:00:00]", None),
        ("[2026-08-01 10:00:00.123 TP3]", LogRank(tp=3)),
        ("[2026-08-01 10:00:00 DP1 PP0 TP3 EP3]", LogRank(dp=1, pp=0, tp=3, ep=3)),
        ("[2026-08-01 10:00:00 ATTN_CP1 MOE_DP2 TP3]", LogRank(tp=3)),
        ("2026-08-01T10:00:00Z stdout F [2026-08-01 10:00:00 PP1 TP0]", LogRank(pp=1, tp=0)),
        ("\x1b[32m[2026-08-01 10:00:00 TP1]\x1b[0m", LogRank(tp=1)),
    ],
)
def test_ranks(prefix: str, rank: LogRank | None) -> None:
    (free,) = read(f"{prefix} Load weight begin. avail mem=78.48 GB\n").readings
    assert free.rank == rank


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (
            "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static. Current value: 0.3",
            "memory",
        ),
        ("RuntimeError: Not enough GPU memory for hybrid (mamba/linear-attention) state cache.", "memory"),
        ("[2026-08-01 10:01:00 TP0] Scheduler hit an exception: Traceback (most recent call last):", "other"),
        ("[2026-08-01 10:01:00] Received sigquit from a child process. It usually means the child failed.", "other"),
        (
            (
                "[2026-08-01 10:01:00 TP0] Scheduler hit an exception: Traceback\n"
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB."
            ),
            "memory",
        ),
    ],
)
def test_failures_are_told(failure: str, kind: str) -> None:
    log = read(f"[2026-08-01 10:00:00 TP0] Load weight begin. avail mem=78.48 GB\n{failure}\n")
    assert log.started is False
    assert log.complete
    assert log.failure is not None
    assert log.failure.kind == kind
    assert not log.failure.text.startswith("[2026")


def test_of_several_starts_the_last_is_read() -> None:
    log = read(AUGUST_2026 + AUGUST_2026.replace("mem usage=29.15 GB", "mem usage=29.25 GB"))
    assert one(log, "weights_bytes") == round(29.25 * GIB)
    (note,) = log.notes
    assert note.code == "log-restarts"
    assert f"line {len(AUGUST_2026.splitlines()) + 1} " in note.message
