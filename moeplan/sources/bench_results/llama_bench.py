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
from moeplan.sources.bench_results.found import Fields, Found
from moeplan.sources.strict_yaml import shown

ROUNDING = 1e-4
"""A mean may lie outside of its samples by this share: both are written with six digits."""


def is_mine(objects: Sequence[Mapping[str, Any]]) -> bool:
    """True where every object is a test with its lengths and its rate."""
    return all({"n_prompt", "n_gen", "avg_ts"} <= each.keys() for each in objects)


def read(content: Content) -> list[Found]:
    """One run of a test of prompts, a test of answers, or both. InputError where there are several of a kind, and for a rate that
    cannot be."""
    left_out: list[tuple[str, str]] = []
    tests = [Fields(each, content.where, left_out) for each in content.objects]
    prompts = [each for each in tests if not _tokens(each, "n_gen")]
    answers = [each for each in tests if not _tokens(each, "n_prompt")]
    if len(prompts) > 1 or len(answers) > 1 or len(prompts) + len(answers) < len(tests):
        raise InputError(
            f"{content.where} holds several tests of a kind, or one of prompts and answers together",
            hint="keep one test of prompts (-p) and one of answers (-n) in a file of their own",
        )
    figures: dict[str, float] = {}
    spreads: dict[str, tuple[float, float]] = {}
    lengths: dict[str, float | None] = {"n_prompt": None, "n_gen": None}
    depths = {each.whole("n_depth") or 0 for each in tests}
    if len(depths) > 1:
        raise InputError(
            f"{content.where} holds tests at several depths", hint="keep those of one -d in a file of their own"
        )
    for found, name, length in (
        (prompts, "prompt_tokens_per_s", "n_prompt"),
        (answers, "output_tokens_per_s", "n_gen"),
    ):
        for test in found:
            rate = test.number("avg_ts")
            if not rate:
                raise InputError(f"{content.where}: a test has no rate above 0", hint="run it again")
            figures[name] = rate
            lengths[length] = test.above_zero(length)
            spread = _spread(test, rate)
            if spread is not None:
                spreads[name] = spread
    if "output_tokens_per_s" in figures:
        figures["tpot_mean_s"] = 1 / figures["output_tokens_per_s"]
    first = tests[0]
    model = first.text("model_filename")
    depth = depths.pop()
    prompt = lengths["n_prompt"]
    run = Run(
        kind="llama-bench",
        file=content.name,
        sha256=content.sha256,
        model=PurePath(model.replace("\\", "/")).name if model else None,
        date=first.text("test_time"),
        concurrency=1,
        request_rate_per_s=None,
        completed=None,
        failed=None,
        duration_s=None,
        input_tokens=prompt + depth if prompt is not None else float(depth) if depth else None,
        output_tokens=lengths["n_gen"],
    )
    return [Found(run, figures, spreads, tuple(left_out))]


def _tokens(test: Fields, key: str) -> int:
    tokens = test.whole(key)
    if tokens is None:
        raise test.wrong(key, "says no number of tokens")
    return tokens


def _spread(test: Fields, rate: float) -> tuple[float, float] | None:
    """Least and most of a test's repeats; None where there was one. InputError for samples that are no rates, or of another mean."""
    samples = test.values.get("samples_ts")
    if samples is None:
        return None
    if not isinstance(samples, list):
        raise test.wrong("samples_ts", f"is {shown(samples)}, where a list of rates belongs")
    rates = [test._replace(values={"samples_ts": each}).above_zero("samples_ts") for each in samples]
    known = [each for each in rates if each is not None]
    if len(known) < len(rates) or len(known) <= 1:
        return None
    if not min(known) * (1 - ROUNDING) <= rate <= max(known) * (1 + ROUNDING):
        raise test.wrong("avg_ts", f"is {rate:g}, outside of its `samples_ts` from {min(known):g} to {max(known):g}")
    return min(rate, *known), max(rate, *known)
