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
from moeplan.sources.bench_results.content import Content
from moeplan.sources.bench_results.found import Fields, Figures, Found, check_answered

_TIMES = {"time_to_first_token": "ttft", "inter_token_latency": "tpot", "request_latency": "e2e"}
_STATISTICS = {"avg": "mean", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
_PER_SECOND = {"ns": 1e9, "us": 1e6, "µs": 1e6, "ms": 1e3, "s": 1.0, "sec": 1.0, "seconds": 1.0}
_RATES = {
    "output_token_throughput": "output_tokens_per_s",
    "total_token_throughput": "total_tokens_per_s",
    "request_throughput": "requests_per_s",
    "output_token_throughput_per_user": "output_tokens_per_s_per_user",
}


def is_mine(objects: Sequence[Mapping[str, Any]]) -> bool:
    """True where there is one object with a block of request latencies."""
    latency = objects[0].get("request_latency") if len(objects) == 1 else None
    return isinstance(latency, Mapping) and "avg" in latency


def read(content: Content) -> list[Found]:
    """The run. InputError for one that was cancelled, in which no request was answered, with times in an unknown unit, and for a
    figure that cannot be."""
    values = content.objects[0]
    fields = Fields(values, content.where, [])
    if values.get("was_cancelled") is True:
        raise InputError(f"{content.where}: this run was cancelled before its end", hint="run it again to its end")
    completed = fields.block("request_count").whole("avg")
    check_answered(completed, content.where)
    failed = _failed(fields)
    figures = Figures(content.where)
    for key, name in _TIMES.items():
        block = fields.block(key)
        for theirs, statistic in _STATISTICS.items():
            value = block.above_zero(theirs)
            if value is not None:
                figures.add(f"{name}_{statistic}_s", f"{key}.{theirs}", value, _per_second(fields, key))
    for key, name in _RATES.items():
        figures.add(name, f"{key}.avg", fields.block(key).above_zero("avg"))
    if completed is not None and failed is not None:
        figures.add("failed_fraction", "error_request_count.avg", failed / (failed + completed))
    config = fields.block("input_config")
    load = config.block("loadgen")
    load = load if load.values else config
    duration_s = fields.block("benchmark_duration").above_zero("avg")
    run = Run(
        kind="aiperf" if "aiperf_version" in values or "benchmark_duration" in values else "genai-perf",
        file=content.name,
        sha256=content.sha256,
        model=_model(config),
        date=fields.text("start_time"),
        concurrency=load.in_flight("concurrency"),
        request_rate_per_s=load.rate("request_rate"),
        completed=completed,
        failed=failed,
        duration_s=None if duration_s is None else duration_s / _per_second(fields, "benchmark_duration"),
        input_tokens=fields.block("input_sequence_length").above_zero("avg"),
        output_tokens=fields.block("output_sequence_length").above_zero("avg"),
    )
    return [Found(run, figures.checked(), {}, tuple(fields.left_out))]


def _failed(fields: Fields) -> int | None:
    told = fields.block("error_request_count").whole("avg")
    errors = fields.values.get("error_summary")
    if told is not None or errors is None:
        return told
    if not isinstance(errors, list) or not all(isinstance(each, Mapping) for each in errors):
        raise fields.wrong("error_summary", "is no list of errors with a `count` each")
    counts = [Fields(each, fields.where, fields.left_out, "error_summary.").whole("count") for each in errors]
    return sum(each or 0 for each in counts)


def _model(config: Fields) -> str | None:
    """The first model that the configuration names."""
    for fields, key in ((config.block("endpoint"), "model_names"), (config, "model")):
        names = fields.values.get(key)
        first = names[0] if isinstance(names, list) and names else names
        if first:
            return fields._replace(values={key: first}).text(key)
    return None


def _per_second(fields: Fields, key: str) -> float:
    """How many of a block's unit are a second; the unit alone says what its numbers are."""
    unit = fields.block(key).values.get("unit")
    if not isinstance(unit, str) or unit not in _PER_SECOND:
        raise InputError(
            f"{fields.where}: `{key}` has the unit {str(unit)[:20]!r}",
            hint=f"units that are read: {', '.join(_PER_SECOND)}",
        )
    return _PER_SECOND[unit]
