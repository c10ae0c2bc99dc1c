"""Result files as benchmarks write them: the fields of their sources, with figures that are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from moeplan.core.errors import InputError

# vllm-project/vllm vllm/benchmarks/serve.py, main_async and benchmark: --save-result --percentile-metrics ttft,tpot,itl,e2el
# --metric-percentiles 50,90,95,99
VLLM: dict[str, Any] = {
    "date": "20261122-101500", "endpoint_type": "openai", "backend": "openai", "label": None,
    "model_id": "Qwen/Qwen3-30B-A3B", "tokenizer_id": "Qwen/Qwen3-30B-A3B", "num_prompts": 200, "request_rate": "inf",
    "burstiness": 1.0, "max_concurrency": 16, "duration": 100.0, "completed": 198, "failed": 2,
    "total_input_tokens": 396000, "total_output_tokens": 99000, "request_throughput": 1.98, "request_goodput": None,
    "output_throughput": 990.0, "total_token_throughput": 4950.0, "max_output_tokens_per_s": 1200.0,
    "max_concurrent_requests": 18, "mean_ttft_ms": 150.0, "median_ttft_ms": 140.0, "std_ttft_ms": 20.0,
    "p50_ttft_ms": 140.0, "p90_ttft_ms": 170.0, "p95_ttft_ms": 180.0, "p99_ttft_ms": 220.0, "mean_tpot_ms": 16.0,
    "median_tpot_ms": 15.5, "std_tpot_ms": 1.0, "p99_tpot_ms": 20.0, "mean_itl_ms": 16.1, "median_itl_ms": 15.0,
    "std_itl_ms": 4.0, "p99_itl_ms": 44.0, "mean_e2el_ms": 8100.0, "median_e2el_ms": 8000.0, "p99_e2el_ms": 9000.0,
}  # fmt: skip

# sgl-project/sglang python/sglang/bench_serving.py, benchmark: one line of --output-file
SGLANG: dict[str, Any] = {
    "backend": "sglang", "dataset_name": "random", "request_rate": float("inf"), "max_concurrency": 16,
    "sharegpt_output_len": None, "random_input_len": 2000, "random_output_len": 500, "random_range_ratio": 1.0,
    "duration": 80.0, "completed": 160, "total_input_tokens": 320000, "total_output_tokens": 80000,
    "total_output_tokens_retokenized": 79990, "request_throughput": 2.0, "input_throughput": 4000.0,
    "output_throughput": 1000.0, "mean_e2e_latency_ms": 7900.0, "median_e2e_latency_ms": 7800.0,
    "std_e2e_latency_ms": 100.0, "p99_e2e_latency_ms": 8800.0, "mean_ttft_ms": 130.0, "median_ttft_ms": 120.0,
    "std_ttft_ms": 9.0, "p99_ttft_ms": 210.0, "mean_tpot_ms": 15.0, "median_tpot_ms": 15.0, "std_tpot_ms": 1.0,
    "p99_tpot_ms": 18.0, "mean_itl_ms": 15.2, "median_itl_ms": 14.0, "std_itl_ms": 3.0, "p95_itl_ms": 30.0,
    "p99_itl_ms": 41.0, "concurrency": 15.8, "accept_length": None,
}  # fmt: skip

# ai-dynamo/aiperf docs/tutorials/working-with-profile-exports.md
AIPERF: dict[str, Any] = {
    "schema_version": "1.5", "aiperf_version": "0.11.0", "was_cancelled": False, "start_time": "2026-11-22T10:15:00",
    "request_throughput": {"unit": "requests/sec", "avg": 2.5},
    "request_latency": {"unit": "ms", "avg": 6550.0, "p50": 5800.0, "p90": 8594.0, "p95": 8980.0, "p99": 9381.0, "std": 1171.0},
    "time_to_first_token": {"unit": "ms", "avg": 1588.0, "p50": 787.0, "p95": 4051.0},
    "inter_token_latency": {"unit": "ms", "avg": 51.76, "p99": 55.87},
    "output_token_throughput": {"unit": "tokens/sec", "avg": 1274.0},
    "output_sequence_length": {"unit": "tokens", "avg": 96.85}, "input_sequence_length": {"unit": "tokens", "avg": 550.0},
    "benchmark_duration": {"unit": "sec", "avg": 15.2}, "request_count": {"unit": "requests", "avg": 200.0},
    "error_request_count": None,
    "error_summary": [{"error_details": {"code": 499}, "count": 3}, {"error_details": {"code": 500}, "count": 2}],
    "input_config": {"endpoint": {"model_names": ["openai/gpt-oss-20b"]}, "loadgen": {"concurrency": 100}},
}  # fmt: skip


def llama_test(prompt: int, answer: int, rates: list[float]) -> dict[str, Any]:
    """ggml-org/llama.cpp tools/llama-bench/README.md: one object of -o json."""
    return {
        "build_commit": "8cf427ff", "build_number": 5163, "gpu_info": "NVIDIA GeForce RTX 4080", "n_prompt": prompt, "n_gen": answer,
        "model_filename": "models/Qwen3-30B-A3B-Q4_K_M.gguf", "n_depth": 0, "test_time": "2026-11-22T11:58:50Z",
        "avg_ts": sum(rates) / len(rates), "stddev_ts": 1.0, "samples_ts": rates,
    }  # fmt: skip


LLAMA = [llama_test(512, 0, [7000.0, 7100.0, 7200.0]), llama_test(0, 128, [100.0, 110.0, 120.0])]


def written(folder: Path, name: str, content: Any) -> Path:
    """The file as the benchmark writes it: JSON, or objects one a line."""
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(each) + "\n" for each in content), encoding="utf-8")
    else:
        path.write_text(json.dumps(content), encoding="utf-8")
    return path


def check_two_lines(error: InputError) -> None:
    """What is wrong in one line, and a way out in another."""
    assert error.message
    assert error.hint
    assert "\n" not in error.message + error.hint
