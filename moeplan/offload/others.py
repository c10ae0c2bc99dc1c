"""Other engines' own ways with weights in host memory, each with its own bound, in the format that the checkpoint stores.

vLLM `--cpu-offload-gb`       pinned host memory that kernels read over the link as they need it (model_executor/offloader/uva.py):
                              of experts what a step touches
SGLang `--cpu-offload-gb`     whole parameters are copied to the card in every step (srt/utils/offloader.py)
SGLang `--kt-num-gpu-experts` experts beyond those are computed on the host by KTransformers (srt/layers/moe/kt_ep_wrapper.py)
"""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.core.capacity import largest
from moeplan.core.deployment import Value
from moeplan.core.errors import MoeplanError
from moeplan.core.expert_use import StepTokens
from moeplan.core.ledger import total_bytes
from moeplan.core.model import MoeFfn
from moeplan.core.offload import Ends, Steps, bytes_at, parted, reads_of, seconds_of, steps
from moeplan.core.step_bytes import cache_reads
from moeplan.core.step_time import StepLoad, step_time
from moeplan.core.units import GIB
from moeplan.estimate.judge import verdict
from moeplan.estimate.ledger import Ledger, host_lines, ledger
from moeplan.estimate.question import Question
from moeplan.estimate.result import MEMORY_REASONS, Verdict
from moeplan.estimate.speed_result import Rate
from moeplan.offload.calls import call_seconds, measured_stages
from moeplan.offload.questions import Questions, with_settings
from moeplan.offload.result import OtherWay, Way
from moeplan.offload.timing import Timing, device_rate, rate_of, wait_ends

REACH = ("nvidia", "amd")
"""Makers of cards that read pinned memory of the host, and for which KTransformers has kernels (its README)."""
OFFLOAD, KT = "--cpu-offload-gb", "--kt-num-gpu-experts"


def other_ways(questions: Questions, timing: Timing) -> Iterator[OtherWay]:
    """What fits, with the least in host memory; what does not, with what is missing. Engines that need none there are left out,
    and so are cards whose kernels do not reach host memory in these ways."""
    if questions.machine.hardware.vendor not in REACH:
        return
    for engine, way in (("sglang", "computed_on_host"), ("vllm", "read_over_link"), ("sglang", "copied_over_link")):
        try:
            question = questions.question(engine, None)
        except MoeplanError:  # the engine does not take this model on so many cards
            continue
        found = _kt(question, timing) if way == "computed_on_host" else _offloaded(question, timing, way)  # type: ignore[arg-type]
        if found is not None:
            yield found


def kt_steps(question: Question, timing: Timing) -> Steps:
    """A step of what KTransformers computes on the host, each of its layers waited for."""
    device_s, on_host = kt_reads(question, timing)
    layers = sum(any(isinstance(ffn, MoeFfn) for ffn in layer.ffns) for layer in question.spec.layers)
    step = steps(device_s, seconds_of(on_host, timing.host.rate()), layers, wait_ends(timing))
    return step if timing.at_best is None else step._replace(best=kt_steps(question, timing.at_best).best)


def kt_reads(question: Question, timing: Timing, traffic_fraction: float | None = None) -> tuple[Ends, float]:
    """Seconds of everything on the cards, and bytes of experts that a step reads in host memory.

    `traffic_fraction` is the share of visits to experts that the cards serve, where it is not the share of experts there.
    """
    settings = question.engine.settle(question.serving)
    parts = parted(question.held, question.engine.host_share(question.serving, settings))
    tokens = StepTokens(timing.sequences)
    context = max(1, min(round(timing.context_tokens), question.deployment.context_tokens))
    cached = cache_reads(question.spec, question.rules, context, question.deployment.encoder_tokens)
    mine = reads_of(question.spec, parts, cached)
    on_device, on_host = bytes_at(mine.device, tokens, timing.use), bytes_at(mine.host, tokens, timing.use)
    rest = bytes_at(mine.device._replace(experts=()), tokens, timing.use)
    if traffic_fraction is not None:
        every = reads_of(question.spec, parted(question.held, None), cached).device
        experts = bytes_at(every, tokens, timing.use) - bytes_at(every._replace(experts=()), tokens, timing.use)
        on_host = (1 - traffic_fraction) * experts
        on_device = rest + traffic_fraction * experts
    here = on_device - rest
    served = here / (here + on_host) if here else 0.0
    return device_seconds(question, timing, on_device, experts_fraction=served), on_host


def device_seconds(question: Question, timing: Timing, on_device: float, *, experts_fraction: float) -> Ends:
    """Of what is on the cards, a share of the visits to experts among it: by the kernels that were measured of the engine, else by
    bytes.

    The best is the floor of these kernels' calls, and bytes at the full rate.
    """
    ranks = question.deployment.layout.tp
    by_bytes = seconds_of(on_device / ranks, device_rate(question, timing))
    stages = measured_stages(question)
    if stages is None:
        return by_bytes
    try:
        asked = StepLoad(timing.sequences, timing.context_tokens)
        whole = [step_time(stage, asked, timing.use) for stage in stages]
        floor = call_seconds(stages, float(experts_fraction > 0)) + by_bytes.best
        experts_call_s = call_seconds(stages, 1.0) - call_seconds(stages, 0.0)
    except MoeplanError:
        return by_bytes
    slow = likely = 0.0
    for part in (part for step in whole for part in step.parts):
        if part.name != "experts":
            likely, slow = likely + part.seconds, slow + part.high_s
        elif experts_fraction > 0:  # the kernel is called for few experts as for all
            likely += experts_call_s + experts_fraction * max(0.0, part.seconds - experts_call_s)
            slow += experts_call_s + experts_fraction * max(0.0, part.high_s - experts_call_s)
    return Ends(max(slow, likely, floor), max(likely, floor), floor)


def _kt(question: Question, timing: Timing) -> OtherWay | None:
    """KTransformers: as many experts of each layer on the cards as fit."""
    counts = {ffn.num_experts for layer in question.spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)}
    if not counts or _holds(question, {}):
        return None
    every = max(counts)

    def asked(on_device: int) -> dict[str, Value]:
        return {KT: on_device}

    def fits(on_device: int) -> bool:
        return _holds(question, asked(on_device))

    count = largest(fits, every - 1, near=every // 2)
    found, told = _judged(question, asked(count))
    settled = with_settings(question, asked(count))
    setting, found_rate = f"{KT} {count}", rate_of(kt_steps(settled, timing), timing.sequences)
    return _row(settled, found, told, timing, "computed_on_host", setting, found_rate, "host memory")


def _offloaded(question: Question, timing: Timing, way: Way) -> OtherWay | None:
    """`--cpu-offload-gb`, in whole GiB on each card."""
    if _holds(question, {}):
        return None

    def asked(size_gib: int) -> dict[str, Value]:
        return {OFFLOAD: size_gib * GIB}

    # What layers hold on one card: more than that moves nothing, however much memory the host has.
    most = -(-sum(holding.num_bytes for holding in question.held) // GIB) + 1
    size = most - largest(lambda spared: _holds(question, asked(most - spared)), most, near=max(1, most // 2))
    found, told = _judged(question, asked(size))
    settled = with_settings(question, asked(size))
    link = timing.host.copies(pinned=True)
    rate = None if link is None else rate_of(_link_steps(settled, timing, way, size, link), timing.sequences)
    return _row(settled, found, told, timing, way, f"{OFFLOAD} {size}", rate, "the link to the host")


def _link_steps(question: Question, timing: Timing, way: Way, size_gib: int, link: Ends) -> Steps:
    """A step of which weights are read or copied over the link, on all cards at once."""
    ranks = question.deployment.layout.num_gpus
    context = max(1, min(round(timing.context_tokens), question.deployment.context_tokens))
    cached = cache_reads(question.spec, question.rules, context, question.deployment.encoder_tokens)
    mine = reads_of(question.spec, parted(question.held, None), cached)
    tokens = StepTokens(timing.sequences)
    whole = bytes_at(mine.device, tokens, timing.use)
    movable = sum(holding.num_bytes for holding in question.held if holding.layers and holding.part == "text")
    moved = min(1.0, size_gib * GIB * ranks / movable) if movable else 0.0
    read = moved * (whole - mine.device.cache_bytes * tokens.decoding)
    over = read if way == "read_over_link" else min(movable, size_gib * GIB * ranks)
    device_s = device_seconds(question, timing, whole - read, experts_fraction=1 - moved)
    step = steps(device_s, seconds_of(over / ranks, link), 0, Ends(0.0, 0.0, 0.0))
    if timing.at_best is None:
        return step
    return step._replace(best=_link_steps(question, timing.at_best, way, size_gib, link).best)


def _holds(question: Question, stated: dict[str, Value]) -> bool:
    """Whether the cards have room for what is left on them."""
    headroom = _judged(question, stated)[1].headroom_bytes
    return headroom is not None and headroom >= 0


def _judged(question: Question, stated: dict[str, Value]) -> tuple[Ledger, Verdict]:
    asked = with_settings(question, stated)
    memory = asked.serving.memory
    assert memory is not None
    found = ledger(asked, memory)
    return found, verdict(asked, memory, found)


def _row(
    question: Question,
    found: Ledger,
    told: Verdict,
    timing: Timing,
    way: Way,
    setting: str,
    rate: Rate | None,
    bound_by: str,
) -> OtherWay:
    host_bytes = total_bytes(entry for entry in host_lines(question, found.settings) if entry.code != "host.loading")
    on_card, on_host = max(0, -(told.headroom_bytes or 0)), max(0, host_bytes - timing.host.room_bytes)
    refused = next((each.message for each in told.reasons if each.code not in MEMORY_REASONS), None)
    fits = not on_card and not on_host and refused is None
    return OtherWay(
        question.deployment.engine,
        question.serving.constants.version,
        way,
        question.serving.quantisation.name,
        setting,
        fits,
        host_bytes,
        on_card,
        on_host,
        refused,
        rate if fits else None,
        bound_by,
    )
