"""What a comparison says: the result types, with the names of the JSON contract (`moeplan.compare/1`).

Models stand in the order in which they were named; where one record speaks of a model, it has its place in that order,
counted from 0. There is no winner: each figure has its own least.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from moeplan.core.deployment import Origin, Refusal
from moeplan.core.hardware import Price
from moeplan.core.model import Remark
from moeplan.estimate.result import LayoutUsed
from moeplan.estimate.speed_result import Rates, Time

SCHEMA = "moeplan.compare/1"

Row = Literal[
    "resident_bytes",
    "bytes_per_token",
    "kv_bytes_per_token",
    "kv_bytes_at_context",
    "num_gpus",
    "ttft",
    "tpot",
    "tokens_per_s_per_user",
    "tokens_per_s_per_gpu",
    "usd_per_hour",
    "usd_per_million_output_tokens",
]
"""Figures that are held against each other."""


class Asked(NamedTuple):
    """What was asked, as it was read."""

    context_tokens: int
    concurrency: int
    input_tokens: float
    """Of a request, on average."""
    output_tokens: float
    engine: str
    engine_version: str
    kv_dtype: str | None
    batches: tuple[int, ...]
    """Sequences of the steps whose bytes are counted."""
    origins: Mapping[str, Origin]


class Card(NamedTuple):
    """The device that all models are held against."""

    name: str
    profile: str
    num_devices: int | None
    """As named: no model may have more; None where no number was."""
    budget_gpus: int | None
    """Those that were named, else as many as the largest of the models needs; None where none of them fits."""
    price: Price | None


class ActiveByCard(NamedTuple):
    """What the model's card calls active, by the convention that its digits fit."""

    count: int  # type: ignore[assignment]  # the name of the JSON contract
    convention: str


class ParameterCounts(NamedTuple):
    """Parameters, as `estimate` counts them."""

    total: int
    active: int
    """Per token of text: all of it but the experts that the token does not visit."""
    active_by_card: ActiveByCard | None
    """None where the card's convention is not known."""


class Reads(NamedTuple):
    """Bytes that a decode step of the whole model reads, by its sequences: of each, so that batches compare."""

    batch: int
    dense_bytes: int
    expert_bytes: int
    """0 in a dense model."""
    cache_bytes: int
    bytes_per_token: int
    """The three together."""


class Cache(NamedTuple):
    """What one sequence keeps, whole model."""

    dtype: str
    bytes_per_token: float
    """Of one more token beyond every window."""
    bytes_at_context: int
    """Of a sequence of the asked length."""


class Needed(NamedTuple):
    """The fewest GPUs, of 1, 2, 4 and so on, on which the engine runs the workload."""

    fits: bool | None
    """False on none of those tried; None where it cannot be told."""
    certain: bool
    num_gpus: int | None
    layout: LayoutUsed | None
    """Of the fewest, else of those on which least is missing."""
    headroom_bytes: int | None
    """What is left on the fullest GPU; below 0 what is missing there."""
    max_concurrency: int | None
    """Sequences of the asked length that there is room for."""
    reasons: tuple[Refusal, ...]
    """Why it does not fit, on the layout that comes nearest; empty where it fits."""
    tried: tuple[int, ...]


class Speed(NamedTuple):
    """One replica under the workload, as `estimate` tells it."""

    ttft: Time
    tpot: Time
    output_tokens_per_s: Rates
    binding: str
    regime: str
    extrapolated: tuple[str, ...]


class Cost(NamedTuple):
    """US dollars at the lowest and the highest list price; speed is taken at the middle of its band."""

    usd_per_hour_low: float
    """Of one replica."""
    usd_per_hour_high: float
    usd_per_million_output_tokens_low: float | None
    """None where the speed is not known."""
    usd_per_million_output_tokens_high: float | None


class Operations(NamedTuple):
    """What running it takes."""

    ranks: int
    """Processes of one replica, each on a GPU: with one of them gone, none of the others can serve."""
    num_nodes: int
    replicas: int
    """That the budget has room for."""
    idle_gpus: int
    """Of the budget, that make no whole replica."""
    lost_fraction: float
    """Of the capacity, where one GPU fails."""
    host_bytes: int
    """Memory of the host that one replica takes while it loads, all nodes together."""


class Compared(NamedTuple):
    """One model under the workload."""

    label: str
    """Short, and another for each."""
    id: str
    revision: str | None
    source: str
    source_kind: str
    family: str
    kind: Literal["dense", "moe"]
    num_experts: int | None
    experts_per_token: int | None
    quant: str | None
    """The format that was asked for; None takes the checkpoint's own."""
    format: str
    """That most of the weights are held in."""
    parameters: ParameterCounts
    resident_bytes: int
    """Weights that the engine keeps, whole model, in their formats."""
    reads: tuple[Reads, ...]
    kv_cache: Cache
    vocabulary: int
    license: str | None
    """As the catalogue has it; None where that does not know."""
    max_context_tokens: int | None
    gpus: Needed | None
    """None where no GPU was named."""
    speed: Speed | None
    speed_unknown: str | None
    """Why."""
    cost: Cost | None
    cost_unknown: str | None
    operations: Operations | None
    """None where no GPU was named, or it does not fit."""
    notes: tuple[Remark, ...]


class Turn(NamedTuple):
    """From this batch on another of two models reads less per step."""

    batch: int
    less: int


class ResidentTurn(NamedTuple):
    """Weights and cache of all sequences together, of two models over the length of the sequences."""

    less_when_short: int
    context_tokens: int | None
    """The shortest length at which the other one holds less; None where there is none."""
    most_context_tokens: int
    """How far that was looked for: what both models can, at most."""


class Pair(NamedTuple):
    """Two of the models."""

    first: int
    second: int
    total_ratio: float
    """Parameters of the first over those of the second."""
    reads_ratio: float
    """The same of bytes read per token at `reads_batch`."""
    reads_batch: int
    less_at_one: int
    """Which reads less at batch 1."""
    turns: tuple[Turn, ...]
    most_batch: int
    """How far turns were looked for."""
    resident: ResidentTurn


class Mark(NamedTuple):
    """The models that have the least of a figure; of tokens per second, the most. Empty where all have the same."""

    row: Row
    batch: int | None
    """For bytes read."""
    models: tuple[int, ...]


class Comparison(NamedTuple):
    """The answer of `moeplan compare`; `schema` names the version of its JSON."""

    schema: str
    request: Asked
    hardware: Card | None
    models: tuple[Compared, ...]
    pairs: tuple[Pair, ...]
    marks: tuple[Mark, ...]
    notes: tuple[Remark, ...]
