"""Results of llama.cpp's `llama-bench -o json` and `-o jsonl`: one sequence, prompts and answers apart.

Fields relied on: `n_prompt`, `n_gen`, `n_depth`, `avg_ts` (tokens per second), `samples_ts`, `model_filename`, `test_time`, `build_number`.
Source: ggml-org/llama.cpp tools/llama-bench/README.md and llama-bench.cpp. Times of tokenizing and sampling are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from moeplan.core.errors import InputError
from moeplan.core.record import Run
from moeplan.sources.bench_results.content import Content
from moeplan.sources.bench_results.found import Found, above_zero, count, text

LEAST_RATE = 1e-9
"""A token in thirty years: what is slower is no rate."""


def is_mine(objects: Sequence[Mapping[str, Any]]) -> bool:
    """True where every object is a test with its lengths and its rate."""
    return all({"n_prompt", "n_gen", "avg_ts"} <= each.keys() for each in objects)


def read(content: Content) -> list[Found]:
    """One run of a test of prompts, a test of answers, or both. InputError where there are several of a kind."""
    prompts = [each for each in content.objects if not count(each, "n_gen")]
    answers = [each for each in content.objects if not count(each, "n_prompt")]
    if len(prompts) > 1 or len(answers) > 1 or len(prompts) + len(answers) < len(content.objects):
        raise InputError(
            f"{content.where} holds several tests of a kind, or one of prompts and answers together",
            hint="keep one test of prompts (-p) and one of answers (-n) in a file of their own",
        )
    figures: dict[str, float] = {}
    spreads: dict[str, tuple[float, float]] = {}
    lengths: dict[str, float | None] = {"n_prompt": None, "n_gen": None}
    depths = {count(each, "n_depth") or 0 for each in content.objects}
    if len(depths) > 1:
        raise InputError(
            f"{content.where} holds tests at several depths", hint="keep those of one -d in a file of their own"
        )
    for tests, name, length in (
        (prompts, "prompt_tokens_per_s", "n_prompt"),
        (answers, "output_tokens_per_s", "n_gen"),
    ):
        for test in tests:
            rate = above_zero(test, "avg_ts")
            if rate is None or rate < LEAST_RATE:
                raise InputError(f"{content.where}: a test has no rate above 0", hint="run it again")
            figures[name] = rate
            lengths[length] = above_zero(test, length)
            samples = _samples(test)
            if len(samples) > 1 and min(samples) <= rate <= max(samples):
                spreads[name] = (min(samples), max(samples))
    if "output_tokens_per_s" in figures:
        figures["tpot_mean_s"] = 1 / figures["output_tokens_per_s"]
    first = content.objects[0]
    model = text(first, "model_filename")
    depth = depths.pop()
    prompt = lengths["n_prompt"]
    run = Run(
        kind="llama-bench",
        file=content.name,
        sha256=content.sha256,
        model=PurePath(model.replace("\\", "/")).name if model else None,
        date=text(first, "test_time"),
        concurrency=1,
        request_rate_per_s=None,
        completed=None,
        failed=None,
        duration_s=None,
        input_tokens=prompt + depth if prompt is not None else float(depth) if depth else None,
        output_tokens=lengths["n_gen"],
    )
    return [Found(run, figures, spreads)]


def _samples(test: Mapping[str, Any]) -> list[float]:
    samples = test.get("samples_ts")
    if not isinstance(samples, list):
        return []
    return [value for each in samples if (value := above_zero({"rate": each}, "rate")) is not None]
