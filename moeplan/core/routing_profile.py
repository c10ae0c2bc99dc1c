"""What is known of a model's routing: how often each expert is chosen, and how many a run of tokens touches.

A profile is counts and curves alone. It holds no text and no token ids, so it can be shipped beside a model's facts.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Phase = Literal["all", "prefill", "decode"]
"""Which tokens are meant: those of prompts, those decoded one at a time, or both."""

PHASES: tuple[Phase, ...] = ("all", "prefill", "decode")

Curve = tuple[tuple[float, float], ...]
"""Pairs of (tokens, value), tokens ascending. For overlaps the first is the distance in tokens."""


class LayerRouting(NamedTuple):
    """One MoE layer. Empty curves are unknown: a source of counts alone has none."""

    layer: int
    """Place among all layers of the model, dense ones counted, from 0."""
    num_experts: int
    """Routed experts that may be chosen; shared and zero-computation experts are not among them."""
    experts_per_token: float
    """Mean chosen experts of a token; not whole where tokens have a varying number."""
    tokens: int
    """Tokens that the router saw."""
    counts: tuple[int, ...]
    """Choices of each logical expert [num_experts], before a capacity cuts any. They sum to tokens x experts_per_token."""
    in_sequence: Curve = ()
    """Mean distinct experts of n neighbouring tokens of one sequence, by what windows have beyond their halves where sequences are
    not as long."""
    across: Curve = ()
    """Mean distinct experts of n tokens of n different sequences, as a decode step of n sequences has them."""
    overlap: Curve = ()
    """Share of a token's experts that the token d places later in the same sequence chooses too; by chance k / E."""
    near_ties: float | None = None
    """Share of tokens whose last chosen and first refused expert differ by less than the dtype's rounding."""
    dropped: int = 0
    """Choices that a capacity cut: of `counts`, those never computed. 0 for models without a capacity."""
    windows: tuple[tuple[int, ...], ...] = ()
    """Counts of successive steps or windows [windows, num_experts], where a source has them; they sum to `counts`."""


class Provenance(NamedTuple):
    """Where a profile comes from. None is unknown."""

    tool: str | None = None
    tool_version: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    device: str | None = None
    dtype: str | None = None
    date: str | None = None
    prompts: str | None = None
    """SHA-256 of the set of prompts, or the name of a published set."""
    source: str | None = None
    """A file or publication that the counts were taken from."""
    seed: int | None = None


class RoutingProfile(NamedTuple):
    """The routing of one model under one set of prompts."""

    model: str
    revision: str | None
    provenance: Provenance
    layers: Mapping[Phase, tuple[LayerRouting, ...]]
    """By phase, each ascending by layer. Phases that are unknown are absent; "all" is always there."""
    classes: Mapping[str, tuple[LayerRouting, ...]] = {}
    """By class of prompts (code, mathematics, ...), both phases together."""
    notes: tuple[str, ...] = ()
    """Doubts and failures that belong to the profile, each a sentence."""
