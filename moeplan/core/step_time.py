"""How long one step of a model takes on one rank: its products, attention, experts and collectives, one after the other.

    step = dense + attention + states + experts + exchange + collectives

Each part is the measured kernel's model of that operation (`core/op_times`, `core/latency`) times how often the step runs
it (`core/step_work`). A step holds one token of each decoding sequence, or several where it verifies drafts, and new tokens
of prompts beside them. Under attention data parallelism each rank has its own sequences, the experts serve those of all
ranks, and the step lasts as long as that of the rank with most to do. What a step has besides (norms, activations between
kernels, sampling, the host) is in no public table and is left out, so that a step is rather too fast than too slow.

States of recurrent layers and keys that an indexer scans have no measured kernel: their bytes are read at the memory's
bandwidth, a guess with a wide band.
"""

from collections.abc import Iterable, Mapping
from math import hypot
from typing import Literal, NamedTuple

from moeplan.core.attention_latency import AttentionShape
from moeplan.core.exchange import Exchange, Way, exchange_times, way_of
from moeplan.core.expert_use import EVEN, ExpertUse, StepTokens
from moeplan.core.kept import Kept
from moeplan.core.latency import Band, Binding, Device, ExpertShape, KernelConstants, Load, ValueBytes, predict
from moeplan.core.op_times import OpBasis, OpTime, OpTimes
from moeplan.core.step_bytes import StepBytes
from moeplan.core.step_work import AttentionWork, ExpertsWork, Product, StatesWork

BYTES_BETWEEN_LAYERS = 2
"""Of one value between layers: 16 bit under every engine that is modelled."""
REDUCES_PER_LAYER = 2
"""Under tensor parallelism a layer sums up over its ranks after attention and after the feed-forward."""
STATES_BAND = (0.8, 3.0)
"""Assumed: reading at the full bandwidth is the least that states take; no kernel of them was measured."""

PartName = Literal["dense", "attention", "states", "experts", "exchange", "collectives", "sends", "draft"]
PartBasis = Literal["measured", "carried", "assumed"]
PartBinding = Binding | Literal["link"]


_known = Kept(65_536)
"""Parts of steps, by the records that they were worked out of."""


class StepLoad(NamedTuple):
    """What one step is asked for, of all data-parallel ranks of a stage together but where it says otherwise."""

    decoding: float
    """Sequences that get their next token, or next ones."""
    context_tokens: float
    """That a decoding sequence remembers, on average."""
    new_tokens: float = 0
    """Of prompts that are being read beside them, on a rank that reads."""
    past_tokens: float = 0
    """Of each such prompt, that were read before."""
    prompts: float = 1
    """That the new tokens of a rank belong to."""
    reading: float = 1
    """Data-parallel ranks that read prompts at once."""
    each: float = 1
    """Tokens of each decoding sequence: its last one, and drafts of the next where these are verified."""
    sampled: float = 1
    """Of these, how many a next token is sampled for: all where drafts are verified."""


class ExpertKernel(NamedTuple):
    """The kernel that runs the experts of a model, on one device."""

    constants: KernelConstants
    bands: tuple[Band, ...]
    device: Device
    values: ValueBytes
    carried: bool
    """True where the constants are another device's."""


class StepModel(NamedTuple):
    """A model on one rank of a layout, with the times of its operations."""

    products: tuple[Product, ...]
    attention: tuple[AttentionWork, ...]
    experts: tuple[ExpertsWork, ...]
    by_format: Mapping[str, OpTimes]
    """Times of operations by format of weights; collectives, and attention over a cache of 16 bit, by those of the first."""
    kernel: ExpertKernel | None
    """None for a dense model."""
    hidden: int
    num_layers: int
    tensor_ranks: int
    """Ranks that share every layer and sum up after it."""
    expert_ranks: int
    """Ranks that share the experts as wholes."""
    data_ranks: int = 1
    """Groups of such ranks, each with its own sequences and all with the same experts."""
    states: StatesWork = StatesWork(0, 0.0)
    balanced: bool = False
    """True where a balancer places experts, and copies of busy ones, by their load."""
    exchange: Way = "gather"
    """How tokens reach the experts of other groups."""
    cache_ranks: int = 1
    """Ranks that share the tokens of a sequence's cache."""
    cached: OpTimes | None = None
    """Times of attention over the cache in its format; None where that has 16 bit."""
    cache_format: str = "bfloat16"
    stages_at_once: bool = True
    """Whether an engine keeps all stages of a pipeline busy with parts of the batch."""
    engine: str = ""
    hardware: str = ""
    """Name of the hardware profile."""


class StepPart(NamedTuple):
    """Seconds of one part of a step, with a band."""

    name: PartName
    seconds: float
    low_s: float
    high_s: float
    basis: PartBasis
    binding: PartBinding


class StepTime(NamedTuple):
    """A step by its parts."""

    parts: tuple[StepPart, ...]

    @property
    def seconds(self) -> float:
        """All of it."""
        return sum(part.seconds for part in self.parts)

    @property
    def low_s(self) -> float:
        """Parts are off independently of each other, so their distances add up by squares."""
        return self.seconds - hypot(*(part.seconds - part.low_s for part in self.parts))

    @property
    def high_s(self) -> float:
        """As `low_s`."""
        return self.seconds + hypot(*(part.high_s - part.seconds for part in self.parts))

    @property
    def slowest(self) -> StepPart:
        """The part that takes longest."""
        return max(self.parts, key=lambda part: part.seconds)

    @property
    def basis(self) -> PartBasis:
        """The weakest of the parts'."""
        told = {part.basis for part in self.parts}
        return "assumed" if "assumed" in told else "carried" if "carried" in told else "measured"


def step_time(model: StepModel, load: StepLoad, use: ExpertUse = EVEN) -> StepTime:
    """Seconds of one step. UnknownError where devices lie beyond what was measured."""
    decoding = -(-load.decoding // model.data_ranks)
    prompts = max(1.0, load.prompts * load.reading)
    of_all = StepTokens(load.decoding, load.new_tokens * load.reading, prompts, load.each)
    mine = _Mine(decoding, decoding * load.each + load.new_tokens, of_all)
    new = (load.new_tokens, load.past_tokens, load.prompts, load.each, load.sampled)
    # Layouts that divide a part alike share it, and a search asks for it again with each of them.
    parts = (
        _known.of(
            (model.products, model.by_format),
            ("dense", mine.decoding, mine.tokens, model.data_ranks, *new),
            lambda: _dense(model, load, mine),
        ),
        _known.of(
            (model.attention, model.by_format, model.cached),
            ("attention", mine.decoding, load.context_tokens, model.cache_ranks, *new),
            lambda: _attention(model, load, mine),
        ),
        _states(model, load, mine),
        _known.of(
            (model.experts, model.kernel, use),
            (
                "experts",
                *mine,
                model.expert_ranks,
                model.data_ranks,
                model.tensor_ranks,
                model.exchange,
                model.balanced,
            ),
            lambda: _experts(model, mine, use),
        ),
        _exchange(model, mine),
        _collectives(model, mine),
    )
    return StepTime(tuple(part for part in parts if part is not None))


class Floor(NamedTuple):
    """What a decode step of a stage takes at the least: calls of its kernels, and bytes at the rates that they reach.

    Each formula of an operation begins with these two; everything else in it only adds.
    """

    calls_s: float
    dense_s_per_byte: float
    experts_s_per_byte: float
    cache_s_per_byte: float

    def at(self, reads: StepBytes) -> float:
        """Seconds of a step that reads so much."""
        return (
            self.calls_s
            + reads.dense_bytes * self.dense_s_per_byte
            + reads.expert_bytes * self.experts_s_per_byte
            + reads.cache_bytes * self.cache_s_per_byte
        )


def floor_of(model: StepModel) -> Floor:
    """The floor of a stage, with what its ranks send each other for a single token. UnknownError beyond what was measured."""
    times = next(iter(model.by_format.values()))
    calls, dense = 0.0, []
    for each in model.products:
        call_s, per_byte = model.by_format[each.format].floor("matmul")
        calls += call_s * each.count
        dense.append(per_byte)
    call_s, cached = (model.cached or times).floor("attention_decode")
    if any(model.states):  # read at the full rate, see `_states`
        cached = min(cached, 1 / times.bandwidth_bytes_per_s)
    calls += call_s * sum(work.count for work in model.attention)
    per_expert_byte = 0.0
    if model.kernel is not None:
        constants, device = model.kernel.constants, model.kernel.device
        per_expert_byte = 1 / (device.bandwidth_bytes_per_s * constants.memory_fraction)
        call_s = constants.fixed_s + constants.startup_bytes * per_expert_byte
        calls += call_s * sum(work.count for work in model.experts)
    one = _Mine(1, 1, StepTokens(1))
    calls += sum(part.seconds for part in (_exchange(model, one), _collectives(model, one)) if part is not None)
    return Floor(calls, min(dense, default=0.0), per_expert_byte, cached)


class _Mine(NamedTuple):
    """The busiest rank's share of a step."""

    decoding: float
    tokens: float
    """That go through its attention."""
    of_all: StepTokens
    """Those of all data-parallel ranks."""


def _dense(model: StepModel, load: StepLoad, mine: _Mine) -> StepPart:
    # The head is asked for tokens that a next one is sampled for: each decoding sequence's, and a prompt's last one.
    sampled = mine.decoding * load.sampled + load.prompts * (load.new_tokens > 0)
    found = []
    fixed_s = computed = moved = 0.0
    ratios: dict[tuple[str, float], tuple[float, float]] = {}
    for product in model.products:
        rows = sampled if product.role == "lm_head" else mine.tokens
        if product.groups > 1:
            rows *= min(product.groups, model.data_ranks)
        times = model.by_format[product.format]
        key = product.format, rows
        if key not in ratios:
            ratios[key] = times.fixed_s("matmul"), times.compute_over_memory(rows)
        fixed, ratio = ratios[key]
        found.append((times.matmul_s(rows, product.columns, product.depth), product.count))
        size = product.columns * product.depth * product.count
        fixed_s += fixed * product.count
        computed += ratio * size
        moved += size
    return _summed("dense", found, "compute" if computed > moved else "memory", fixed_s)


def _attention(model: StepModel, load: StepLoad, mine: _Mine) -> StepPart | None:
    plain = next(iter(model.by_format.values()))
    times = model.cached or plain
    found: list[tuple[OpTime, int]] = []
    fixed_s = 0.0
    for work in model.attention:
        reach = min(work.window_tokens or float("inf"), work.chosen_tokens or float("inf"))
        shape = shape_of(work)
        if load.decoding:
            seen = min(load.context_tokens / model.cache_ranks, reach)
            one = times.attention_decode_s(mine.decoding, seen, shape, load.each, work.value_bytes)
            found.append((one, work.count))
            fixed_s += times.fixed_s("attention_decode") * work.count
        if load.new_tokens:
            new = load.new_tokens / load.prompts
            # Latents are unpacked to 16 bit, whatever they are cached in.
            read = times if work.unpacked is None else plain
            stored = work.value_bytes if work.unpacked is None else None
            shape = prompt_shape(work)
            one = read.attention_prefill_s(load.prompts, new, load.past_tokens, shape, reach, stored)
            found.append((one, work.count))
            fixed_s += read.fixed_s("attention_prefill") * work.count
    return _summed("attention", found, "compute" if load.new_tokens else "memory", fixed_s) if found else None


def shape_of(work: AttentionWork) -> AttentionShape:
    """The heads as an operation takes them: a latent is one entry that is key and value."""
    entry = work.key_dim if work.kind == "latent" else work.key_dim + work.value_dim
    return AttentionShape(work.heads, work.kv_heads, work.key_dim, work.value_dim, entry)


def prompt_shape(work: AttentionWork) -> AttentionShape:
    """The heads where a prompt is read: latents are unpacked to keys and values of each head, which takes fewer operations
    where many tokens ask (vllm-project/vllm v1/attention/backends/mla/common.py). Unpacking those of earlier chunks again is
    left out."""
    if work.unpacked is None:
        return shape_of(work)
    key, value = work.unpacked
    return AttentionShape(work.heads, work.heads, key, value, key + value)


def _states(model: StepModel, load: StepLoad, mine: _Mine) -> StepPart | None:
    states = model.states
    num_bytes = states.sequence_bytes + states.token_bytes * load.context_tokens
    if not num_bytes:
        return None
    # Each token that may be taken leaves a state behind where one is read; keys are scanned once for all of them.
    written = mine.decoding * states.sequence_bytes * (load.each - 1) / 2
    # A prompt leaves one state behind, and its new tokens are scored against those before them.
    seconds = (mine.decoding + load.prompts * (load.new_tokens > 0)) * num_bytes + written
    seconds /= next(iter(model.by_format.values())).bandwidth_bytes_per_s
    return StepPart("states", seconds, seconds * STATES_BAND[0], seconds * STATES_BAND[1], "assumed", "memory")


def _experts(model: StepModel, mine: _Mine, use: ExpertUse) -> StepPart | None:
    kernel = model.kernel
    if kernel is None or not model.experts:
        return None
    found = []
    slowest = None
    for work in model.experts:
        asked = expert_load(work, mine.of_all, model.expert_ranks, use, balanced=model.balanced)
        if model.data_ranks > 1 and model.exchange != "gather":
            # Each rank routes its own tokens, and rows of other ranks' experts never come here.
            asked = asked._replace(tokens=mine.tokens / model.tensor_ranks)
        shape = ExpertShape(
            work.hidden,
            work.width,
            work.experts,
            work.experts_on_rank,
            work.experts_per_token,
            kernel.values,
            work.gated,
        )
        one = predict(kernel.constants, kernel.bands, kernel.device, shape, asked)
        basis: Literal["measured", "carried"] = "carried" if kernel.carried else "measured"
        found.append((OpTime(one.seconds, one.low_s, one.high_s, basis), work.count))
        slowest = slowest or one.binding
    return _summed("experts", found, slowest or "memory")


def expert_load(work: ExpertsWork, tokens: StepTokens, ranks: int, use: ExpertUse, *, balanced: bool = False) -> Load:
    """Distinct experts and rows of the busiest rank: of all experts where ranks share their width.

    `balanced`: a balancer places experts and their copies by load (`core/expert_placement`); what evenness they reach, and the
    noise of a batch, is worked out of the placement.
    """
    experts, chosen, copies = work.experts, work.experts_per_token, work.copies
    distinct = use.distinct(experts, chosen, work.experts_on_rank, tokens, ranks, balanced=balanced, copies=copies)
    rows = use.rows(experts, chosen, tokens, ranks, balanced=balanced, copies=copies)
    return Load(tokens.all, distinct, rows)


def _exchange(model: StepModel, mine: _Mine) -> StepPart | None:
    if model.data_ranks == 1 or not model.experts:
        return None
    times = next(iter(model.by_format.values()))
    found = []
    for work in model.experts:
        gpus = model.data_ranks * model.tensor_ranks
        way = way_of(model.exchange, with_prompts=mine.of_all.new > 0)
        asked = Exchange(way, gpus, work.hidden, work.experts, work.experts_per_token)
        # A gather brings together as many tokens as there are (all_gatherv); else the fullest rank sends longest.
        each = mine.of_all.all / gpus if way == "gather" else mine.tokens / model.tensor_ranks
        found += [(one, work.count) for one in exchange_times(asked, times, each)]
    return _summed("exchange", found, "link")


def _collectives(model: StepModel, mine: _Mine) -> StepPart | None:
    """Sums over the tensor-parallel ranks; what experts computed for other groups comes back by the exchange."""
    times = next(iter(model.by_format.values()))
    num_bytes = mine.tokens * model.hidden * BYTES_BETWEEN_LAYERS
    sparse = sum(work.count for work in model.experts) if model.data_ranks > 1 else 0
    found = []
    fixed_s = 0.0
    if model.tensor_ranks > 1:
        count = REDUCES_PER_LAYER * model.num_layers - sparse
        found.append((times.all_reduce_s(model.tensor_ranks, num_bytes), count))
        fixed_s += times.all_reduce_s(model.tensor_ranks, 0).seconds * count
    shared = any(product.role == "dense_mlp" and product.groups > 1 for product in model.products)
    if model.data_ranks > 1 and shared and model.num_layers > sparse:
        gpus, gathered = model.data_ranks * model.tensor_ranks, num_bytes * model.data_ranks
        for one in (times.all_gather_s(gpus, gathered), times.reduce_scatter_s(gpus, gathered)):
            found.append((one, model.num_layers - sparse))
    return _summed("collectives", found, "link", fixed_s) if found else None


def _summed(name: PartName, found: list[tuple[OpTime, int]], binding: PartBinding, fixed_s: float = 0.0) -> StepPart:
    """Equal operations are off in the same way: their bands add up. What is mostly fixed time is bound by it."""
    seconds = low_s = high_s = 0.0
    bases: set[OpBasis] = set()
    for (one_s, one_low_s, one_high_s, basis), count in found:
        seconds += one_s * count
        low_s += one_low_s * count
        high_s += one_high_s * count
        bases.add(basis)
    told: PartBasis = "assumed" if "assumed" in bases else "carried" if "carried" in bases else "measured"
    return StepPart(name, seconds, low_s, high_s, told, "fixed" if 2 * fixed_s > seconds else binding)


def one_after_another(steps: Iterable[StepTime], sends: StepPart | None = None) -> StepTime:
    """Stages of a pipeline as one step: parts of one name added up, and what stages send to each other."""
    steps = tuple(steps)
    if len(steps) == 1:
        return steps[0]
    by_name: dict[PartName, list[StepPart]] = {}
    for step in steps:
        for part in step.parts:
            by_name.setdefault(part.name, []).append(part)
    parts = [
        StepPart(
            name,
            sum(part.seconds for part in some),
            sum(part.low_s for part in some),
            sum(part.high_s for part in some),
            StepTime(tuple(some)).basis,
            max(some, key=lambda part: part.seconds).binding,
        )
        for name, some in by_name.items()
    ]
    return StepTime((*parts, *((sends,) if sends is not None else ())))
