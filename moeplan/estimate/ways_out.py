"""Ways out when it does not fit: changes that were themselves judged."""

from __future__ import annotations

import re

from moeplan.core.quant import weight_bytes
from moeplan.estimate.judge import judge
from moeplan.estimate.question import Question
from moeplan.estimate.result import WayOut
from moeplan.sources.quantisation import what_if

_COUNT = re.compile(r"^\d+\s*x\s*|\s*:\s*\d+$|\s*x\s*\d+$", re.IGNORECASE)
"""A number of devices in front of or behind a GPU's name."""


def ways_out(question: Question, gpu: str | None) -> tuple[WayOut, ...]:
    """Single changes that make it fit, smallest first of each sort; where none does, a format with more GPUs."""
    asked = question.deployment
    found = []
    name = _COUNT.sub("", gpu.strip()) if gpu else ""
    counts = [count for count in (2, 4, 8, 16, 32, 64) if count > asked.tp]

    def try_out(change: str, other: Question) -> bool:
        verdict = judge(other).verdict
        if verdict.fits and verdict.headroom_bytes is not None:
            found.append(WayOut(change, verdict.headroom_bytes))
        return bool(verdict.fits)

    def with_gpus(other: Question, count: int) -> Question:
        return other._replace(deployment=other.deployment._replace(tp=count))

    if asked.engine != "transformers":
        any(try_out(f"--gpu {count}x{name}", with_gpus(question, count)) for count in counts)
    smaller = _smaller_formats(question)
    any(try_out(f"--quant {label}", other) for label, other in smaller)
    capacity = judge(question).capacity
    if capacity is not None and capacity.max_context_tokens:
        tokens = capacity.max_context_tokens
        try_out(f"--context {tokens}", question._replace(deployment=asked._replace(context_tokens=tokens)))
    if capacity is not None and capacity.max_concurrency:
        sequences = capacity.max_concurrency
        try_out(f"--concurrency {sequences}", question._replace(deployment=asked._replace(concurrency=sequences)))
    if not found and asked.engine != "transformers":
        any(
            try_out(f"--quant {label} --gpu {count}x{name}", with_gpus(other, count))
            for label, other in smaller
            for count in counts
        )
    return tuple(found)


def _smaller_formats(question: Question) -> list[tuple[str, Question]]:
    """The same question in common smaller formats, largest first; none where the checkpoint is as small already."""
    now = weight_bytes(question.owned, question.quantisation).total_bytes
    smaller = []
    for label in ("fp8", "int4"):
        other = what_if(label, question.spec)
        if weight_bytes(question.owned, other).total_bytes < 0.95 * now:
            smaller.append((label, question._replace(quantisation=other)))
    return smaller
