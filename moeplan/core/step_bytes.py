"""Bytes that one rank reads in a decode step: folds over the one inventory, free of any device.

    step    dense + experts + cache
    dense   every weight that all tokens go through, once; of tables that are looked up (embeddings) a row per sequence
    experts bytes of one expert x distinct experts that the step touches (`core/coverage`), in each layer; 0 in a dense model
    cache   what attention reads of every sequence: entries within windows and an indexer's choice, and states

Bytes are those of the formats that weights and cache are held in. Towers and encoders take no part in a step of text.
Writes, activations, and reading a weight more than once are left out, so this is the least that memory has to deliver. Of
cross-attention the projections of the encoder's output count as read, though engines keep their result.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from moeplan.core.coverage import distinct_on_rank
from moeplan.core.kept import Kept
from moeplan.core.kv_cache import CacheRow, CacheRules, cache_cost, mixer_cache, owning
from moeplan.core.layout import Division, Place, Stage
from moeplan.core.model import CompressedAttention, LatentAttention, Layer, Mixer, ModelSpec, Weight
from moeplan.core.placement import rank_bytes, tensors_here
from moeplan.core.quant import Holding
from moeplan.core.weights import expert_visits

_parts = Kept()


class StepBytes(NamedTuple):
    """Bytes that a step reads on one rank: expected ones, so no whole numbers."""

    dense_bytes: float
    expert_bytes: float
    cache_bytes: float

    @property
    def total_bytes(self) -> float:
        """All of them."""
        return self.dense_bytes + self.expert_bytes + self.cache_bytes


class ExpertReads(NamedTuple):
    """Routed experts of equal layers on one rank."""

    experts: int
    """Of the layer, copies included."""
    chosen: int
    """That a token goes to, the mean where some of them compute nothing."""
    on_rank: int
    num_bytes: int
    """Of all that the rank holds, in all these layers."""


class StepReads(NamedTuple):
    """What a step of one rank reads, folded once for any number of sequences."""

    dense_bytes: int
    row_bytes: float
    """Of looked-up tables, per sequence."""
    experts: tuple[ExpertReads, ...]
    """Empty in a dense model."""
    expert_ranks: int
    cache_bytes: int
    """Of one sequence."""
    skew: float
    held_bytes: int
    """All that the rank holds of what was folded, read or not."""

    def at(self, sequences: float) -> StepBytes:
        """A step of so many sequences of the rank's group, one token each."""
        touched = 0.0
        for each in self.experts:
            distinct = distinct_on_rank(
                each.experts, each.chosen, each.on_rank, sequences, self.expert_ranks, self.skew
            )
            touched += each.num_bytes * distinct / each.on_rank
        return StepBytes(self.dense_bytes + sequences * self.row_bytes, touched, sequences * self.cache_bytes)


def step_reads(
    spec: ModelSpec,
    held: Iterable[Holding],
    cache_bytes: int,
    *,
    division: Division | None = None,
    place: Place | None = None,
    skew: float = 0.0,
) -> StepReads:
    """The fold over `held`, the weights that an engine keeps: of the whole model, or of a `place` under a `division`.

    `cache_bytes` are what one sequence's attention reads (`cache_reads`), `skew` the exponent of a Zipf law of the gates'
    weights, 0 for experts alike likely.
    """
    division = Division() if division is None else division
    place = Place((0,), Stage(end_layer=len(spec.layers))) if place is None else place
    tied = spec.tied_embedding
    dense, rows, whole = 0, 0.0, 0
    experts: dict[tuple[int, int, int], int] = {}
    for holding in held:
        weight = holding.weight
        if weight.role == "routed_experts" and holding.part in ("text", "mtp"):
            for visits, part in _by_visits(spec, holding):
                key = _expert_key(weight, visits, division, place)
                if key[2]:
                    num_bytes = rank_bytes(part, place, division)
                    whole += num_bytes
                    experts[key] = experts.get(key, 0) + num_bytes
            continue
        num_bytes = rank_bytes(holding, place, division, tied_embedding=tied)
        whole += num_bytes
        if holding.part not in ("text", "mtp"):
            continue
        if not _looked_up(spec, weight) or (tied and place.stage.is_last and _is_table(spec, weight)):
            dense += num_bytes
        else:
            rows += num_bytes / weight.shape[0]
    found = tuple(ExpertReads(*key, num_bytes) for key, num_bytes in experts.items() if num_bytes)
    return StepReads(dense, rows, found, division.expert_ep, cache_bytes, skew, whole)


def step_bytes(
    spec: ModelSpec,
    held: Iterable[Holding],
    cache_bytes: int,
    sequences: float,
    *,
    division: Division | None = None,
    place: Place | None = None,
    skew: float = 0.0,
) -> StepBytes:
    """One step of `sequences`, see `step_reads`."""
    return step_reads(spec, held, cache_bytes, division=division, place=place, skew=skew).at(sequences)


def cache_reads(
    spec: ModelSpec,
    rules: CacheRules,
    context_tokens: int,
    encoder_tokens: int = 0,
    num_ranks: int = 1,
    token_ranks: int = 1,
) -> int:
    """Bytes of one sequence's cache that a decode step reads on a rank, see `cache_cost` for the ranks.

    It is no more than the sequence holds, but for layers that read another's cache. An engine that keeps more than a window
    does not read it, and where an indexer chooses, attention reads the chosen entries and all of the indexer's keys.
    """
    rules = rules._replace(accounting="ideal", block_tokens=1)
    counts: dict[tuple[CacheRow, int], int] = {}
    for mixer, times in Counter(mixer for layer in spec.layers for mixer in layer.mixers).items():
        for row in mixer_cache(owning(mixer), spec.hidden_size):
            reach = _reach(mixer, row, context_tokens)
            counts[row, reach] = counts.get((row, reach), 0) + times
    costs = (
        cache_cost((row._replace(count=count),), rules, reach, encoder_tokens, num_ranks, token_ranks)
        for (row, reach), count in counts.items()
    )
    return sum(cost.bytes_at_context for cost in costs)


def _reach(mixer: Mixer, row: CacheRow, context_tokens: int) -> int:
    """Tokens back to which attention reads this row's entries."""
    indexer = mixer.indexer if isinstance(mixer, LatentAttention | CompressedAttention) else None
    if indexer is not None and row.kind in ("latent", "compressed"):
        return min(context_tokens, indexer.top_k * row.tokens_per_entry)
    return context_tokens


def _by_visits(spec: ModelSpec, holding: Holding) -> list[tuple[tuple[int, int], Holding]]:
    """The parts of a holding of experts whose layers have one router's numbers: (per token, to choose from)."""

    def found() -> list[tuple[tuple[int, int], Holding]]:
        layers: dict[tuple[int, int], list[int]] = {}
        for number in holding.layers:
            visits = expert_visits(_layer(spec, holding, number))
            if visits is not None:
                layers.setdefault(visits, []).append(number)
        whole, every = holding.num_bytes, len(holding.layers)
        return [
            (visits, holding._replace(num_bytes=whole * len(mine) // every, layers=tuple(mine)))
            for visits, mine in layers.items()
        ]

    return _parts.of((spec, holding), (), found)


def _layer(spec: ModelSpec, holding: Holding, number: int) -> Layer:
    if holding.part == "mtp" and spec.mtp is not None:
        return spec.mtp.layers[number - (spec.mtp.first_layer or 0)]
    return spec.layers[number]


def _expert_key(weight: Weight, visits: tuple[int, int], division: Division, place: Place) -> tuple[int, int, int]:
    chosen, entrants = visits
    experts = weight.count + (division.redundant_experts if weight.count > 1 else 0)
    return (
        experts,
        max(1, chosen * weight.count // entrants),
        tensors_here(weight, division, place.expert_rank),
    )


def _looked_up(spec: ModelSpec, weight: Weight) -> bool:
    """Tables of which a token reads its own row: embeddings, and experts by token id (a buffer of DeepSeek-V4)."""
    by_id = weight.buffer and len(weight.shape) == 2 and weight.shape[0] == spec.vocab_size
    return by_id or (weight.role == "embedding" and len(weight.shape) == 2)


def _is_table(spec: ModelSpec, weight: Weight) -> bool:
    """The input table that a tied head reads whole; other input tables (Gemma's per-layer inputs) are never the head."""
    return weight.shape == (spec.vocab_size, spec.hidden_size)
