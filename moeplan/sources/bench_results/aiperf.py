"""Results of AIPerf (`profile_export_aiperf.json`) and of GenAI-Perf before it (`profile_export_genai_perf.json`).

Fields relied on: blocks with `unit` and `avg`, `p50`, `p90`, `p95`, `p99` called `time_to_first_token`, `inter_token_latency`,
`request_latency`, `output_token_throughput`, `total_token_throughput`, `request_throughput`, `request_count`,
`error_request_count`, `benchmark_duration`, `input_sequence_length`, `output_sequence_length`; `error_summary` with a `count` each;
`start_time`; of `input_config`, which may change, `endpoint.model_names`, `loadgen.concurrency` and `loadgen.request_rate`, and of
GenAI-Perf's `model`, `concurrency` and `request_rate`.
Its `inter_token_latency` is one figure per request, (latency - first token) / (tokens - 1): what others call TPOT.
Sources: ai-dynamo/aiperf docs/reference/json-export-schema.md, docs/metrics-reference.md and
docs/tutorials/working-with-profile-exports.md; triton-inference-server/perf_analyzer genai-perf/tests/test_exporters/test_json_exporter.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moeplan.core.errors import InputError
from moeplan.core.record import Run
from moeplan.core.record_figures import FIGURES
from moeplan.sources.bench_results.content import Content
from moeplan.sources.bench_results.found import Found, above_zero, check_answered, count, number, text

_TIMES = {"time_to_first_token": "ttft", "inter_token_latency": "tpot", "request_latency": "e2e"}
_STATISTICS = {"avg": "mean", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0}
_RATES = {
    "output_token_throughput": "output_tokens_per_s",
    "total_token_throughput": "total_tokens_per_s",
    "request_throughput": "requests_per_s",
    "output_token_throughput_per_user": "output_tokens_per_s_per_user",
}


def is_mine(objects: Sequence[Mapping[str, Any]]) -> bool:
    """True where there is one object with a block of request latencies."""
    return len(objects) == 1 and "avg" in _block(objects[0], "request_latency")


def read(content: Content) -> list[Found]:
    """The run. InputError for one that was cancelled, in which no request was answered, or with times in an unknown unit."""
    values = content.objects[0]
    if values.get("was_cancelled") is True:
        raise InputError(f"{content.where}: this run was cancelled before its end", hint="run it again to its end")
    completed = count(_block(values, "request_count"), "avg")
    check_answered(completed, content.where)
    failed = _failed(values)
    figures: dict[str, float] = {}
    for key, name in _TIMES.items():
        block = _block(values, key)
        for theirs, statistic in _STATISTICS.items():
            value = above_zero(block, theirs)
            if value is not None:
                figures[f"{name}_{statistic}_s"] = value * _unit_s(block, key, content.where)
    for key, name in _RATES.items():
        rate = above_zero(_block(values, key), "avg")
        if rate is not None:
            figures[name] = rate
    if completed is not None and failed is not None:
        figures["failed_fraction"] = failed / (failed + completed)
    config = _block(values, "input_config")
    load = _block(config, "loadgen") or config
    names = _block(config, "endpoint").get("model_names") or config.get("model")
    duration = _block(values, "benchmark_duration")
    duration_s = number(duration, "avg")
    run = Run(
        kind="aiperf" if "aiperf_version" in values or "benchmark_duration" in values else "genai-perf",
        file=content.name,
        sha256=content.sha256,
        model=text({"name": names[0]}, "name") if isinstance(names, list) and names else None,
        date=text(values, "start_time"),
        concurrency=count(load, "concurrency") or None,
        request_rate_per_s=above_zero(load, "request_rate"),
        completed=completed,
        failed=failed,
        duration_s=None if duration_s is None else duration_s * _unit_s(duration, "benchmark_duration", content.where),
        input_tokens=above_zero(_block(values, "input_sequence_length"), "avg"),
        output_tokens=above_zero(_block(values, "output_sequence_length"), "avg"),
    )
    return [Found(run, {name: figures[name] for name in FIGURES if name in figures}, {})]


def _failed(values: Mapping[str, Any]) -> int | None:
    told = count(_block(values, "error_request_count"), "avg")
    errors = values.get("error_summary")
    if told is not None or not isinstance(errors, list):
        return told
    return sum(count(each, "count") or 0 for each in errors if isinstance(each, Mapping))


def _block(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    block = values.get(key)
    return block if isinstance(block, Mapping) else {}


def _unit_s(block: Mapping[str, Any], key: str, where: str) -> float:
    """Seconds of its unit, which alone says what the number is."""
    unit = block.get("unit")
    if not isinstance(unit, str) or unit not in _SECONDS:
        raise InputError(
            f"{where}: `{key}` has the unit {str(unit)[:20]!r}", hint=f"units that are read: {', '.join(_SECONDS)}"
        )
    return _SECONDS[unit]
