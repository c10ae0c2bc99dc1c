"""What spare slots are worth: the result types of the sweep in `moeplan routing place`."""

from typing import Literal, NamedTuple

Verdict = Literal["pays", "worthless", "costs", "unknown"]


class Balances(NamedTuple):
    """Balancedness over layers."""

    mean: float
    worst: float
    worst_layer: int | None
    """None where a law stands for all layers."""


class SkewUsed(NamedTuple):
    """The law that takes the place of counts: weights of the gates fall as rank^-exponent."""

    exponent: float
    low: float | None
    high: float | None
    """Band of what was published; None of what was stated."""
    basis: Literal["stated", "published"]
    why: str


class Served(NamedTuple):
    """What times are of."""

    gpu: str
    engine: str
    tp: int
    """Ranks that share attention."""
    dp: int
    """Groups of them, each with its own sequences."""
    concurrency: int
    input_tokens: float
    output_tokens: float
    context_tokens: int


class InOrder(NamedTuple):
    """Experts in the order of their numbers and no copies, as engines start. A law does not say which of them are busy: figures
    are means over random draws of that."""

    balancedness: Balances
    step_balancedness: float
    """Of single steps of `step_tokens`: a batch has noise of its own."""
    live: Balances | None
    kv_tokens: int | None
    fits: bool | None
    decode_s: float | None
    prefill_s: float | None
    tpot_s: float | None
    """Time per token under the load: of steps of decode, and of those that read prompts beside them."""
    output_tokens_per_s: float | None


class Worth(NamedTuple):
    """What a step of one phase gains."""

    verdict: Verdict
    seconds: float | None
    """Of the step."""
    saved_fraction: float | None
    """Of the step that it is held against; negative where it takes longer."""
    why: str


class SpareSlots(NamedTuple):
    """So many spare slots, experts and copies placed by load."""

    redundant_experts: int
    slots_per_rank: int
    per_rank_bytes: int | None
    all_ranks_bytes: int | None
    balancedness: Balances
    """On the counts, or the law, that was planned on."""
    step_balancedness: float
    live: Balances | None
    """On other counts."""
    kv_tokens: int | None
    """Of cache, that are left."""
    kv_tokens_lost: int | None
    """To the copies."""
    fits: bool | None
    than: Literal["in_order", "placed"]
    """What the verdicts hold it against: experts in the order of their numbers, or placed by load with the fewest slots."""
    decode: Worth
    prefill: Worth
    tpot_s: float | None
    """Time per token under the load, which `output_tokens_per_s` goes by; `decode` is of steps without prompts alone."""
    output_tokens_per_s: float | None
    """Of all ranks under the load."""
    gained_fraction: float | None
    """Of that rate, held against the same."""


class Sweep(NamedTuple):
    """Numbers of spare slots beside each other."""

    step_tokens: int
    """Of the single step, over all ranks."""
    step_tokens_basis: Literal["stated", "concurrency", "default"]
    most_without_copies: float
    """The best balancedness without copies, the mean of layers."""
    kv_tokens_per: str | None
    """What has its own cache."""
    in_order: InOrder
    spare: tuple[SpareSlots, ...]
    served: Served | None
    times_unknown: str | None
    recommended: int
    """Redundant experts; as many as are there anyway where none pays."""
    recommendation: str
