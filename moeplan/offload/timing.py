"""How fast a placement is: bytes of `core/step_bytes` over what memory, host and link give, see `core/offload`."""

from __future__ import annotations

from typing import NamedTuple

from moeplan.core.deployment import Settings
from moeplan.core.expert_use import ExpertUse, StepTokens
from moeplan.core.offload import (
    Ends,
    OffloadedStep,
    Parted,
    Reads,
    Steps,
    bytes_at,
    micro_batches,
    parted,
    rate,
    reads_of,
    seconds_of,
    steps,
)
from moeplan.core.step_bytes import cache_reads
from moeplan.core.weights import parameters
from moeplan.core.workload import Workload
from moeplan.engines.llamacpp.buffers import OFFLOADED_FROM_TOKENS
from moeplan.engines.llamacpp.settings import ubatch_tokens
from moeplan.estimate.question import Question
from moeplan.estimate.speed_result import Rate, Time
from moeplan.offload.host import Host
from moeplan.offload.result import OffloadSpeed, OffloadStep
from moeplan.offload.search import Placed

PARTS = {
    "device_s": "memory bandwidth of the GPU",
    "host_s": "bandwidth of host memory",
    "wait_s": "handing over between GPU and host",
}


class Timing(NamedTuple):
    """What times are worked out with."""

    host: Host
    workload: Workload
    use: ExpertUse

    @property
    def sequences(self) -> int:
        """In flight."""
        return self.workload.concurrency or 1

    @property
    def context_tokens(self) -> float:
        """That a sequence remembers in the middle of its answer."""
        return self.workload.mean_input_tokens + self.workload.mean_output_tokens / 2


def device_rate(question: Question, timing: Timing) -> Ends:
    """Bytes per second of one card. Stages of a pipeline run one after the other, so that several are no faster."""
    hardware = question.serving.hardware
    assert hardware is not None
    assert hardware.memory_bandwidth_bytes_per_s is not None
    return rate(hardware.memory_bandwidth_bytes_per_s, timing.host.constants["device_bandwidth_fraction"])


def reads(question: Question, settings: Settings, timing: Timing) -> tuple[Parted, Reads]:
    """Weights by where they lie, and what a step reads of them."""
    parts = parted(question.held, question.engine.host_share(question.serving, settings))
    tokens = min(round(timing.context_tokens), question.deployment.context_tokens)
    cached = cache_reads(question.spec, question.rules, max(1, tokens), question.deployment.encoder_tokens)
    return parts, reads_of(question.spec, parts, cached)


def decode_steps(found: Placed, timing: Timing, memory_factor: float = 1.0) -> tuple[Steps, float, float]:
    """One token of every sequence, and the bytes that it reads on the cards and in host memory."""
    question = found.question
    _, mine = reads(question, found.found.settings, timing)
    tokens = StepTokens(timing.sequences)
    on_device, on_host = bytes_at(mine.device, tokens, timing.use), bytes_at(mine.host, tokens, timing.use)
    device_s = seconds_of(on_device, device_rate(question, timing))
    wait = timing.host.constants["host_layer_s"]
    waits = Ends(wait.high, wait.value, wait.low)
    return steps(device_s, on_host, timing.host.rate(memory_factor), mine.host_layers, waits), on_device, on_host


def decode_rate(found: Placed, timing: Timing, memory_factor: float = 1.0) -> Rate:
    """Tokens per second of all sequences; `high` is the bound."""
    return rate_of(decode_steps(found, timing, memory_factor)[0], timing.sequences)


def rate_of(found: Steps, sequences: float) -> Rate:
    """Tokens per second, `high` at the best of all shares."""
    slow, likely, best = (sequences / step.seconds for step in found)
    return Rate(likely, slow, best, "assumed")


def prompt_seconds(found: Placed, timing: Timing, *, pinned: bool) -> Ends | None:
    """Seconds that reading one prompt takes; None where the link to the card is not known.

    A micro-batch of `OFFLOADED_FROM_TOKENS` and more is computed on the card, with a copy of every expert that it touches;
    of the card's matrix rate as large a share as of its bandwidth.
    """
    question, host = found.question, timing.host
    link = host.pinned if pinned else host.pageable
    if link is None:
        return None
    _, mine = reads(question, found.found.settings, timing)
    deployment, hardware = question.deployment, question.serving.hardware
    assert hardware is not None
    most = ubatch_tokens(found.found.settings, deployment.context_tokens, deployment.sequences_per_rank)
    flops = hardware.dense_flops_per_s.fp16 or hardware.dense_flops_per_s.bf16
    active = parameters(question.spec, question.serving.owned).active
    memory, share = device_rate(question, timing), host.constants["device_bandwidth_fraction"]
    total = [0.0, 0.0, 0.0]
    for tokens in micro_batches(timing.workload.mean_input_tokens, most):
        touched = StepTokens(0, tokens)
        on_host, on_device = bytes_at(mine.host, touched, timing.use), bytes_at(mine.device, touched, timing.use)
        computed = seconds_of(2 * active * tokens, rate(flops, share)) if flops else Ends(0.0, 0.0, 0.0)
        copies = tokens >= OFFLOADED_FROM_TOKENS
        there = seconds_of(on_host, link if copies else host.rate())
        for end, each in enumerate(zip(there, seconds_of(on_device, memory), computed, strict=True)):
            total[end] += max(each)
    return Ends(*total)


def speed_of(found: Placed, timing: Timing) -> OffloadSpeed:
    """All of it, of a placement that fits."""
    step, on_device, on_host = decode_steps(found, timing)
    total = rate_of(step, timing.sequences)
    each = rate_of(step, 1)
    prompt_s = prompt_seconds(found, timing, pinned=False)
    prompt = None
    first = None
    if prompt_s is not None:
        tokens = timing.workload.mean_input_tokens
        prompt = Rate(tokens / prompt_s.likely, tokens / prompt_s.slow, tokens / prompt_s.best, "assumed")
        first = Time(prompt_s.likely, prompt_s.best, prompt_s.slow, "assumed")
    likely = _step(step.likely)
    longest = max(PARTS, key=lambda part: float(getattr(likely, part)))
    return OffloadSpeed(
        total, each, prompt, first, round(on_device), round(on_host), likely, _step(step.best), PARTS[longest]
    )  # fmt: skip


def _step(step: OffloadedStep) -> OffloadStep:
    return OffloadStep(step.seconds, *step)
