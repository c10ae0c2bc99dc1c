"""vLLM's log, in the wording of each generation; figures are those of public observations (`obs-d-NNN`)."""

from __future__ import annotations

import json

import pytest

from moeplan.core.engine_log import EngineLog, LogRank, Quantity
from moeplan.core.errors import InputError
from moeplan.sources.engine_logs import read_log_lines

GIB = 2**30

# obs-d-003: DeepSeek-V3 class on 8 GPUs, late 2025.
RANKS_OF_8 = "".join(
    f"(Worker_TP{rank} pid={900 + rank}) INFO 12-01 10:02:00 [gpu_model_runner.py:2653] "
    f"Model loading took 79.7390 GiB and 112.3 seconds\n"
    f"(Worker_TP{rank} pid={900 + rank}) INFO 12-01 10:03:00 [gpu_worker.py:298] Available KV cache memory: 41.60 GiB\n"
    for rank in range(8)
)
LATE_2025 = f"""\
(APIServer pid=1) INFO 12-01 10:00:00 [api_server.py:1977] vLLM API server version 0.11.2
(APIServer pid=1) INFO 12-01 10:00:00 [utils.py:253] non-default args: {{'model_tag': 'deepseek-ai/DeepSeek-V3', \
'host': '0.0.0.0', 'api_key': ['sk-verysecretkey123'], 'model': 'deepseek-ai/DeepSeek-V3', 'max_model_len': 8192, \
'served_model_name': ['ds', 'v3'], 'tensor_parallel_size': 8, 'gpu_memory_utilization': 0.9}}
(APIServer pid=1) INFO 12-01 10:00:00 [scheduler.py:222] Chunked prefill is enabled with max_num_batched_tokens=8192.
(EngineCore_DP0 pid=500) INFO 12-01 10:00:09 [core.py:93] Initializing a V1 LLM engine (v0.11.2) with config: \
model='deepseek-ai/DeepSeek-V3', speculative_config=None, tokenizer='deepseek-ai/DeepSeek-V3', revision=None, \
dtype=torch.bfloat16, max_seq_len=8192, download_dir=None, load_format=auto, tensor_parallel_size=8, \
pipeline_parallel_size=1, data_parallel_size=1, quantization=fp8, enforce_eager=False, kv_cache_dtype=auto, \
structured_outputs_config=StructuredOutputsConfig(backend='auto', tags=[1, 2]), seed=0, enable_prefix_caching=True
{RANKS_OF_8}\
(EngineCore_DP0 pid=500) INFO 12-01 10:03:01 [kv_cache_utils.py:1229] GPU KV cache size: 635,648 tokens
(EngineCore_DP0 pid=500) INFO 12-01 10:03:01 [kv_cache_utils.py:1234] Maximum concurrency for 8,192 tokens per request: 77.59x
(Worker_TP0 pid=900) INFO 12-01 10:04:01 [gpu_model_runner.py:3843] Graph capturing finished in 54 secs, took 0.51 GiB
(APIServer pid=1) INFO:     Application startup complete.
"""


def read(text: str, engine: str | None = None) -> EngineLog:
    return read_log_lines(text.splitlines(keepends=True), "vllm.log", engine)


def values(log: EngineLog, quantity: Quantity) -> list[float]:
    return [reading.value for reading in log.told(quantity)]


def one(log: EngineLog, quantity: Quantity) -> float:
    (value,) = values(log, quantity)
    return value


def test_every_figure_of_a_log_of_late_2025() -> None:
    log = read(LATE_2025)
    assert (log.engine, log.version, log.model) == ("vllm", "0.11.2", "deepseek-ai/DeepSeek-V3")
    assert values(log, "weights_bytes") == [round(79.739 * GIB)] * 8
    assert values(log, "kv_pool_bytes") == [round(41.6 * GIB)] * 8
    assert [reading.rank for reading in log.told("weights_bytes")] == [LogRank(tp=rank) for rank in range(8)]
    assert one(log, "kv_tokens") == 635_648
    assert one(log, "concurrency_context_tokens") == 8192
    assert one(log, "max_concurrency") == 77.59
    assert one(log, "cuda_graphs_bytes") == round(0.51 * GIB)
    assert log.started is True
    assert log.complete
    assert log.notes == ()


def test_each_figure_says_how_far_it_was_rounded_where_it_stands_and_in_which_words() -> None:
    log = read(LATE_2025)
    weights, pool = log.told("weights_bytes")[3], log.told("kv_pool_bytes")[3]
    assert weights.resolution == pytest.approx(GIB / 10_000)  # 79.7390 GiB: four digits
    assert pool.resolution == pytest.approx(GIB / 100)
    assert log.told("kv_tokens")[0].resolution == 1
    assert log.told("max_concurrency")[0].resolution == pytest.approx(0.01)
    assert weights.line_number == 5 + 2 * 3
    assert weights.text == "Model loading took 79.7390 GiB"


def test_a_figure_that_lost_its_zeros_is_still_one_of_two_digits() -> None:
    # `round(x, 2)` of 15.00 prints 15.0 (utils/mem_utils.py: format_gib).
    log = read(
        "(EngineCore pid=3) INFO 10-06 17:00:11 [model_runner.py:407] Model loading took 15.0 GiB memory and 5.4 seconds"
    )
    (weights,) = log.told("weights_bytes")
    assert weights.value == 15 * GIB
    assert weights.resolution == pytest.approx(GIB / 100)


def test_arguments_are_flags_without_secrets_and_settled_values_win() -> None:
    log = read(LATE_2025)
    assert log.arguments == {
        "--host": "0.0.0.0",  # noqa: S104
        "--max-model-len": 8192,
        "--served-model-name": "ds v3",
        "--tensor-parallel-size": 8,
        "--gpu-memory-utilization": 0.9,
        "--max-num-batched-tokens": 8192,
        "--dtype": "bfloat16",
        "--pipeline-parallel-size": 1,
        "--data-parallel-size": 1,
        "--enforce-eager": False,
        "--kv-cache-dtype": "auto",
        "--enable-prefix-caching": True,
    }
    assert log.quantization == "fp8"
    assert "sk-verysecretkey123" not in repr(log)


@pytest.mark.parametrize(
    "secret",
    [
        "'api_key': 'plainwords'",
        "'hf_token': 'plainwords'",
        "'kv_transfer_config': {'kv_connector': 'X', 'auth_password': 'plainwords'}",
        "'model_loader_extra_config': {'aws': {'secret-key': 'plainwords', 'region': 'eu'}}",
        "'model': 's3://me:plainwords@bucket/model'",
        "'download_dir': 'hf_plainwordsplainwords'",
    ],
)
def test_no_secret_leaves_the_reader(secret: str) -> None:
    log = read(
        f"INFO 12-01 10:00:00 [utils.py:253] non-default args: {{{secret}, 'max_num_seqs': 6}}\n"
        "INFO 12-01 10:00:05 [gpu_model_runner.py:1] Model loading took 1.5 GiB and 2 seconds\n"
    )
    assert log.arguments["--max-num-seqs"] == 6
    assert "plainwords" not in repr(log)


def test_an_argument_that_is_an_object_is_named_and_not_guessed() -> None:
    log = read(
        "INFO [utils.py:253] non-default args: {'attention_config': AttentionConfig(backend=<B.X: 'vllm.x, y'>), "
        "'compilation_config': {'cudagraph_mode': 'FULL'}, 'max_num_seqs': 6}\n"
        "INFO [gpu_model_runner.py:1] Model loading took 1.5 GiB and 2 seconds\n"
    )
    assert log.arguments == {"--compilation-config": '{"cudagraph_mode": "FULL"}', "--max-num-seqs": 6}
    (note,) = [note for note in log.notes if note.code == "log-arguments-unread"]
    assert "--attention-config" in note.message


def test_arguments_of_a_line_that_is_cut_off_are_read_as_far_as_they_go() -> None:
    # Docker and Kubernetes cut lines at 16 KiB.
    log = read(
        "INFO [utils.py:253] non-default args: {'max_model_len': 4096, 'max_num_seqs': 6, 'speculative_config': {'method\n"
        "INFO [gpu_model_runner.py:1] Model loading took 1.5 GiB and 2 seconds\n"
    )
    assert log.arguments == {"--max-model-len": 4096, "--max-num-seqs": 6}


# obs-d-001: DeepSeek-V2.5 on 16 A100-40GB, TP 8 x PP 2, vLLM 0.8 (V0); worker.py prints one message of several lines.
V0 = """\
INFO 04-02 08:00:00 [api_server.py:1034] vLLM API server version 0.8.4
INFO 04-02 08:00:00 [api_server.py:1035] args: Namespace(subparser='serve', model_tag='/models/DeepSeek-V2.5', port=8000, \
api_key='hunter2hunter2', model='/models/DeepSeek-V2.5', task='auto', dtype='auto', kv_cache_dtype='auto', \
max_model_len=8192, tensor_parallel_size=8, pipeline_parallel_size=2, block_size=None, gpu_memory_utilization=0.9, \
enforce_eager=False, speculative_config=None, middleware=[], dispatch_function=<function ServeSubcommand.cmd at 0x7f>)
(RayWorkerWrapper pid=77, ip=10.0.0.2) INFO 04-02 08:00:20 [parallel_state.py:1004] rank 8 in world size 16 is assigned as \
DP rank 0, PP rank 1, TP rank 0
INFO 04-02 08:00:20 [parallel_state.py:1004] rank 0 in world size 16 is assigned as DP rank 0, PP rank 0, TP rank 0
INFO 04-02 08:05:00 [model_runner.py:1146] Model loading took 27.6312 GB and 260.12 seconds
INFO 04-02 08:06:00 [worker.py:267] Memory profiling takes 12.10 seconds
INFO 04-02 08:06:00 [worker.py:267] the current vLLM instance can use total_gpu_memory (39.49GiB) x \
gpu_memory_utilization (0.90) = 35.54GiB
INFO 04-02 08:06:00 [worker.py:267] model weights take 27.63GiB; non_torch_memory takes 0.93GiB; PyTorch activation peak \
memory takes 1.27GiB; the rest of the memory reserved for KV Cache is 5.71GiB.
(RayWorkerWrapper pid=77, ip=10.0.0.2) INFO 04-02 08:06:01 [worker.py:267] model weights take 28.48GiB; non_torch_memory \
takes 2.15GiB; PyTorch activation peak memory takes 1.35GiB; the rest of the memory reserved for KV Cache is 3.58GiB.
INFO 04-02 08:06:02 [executor_base.py:111] # cuda blocks: 5302, # CPU blocks: 655
INFO 04-02 08:06:02 [executor_base.py:116] Maximum concurrency for 8192 tokens per request: 10.36x
INFO 04-02 08:07:02 [model_runner.py:1570] Graph capturing finished in 59 secs, took 1.12 GiB
INFO 04-02 08:07:02 [llm_engine.py:447] init engine (profile, create kv cache, warmup model) took 120.12 seconds
"""


def test_v0_tells_each_rank_apart_by_the_line_that_assigns_it() -> None:
    log = read(V0)
    first, other = LogRank(dp=0, pp=0, tp=0, world=0), LogRank(dp=0, pp=1, tp=0, world=8)
    told = {(reading.quantity, reading.rank): reading.value for reading in log.readings}
    assert told["weights_bytes", first] == round(27.6312 * GIB)  # the finer figure of two that agree
    assert told["weights_bytes", other] == round(28.48 * GIB)
    assert told["non_torch_bytes", first] == round(0.93 * GIB)
    assert told["non_torch_bytes", other] == round(2.15 * GIB)
    assert told["activation_peak_bytes", first] == round(1.27 * GIB)
    assert told["activation_peak_bytes", other] == round(1.35 * GIB)
    assert told["kv_pool_bytes", first] == round(5.71 * GIB)
    assert told["kv_pool_bytes", other] == round(3.58 * GIB)
    assert one(log, "total_memory_bytes") == round(39.49 * GIB)
    assert one(log, "budget_bytes") == round(35.54 * GIB)
    assert one(log, "num_blocks") == 5302
    assert one(log, "max_concurrency") == 10.36
    assert other.label == "DP0 PP1 TP0"
    assert log.started is True


def test_a_namespace_prints_all_defaults_and_only_what_was_set_counts() -> None:
    log = read(V0)
    assert log.model == "/models/DeepSeek-V2.5"
    assert log.arguments == {
        "--max-model-len": 8192,
        "--tensor-parallel-size": 8,
        "--pipeline-parallel-size": 2,
        "--gpu-memory-utilization": 0.9,
    }
    assert "hunter2hunter2" not in repr(log)


@pytest.mark.parametrize(
    ("line", "figures"),
    [
        # obs-d-022, wording of 0.6
        ("Loading model weights took 13.7194 GB", {"weights_bytes": 13.7194}),
        ("# GPU blocks: 715, # CPU blocks: 1310", {"num_blocks": 715}),
        # v1/metrics/loggers.py, debug
        ("Engine 000: vllm cache_config_info with initialization after num_gpu_blocks is: 53763", {"num_blocks": 53763}),
        (
            "Overriding num_gpu_blocks=5302 with num_gpu_blocks_override=100",
            {"num_blocks": 100},
        ),
        (
            "Setting attention block size to 2096 tokens to ensure that attention page size is >= mamba page size.",
            {"block_tokens": 2096},
        ),
        # obs-d-032, 0.24: one line
        (
            "GPU KV cache size: 567,978 tokens, Maximum concurrency for 131,072 tokens per request: 4.33x",
            {"kv_tokens": 567_978, "concurrency_context_tokens": 131_072, "max_concurrency": 4.33},
        ),
        (
            "XPU + host KV cache size: 1,000 tokens, Maximum concurrency for 10 tokens per request: 100.00x",
            {"kv_tokens": 1000, "concurrency_context_tokens": 10, "max_concurrency": 100.0},
        ),
        ("Estimated CUDA graph memory: 4.99 GiB total", {"cuda_graphs_estimate_bytes": 4.99}),
        (
            "CUDA graph pool memory: 4.13 GiB (actual), 4.99 GiB (estimated), difference: 0.86 GiB (20.9%).",
            {"cuda_graphs_bytes": 4.13, "cuda_graphs_estimate_bytes": 4.99},
        ),
        # 2025 to early 2026
        (
            ("Free memory on device (181.84/184.31 GiB) on startup. Desired GPU memory utilization is (0.92, 169.56 GiB). "
            "Actual usage is 106.69 GiB for weight, 6.31 GiB for peak activation, 0.95 GiB for non-torch memory, and 4.13 "
            "GiB for CUDAGraph memory. Replace gpu_memory_utilization config with `--kv-cache-memory=55124106138` (51.34 "
            "GiB) to fit into requested memory, or `--kv-cache-memory=68302635520` (63.61 GiB) to fully utilize gpu "
            "memory. Current kv cache memory in use is 50.62 GiB."),
            {
                "free_before_load_bytes": 181.84, "total_memory_bytes": 184.31, "budget_bytes": 169.56,
                "weights_bytes": 106.69, "activation_peak_bytes": 6.31, "non_torch_bytes": 0.95,
                "cuda_graphs_bytes": 4.13, "kv_pool_bytes": 50.62,
            },
        ),
        # 0.33: weights and what is not torch's in one figure, and the graphs' estimate inside the peak
        (
            ("Free memory on device (78.84/79.25 GiB) on startup. Desired GPU memory utilization is (0.92, 72.91 GiB). "
            "Actual usage is 15.26 GiB for consumed memory (weights + non-torch), 1.44 GiB for peak activation, and 0.23 "
            "GiB for CUDAGraph memory. Replace gpu_memory_utilization config with `--kv-cache-memory=1` (0.0 GiB) to fit "
            "into requested memory, or `--kv-cache-memory=1` (0.0 GiB) to fully utilize gpu memory. Current kv cache "
            "memory in use is 56.21 GiB."),
            {
                "free_before_load_bytes": 78.84, "total_memory_bytes": 79.25, "budget_bytes": 72.91,
                "consumed_bytes": 15.26, "activation_and_graphs_bytes": 1.44, "cuda_graphs_bytes": 0.23,
                "kv_pool_bytes": 56.21,
            },
        ),
        (
            ("Memory profiling takes 7.66 seconds. Total non KV cache memory: 62.47GiB; torch peak memory increase: "
            "4.88GiB; non-torch forward increase memory: 0.17GiB; weights memory: 57.42GiB."),
            {"activation_peak_bytes": 4.88, "non_torch_bytes": 0.17, "weights_bytes": 57.42},
        ),
        (
            ("Memory profiling takes 7.66 seconds. Total non KV cache memory: 62.47GiB; torch peak memory increase: "
            "4.88GiB; total consumed (from mem_get_info): 57.59GiB; weights memory: 57.42GiB."),
            {"consumed_bytes": 57.59, "weights_bytes": 57.42},
        ),
        (
            "Initial free memory: 78.84 GiB; Requested memory: 0.920000 (util), 72.91 GiB",
            {"free_before_load_bytes": 78.84, "budget_bytes": 72.91},
        ),
        (
            ("Initial free memory 78.84 GiB, reserved 40.0 GiB memory for KV Cache as specified by kv_cache_memory_bytes "
            "config and skipped memory profiling."),
            {"free_before_load_bytes": 78.84, "kv_pool_bytes": 40.0},
        ),
        ("Peak GPU memory after loading weights: 61.02 GiB", {"load_peak_bytes": 61.02}),
        # a pool below zero, as a machine of 16 GB really printed it
        (
            ("model weights take 6.59GiB; non_torch_memory takes 8.29GiB; PyTorch activation peak memory takes 4.93GiB; "
            "the rest of the memory reserved for KV Cache is -7.83GiB."),
            {
                "weights_bytes": 6.59, "non_torch_bytes": 8.29, "activation_peak_bytes": 4.93, "kv_pool_bytes": -7.83,
            },
        ),
    ],
)  # fmt: skip
def test_wordings_old_and_new(line: str, figures: dict[str, float]) -> None:
    log = read(f"INFO 12-01 10:00:00 [worker.py:1] {line}\n")
    told = {reading.quantity: reading.value for reading in log.readings}
    expected = {
        name: round(value * GIB) if name.endswith("_bytes") else value for name, value in figures.items()
    }  # fmt: skip
    assert told == expected


def test_the_pool_in_bytes_is_finer_than_the_one_in_gib() -> None:
    # 0.10.2 on an H100: both lines of one log.
    log = read(
        "INFO [gpu_worker.py:298] Available KV cache memory: 55.15 GiB\n"
        "INFO [gpu_worker.py:391] Free memory on device (78.66/79.19 GiB) on startup. Current kv cache memory in use is "
        "59212694937 bytes.\n"
    )
    (pool,) = log.told("kv_pool_bytes")
    assert (pool.value, pool.resolution) == (59_212_694_937, 1)


# obs-d-023: gpt-oss-20b asked for 131072 tokens.
REFUSED = """\
(EngineCore_DP0 pid=9) INFO 04-02 10:00:00 [core.py:1] Initializing a V1 LLM engine (v0.19.1.dev3) with config: \
model='openai/gpt-oss-20b', max_seq_len=131072, tensor_parallel_size=1
(EngineCore_DP0 pid=9) INFO 04-02 10:01:00 [gpu_model_runner.py:1] Model loading took 13.72 GiB memory and 9.1 seconds
(EngineCore_DP0 pid=9) INFO 04-02 10:01:09 [gpu_worker.py:1] Available KV cache memory: 2.44 GiB
(EngineCore_DP0 pid=9) ERROR 04-02 10:01:10 [core.py:708] ValueError: To serve at least one request with the models's max \
seq len (131072), (3.1 GiB KV cache is needed, which is larger than the available KV cache memory (2.44 GiB). Based on the \
available memory, the estimated maximum model length is 103120. Try increasing `gpu_memory_utilization` or decreasing \
`max_model_len` when initializing the engine.
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


@pytest.mark.parametrize("model_s", ["models's", "model's"])
def test_a_refusal_tells_what_was_needed_and_what_would_fit(model_s: str) -> None:
    log = read(REFUSED.replace("models's", model_s))
    assert log.started is False
    assert log.complete
    assert one(log, "kv_needed_bytes") == round(3.1 * GIB)
    assert one(log, "kv_pool_bytes") == round(2.44 * GIB)
    assert one(log, "kv_max_context_tokens") == 103_120
    assert log.arguments["--max-model-len"] == 131_072


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ("ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`", "memory"),
        (
            (
                "ValueError: Free memory on device cuda:0 (15.32/22.04 GiB) on startup is less than desired GPU memory "
                "utilization (0.88, 19.39 GiB). Decrease GPU memory utilization"
            ),
            "busy",
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB. GPU 0 has a total capacity of 22.04 GiB",
            "memory",
        ),
        ("ERROR 08-22 20:20:17 [core.py:1349] EngineCore failed to start.", "other"),
    ],
)
def test_failures_are_told(failure: str, kind: str) -> None:
    log = read(f"INFO [gpu_model_runner.py:1] Model loading took 13.72 GiB memory and 9.1 seconds\n{failure}\n")
    assert log.started is False
    assert log.failure is not None
    assert (log.failure.kind, log.failure.line_number) == (kind, 2)


OOM = (
    "(EngineCore_DP0 pid=9) INFO 04-02 10:00:00 [core.py:1] Initializing a V1 LLM engine (v0.19.1) with config: model='m', seed=0\n"
    "(EngineCore_DP0 pid=9) ERROR 04-02 10:01:10 [core.py:708] EngineCore failed to start.\n"
    "(EngineCore_DP0 pid=9) ERROR 04-02 10:01:10 [core.py:708] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate "
    "20.00 MiB. GPU 0 has a total capacity of 22.04 GiB of which 8.75 MiB is free.\n"
    "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
)


def test_a_failure_before_any_figure_is_a_log() -> None:
    log = read(OOM)
    assert (log.started, log.complete, log.model) == (False, True, "m")
    assert log.failure is not None
    # The line that says why, not the first that says that; without who said it when.
    assert (log.failure.kind, log.failure.line_number) == ("memory", 3)
    assert log.failure.text.startswith("torch.OutOfMemoryError: CUDA out of memory.")
    assert one(log, "total_memory_bytes") == round(22.04 * GIB)
    assert log.notes == ()  # no other engine is seen in PyTorch's words


def test_the_words_of_pytorch_alone_are_no_log_of_an_engine() -> None:
    with pytest.raises(InputError, match="holds no line"):
        read(
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 22.04 GiB\n"
        )


def test_an_engine_that_came_up_and_broke_later_did_start() -> None:
    log = read(
        LATE_2025 + "(EngineCore_DP0 pid=5) ERROR torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1 GiB\n"
    )
    assert log.started is True


@pytest.mark.parametrize(
    ("tag", "rank"),
    [
        ("(Worker_DP1_PP0_TP3_EP11 pid=12) ", LogRank(dp=1, pp=0, tp=3, ep=11)),
        ("(Worker_TP3_EP3 pid=12) ", LogRank(tp=3, ep=3)),
        ("(VllmWorker TP2 pid=47571) ", LogRank(tp=2)),
        ("(VllmWorker rank=5 pid=47571) ", LogRank(world=5)),
        ("(EngineCore_DP1 pid=9) ", LogRank(dp=1)),
        ("(EngineCore_1 pid=9) ", LogRank(dp=1)),
        ("(EngineCore_DP1 pid=9) (Worker_TP3 pid=12) ", LogRank(tp=3)),
        ("(EngineCore pid=9) ", None),
        ("(Worker pid=9) ", None),
        ("", None),
    ],
)
def test_ranks(tag: str, rank: LogRank | None) -> None:
    (weights,) = read(f"{tag}INFO 12-01 10:00:00 [x.py:1] Model loading took 1.50 GiB memory and 2 seconds\n").readings
    assert weights.rank == rank


def test_a_worker_numbered_over_all_degrees_is_placed_by_the_tensor_parallel_size() -> None:
    log = read(
        "INFO [utils.py:1] non-default args: {'tensor_parallel_size': 4, 'pipeline_parallel_size': 2}\n"
        "(VllmWorker rank=5 pid=7) INFO [x.py:1] Model loading took 1.50 GiB and 2 seconds\n"
    )
    assert log.readings[0].rank == LogRank(pp=1, tp=1, world=5)  # 5 = 1 x 4 + 1


def test_workers_that_tell_no_rank_are_kept_apart() -> None:
    log = read(
        "(VllmWorkerProcess pid=7) INFO [x.py:1] Model loading took 1.50 GiB and 2 seconds\n"
        "(VllmWorkerProcess pid=8) INFO [x.py:1] Model loading took 1.75 GiB and 2 seconds\n"
    )
    assert [(reading.value / GIB, reading.rank) for reading in log.readings] == [
        (1.5, LogRank(process="VllmWorkerProcess pid=7")),
        (1.75, LogRank(process="VllmWorkerProcess pid=8")),
    ]


def test_data_parallel_engines_of_one_start_are_no_restarts() -> None:
    log = read(
        "(EngineCore_DP0 pid=8) INFO [core.py:1] Initializing a V1 LLM engine (v0.15.0) with config: model='m', seed=0\n"
        "(EngineCore_DP0 pid=8) INFO [x.py:1] Model loading took 1.50 GiB memory and 2 seconds\n"
        "(EngineCore_DP1 pid=9) INFO [core.py:1] Initializing a V1 LLM engine (v0.15.0) with config: model='m', seed=0\n"
        "(EngineCore_DP1 pid=9) INFO [x.py:1] Model loading took 1.75 GiB memory and 2 seconds\n"
    )
    assert [reading.value / GIB for reading in log.readings] == [1.5, 1.75]
    assert "log-restarts" not in {note.code for note in log.notes}


def test_of_several_starts_the_last_is_read() -> None:
    log = read(REFUSED + LATE_2025)
    assert log.model == "deepseek-ai/DeepSeek-V3"
    assert values(log, "kv_needed_bytes") == []
    assert log.started is True
    (note,) = [note for note in log.notes if note.code == "log-restarts"]
    assert "2 starts" in note.message
    assert f"line {len(REFUSED.splitlines()) + 1} " in note.message


def test_a_start_that_tells_nothing_yet_leaves_the_one_before_it() -> None:
    head = "".join(LATE_2025.splitlines(keepends=True)[:3])
    log = read(LATE_2025 + head)
    assert one(log, "kv_tokens") == 635_648
    assert "log-restarts" in {note.code for note in log.notes}


def test_a_crash_that_dumps_its_config_is_no_start() -> None:
    log = read(
        LATE_2025 + "ERROR [dump_input.py:69] Dumping input data for V1 LLM engine (v0.11.2) with config: model='x'\n"
    )
    assert one(log, "kv_tokens") == 635_648
    assert log.notes == ()


def test_lengths_that_the_engine_fitted_itself() -> None:
    log = read(
        "INFO [utils.py:1] non-default args: {'max_model_len': -1}\n"
        "INFO [kv_cache_planning.py:1] Auto-fit max_model_len: reduced from 262144 to 90000 to fit in available KV cache "
        "memory (3.1 GiB GPU)\n"
        "INFO [kv_cache_utils.py:1] GPU KV cache size: 90,000 tokens\n"
    )
    assert log.arguments["--max-model-len"] == 90_000


def test_the_card_is_named_by_the_kernel_tables() -> None:
    log = read(
        "(VllmWorker TP2 pid=4) WARNING 09-09 15:47:25 [fused_moe.py:727] Using default MoE config. Performance might be "
        "sub-optimal! Config file not found at ['/x/configs/E=512,N=128,device_name=NVIDIA_H20-3e.json']\n"
        "(VllmWorker TP2 pid=4) INFO [x.py:1] Model loading took 1.50 GiB and 2 seconds\n"
    )
    assert log.gpu_name == "NVIDIA H20-3e"


def coloured(text: str) -> str:
    return "".join(f"\x1b[0;36m{line.rstrip()}\x1b[0;0m\n" for line in text.splitlines())


def in_docker(text: str) -> str:
    return "".join(json.dumps({"log": f"{line}\n", "stream": "stderr"}) + "\n" for line in text.splitlines())


def in_kubernetes(text: str) -> str:
    return "".join(f"2025-12-01T10:00:00.123456789Z stderr F {line}\n" for line in text.splitlines())


@pytest.mark.parametrize("wrapped", [coloured, in_docker, in_kubernetes], ids=lambda wrap: wrap.__name__)
def test_wrappings_change_nothing(wrapped: object) -> None:
    assert callable(wrapped)
    assert read(wrapped(LATE_2025)) == read(LATE_2025)


def test_vllms_own_json_lines_tell_the_rank() -> None:
    record = {"message": "Model loading took 1.50 GiB memory and 2 seconds", "processName": "Worker_TP3", "process": 12}
    (weights,) = read(json.dumps(record)).readings
    assert weights.rank == LogRank(tp=3)
