"""A record: what was run or planned, on what, under which load, by which assumptions, and what came of it.

The names are those of its JSON (`moeplan.record/1`). Null is unknown. A record holds what was asked and what follows from
it, so that two of them can be held against each other: `records/settings` tells which is which.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from moeplan.core.deployment import Option, Origin
from moeplan.core.hardware import Price
from moeplan.core.ledger import Basis
from moeplan.core.model import Remark
from moeplan.core.record_figures import Better
from moeplan.core.workload import LoadAsked

SCHEMA = "moeplan.record/1"

DateOrigin = Literal["stated", "source-date-epoch", "clock"]
VersionOrigin = Literal["stated", "default", "inferred", "unresolved", "log"]
"""`log`: read in the engine's log; else as estimates have it."""
FigureBasis = Literal["exact", "derived", "measured", "carried", "assumed", "listed", "stated"]
"""As an estimate knows it; `listed` is a list price, `stated` a figure that was given by hand."""


class RecordedModel(NamedTuple):
    """The model, and where its shape was read."""

    id: str
    revision: str | None
    """The commit where it is known."""
    source: str
    source_kind: str


class Precision(NamedTuple):
    """Formats of weights, cache and activations."""

    weights: tuple[str, ...]
    """Most bytes first."""
    weights_by_format_bytes: Mapping[str, int]
    quant: str | None
    """The format that was asked for instead of the stored one."""
    kv_cache: str
    activations: str | None
    activations_origin: Origin


class StatedFlag(NamedTuple):
    """A flag of the engine's command line that moeplan does not resolve; access tokens are hidden."""

    flag: str
    value: str | None
    """None for a switch."""


class RecordedEngine(NamedTuple):
    """The engine, and its settings as they would run."""

    name: str
    version: str
    version_origin: VersionOrigin
    expert_backend: str | None
    options: tuple[Option, ...]
    other_flags: tuple[StatedFlag, ...]


class RecordedHardware(NamedTuple):
    """The devices; bytes are of one device."""

    name: str
    profile: str
    num_devices: int
    usable_bytes: int | None
    usable_basis: str | None


class RecordedLayout(NamedTuple):
    """How the model is spread."""

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


class Software(NamedTuple):
    """What was below the engine."""

    driver: str | None
    torch: str | None


class RecordedRequest(NamedTuple):
    """What was asked, with the origin of each field."""

    context_tokens: int
    concurrency: int
    encoder_tokens: int | None
    origins: Mapping[str, Origin]
    asked: Mapping[str, str]
    """moeplan's own options as they were typed, by their name in Python."""


class RecordedSkew(NamedTuple):
    """How unevenly the router is taken to choose."""

    exponent: float
    growth: float
    basis: Literal["assumed", "stated", "measured"]
    why: str


class RecordedSpeculation(NamedTuple):
    """Drafts of the next tokens; `moeplan estimate` tells when they pay."""

    draft_tokens: int
    draft_kind: str
    draft_model: str | None
    acceptance: float | None
    """Share of drafted tokens that is taken to be kept; None where nobody said."""
    tokens_per_step: float | None
    in_figures: bool
    """Whether estimated times and rates are those with drafts."""


class Assumption(NamedTuple):
    """A line of the ledger of the fullest GPU, or of the host, with how it is known."""

    device: str
    code: str
    label: str
    bytes: int
    low_bytes: int
    high_bytes: int
    basis: Basis
    source: str


class Figure(NamedTuple):
    """One figure; `core/record_figures` says what each is."""

    name: str
    value: float
    low: float | None
    """Low end of an estimate's band, or the least of several runs; None where it is one figure."""
    high: float | None
    basis: FigureBasis
    source: str | None
    """The file, log or rule that it comes from."""


class Estimates(NamedTuple):
    """What moeplan says."""

    fits: bool | None
    certain: bool
    worst_rank: int | None
    binding: str | None
    """What limits a decode step; None without a load."""
    regime: str | None
    extrapolated: tuple[str, ...]
    figures: tuple[Figure, ...]


class Run(NamedTuple):
    """One run of a benchmark, as its file tells it."""

    kind: str
    """Which program wrote the file: `vllm bench serve`, ..."""
    file: str
    """Its name, without folders."""
    sha256: str
    """Of the file as it was read."""
    model: str | None
    date: str | None
    concurrency: int | None
    """Requests in flight at most; None where nothing held them back, or nobody said."""
    request_rate_per_s: float | None
    """None where all were sent at once, or nobody said."""
    completed: int | None
    failed: int | None
    """None where the file does not tell."""
    duration_s: float | None
    input_tokens: float | None
    """Mean of the prompts that were answered."""
    output_tokens: float | None


class Measured(NamedTuple):
    """What was measured; both empty where nothing was."""

    runs: tuple[Run, ...]
    figures: tuple[Figure, ...]


class Score(NamedTuple):
    """A score of quality that somebody measured: moeplan measures none."""

    name: str
    value: float
    spread: float | None
    """Standard error, or whatever the harness says of its own noise."""
    unit: str | None
    better: Better
    better_origin: Literal["stated", "default"]
    how: str | None
    """Harness, version, number of shots."""
    by: str | None


class Record(NamedTuple):
    """All of it."""

    schema: str
    tool_version: str
    date: str
    """Year, month, day."""
    date_origin: DateOrigin
    model: RecordedModel
    precision: Precision
    engine: RecordedEngine
    hardware: RecordedHardware | None
    layout: RecordedLayout
    software: Software
    request: RecordedRequest
    workload: LoadAsked | None
    skew: RecordedSkew | None
    speculation: RecordedSpeculation | None
    price: Price | None
    estimates: Estimates
    measured: Measured
    quality: tuple[Score, ...]
    """Empty: not yet measured."""
    assumptions: tuple[Assumption, ...]
    notes: tuple[Remark, ...]


def figure_of(figures: tuple[Figure, ...], name: str) -> Figure | None:
    """The figure of that name; None where there is none."""
    return next((each for each in figures if each.name == name), None)
