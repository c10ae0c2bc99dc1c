"""Ways out when it does not fit: changes that were themselves judged."""

from __future__ import annotations

import re
from collections.abc import Iterator

from moeplan.core.errors import InputError
from moeplan.core.quant import fold_bytes
from moeplan.estimate.judge import verdict
from moeplan.estimate.ledger import ledger
from moeplan.estimate.question import Question, requantised
from moeplan.estimate.result import Capacity, WayOut

GPU_COUNTS = (1, 2, 4, 8, 16, 32, 64)
SMALLER_CACHES = {"vllm": "fp8", "sglang": "fp8", "trtllm": "fp8", "llamacpp": "q8_0"}
"""Engines that can keep the cache in 8 bit at the flip of an option."""
SMALLER_FORMATS = ("fp8", "int4")
SMALLER_MIXES = ("q8_0", "q4_k_m")
"""The same for llama.cpp, which loads GGUF alone."""

_COUNT = re.compile(r"^\d+\s*x\s*|\s*:\s*\d+$|\s*x\s*\d+$", re.IGNORECASE)
"""A number of devices in front of or behind a GPU's name."""


def ways_out(question: Question, gpu: str, capacity: Capacity) -> tuple[WayOut, ...]:
    """Single changes that make it fit, the smallest of each sort; where none does, a format with more GPUs.

    Each is written in the user's own flags, and was judged as if the user had typed it.
    """
    asked = question.deployment
    name = _COUNT.sub("", gpu.strip())
    found: list[WayOut] = []

    def try_out(change: str, other: Question) -> bool:
        memory = other.serving.memory
        assert memory is not None
        outcome = verdict(other, memory, ledger(other, memory))
        if outcome.fits and outcome.headroom_bytes is not None:
            found.append(WayOut(change, outcome.headroom_bytes))
        return bool(outcome.fits)

    layouts = [(f"--gpu {count}x{name}{degrees}", other) for count, degrees, other in _other_counts(question)]
    any(try_out(change, other) for change, other in layouts)
    smaller = _smaller_formats(question)
    any(try_out(f"--quant {label}", other) for label, other in smaller)
    eight_bit = SMALLER_CACHES.get(asked.engine)
    if question.rules.kv_dtype in ("bfloat16", "float16") and asked.kv_dtype is None and eight_bit is not None:
        cached = requantised(question.at(asked._replace(kv_dtype=eight_bit)), question.serving.quantisation)
        try_out(f"--kv-dtype {eight_bit}", cached._replace(held=question.held, as_stored=question.as_stored))
    if asked.engine == "llamacpp" and any(entry.visits is not None for entry in question.serving.owned):
        any(try_out(f"-- --n-cpu-moe {count}", other) for count, other in _with_host_experts(question))
    if _can_spread(question):
        whole = question.asked_layout._replace(ep=None, expert_parallel=True)
        try_out("--ep " + str(asked.layout.tp * asked.layout.dp), question.on(asked.layout.num_gpus, whole))
    if capacity.max_context_tokens:
        tokens = capacity.max_context_tokens
        try_out(f"--context {tokens}", question.at(asked.with_context(tokens)))
    if capacity.max_concurrency:
        sequences = capacity.max_concurrency * asked.layout.dp
        try_out(f"--concurrency {sequences}", question.at(asked._replace(concurrency=sequences)))
    if not found:
        any(
            try_out(f"--quant {label} --gpu {count}x{name}{degrees}", bigger)
            for label, other in smaller
            for count, degrees, bigger in _other_counts(other)
        )
    return tuple(found)


def _other_counts(question: Question) -> Iterator[tuple[int, str, Question]]:
    """Other numbers of GPUs, with the degrees that have to be said for them; fewer may help where a division was refused.

    More GPUs mean more tensor-parallel ranks, as the engines take them; stated degrees of other kinds stay.
    """
    if question.deployment.engine == "transformers":  # a plain script runs on one device
        yield 1, "", question.on(1)
        return
    asked, now = question.asked_layout, question.deployment.layout
    per_tp = max(1, now.num_gpus // now.tp)
    for count in GPU_COUNTS:
        tp = count // per_tp
        if count == now.num_gpus or count % per_tp or not tp:
            continue
        degrees = f" --tp {tp}" if asked.tp is not None else ""
        layout = asked._replace(tp=tp) if asked.tp is not None else asked
        if asked.ep is not None and asked.ep > 1:
            layout, degrees = layout._replace(ep=tp * now.dp), f"{degrees} --ep {tp * now.dp}"
        try:
            yield count, degrees, question.on(count, layout)
        except InputError:  # degrees that stay do not go with this count
            continue


def _with_host_experts(question: Question) -> Iterator[tuple[int, Question]]:
    """Experts of the first layers in host memory: a quarter of the layers more each time, then all."""
    asked, layers = question.deployment, len(question.spec.layers)
    for quarter in range(1, 5):
        count = -(-layers * quarter // 4)
        yield count, question.at(asked._replace(stated={**asked.stated, "--n-cpu-moe": count}))


def _can_spread(question: Question) -> bool:
    """Whether experts could be spread as wholes instead of by their width."""
    layout = question.deployment.layout
    sparse = any(entry.visits is not None for entry in question.serving.owned)
    return question.deployment.engine == "vllm" and sparse and layout.ep == 1 and layout.tp * layout.dp > 1


def _smaller_formats(question: Question) -> list[tuple[str, Question]]:
    """The same question in common smaller formats, largest first; none where the checkpoint is as small already."""
    from moeplan.sources.quantisation import what_if

    now = fold_bytes(question.held).total_bytes
    smaller = []
    llama = question.deployment.engine == "llamacpp"
    for label in SMALLER_MIXES if llama else SMALLER_FORMATS:
        other = requantised(question, what_if(label, question.spec))
        if fold_bytes(other.held).total_bytes < 0.95 * now:
            smaller.append((label, other))
    return smaller
