"""What `moeplan plan` says: the result types, with the names of the JSON contract (`moeplan.plan/1`)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from moeplan.core.deployment import Origin
from moeplan.core.model import Remark
from moeplan.core.workload import LoadAsked
from moeplan.estimate.speed_result import Rate, Time

SCHEMA = "moeplan.plan/1"

RankBy = Literal["cost", "gpus", "latency", "throughput"]
Pooling = Literal["together", "apart"]
Pools = Literal["together", "apart", "both"]

Term = Literal[
    "profile",
    "price",
    "engine",
    "weights",
    "cache",
    "memory",
    "speed",
    "ttft",
    "tpot",
    "rate",
    "beaten",
    "kept",
]
"""What ends the way of a card, in the order in which it is asked:

profile  its profile lacks a figure that the model needs
price    costs are asked for and its price is not known
engine   no engine takes the model, the format and the layout on it
weights  no layout has room for the weights
cache    room for the weights, and not for the cache of the sequences
memory   room for both, and not for what the engine keeps beside them
speed    it fits, and no kernel of such a device, or no link of such a group, was measured
ttft     it fits, and prompts wait longer than allowed for their first token
tpot     it fits, and tokens come slower than allowed
rate     it fits, and fewer requests are answered than come in
beaten   it does all that is asked, and another does it for no more and no slower
kept     it is among the plans that are shown
"""


class PlanRequest(NamedTuple):
    """What was asked, as it was read."""

    gpus: tuple[str, ...] | None
    """Names of the profiles; None for all."""
    engines: tuple[str, ...]
    formats: tuple[str, ...] | None
    """As asked for; None for all that a card runs."""
    max_gpus: int
    rank: RankBy
    pools: Pools
    skew: float
    """Exponent of how unevenly experts are chosen; where a profile was counted, of the law that is nearest to it."""
    skew_basis: Literal["assumed", "stated", "measured"]
    origins: dict[str, Origin]


class PlannedModel(NamedTuple):
    """The model, shortly; `moeplan estimate` has the rest."""

    id: str
    revision: str | None
    source: str
    source_kind: str
    total_params: int
    active_params: int
    stored_format: str
    num_experts: int | None
    experts_per_token: int | None


class PlannedLayout(NamedTuple):
    """The degrees of one replica."""

    tp: int
    pp: int
    dp: int
    ep: int
    dp_attention: bool
    num_gpus: int
    num_nodes: int


class PlannedSpeed(NamedTuple):
    """How fast, of the whole plan."""

    ttft: Time
    tpot: Time
    output_tokens_per_s: Rate
    tokens_per_s_per_user: float
    tokens_per_s_per_gpu: float
    binding: str
    regime: str
    extrapolated: tuple[str, ...]


class PlannedCost(NamedTuple):
    """US dollars, and whose price that is; an example, prices move."""

    usd_per_hour: float
    usd_per_hour_low: float
    usd_per_million_output_tokens: float | None
    source: str


class Pool(NamedTuple):
    """Replicas that do one part of the work."""

    role: Literal["all", "prefill", "decode"]
    replicas: int
    layout: PlannedLayout
    sequences: int
    """At most at the same time on each replica."""
    headroom_bytes: int
    headroom_low_bytes: int
    worst_rank: int
    certain: bool
    """False where guesses decide whether it fits."""
    max_concurrency: int | None
    """Sequences of the asked context that a replica has room for."""
    launch: tuple[str, ...]
    """Words of the command that starts a replica."""


class Plan(NamedTuple):
    """One way to serve the workload."""

    gpu: str
    profile: str
    num_gpus: int
    engine: str
    engine_version: str
    format: str
    format_origin: Literal["stored", "on load", "other checkpoint"]
    pooling: Pooling
    pools: tuple[Pool, ...]
    fits: bool
    certain: bool
    speed: PlannedSpeed | None
    cost: PlannedCost | None
    meets: bool | None
    """The limits of the workload; None where speed is not known and a limit was stated."""
    misses: tuple[str, ...]
    """Limits that are not kept, by class where there are several."""


class Rejected(NamedTuple):
    """Cards whose way ended at the same term."""

    term: Term
    cards: tuple[str, ...]
    message: str


class Fallback(NamedTuple):
    """What to go to where something fails."""

    failure: str
    told: str
    """What is taken to happen."""
    survives: bool | None
    """Whether the best plan itself still does all that is asked."""
    why: str
    plan: Plan | None
    """The next one that does; the best plan itself where it survives, None where none was found."""


class Searched(NamedTuple):
    """How much was looked at."""

    cards: int
    layouts: int
    formats: int
    engines: int
    plans: int
    """Cards x formats x engines x layouts x replicas whose memory was compared."""
    evaluated: int
    """Of these, whose speed and memory were worked out in full."""


class Deployment(NamedTuple):
    """The best plan as a file that `moeplan check` reads."""

    kind: str
    text: str


class PlanResult(NamedTuple):
    """The answer of `moeplan plan`."""

    schema: str
    request: PlanRequest
    workload: LoadAsked
    model: PlannedModel
    searched: Searched
    best: Plan | None
    frontier: tuple[Plan, ...]
    """Plans in the checkpoint's own format, of which none is dearer and slower than another; in the order asked for."""
    smaller_formats: tuple[Plan, ...]
    """Plans in other formats that are cheaper or faster than all of the frontier; what they do to quality is not known here."""
    unmeasured: tuple[Plan, ...]
    """Plans that fit where no speed is known, the cheapest of each card."""
    nearest: Plan | None
    """Where nothing does all that is asked: what comes nearest."""
    missing: str | None
    """What that one lacks."""
    rejected: tuple[Rejected, ...]
    fallback: tuple[Fallback, ...]
    deployment: Deployment | None
    notes: tuple[Remark, ...]
