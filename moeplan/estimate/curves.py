"""What pages draw of steps: experts touched over the batch, steps beside the roofs of the card, loads of a routing profile."""

from __future__ import annotations

from typing import Literal

from moeplan.core.errors import InputError, UnknownError
from moeplan.core.expert_use import EVEN, ExpertUse, GateSkew, MeasuredUse, StepTokens
from moeplan.core.layout import Division, Place
from moeplan.core.model import ModelSpec, MoeFfn
from moeplan.core.placement import places, stage_spec
from moeplan.core.serving_speed import ServedLoad, decode_step
from moeplan.core.step_bytes import StepReads, cache_reads, step_reads
from moeplan.core.step_operations import step_operations
from moeplan.core.step_time import StepLoad, StepModel, step_time
from moeplan.core.step_work import experts_work
from moeplan.core.workload import Workload
from moeplan.estimate.curves_result import Coverage, Curves, LayerLoads, OperatingPoint, Roof, Roofline, Touched
from moeplan.estimate.question import Question
from moeplan.estimate.result import Capacity
from moeplan.estimate.speed import MOST_IN_FLIGHT
from moeplan.estimate.timed import Timed

STEPS_BETWEEN_POINTS = 2
"""Operating points stand at every fourth number of requests in flight, as powers of two."""


def curves_of(
    question: Question, times: Timed | None, workload: Workload, use: ExpertUse, capacity: Capacity
) -> Curves:
    """The block; `times` is None where they are not known."""
    return Curves(
        _coverage(question, use), None if times is None else _roofline(question, times, workload, capacity), _loads(use)
    )


def _coverage(question: Question, use: ExpertUse) -> Coverage | None:
    spec = question.spec
    kinds = experts_work(spec.layers, spec.hidden_size, Division())
    if not kinds:
        return None
    work = max(kinds, key=lambda each: each.count)
    experts, chosen = work.experts, work.experts_per_token
    twice = use.doubled() if isinstance(use, GateSkew) else None
    counts = {2**power for power in range(MOST_IN_FLIGHT.bit_length())} | {question.deployment.concurrency}

    def touched(tokens: int) -> Touched:
        step = StepTokens(tokens)
        found, even = (by.distinct(experts, chosen, experts, step) for by in (use, EVEN))
        return Touched(tokens, found, even, None if twice is None else twice.distinct(experts, chosen, experts, step))

    return Coverage(experts, chosen, work.count, use.basis, tuple(map(touched, sorted(counts))))


def _roofline(question: Question, times: Timed, workload: Workload, capacity: Capacity) -> Roofline | None:
    """Of the first stage's busiest rank; None where devices lie beyond what was measured."""
    hardware, model = question.serving.hardware, times.stages[0]
    assert hardware is not None
    bandwidth = hardware.memory_bandwidth_bytes_per_s
    assert bandwidth is not None  # times need it
    used = {found.resolved["matmul"].device.flops_per_s for found in model.by_format.values()}
    if model.kernel is not None:
        used.add(model.kernel.device.flops_per_s)
    rates = hardware.dense_flops_per_s._asdict()
    by_rate = {rate: name for name, rate in reversed(rates.items()) if rate in used}
    roofs = tuple(Roof(name, rate) for rate, name in sorted(by_rate.items()))
    steps = _Steps(question, model, times, workload)
    try:
        points = [steps.decode(count) for count in _in_flight(question, capacity)]
        points.append(steps.prefill())
    except (InputError, UnknownError):
        return None
    highest = roofs[-1].flops_per_s

    def placed(point: OperatingPoint) -> OperatingPoint:
        allowed = min(highest, bandwidth * point.operations_per_byte)
        return point._replace(of_roof_fraction=point.operations_per_s / allowed)

    return Roofline(bandwidth, roofs, tuple(map(placed, points)))


def _in_flight(question: Question, capacity: Capacity) -> list[int]:
    """Every fourth number of requests that the cache holds, from 1, and the one that was asked."""
    layout, asked = question.deployment.layout, question.deployment.concurrency
    most = asked if capacity.max_concurrency is None else min(capacity.max_concurrency, MOST_IN_FLIGHT) * layout.dp
    counts = {2**power for power in range(0, most.bit_length(), STEPS_BETWEEN_POINTS)}
    return sorted({count for count in counts if count <= most} | {asked})


class _Steps:
    """Steps of the first stage as operations, bytes and seconds of its busiest rank."""

    def __init__(self, question: Question, model: StepModel, times: Timed, workload: Workload) -> None:
        self._model, self._times = model, times
        self._input, self._output = workload.mean_input_tokens, workload.mean_output_tokens
        self._context = self._input + self._output / 2
        settings = question.engine.settle(question.serving)
        division = question.engine.division(question.serving, settings)
        spec, layout = question.spec, question.deployment.layout
        place = places(layout, division, len(spec.layers), _most_experts(spec))[0]
        self._reads = _reads(question, division, place, self._context)

    def decode(self, in_flight: int) -> OperatingPoint:
        """A step in which each request gets a token."""
        model, stages = self._model, self._times.stages
        replica = -(-in_flight // self._times.copies)
        parts = min(len(stages), replica) if model.stages_at_once else 1
        batch = -(-replica // parts)
        load = ServedLoad(batch, self._input, self._output, self._times.step_tokens)
        seconds = decode_step((model,), load, self._times.use).seconds
        on_rank = -(-batch // model.data_ranks)
        reads = self._reads.at(on_rank)
        size = reads.dense_bytes + reads.cache_bytes + self._experts_bytes(StepTokens(batch))
        operations = step_operations(model, StepLoad(batch, self._context), self._times.use)
        return _point("decode", in_flight, on_rank, operations, size, seconds)

    def prefill(self) -> OperatingPoint:
        """A step that reads one prompt of the mean length, or its first chunk, and nothing else."""
        new = max(1, round(min(self._input, self._times.step_tokens)))
        load = StepLoad(0, self._context, new)
        use = self._times.use
        size = self._reads.dense_bytes + self._experts_bytes(StepTokens(0, new))
        seconds = step_time(self._model, load, use).seconds
        return _point("prefill", 1, new, step_operations(self._model, load, use), size, seconds)

    def _experts_bytes(self, tokens: StepTokens) -> float:
        """As `StepReads.at`, by the use that times are of."""
        ranks, use = self._reads.expert_ranks, self._times.use
        return sum(
            each.num_bytes * use.distinct(each.experts, each.chosen, each.on_rank, tokens, ranks) / each.on_rank
            for each in self._reads.experts
        )


def _reads(question: Question, division: Division, place: Place, context_tokens: float) -> StepReads:
    spec, encoder = question.spec, question.deployment.encoder_tokens
    ranks = division.attention, division.cache_tokens
    cache = cache_reads(stage_spec(spec, place.stage), question.rules, round(context_tokens), encoder, *ranks)
    return step_reads(spec, question.held, cache, division=division, place=place)


def _point(
    kind: Literal["decode", "prefill"], in_flight: int, tokens: int, operations: float, num_bytes: float, seconds: float
) -> OperatingPoint:
    ratio, rate = operations / num_bytes, operations / seconds
    return OperatingPoint(kind, in_flight, tokens, operations, num_bytes, seconds, ratio, rate, 0.0)


def _most_experts(spec: ModelSpec) -> int:
    return max((ffn.num_experts for layer in spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)), default=0)


def _loads(use: ExpertUse) -> tuple[LayerLoads, ...]:
    if not isinstance(use, MeasuredUse):
        return ()
    return tuple(
        LayerLoads(place, tuple(round(share * len(layer) / sum(layer), 3) for share in layer))
        for place, layer in zip(use.layers, use.inclusions, strict=True)
    )
