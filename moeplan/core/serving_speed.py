"""How fast a replica serves: time to the first token, time per output token, tokens per second, with bands and what binds.

Steps come from `core/step_time`, their order from `core/closed_loop`. A replica is one whole layout: stages that run one
after the other, and data-parallel ranks that share the experts. Means, not percentiles.
"""

from collections.abc import Sequence
from math import exp, hypot, log
from typing import Literal, NamedTuple

from moeplan.core.closed_loop import Loop, Passing, Reading, readings, served
from moeplan.core.errors import InputError
from moeplan.core.expert_use import LIGHT, ExpertUse
from moeplan.core.speculation import Drafting, draft_part
from moeplan.core.step_time import (
    BYTES_BETWEEN_LAYERS,
    PartBinding,
    PartName,
    StepLoad,
    StepModel,
    StepPart,
    StepTime,
    one_after_another,
    step_time,
)

PROMPT_LAYER_S = 1.2e-3
"""What a step that reads a prompt keeps its first token waiting for each layer, beyond its kernels: launches one by one
outside of graphs, tokenising, scheduling, the way to the client. No table has these. Fitted to TTFT of the 16 runs of
`benchmarks/data/throughput.csv` (`benchmarks/throughput.py:fitted_layer_s`): 1.05 to 1.40 ms without one model after the other,
median error 17 % on the model left out (11 % without the runs that may speculate), worst 66 %. It counts for first tokens
alone: as part of the steps that others decode beside, the worst error of their TPOT would rise from 40 to 65 %."""

TPOT_WIDTH = 0.19
"""Half width of the band of TPOT, a logarithm, for what is in no step: norms, sampling, the host, an engine's version. The
scatter of the 16 runs in excess of the kernels' own bands (`benchmarks/throughput.py:width_of`). 14 of the 16 lie inside;
12 where the width comes from the other models' runs alone."""

TTFT_WIDTH = 0.38
"""The same for TTFT: 15 of the 16 runs lie inside, 13 with constants of the other models' runs alone."""

SENDS_BAND = (0.5, 5.0)
"""Assumed: sends between stages at the full rate of the link are the least; none was measured. Over a network the band of its
rate counts too, where that is wider."""

MEASURED_PROFILES = ("nvidia-h100-sxm", "nvidia-h200-sxm", "nvidia-b200-sxm")
MEASURED_ENGINES = ("vllm", "sglang", "trtllm")
MEASURED_USERS, MEASURED_INPUT, MEASURED_OUTPUT, MEASURED_RANKS = (4, 64), (512, 8192), (512, 1024), (1, 8)
"""What the published runs span that the model was held against (`benchmarks/data/throughput.csv`)."""

FigureBasis = Literal["measured", "carried", "assumed"]

TERMS: dict[PartBinding, str] = {
    "memory": "memory bandwidth",
    "compute": "compute",
    "fixed": "fixed time",
    "traffic": "memory bandwidth of rows",
    "routing": "routing",
    "link": "link",
}


class ServedLoad(NamedTuple):
    """What a replica is asked for."""

    concurrency: int
    """Requests in flight on one replica; on one copy where data-parallel ranks share nothing."""
    input_tokens: float
    output_tokens: float
    step_tokens: int
    """Most tokens of one step of a data-parallel rank."""


class Figure(NamedTuple):
    """A value between low and high, and the weakest way in which one of its parts is known; `measured` only of a card and an
    engine whose whole runs the model was held against."""

    value: float
    low: float
    high: float
    basis: FigureBasis


class ServingSpeed(NamedTuple):
    """What a replica does under a load."""

    ttft_s: Figure
    tpot_s: Figure
    output_tokens_per_s: Figure
    """Of the whole replica."""
    decode: StepTime
    """One token of every sequence, through all stages; with speculation several, which are verified, and drafting the next."""
    prefill: StepTime
    """The step that reads a prompt, or a chunk of one, beside the others' tokens."""
    binding: str
    """What takes longest in a step of decode: term and part."""
    regime: str
    """One sentence on what that means."""
    extrapolated: tuple[str, ...]
    """What lies outside of the runs that the model was held against, or is not modelled."""


def serving_speed(
    stages: Sequence[StepModel], load: ServedLoad, use: ExpertUse = LIGHT, drafting: Drafting | None = None
) -> ServingSpeed:
    """Speed of a replica whose pipeline has these stages, each its slowest rank.

    With `drafting` a step brings `tokens_per_step` of each sequence, so an answer takes fewer steps. InputError for a load
    without users or tokens; UnknownError where devices lie beyond what was measured.
    """
    _check(load)
    first = stages[0]
    users, groups = load.concurrency, first.data_ranks
    parts, context = _parts(stages, users), _mean_context(load)
    each, per_step = (1, 1.0) if drafting is None else (drafting.verify_tokens, drafting.tokens_per_step)
    room = max(1.0, load.step_tokens - each * (-(-users // (groups * parts)) - 1))
    loop = Loop(users, load.input_tokens, load.output_tokens / per_step, room, groups)
    found = readings(loop)

    def beside(reading: Reading) -> tuple[StepTime, Passing]:
        others = (users - 1) / parts
        return _through(stages, StepLoad(others, context, *reading), use, drafting)

    decode, decode_s = _decoding(stages, load, use, drafting)
    prefill, alone_s = beside(found.alone)
    full, full_s = beside(found.full) if found.full != found.alone else (prefill, alone_s)
    mixed, mixed_s = beside(found.mixed) if found.mixed != found.alone else (prefill, alone_s)
    layers = [stage.num_layers for stage in stages]
    delay = Passing(PROMPT_LAYER_S * sum(layers), PROMPT_LAYER_S * max(layers))
    result = served(loop, decode_s, alone_s, mixed_s, full_s, delay=delay, parts=parts)

    share = found.mixed_share
    tpot = _figure(
        result.tpot_s / per_step,
        TPOT_WIDTH,
        (decode, max(0.0, 1 - share)),
        (mixed, share),
    )
    ttft = _figure(result.ttft_s, TTFT_WIDTH, (prefill, 1.0), (full, 1.0))
    if first.hardware not in MEASURED_PROFILES or first.engine not in MEASURED_ENGINES:
        # Whatever its kernels are: what whole runs have beside them was fitted to runs of other cards.
        ttft, tpot = (each._replace(basis=_weakest(each.basis, "carried")) for each in (ttft, tpot))
    answer = max(0.0, load.output_tokens - 1)

    def rate(ttft_s: float, tpot_s: float) -> float:
        return users * load.output_tokens / (ttft_s + answer * tpot_s)

    return ServingSpeed(
        ttft,
        tpot,
        Figure(
            rate(ttft.value, tpot.value),
            rate(ttft.high, tpot.high),
            rate(ttft.low, tpot.low),
            _weakest(ttft.basis, tpot.basis),
        ),
        decode,
        prefill,
        f"{TERMS[decode.slowest.binding]} ({decode.slowest.name})",
        _regime(decode, stages),
        _extrapolated(stages, load, decode),
    )


def decode_step(
    stages: Sequence[StepModel], load: ServedLoad, use: ExpertUse = LIGHT, drafting: Drafting | None = None
) -> StepTime:
    """One token of every sequence of a load, through all stages, with no prompt beside: no token comes sooner. With `drafting`
    the step that verifies, and drafts the next."""
    return _decoding(stages, load, use, drafting)[0]


def sequences_at_once(stages: Sequence[StepModel], concurrency: float) -> float:
    """Sequences of one step, where a pipeline works on parts of the batch."""
    return concurrency / _parts(stages, concurrency)


def _decoding(
    stages: Sequence[StepModel], load: ServedLoad, use: ExpertUse, drafting: Drafting | None
) -> tuple[StepTime, Passing]:
    return _through(stages, StepLoad(sequences_at_once(stages, load.concurrency), _mean_context(load)), use, drafting)


def _parts(stages: Sequence[StepModel], users: float) -> float:
    """Parts of a batch that are in the stages at once: each stage works on one of them."""
    return min(len(stages), users) if stages[0].stages_at_once else 1


def _mean_context(load: ServedLoad) -> float:
    """Tokens of a sequence in the middle of its answer."""
    return load.input_tokens + load.output_tokens / 2


def _through(
    stages: Sequence[StepModel], load: StepLoad, use: ExpertUse, drafting: Drafting | None = None
) -> tuple[StepTime, Passing]:
    """A step through all stages; the last one drafts, where somebody does."""
    drafts: StepPart | None = None
    if drafting is not None:
        load = load._replace(each=drafting.verify_tokens, sampled=drafting.verify_tokens)
        drafts = draft_part(drafting, load, use)
    # Stages that compute the same are one object.
    alike = {id(stage): step_time(stage, load, use) for stage in {id(stage): stage for stage in stages}.values()}
    steps = [alike[id(stage)] for stage in stages]
    if drafts is not None:
        steps[-1] = StepTime((*steps[-1].parts, drafts))
    whole = steps[0] if len(steps) == 1 else one_after_another(steps, _sends(stages, load))
    return whole, Passing(whole.seconds, max(step.seconds for step in steps))


def _sends(stages: Sequence[StepModel], load: StepLoad) -> StepPart:
    """Activations from each stage to the next, at the full rate of what joins them: within a node its link, else a network."""
    first = stages[0]
    times = next(iter(first.by_format.values()))
    tokens = -(-load.decoding // first.data_ranks) * load.each + load.new_tokens
    num_bytes = tokens * first.hidden * BYTES_BETWEEN_LAYERS
    each = first.tensor_ranks * first.data_ranks
    gpus, hops = len(stages) * each, len(stages) - 1
    far = min(hops, times.num_nodes(gpus) - 1) if each <= times.joins.node_gpus else hops
    near_s = (hops - far) * num_bytes / times.send_bytes_per_s(min(gpus, times.joins.node_gpus))
    low, high = SENDS_BAND
    if not far:
        return StepPart("sends", near_s, near_s * low, near_s * high, "assumed", "link")
    rate, network = times.network_bytes_per_s, times.joins.network
    far_s = far * num_bytes / rate
    low_s = near_s * low + far_s * min(low, network.bytes_per_s / network.high_bytes_per_s)
    high_s = near_s * high + far_s * max(high, network.bytes_per_s / network.low_bytes_per_s)
    return StepPart("sends", near_s + far_s, low_s, high_s, "assumed", "link")


def _figure(value: float, width: float, *steps: tuple[StepTime, float]) -> Figure:
    """A band as wide as the steps' own and a width of what is in no step, as independent errors add: logarithms by squares."""
    seconds = sum(step.seconds * share for step, share in steps)
    low = sum(step.low_s * share for step, share in steps)
    high = sum(step.high_s * share for step, share in steps)
    return Figure(
        value,
        value * exp(-hypot(log(seconds / low), width)),
        value * exp(hypot(log(high / seconds), width)),
        _weakest(*(step.basis for step, share in steps if share)),
    )


def _weakest(*told: FigureBasis) -> FigureBasis:
    return "assumed" if "assumed" in told else "carried" if "carried" in told else "measured"


def _regime(decode: StepTime, stages: Sequence[StepModel]) -> str:
    """What the slowest part of decode means for whoever chooses hardware, and what imbalance of experts costs."""
    experts = next((part for part in decode.parts if part.name == "experts"), None)
    slowest = decode.slowest
    if slowest.name in LINKED:
        return "link-bound: fewer ranks, or a faster link, gain more than a faster card"
    if experts is None:
        return f"{PARTS.get(slowest.name, slowest.name)} takes longest: {COSTS[slowest.binding]}"
    imbalance = _imbalance(experts.binding, stages[0].expert_ranks)
    if slowest is experts:
        return imbalance
    return f"{PARTS.get(slowest.name, slowest.name)} takes longest: {COSTS[slowest.binding]}; {imbalance}"


LINKED: tuple[PartName, ...] = ("collectives", "exchange", "sends")
PARTS: dict[PartName, str] = {
    "dense": "what every token goes through", "states": "reading states", "draft": "drafting",
}  # fmt: skip
COSTS: dict[PartBinding, str] = {
    "memory": "bandwidth-bound, it falls with a faster memory",
    "compute": "compute-bound, it grows with every token",
    "fixed": "fixed times of kernels, which no faster card shortens",
    "link": "link-bound",
    "traffic": "moving rows",
    "routing": "routing",
}


def _imbalance(binding: PartBinding, ranks: int) -> str:
    if binding == "memory":
        waits = "; ranks wait for the one that touches most experts" if ranks > 1 else ""
        return f"imbalance costs nothing here: the experts are bandwidth-bound{waits}"
    if binding == "fixed":
        return "imbalance costs nothing here: the experts are bound by fixed times of their kernels"
    told = "compute-bound" if binding == "compute" else "bound by moving rows"
    waits = f"all wait for the busiest of {ranks} ranks" if ranks > 1 else "but one rank has all rows anyway"
    return f"imbalance counts where ranks share experts: the experts are {told}, {waits}"


def _extrapolated(stages: Sequence[StepModel], load: ServedLoad, decode: StepTime) -> tuple[str, ...]:
    first = stages[0]
    ranks = first.tensor_ranks * first.data_ranks
    ranges = (
        ("concurrency", load.concurrency, MEASURED_USERS),
        ("input length", load.input_tokens, MEASURED_INPUT),
        ("output length", load.output_tokens, MEASURED_OUTPUT),
        ("ranks", ranks, MEASURED_RANKS),
    )
    told = [
        f"{name} {value:,.0f} (measured: {low:,} to {high:,})"
        for name, value, (low, high) in ranges
        if not low <= value <= high
    ]
    if first.hardware not in MEASURED_PROFILES:
        told.append(f"card {first.hardware}")
    if first.engine not in MEASURED_ENGINES:
        told.append(f"engine {first.engine}")
    if all(not stage.experts for stage in stages):
        told.append("dense models")
    if len(stages) > 1:
        told.append("pipeline stages")
    if first.data_ranks > 1:
        told.append(f"attention data parallelism, experts by {first.exchange.replace('_', ' ')}")
    if first.cache_ranks > 1:
        told.append("ranks that share a sequence's cache: their exchange is left out")
    if any(stage.states.sequence_bytes for stage in stages):
        told.append("states of recurrent layers: bytes alone")
    if any(stage.states.token_bytes for stage in stages):
        told.append("an indexer's scan: bytes of its keys alone")
    if any(work.kind == "cross" for stage in stages for work in stage.attention):
        told.append("cross-attention over the encoder's output: taken as long as the context")
    between = next(iter(first.by_format.values())).between_nodes(len(stages) * ranks)
    if between is not None:
        told.append(between)
    if first.cached is not None and "other_dtype" in first.cached.resolved["attention_decode"].borrowed:
        told.append(f"a cache in {first.cache_format}: its bytes, with constants of kernels that read another format")
    carried = [part.name for part in decode.parts if part.basis == "carried"]
    if carried:
        told.append(f"constants of other devices, engines or formats: {', '.join(carried)}")
    return tuple(told)


def _check(load: ServedLoad) -> None:
    for name, value in load._asdict().items():
        if not value >= 1:
            raise InputError(f"a load with {name.replace('_', ' ')} {value:g}", hint="say 1 or more")
