"""How long one step of a model takes on one rank: its products, attention, experts and collectives, one after the other.

    step = dense + attention + experts + collectives

Each part is the measured kernel's model of that operation (`core/op_times`, `core/latency`) times how often the step runs
it (`core/step_work`). A step holds one token of each decoding sequence, and new tokens of a prompt beside them. What a step
has besides (norms, activations between kernels, sampling, the host) is in no public table and is left out, so that a step
is rather too fast than too slow.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from moeplan.core.attention_latency import AttentionShape
from moeplan.core.coverage import busiest_rows_uniform, distinct_on_rank
from moeplan.core.latency import Band, Binding, Device, ExpertShape, KernelConstants, Load, ValueBytes, predict
from moeplan.core.op_times import OpTime, OpTimes
from moeplan.core.step_work import AttentionWork, ExpertsWork, Product

BYTES_BETWEEN_LAYERS = 2
"""Of one value between layers: 16 bit under every engine that is modelled."""
REDUCES_PER_LAYER = 2
"""Under tensor parallelism a layer sums up over its ranks after attention and after the feed-forward."""

PartName = Literal["dense", "attention", "experts", "collectives"]


class StepLoad(NamedTuple):
    """What one step is asked for, of one rank's sequences."""

    decoding: int
    """Sequences that get one token each."""
    context_tokens: float
    """That a decoding sequence remembers, on average."""
    new_tokens: int = 0
    """Of a prompt that is being read beside them."""
    past_tokens: int = 0
    """Of that prompt, that were read before."""

    @property
    def tokens(self) -> int:
        """Tokens that go through every layer."""
        return self.decoding + self.new_tokens


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
    """Times of operations by format of weights; attention and collectives by those of the first."""
    kernel: ExpertKernel | None
    """None for a dense model."""
    hidden: int
    num_layers: int
    tensor_ranks: int
    """Ranks that share every layer and sum up after it."""
    expert_ranks: int
    """Ranks that share the experts as wholes."""


class StepPart(NamedTuple):
    """Seconds of one part of a step, with a band."""

    name: PartName
    seconds: float
    low_s: float
    high_s: float
    basis: Literal["measured", "carried"]
    binding: Binding | Literal["link", "mixed"]


class StepTime(NamedTuple):
    """A step by its parts."""

    parts: tuple[StepPart, ...]

    @property
    def seconds(self) -> float:
        """All of it."""
        return sum(part.seconds for part in self.parts)

    @property
    def low_s(self) -> float:
        """As if every part were at the lower end of its band."""
        return sum(part.low_s for part in self.parts)

    @property
    def high_s(self) -> float:
        """As if every part were at the upper end."""
        return sum(part.high_s for part in self.parts)

    @property
    def slowest(self) -> StepPart:
        """The part that takes longest."""
        return max(self.parts, key=lambda part: part.seconds)


def step_time(model: StepModel, load: StepLoad, skew: float = 0.0) -> StepTime:
    """Seconds of one step. `skew` is the exponent of a Zipf law of the gates' weights, 0 for experts alike likely."""
    parts = (
        _dense(model, load),
        _attention(model, load),
        _experts(model, load, skew),
        _collectives(model, load),
    )
    return StepTime(tuple(part for part in parts if part is not None))


def _dense(model: StepModel, load: StepLoad) -> StepPart:
    # The head is asked for tokens that a next one is sampled for: each decoding sequence's, and a prompt's last one.
    sampled = load.decoding + (load.new_tokens > 0)
    found = [
        (
            model.by_format[product.format].matmul_s(
                sampled if product.role == "lm_head" else load.tokens, product.columns, product.depth
            ),
            product.count,
        )
        for product in model.products
    ]
    return _summed("dense", found, "memory" if load.new_tokens == 0 else "mixed")


def _attention(model: StepModel, load: StepLoad) -> StepPart:
    times = next(iter(model.by_format.values()))
    found: list[tuple[OpTime, int]] = []
    for work in model.attention:
        reach = min(work.window_tokens or float("inf"), work.chosen_tokens or float("inf"))
        shape = shape_of(work)
        if load.decoding:
            seen = min(load.context_tokens, reach)
            found.append((times.attention_decode_s(load.decoding, seen, shape), work.count))
        if load.new_tokens:
            past = min(float(load.past_tokens), reach)
            found.append((times.attention_prefill_s(1, load.new_tokens, past, shape), work.count))
    return _summed("attention", found, "memory" if load.new_tokens == 0 else "mixed")


def shape_of(work: AttentionWork) -> AttentionShape:
    """The heads as an operation takes them: a latent is one entry that is key and value."""
    entry = work.key_dim if work.kind == "latent" else work.key_dim + work.value_dim
    return AttentionShape(work.heads, work.kv_heads, work.key_dim, work.value_dim, entry)


def _experts(model: StepModel, load: StepLoad, skew: float) -> StepPart | None:
    kernel = model.kernel
    if kernel is None or not model.experts:
        return None
    found = []
    slowest = None
    for work in model.experts:
        asked = expert_load(work, load.tokens, model.expert_ranks, skew)
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


def expert_load(work: ExpertsWork, tokens: int, ranks: int, skew: float) -> Load:
    """Distinct experts and rows of the busiest rank: of all experts where ranks share their width."""
    experts, chosen = work.experts, work.experts_per_token
    distinct = distinct_on_rank(experts, chosen, work.experts_on_rank, tokens, ranks, skew)
    rows = tokens * chosen if ranks == 1 else busiest_rows_uniform(experts, chosen, tokens, ranks)
    return Load(tokens, distinct, rows)


def _collectives(model: StepModel, load: StepLoad) -> StepPart | None:
    if model.tensor_ranks == 1:
        return None
    times = next(iter(model.by_format.values()))
    num_bytes = load.tokens * model.hidden * BYTES_BETWEEN_LAYERS
    one = times.all_reduce_s(model.tensor_ranks, num_bytes)
    return _summed("collectives", [(one, REDUCES_PER_LAYER * model.num_layers)], "link")


def _summed(name: PartName, found: list[tuple[OpTime, int]], binding: Binding | Literal["link", "mixed"]) -> StepPart:
    carried = any(one.basis == "carried" for one, _ in found)
    return StepPart(
        name,
        sum(one.seconds * count for one, count in found),
        sum(one.low_s * count for one, count in found),
        sum(one.high_s * count for one, count in found),
        "carried" if carried else "measured",
        binding,
    )
