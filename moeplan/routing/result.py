"""What `moeplan routing` says: the result types of its commands, with the names of their JSON contracts.

Layers are numbered as the model numbers them, from 0, dense ones counted. A share is between 0 and 1. Unknown is None:
counts alone tell nothing of neighbouring tokens, and a model without a capacity drops nothing.
"""

from typing import Literal, NamedTuple

from moeplan.core.model import Remark
from moeplan.core.routing_fit import Growth
from moeplan.core.routing_metrics import DeadExperts
from moeplan.core.routing_profile import Phase, Provenance
from moeplan.routing.spare_result import Balances, SkewUsed, Sweep

REPORT_SCHEMA = "moeplan.routing-report/1"
DRIFT_SCHEMA = "moeplan.routing-drift/1"
PLACEMENT_SCHEMA = "moeplan.routing-placement/1"
WRITTEN_SCHEMA = "moeplan.routing-written/1"
CAPTURED_SCHEMA = "moeplan.routing-captured/1"


class RoutingSource(NamedTuple):
    """A file of routing, as it was read."""

    file: str
    model: str
    revision: str | None
    provenance: Provenance
    phases: tuple[Phase, ...]
    """That it has."""
    classes: tuple[str, ...]
    """Of prompts, that it has."""


class Selection(NamedTuple):
    """The part of a file that is looked at."""

    phase: Phase
    prompt_class: str | None
    """None for all of them."""
    layers: tuple[int, ...]


# Report ----------------------------------------------------------------------------------------------------


class OverlapAt(NamedTuple):
    """Experts that two tokens of one sequence share."""

    distance_tokens: int
    fraction: float
    """Of the earlier token's experts."""
    chance_fraction: float
    """k / E."""


class DistinctAt(NamedTuple):
    """Distinct experts of so many tokens."""

    tokens: int
    distinct: float
    uniform: float
    """Of independent tokens that choose all experts alike often."""
    by_counts: float
    """Of independent tokens that choose experts as often as was counted."""


class Skew(NamedTuple):
    """Laws of the gates' weights, fitted to the counts."""

    zipf_exponent: float
    zipf_error: float
    """Largest distance of the fitted from the counted cumulative share, experts sorted by use."""
    zipf_floor: float
    """The exponent that as many tokens seem to have that choose all experts alike often."""
    lognormal_sigma: float
    lognormal_error: float


class CapacityNeed(NamedTuple):
    """What a capacity of c n k / E tokens per expert would do to a step of n tokens."""

    step_tokens: int
    """n: independent ones, that choose experts as often as was counted."""
    drop_at_one_fraction: float
    """Share of choices that a factor of 1 drops."""
    factor: float
    """The least that keeps drops within the bound."""


class LayerReport(NamedTuple):
    """One layer, each figure beside what chance alone would give."""

    layer: int
    num_experts: int
    experts_per_token: float
    tokens: int
    independent_tokens: float
    """That they are worth: neighbours share experts. What chance alone would give is of so many."""
    tokens_by_expert: tuple[int, ...]
    load_cv: float
    """Standard deviation of tokens by expert over their mean."""
    load_cv_floor: float
    """By chance: where all experts are chosen alike often."""
    beyond_chance_sigmas: float
    """How far the spread is beyond chance, in standard deviations."""
    uneven: bool
    """True above three of them: chance does not explain the spread."""
    normalised_entropy: float
    """Entropy over ln E."""
    entropy_floor: float
    """By chance, of 1 less the normalised entropy."""
    effective_experts: float
    """exp of the entropy: as many experts alike used have it."""
    gini: float
    gini_floor: float
    busiest_over_mean: float
    busiest_floor: float
    """By chance."""
    coverage_fraction: float
    """Of the experts, that any token came to."""
    window_coverage_fraction: float | None
    """Of the experts, that a step or window touches on average; None where the file has none."""
    dead: DeadExperts
    near_tie_fraction: float | None
    """Of the tokens, whose choice rounding may turn."""
    overlap: tuple[OverlapAt, ...]
    kept_fraction: float | None
    """Of a token's experts that the next token keeps, fitted to `in_sequence` as a Markov chain."""
    in_sequence: tuple[DistinctAt, ...]
    """Neighbouring tokens of one sequence."""
    in_sequence_growth: Growth | None
    across: tuple[DistinctAt, ...]
    """Tokens of as many sequences, as a decode step has them."""
    across_growth: Growth | None
    skew: Skew | None
    drop_fraction: float
    """Of the choices, that a capacity cut."""
    capacity: CapacityNeed


Metric = Literal[
    "load_cv",
    "busiest_over_mean",
    "gini",
    "effective_experts_fraction",
    "dead_experts",
    "near_tie_fraction",
    "overlap_fraction",
    "in_sequence_growth",
    "drop_fraction",
    "capacity_factor",
]
"""Figures by which layers are ranked."""


class WorstLayer(NamedTuple):
    """The layer that stands out by one figure, beside all others."""

    metric: Metric
    layer: int
    value: float
    median: float
    """Over all layers that have the figure."""
    best: float
    floor: float | None
    """That chance alone gives in that layer; None where chance has no such figure."""


class Report(NamedTuple):
    """How evenly the experts of each layer are used."""

    schema: str
    source: RoutingSource
    selection: Selection
    drop_bound_fraction: float
    """Share of choices that the capacity factors keep drops within."""
    step_tokens: int
    """Of the step that they are for."""
    tokens: int
    """Of the layer that saw most."""
    uneven_layers: int
    """Whose spread chance does not explain."""
    worst: tuple[WorstLayer, ...]
    layers: tuple[LayerReport, ...]
    notes: tuple[Remark, ...]


# Drift -----------------------------------------------------------------------------------------------------


class Moved(NamedTuple):
    """An expert whose share of its layer's load changed."""

    expert: int
    a_fraction: float
    b_fraction: float


class AgreementAt(NamedTuple):
    """Tokens of the same prompts in two captures."""

    tokens: int
    equal_fraction: float
    """Of the tokens, that have the same experts."""
    shared_fraction: float
    """Of the experts of a token in A, that it has in B too."""


class LayerDrift(NamedTuple):
    """One layer in two files."""

    layer: int
    num_experts: int
    a_tokens: int
    b_tokens: int
    distance: float
    """Jensen-Shannon distance of the shares of experts, 0 for the same to 1 for none in common."""
    floor: float
    """The mean distance of two samples of one distribution, as large as these; 0 where both are of the same prompts."""
    noise: float
    """The distance that such samples do not go beyond."""
    above_noise: bool
    """True beyond it: chance does not explain the distance."""
    beyond_bound: bool | None
    """None without a bound, and where too few tokens were seen to tell."""
    a_load_cv: float
    b_load_cv: float
    moved: tuple[Moved, ...]
    """The experts whose shares changed most."""
    agreement: AgreementAt | None


class Agreement(NamedTuple):
    """Two captures of the same prompts, token by token."""

    prompts: int
    """That both have, with as many tokens."""
    other_prompts: int
    """That one of them alone has, or has with another number of tokens."""
    tokens: int
    equal_fraction: float
    """Of the tokens, averaged over layers."""
    shared_fraction: float
    worst_layer: int
    """Where fewest tokens have the same experts."""


class Drift(NamedTuple):
    """How far the use of experts is apart in two files."""

    schema: str
    a: RoutingSource
    b: RoutingSource
    selection: Selection
    bound: float | None
    passed: bool | None
    """Without a bound True. None where too few tokens were seen to tell."""
    above_noise: tuple[int, ...]
    """Layers that moved at all."""
    beyond_bound: tuple[int, ...]
    """Layers that moved by more than the bound."""
    untold: tuple[int, ...]
    """Layers of which too few tokens were seen to tell."""
    farthest: tuple[int, ...]
    """All layers, farthest apart first."""
    layers: tuple[LayerDrift, ...]
    agreement: Agreement | None
    agreement_unknown: str | None
    """Why there is none."""
    notes: tuple[Remark, ...]


# Placement -------------------------------------------------------------------------------------------------


class RankLoads(NamedTuple):
    """How one layer's tokens fall on ranks."""

    tokens_by_rank: tuple[float, ...]
    """Choices; copies of an expert share its tokens evenly."""
    balancedness: float
    """Mean over maximum, 1 at best."""
    busiest_over_mean: float
    by_windows: float | None
    """Mean balancedness of single steps or windows; None where the file has none."""


class PlacedLayer(NamedTuple):
    """One layer's experts on ranks."""

    layer: int
    num_experts: int
    before: RankLoads
    """Experts in their order, without copies."""
    after: RankLoads
    """As placed, by the counts that the plan was made of."""
    live_before: RankLoads | None
    live: RankLoads | None
    """As placed, by other counts."""
    most_without_copies: float
    """The best balancedness without copies: the hottest expert bounds it."""
    ranks_per_token: float
    """Distinct ranks that a token's experts lie on, as placed."""
    nodes_per_token: float
    experts_by_rank: tuple[tuple[int, ...], ...]
    """Logical experts in the slots of each rank, as placed."""


class MemoryPaid(NamedTuple):
    """What spare slots cost."""

    model: str
    format: str
    expert_bytes: int
    """One expert of one layer; the largest where layers differ."""
    per_rank_bytes: int
    all_ranks_bytes: int


class PlacementReport(NamedTuple):
    """A placement by the counts of a file, or what a law of the gates' weights leads to."""

    schema: str
    model: str
    source: RoutingSource | None
    """None where a law takes the place of counts."""
    skew: SkewUsed | None
    """None where counts are placed."""
    live_source: RoutingSource | None
    selection: Selection
    ranks: int
    nodes: int
    redundant_experts: int
    """That the figures below and `layers` are of; others stand in `sweep`."""
    slots_per_rank: int
    groups: int
    """Of the router: whole groups go to nodes where they divide; 1 for none."""
    kept_groups: int
    before: Balances
    after: Balances
    live_before: Balances | None
    live: Balances | None
    memory: MemoryPaid | None
    memory_unknown: str | None
    sweep: Sweep
    layers: tuple[PlacedLayer, ...]
    """Empty where a law takes the place of counts: it does not say which expert is busy."""
    notes: tuple[Remark, ...]


# Files that were written -----------------------------------------------------------------------------------


class Written(NamedTuple):
    """A file of routing that a command made."""

    schema: str
    file: str
    kind: Literal["capture", "counts", "profile"]
    model: str
    revision: str | None
    provenance: Provenance
    layers: tuple[int, ...]
    num_experts: int
    """Of the layer with most."""
    experts_per_token: float
    tokens: int
    """Of the layer that saw most."""
    phases: tuple[Phase, ...]
    classes: tuple[str, ...]
    notes: tuple[Remark, ...]


class Captured(NamedTuple):
    """What a capture did."""

    schema: str
    written: Written | None
    """What the file holds now, earlier runs and all; None where no prompt has choices."""
    prompts: int
    """In the set."""
    captured: int
    """By this run."""
    known: int
    """That stood in the file already, or came earlier in the set."""
    failed: int
    """That this run has a problem with; the file names it."""
    tokens: int
    """Run through the model by this run, prompts and answers."""
    complete: bool
    """False where it was interrupted."""
    notes: tuple[Remark, ...]
