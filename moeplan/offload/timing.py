"""How fast a placement is: bytes of `core/step_bytes` over what memory, host and link give, see `core/offload`."""

from __future__ import annotations

from typing import NamedTuple

from moeplan.core.deployment import Settings
from moeplan.core.expert_use import ExpertUse, StepTokens
from moeplan.core.hardware import Hardware
from moeplan.core.offload import (
    Ends,
    OffloadedStep,
    Parted,
    Reads,
    Steps,
    bytes_at,
    micro_batches,
    parted,
    pipelined,
    prompt_seconds,
    rate,
    reads_of,
    seconds_of,
    steps,
)
from moeplan.core.step_bytes import cache_reads
from moeplan.core.weights import parameters
from moeplan.core.workload import Workload
from moeplan.engines.llamacpp.buffers import OFFLOADED_FROM_TOKENS
from moeplan.engines.llamacpp.layout import is_pipelined
from moeplan.engines.llamacpp.settings import chosen, is_on, switched_off, ubatch_tokens
from moeplan.estimate.question import Question
from moeplan.estimate.speed_result import Rate, Time
from moeplan.offload.calls import call_seconds, measured_stages
from moeplan.offload.host import Host
from moeplan.offload.result import OffloadSpeed, OffloadStep
from moeplan.offload.search import NO_MMAP, Placed, movable_layers

DEVICE, CALLS, HOST, LINK, WAIT = (
    "memory bandwidth of the GPU",
    "calls of kernels on the GPU, whatever they read",
    "bandwidth of host memory",
    "the link between GPU and host",
    "handing over between GPU and host",
)
"""What a step may wait for longest."""
NOTHING = Ends(0.0, 0.0, 0.0)


class Timing(NamedTuple):
    """What times are worked out with."""

    host: Host
    workload: Workload
    use: ExpertUse
    least: ExpertUse | None = None
    """The use that touches fewest experts of all that may be so, which bounds take; None where `use` is known."""

    @property
    def sequences(self) -> int:
        """In flight."""
        return self.workload.concurrency or 1

    @property
    def context_tokens(self) -> float:
        """That a sequence remembers in the middle of its answer."""
        return self.workload.mean_input_tokens + self.workload.mean_output_tokens / 2

    @property
    def at_best(self) -> Timing | None:
        """The same by the use that bounds take, where that is another."""
        if self.least is None or self.least == self.use:
            return None
        return self._replace(use=self.least, least=None)


def device_rate(question: Question, timing: Timing) -> Ends:
    """Bytes per second of one card. Stages of a pipeline run one after the other, so that several are no faster."""
    hardware = _hardware(question)
    assert hardware.memory_bandwidth_bytes_per_s is not None
    return rate(hardware.memory_bandwidth_bytes_per_s, timing.host.constants["device_bandwidth_fraction"])


def reads(question: Question, settings: Settings, timing: Timing) -> tuple[Parted, Reads]:
    """Weights by where they lie, and what a step reads of them."""
    parts = parted(question.held, question.engine.host_share(question.serving, settings))
    tokens = min(round(timing.context_tokens), question.deployment.context_tokens)
    cached = cache_reads(question.spec, question.rules, max(1, tokens), question.deployment.encoder_tokens)
    return parts, reads_of(question.spec, parts, cached)


def copies(settings: Settings, tokens: float) -> bool:
    """Whether a batch of so many tokens is computed on the card, with copies of the weights of the host that it needs."""
    return tokens >= OFFLOADED_FROM_TOKENS and not switched_off(chosen(settings), "--op-offload")


def host_rate(settings: Settings, timing: Timing, tokens: float, memory_factor: float = 1.0) -> Ends | None:
    """Bytes per second of weights in host memory, by a batch of so many tokens; None where it needs a link that is not known."""
    if not copies(settings, tokens):
        return timing.host.rate(memory_factor)
    values = chosen(settings)
    pinned = is_on(values, NO_MMAP) or str(values.get("--load-mode", "")).lower() == "none"
    return timing.host.copies(memory_factor, pinned=pinned)


def decode_steps(found: Placed, timing: Timing, memory_factor: float = 1.0) -> tuple[Steps, float, float]:
    """One token of every sequence, and the bytes that it reads on the cards and in host memory.

    Where it needs a link that is not known, host memory alone bounds it.
    """
    question, settings, tokens = found.question, found.found.settings, StepTokens(timing.sequences)
    _, mine = reads(question, settings, timing)
    memory, waits = device_rate(question, timing), wait_ends(timing)
    speed = host_rate(settings, timing, tokens.all, memory_factor) or timing.host.rate(memory_factor)
    calls = _calls(found, timing)

    def by(use: ExpertUse) -> tuple[Steps, float, float]:
        on_device, on_host = bytes_at(mine.device, tokens, use), bytes_at(mine.host, tokens, use)
        device_s = seconds_of(on_device, memory).plus(calls)
        step = steps(device_s, seconds_of(on_host, speed), mine.host_layers, waits)
        return step, on_device, on_host

    step, on_device, on_host = by(timing.use)
    if timing.least is not None and timing.least != timing.use:
        step = step._replace(best=by(timing.least)[0].best)
    return step, on_device, on_host


def call_ends(question: Question, timing: Timing, experts_fraction: float) -> Ends:
    """Seconds of a step's calls on the cards, slowest first, those of experts in that share of their layers; the bound leaves them
    out, and so does everything where no kernel was measured."""
    stages = measured_stages(question)
    if stages is None:
        return NOTHING
    factor = timing.host.constants["device_call_factor"]
    return Ends(factor.high, factor.value, factor.low).times(call_seconds(stages, experts_fraction))


def _calls(found: Placed, timing: Timing) -> Ends:
    """Of a placement: experts are called on the cards in the layers that have them there, and where they are copied."""
    layers = len(movable_layers(found.question.spec))
    copied = copies(found.found.settings, timing.sequences)
    return call_ends(found.question, timing, 1.0 if copied or not layers else 1 - len(found.host_layers) / layers)


def wait_ends(timing: Timing) -> Ends:
    """Seconds of handing over in one layer, slowest first."""
    wait = timing.host.constants["host_layer_s"]
    return Ends(wait.high, wait.value, wait.low)


def decode_rate(found: Placed, timing: Timing, memory_factor: float = 1.0) -> Rate:
    """Tokens per second of all sequences; `high` is the bound."""
    return rate_of(decode_steps(found, timing, memory_factor)[0], timing.sequences)


def rate_of(found: Steps, sequences: float) -> Rate:
    """Tokens per second, `high` at the best of all shares."""
    slow, likely, best = (sequences / step.seconds for step in found)
    return Rate(likely, slow, best, "assumed")


def read_seconds(found: Placed, timing: Timing, memory_factor: float = 1.0) -> Ends | None:
    """Seconds that reading one prompt alone takes; None where the link to the card is needed and not known, and where nothing
    but the card's matrix rate counts, which its profile does not tell.

    A micro-batch of `OFFLOADED_FROM_TOKENS` and more is computed on the card, with a copy of every expert that it touches.
    """
    question, settings, deployment = found.question, found.found.settings, found.question.deployment
    _, mine = reads(question, settings, timing)
    most = ubatch_tokens(settings, deployment.context_tokens, deployment.sequences_per_rank)
    memory = device_rate(question, timing)
    batches = micro_batches(timing.workload.mean_input_tokens, most)
    speeds = [host_rate(settings, timing, tokens, memory_factor) for tokens in batches]
    computed = [_compute_seconds(question, timing, tokens) for tokens in batches]
    there = bool(mine.host_layers)
    if (there and None in speeds) or (not there and None in computed):
        return None

    def by(use: ExpertUse) -> Ends:
        total = NOTHING
        for tokens, speed, compute in zip(batches, speeds, computed, strict=True):
            touched = StepTokens(0, tokens)
            on_device, on_host = bytes_at(mine.device, touched, use), bytes_at(mine.host, touched, use)
            copied = seconds_of(on_host, speed) if there and speed is not None else NOTHING
            total = total.plus(prompt_seconds([copied, seconds_of(on_device, memory), compute or NOTHING]))
        if is_pipelined(question.serving, chosen(settings)):
            return pipelined(total, len(batches), deployment.layout.pp)
        return total

    total = by(timing.use)
    return total if timing.least is None else total._replace(best=by(timing.least).best)


def tells_matrix_rate(hardware: Hardware) -> bool:
    """Whether a profile tells the rate of 16-bit products."""
    return bool(hardware.dense_flops_per_s.fp16 or hardware.dense_flops_per_s.bf16)


def _compute_seconds(question: Question, timing: Timing, tokens: float) -> Ends | None:
    """Of so many tokens on the card: two operations of each weight that a token passes, tables and head left out.

    At best at the fastest of the card's matrix rates: quantised products run in int8 (llama.cpp ggml-cuda/mmq.cu), and with
    sums in 16 bit. Where that rate is not known, the bound leaves them out.
    """
    hardware, share = _hardware(question), timing.host.constants["device_matrix_fraction"]
    rates = hardware.dense_flops_per_s
    usual = rates.fp16 or rates.bf16
    if not usual:
        return None
    operations = 2 * tokens * parameters(question.spec, question.serving.owned).active_without_embedding_and_head
    known = [each for each in (rates.fp16, rates.bf16, rates.fp8, rates.int8, rates.fp4) if each]
    likely = seconds_of(operations, rate(usual, share))
    return likely._replace(best=operations / (max(known) * share.high) if rates.int8 else 0.0)


def prompt_rate(seconds: Ends, timing: Timing) -> Rate:
    """Tokens per second while a prompt is read in that time."""
    tokens = timing.workload.mean_input_tokens
    return Rate(tokens / seconds.likely, tokens / seconds.slow, tokens / seconds.best, "assumed")


def _hardware(question: Question) -> Hardware:
    hardware = question.serving.hardware
    assert hardware is not None
    return hardware


def speed_of(found: Placed, timing: Timing) -> OffloadSpeed:
    """All of it, of a placement that fits."""
    step, on_device, on_host = decode_steps(found, timing)
    total = rate_of(step, timing.sequences)
    each = rate_of(step, 1)
    read_s = read_seconds(found, timing)
    prompt = None
    first = None
    if read_s is not None:
        prompt = prompt_rate(read_s, timing)
        first = Time(read_s.likely, read_s.best, read_s.slow, "assumed")
    copied = bool(found.host_layers) and copies(found.found.settings, timing.sequences)
    calls = _calls(found, timing)
    likely = _step(step.likely, calls.likely)
    parts = {
        DEVICE: likely.device_s - likely.calls_s,
        CALLS: likely.calls_s,
        LINK if copied else HOST: likely.host_s,
        WAIT: likely.wait_s,
    }
    return OffloadSpeed(
        total, each, prompt, first, round(on_device), round(on_host), copied, likely, _step(step.best, calls.best),
        max(parts, key=lambda part: parts[part]),
    )  # fmt: skip


def _step(step: OffloadedStep, calls_s: float) -> OffloadStep:
    return OffloadStep(step.seconds, step.device_s, calls_s, step.host_s, step.wait_s)
