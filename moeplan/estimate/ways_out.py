"""Ways out when it does not fit: changes that were themselves judged."""

from __future__ import annotations

import re

from moeplan.core.quant import fold_bytes
from moeplan.estimate.judge import ledger, verdict
from moeplan.estimate.question import Question, requantised
from moeplan.estimate.result import Capacity, WayOut

GPU_COUNTS = (1, 2, 4, 8, 16, 32, 64)
SMALLER_FORMATS = ("fp8", "int4")

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
        assert other.hardware is not None
        assert other.memory is not None
        outcome = verdict(other, other.memory, ledger(other, other.hardware, other.memory))
        if outcome.fits and outcome.headroom_bytes is not None:
            found.append(WayOut(change, outcome.headroom_bytes))
        return bool(outcome.fits)

    def with_gpus(other: Question, count: int) -> Question:
        return other._replace(deployment=other.deployment._replace(tp=count))

    # A plain script runs on one device. Fewer GPUs may help where it is the division that was refused.
    counts = [1] if asked.engine == "transformers" else [count for count in GPU_COUNTS if count != asked.tp]
    any(try_out(f"--gpu {count}x{name}", with_gpus(question, count)) for count in counts)
    smaller = _smaller_formats(question)
    any(try_out(f"--quant {label}", other) for label, other in smaller)
    if question.rules.kv_dtype in ("bfloat16", "float16") and asked.kv_dtype is None and asked.engine == "vllm":
        cached = requantised(question._replace(deployment=asked._replace(kv_dtype="fp8")), question.quantisation)
        try_out("--kv-dtype fp8", cached._replace(held=question.held))
    if capacity.max_context_tokens:
        tokens = capacity.max_context_tokens
        try_out(f"--context {tokens}", question._replace(deployment=asked.with_context(tokens)))
    if capacity.max_concurrency:
        sequences = capacity.max_concurrency
        try_out(f"--concurrency {sequences}", question._replace(deployment=asked._replace(concurrency=sequences)))
    if not found:
        any(
            try_out(f"--quant {label} --gpu {count}x{name}", with_gpus(other, count))
            for label, other in smaller
            for count in counts
        )
    return tuple(found)


def _smaller_formats(question: Question) -> list[tuple[str, Question]]:
    """The same question in common smaller formats, largest first; none where the checkpoint is as small already."""
    from moeplan.sources.quantisation import what_if

    now = fold_bytes(question.held).total_bytes
    smaller = []
    for label in SMALLER_FORMATS:
        other = requantised(question, what_if(label, question.spec))
        if fold_bytes(other.held).total_bytes < 0.95 * now:
            smaller.append((label, other))
    return smaller
