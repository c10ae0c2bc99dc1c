"""Results of `vllm bench serve --save-result` (JSON) and SGLang's `bench_serving --output-file` (JSON lines).

Fields relied on, all times in milliseconds:
both    `mean_`, `median_`, `pNN_` of `ttft_ms`, `tpot_ms`, `itl_ms`; `completed`, `duration`, `max_concurrency`, `request_rate`,
        `request_throughput`, `output_throughput`, `total_input_tokens`, `total_output_tokens`
vLLM    `model_id`, `date`, `failed` (else `num_prompts` less `completed`), `..._e2el_ms`, `total_token_throughput`; percentiles are those
        of `--metric-percentiles`, 99 alone unless more are asked for, and e2el stands there only where `--percentile-metrics` names it
SGLang  `backend`, `..._e2e_latency_ms`, `input_throughput`, `total_throughput`; `errors` with `--output-details`; newer releases
        write `total_input` and `total_output`; a rate without bound is `Infinity`, one of a trace `"trace"`
Sources: vllm-project/vllm vllm/benchmarks/serve.py (main_async, benchmark); sgl-project/sglang python/sglang/bench_serving.py
(benchmark) and python/sglang/benchmark/metrics.py (save_results).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from moeplan.core.record import Run
from moeplan.sources.bench_results.content import Content
from moeplan.sources.bench_results.found import Fields, Figures, Found, check_answered, mean
from moeplan.sources.strict_yaml import shown

VLLM, SGLANG = "vllm bench serve", "sglang bench_serving"

_TIME = re.compile(r"(mean|median|p50|p90|p95|p99)_(ttft|tpot|itl|e2el|e2e_latency)_ms")
_TIMES = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2el": "e2e", "e2e_latency": "e2e"}
_RATES = {
    "output_tokens_per_s": ("output_throughput",),
    "total_tokens_per_s": ("total_token_throughput", "total_throughput"),
    "prompt_tokens_per_s": ("input_throughput",),
    "requests_per_s": ("request_throughput",),
}


def is_mine(objects: Sequence[Mapping[str, Any]]) -> bool:
    """True where every object has requests, a duration and a time to the first token or of whole requests."""
    return all("completed" in each and "duration" in each and any(map(_TIME.fullmatch, each)) for each in objects)


def read(content: Content) -> list[Found]:
    """A run for each object. InputError where no request was answered, and for a figure that cannot be."""
    return [_run(content, each) for each in content.objects]


def _run(content: Content, values: Mapping[str, Any]) -> Found:
    fields = Fields(values, content.where, [])
    completed = fields.whole("completed")
    check_answered(completed, content.where)
    failed = _failed(fields, completed)
    figures = Figures(content.where)
    for key in values:
        told = _TIME.fullmatch(key)
        if told:
            name = f"{_TIMES[told[2]]}_{told[1].replace('median', 'p50')}_s"
            figures.add(name, key, fields.above_zero(key), 1000)
    for name, keys in _RATES.items():
        figures.add(name, fields.named(*keys) or "", fields.above_zero(*keys))
    if failed is not None and completed is not None:
        figures.add("failed_fraction", "failed", failed / (failed + completed))
    run = Run(
        kind=_kind(values),
        file=content.name,
        sha256=content.sha256,
        model=fields.text("model_id", "model"),
        date=fields.text("date"),
        concurrency=fields.in_flight("max_concurrency"),
        request_rate_per_s=fields.rate("request_rate"),
        completed=completed,
        failed=failed,
        duration_s=fields.above_zero("duration"),
        input_tokens=mean(fields.above_zero("total_input_tokens", "total_input"), completed),
        output_tokens=mean(fields.above_zero("total_output_tokens", "total_output"), completed),
    )
    return Found(run, figures.checked(), {}, tuple(fields.left_out))


def _kind(values: Mapping[str, Any]) -> str:
    sglang = any(key.endswith("_e2e_latency_ms") for key in values) or "total_output_tokens_retokenized" in values
    return SGLANG if sglang else VLLM


def _failed(fields: Fields, completed: int | None) -> int | None:
    failed = fields.whole("failed")
    if failed is not None:
        return failed
    errors = fields.values.get("errors")
    if isinstance(errors, list):
        return sum(1 for error in errors if error)
    if errors is not None:
        fields.leave("errors", f"{shown(errors)} is no list")
    sent = fields.whole("num_prompts")
    if sent is None or completed is None:
        return None
    if sent < completed:
        fields.leave("num_prompts", f"{sent:,} are fewer than the {completed:,} that were answered")
        return None
    return sent - completed
