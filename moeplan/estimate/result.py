"""What an estimate says: the result types, with the names of the JSON contract (`moeplan.estimate/1`)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from moeplan.core.capacity import EnginePrints
from moeplan.core.deployment import Option, Origin, Refusal
from moeplan.core.kv_cache import Accounting, StoredRow
from moeplan.core.ledger import Line
from moeplan.core.model import Remark
from moeplan.core.weights import Parameters

if TYPE_CHECKING:  # only an estimate under a load pays for them
    from moeplan.estimate.curves_result import Curves
    from moeplan.estimate.speed_result import Speed

MEMORY_REASONS = ("does-not-fit", "request-does-not-fit")
"""Codes of reasons that are about memory alone: the engine itself would start."""

SCHEMA = "moeplan.estimate/1"


class Request(NamedTuple):
    """What was asked, as it was read."""

    context_tokens: int
    concurrency: int
    encoder_tokens: int | None
    quant: str | None
    kv_dtype: str | None
    origins: Mapping[str, Origin]


class HardwareUsed(NamedTuple):
    """The devices that the ledger is held against; bytes are of one device."""

    name: str
    profile: str
    num_devices: int
    usable_bytes: int | None
    usable_low_bytes: int | None
    usable_high_bytes: int | None
    usable_basis: str | None
    host_bytes: int | None


class ModelFacts(NamedTuple):
    """The model's shape."""

    id: str
    revision: str | None
    source: str
    source_kind: str
    model_type: str
    family: str
    num_layers: int
    num_encoder_layers: int
    num_moe_layers: int
    num_experts: int | None
    num_zero_experts: int
    experts_per_token: int | None
    num_shared_experts: int
    max_context_tokens: int | None


class LeftOut(NamedTuple):
    """Something in the checkpoint that the engine does not keep in memory."""

    what: str
    bytes: int


class WeightBytes(NamedTuple):
    """Weights of the whole model in the formats they are stored in."""

    checkpoint_bytes: int
    resident_bytes: int
    by_role: Mapping[str, int]
    by_format: Mapping[str, int]
    left_out: tuple[LeftOut, ...]
    basis: str


class WindowCost(NamedTuple):
    """Cost of the cache under one way of counting window layers."""

    bytes_per_token: float
    bytes_per_sequence: int


class KvCache(NamedTuple):
    """The cache of the whole model, unsharded."""

    dtype: str
    accounting: Accounting
    alternatives: Mapping[str, WindowCost]
    bytes_per_token: float
    bytes_per_sequence: int
    bytes_at_context: int
    bytes_total: int
    layers: tuple[StoredRow, ...]


class LayoutUsed(NamedTuple):
    """How the model is spread, and under which settings of the engine."""

    engine: str
    engine_version: str
    version_origin: Origin
    expert_backend: str | None
    options: tuple[Option, ...]
    tp: int
    pp: int
    pp_layers: tuple[int, ...] | None
    dp: int
    ep: int
    dp_attention: bool
    dcp: int
    redundant_experts: int
    num_nodes: int
    num_gpus: int


class Rank(NamedTuple):
    """Ranks that hold the same, and their ledger."""

    ranks: tuple[int, ...]
    device: str
    weights_bytes: int
    kv_cache_bytes: int
    kv_bytes_per_token: float
    kv_bytes_per_sequence: int
    load_peak_bytes: int | None
    free_bytes: int | None
    """None where the host's memory is not known."""
    free_low_bytes: int | None
    free_high_bytes: int | None
    lines: tuple[Line, ...]


class AtContext(NamedTuple):
    """How many sequences there is room for where each is so long."""

    context_tokens: int
    max_concurrency: int


class Capacity(NamedTuple):
    """How much fits; None where nothing was held against hardware."""

    kv_pool_bytes: int | None
    kv_tokens: int | None
    max_concurrency: int | None
    max_context_tokens: int | None
    per: str
    engine_prints: EnginePrints | None
    over_context: tuple[AtContext, ...] = ()
    """Room at other contexts, counted as `max_concurrency` is; empty where nothing was held against hardware."""


class WayOut(NamedTuple):
    """A change that makes it fit, in the user's own flags, and the headroom that it leaves on each GPU."""

    change: str
    headroom_bytes: int
    gives_up: str | None = None
    """What then is less than was asked for, context or sequences; None where all of it is served."""


class Verdict(NamedTuple):
    """Does it fit."""

    fits: bool | None
    certain: bool
    worst_rank: int | None
    headroom_bytes: int | None
    headroom_low_bytes: int | None
    reasons: tuple[Refusal, ...]
    ways_out: tuple[WayOut, ...]


class Estimate(NamedTuple):
    """The answer of `moeplan estimate`; `schema` names the version of its JSON."""

    schema: str
    request: Request
    hardware: HardwareUsed | None
    model: ModelFacts
    parameters: Parameters
    weights: WeightBytes
    kv_cache: KvCache
    layout: LayoutUsed
    ranks: tuple[Rank, ...]
    capacity: Capacity
    verdict: Verdict
    speed: "Speed | None"
    """None where no load was stated, and, with a note `speed-unknown`, where times are not known."""
    curves: "Curves | None"
    """What pages draw of steps; None where no load was stated."""
    notes: tuple[Remark, ...]
