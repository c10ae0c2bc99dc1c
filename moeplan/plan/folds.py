"""The memory of a layout, folded once for all cards: weights of each sort of rank, and one sequence's cache on it.

A search asks for thousands of layouts. Stages with the same sorts of layers hold the same and are folded once, and so are
layouts that divide the model alike. What an engine keeps beside weights and cache depends on the card and is left out, so
that a fold is the least that a rank needs: a card without room for it is turned down for all that follows. The sizes are
those of `core/placement`, `core/kv_cache` and `core/step_bytes`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.kv_cache import cache_cost, cache_rows
from moeplan.core.layout import AskedLayout, Division, Layout, Place
from moeplan.core.model import MoeFfn
from moeplan.core.placement import places, stage_spec
from moeplan.core.stage_sorts import stage_sort
from moeplan.core.step_bytes import StepBytes, StepReads, cache_reads, step_reads
from moeplan.estimate.question import Question, find_layout


class PlaceFold(NamedTuple):
    """Ranks of a stage that hold the same: bytes of one of them."""

    cache_bytes: int
    """Of one sequence at the asked context, before the engine rounds it up to blocks."""
    reads: StepReads
    """What a step reads at the context that a sequence holds on average."""
    stage: int

    @property
    def weights_bytes(self) -> int:
        """All weights of the rank."""
        return self.reads.held_bytes


class Fold(NamedTuple):
    """A layout of a model in one format under one engine."""

    asked: AskedLayout
    layout: Layout
    division: Division
    places: tuple[PlaceFold, ...]
    groups: int
    """Groups of ranks that sequences are shared out over (attention data parallelism)."""

    @property
    def weights_bytes(self) -> int:
        """Of the fullest rank."""
        return max(place.weights_bytes for place in self.places)

    def needed_bytes(self, sequences: int) -> int:
        """Weights and cache of the fullest rank with so many sequences in each of its groups."""
        return max(place.reads.held_bytes + sequences * place.cache_bytes for place in self.places)

    def reads(self, sequences: int) -> StepBytes:
        """Bytes that a token of so many sequences of a replica waits for, over all its stages.

        A rank reads its own weights and the cache of its group's sequences, and the experts that any of them touch.
        """
        worst: dict[int, StepBytes] = {}
        in_group = -(-sequences // self.groups)
        for place in self.places:
            mine = place.reads.at(in_group)
            if in_group != sequences:
                mine = mine._replace(expert_bytes=place.reads.at(sequences).expert_bytes)
            if place.stage not in worst or mine.total_bytes > worst[place.stage].total_bytes:
                worst[place.stage] = mine
        return StepBytes(*(sum(parts) for parts in zip(*worst.values(), strict=True)))


class Folder:
    """Folds the layouts of one model in one format under one engine."""

    def __init__(self, question: Question, mean_context_tokens: int, skew: float, shared: dict[Hashable, StepReads]):
        self.question = question
        self._mean_context_tokens = mean_context_tokens
        self._skew = skew
        self._shared = shared
        """Weights and reads of places by what they hold, shared by the engines that load the same weights alike."""
        self._held = hash(question.held)
        self._num_experts = max(
            (ffn.num_experts for layer in question.spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)),
            default=0,
        )
        self._cache: dict[Hashable, tuple[int, int]] = {}

    def fold(self, asked: AskedLayout) -> Fold:
        """One layout. Raises InputError where its degrees contradict each other."""
        layout = find_layout(self.question.engine, self.question.serving, asked, asked.pp)
        if layout.pp != asked.pp:
            # llama.cpp leaves devices empty that it has no layers for: the same as a plan of fewer.
            raise InputError(f"{asked.pp} stages are more than there are layers", hint=f"say --pp {layout.pp}")
        question = self.question.at(self.question.deployment._replace(layout=layout))
        settings = question.engine.settle(question.serving)
        division = question.engine.division(question.serving, settings)
        uneven = bool((self._num_experts + division.redundant_experts) % division.expert_ep)
        alike: dict[Hashable, PlaceFold] = {}
        found = []
        for place in places(layout, division, len(question.spec.layers), self._num_experts):
            sort = stage_sort(question.spec, question.held, place.stage)
            key = (sort, place.expert_rank if uneven else 0)
            if key not in alike:
                cache, read = self._cached(sort, division, place)
                alike[key] = PlaceFold(cache, self._reads(key, division, place, read), 0)
            found.append(alike[key]._replace(stage=place.stage.number))
        return Fold(asked, layout, division, tuple(found), layout.dp)

    def _reads(self, sort: Hashable, division: Division, place: Place, read: int) -> StepReads:
        key = (self._held, sort, division._replace(cache_tokens=1), read)
        if key not in self._shared:
            question = self.question
            self._shared[key] = step_reads(
                question.spec, question.held, read, division=division, place=place, skew=self._skew
            )
        return self._shared[key]

    def _cached(self, sort: Hashable, division: Division, place: Place) -> tuple[int, int]:
        """Bytes of one sequence's cache at the asked context, and those that a step reads of it at the mean one."""
        key = (sort, division.attention, division.cache_tokens)
        if key not in self._cache:
            spec, asked, rules = (
                stage_spec(self.question.spec, place.stage),
                self.question.deployment,
                self.question.rules,
            )
            rows = self.question.rows if spec is self.question.spec else cache_rows(spec)
            ranks = division.attention, division.cache_tokens
            cost = cache_cost(rows, rules, asked.context_tokens, asked.encoder_tokens, *ranks)
            read = cache_reads(spec, rules, self._mean_context_tokens, asked.encoder_tokens, *ranks)
            self._cache[key] = cost.bytes_at_context, read
        return self._cache[key]
