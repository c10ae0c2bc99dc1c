"""How the tokens of a step use the experts of a layer: a skew that is assumed or stated, or counts of a routing profile.

A step has decoding tokens, one or (where drafts are verified) several neighbours of each sequence, and new tokens of prompts,
which neighbour each other too. Tokens of different sequences choose independently: with inclusion p an expert is missed by n of
them with probability (1 - p)^n. Neighbours share experts: n of them touch k n^b, never more than independent ones would, and so
each sequence counts as the independent tokens that touch as many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Literal, NamedTuple

from moeplan.core.coverage import (
    SEQUENCE_GROWTH,
    SEQUENCE_GROWTH_HIGH,
    SEQUENCE_GROWTH_LOW,
    busiest_distinct,
    busiest_rows,
    busiest_rows_uniform,
    distinct_of_batch,
    distinct_of_sequence,
    distinct_on_rank,
    distinct_weighted,
    inclusion_of,
    independent_tokens,
    tokens_of_distinct,
    zipf,
)

LIGHT_SKEW = 0.3
"""Exponent of a light skew of the gates (facts on routing, section 3c); without any, errors on public runs are alike."""

MOST_SKEW = 4.0
"""The largest exponent that may be stated: one expert has nearly all."""

STEEPEST = 8.0
"""A law so steep touches hardly more experts than one token does."""
LAW_STEPS = 64
"""Of an exponent that bounds counts from below: it need not be finer."""


class StepTokens(NamedTuple):
    """Tokens of one step over a whole expert group."""

    decoding: float
    """Sequences that decode."""
    new: float = 0.0
    """Of prompts, all together."""
    prompts: float = 1.0
    """That these belong to."""
    each: float = 1.0
    """Neighbouring tokens of a decoding sequence: more than one where drafts are verified."""

    @property
    def all(self) -> float:
        """Tokens that every layer routes."""
        return self.decoding * self.each + self.new


class GateSkew(NamedTuple):
    """A Zipf law of the gates' weights."""

    exponent: float = LIGHT_SKEW
    growth: float = SEQUENCE_GROWTH
    """Exponent b of distinct experts over neighbouring tokens."""
    basis: Literal["assumed", "stated"] = "assumed"
    growth_why: str = ""
    """Where the growth comes from, where it is not the default."""
    growth_low: float = SEQUENCE_GROWTH_LOW
    growth_high: float = SEQUENCE_GROWTH_HIGH
    """Between which the growth lies."""

    def exponent_below(self) -> float:
        """Of a Zipf law that never touches more experts: its own."""
        return self.exponent

    def doubled(self) -> GateSkew:
        """Twice as uneven."""
        return self._replace(exponent=2 * self.exponent)

    def growing(self, growth: float) -> GateSkew:
        """The same with another growth."""
        return self._replace(growth=growth)

    def distinct(
        self,
        experts: int,
        chosen: int,
        on_rank: int,
        tokens: StepTokens,
        ranks: int = 1,
        *,
        balanced: bool = False,
        copies: int = 0,
    ) -> float:
        """Expected distinct experts on the rank that touches most of its own.

        `experts` are those of the layer, `copies` of busy ones among them; `balanced` where a balancer places them by load, else
        they lie on ranks at random.
        """
        if balanced and ranks > 1 and experts % ranks == 0:
            logical = experts - copies
            worth = tokens.decoding * self._worth(logical, chosen, tokens.each)
            if tokens.new:
                worth += tokens.prompts * self._worth(logical, chosen, tokens.new / tokens.prompts)
            return _placed_distinct(_law(logical, chosen, self.exponent), on_rank, worth, ranks, copies)
        decoding = tokens.decoding * self._worth(experts, chosen, tokens.each)
        alone = distinct_on_rank(experts, chosen, on_rank, decoding, ranks, self.exponent)
        if not tokens.new:
            return alone
        independent = distinct_on_rank(experts, chosen, experts, tokens.new / tokens.prompts, 1, self.exponent)
        read = _of_prompts(experts, chosen, tokens, independent, self.growth)
        whole = distinct_on_rank(experts, chosen, experts, decoding, 1, self.exponent)
        return _on_rank(_both(experts, whole, read), experts, on_rank, ranks)

    def _worth(self, experts: int, chosen: int, tokens: float) -> float:
        """Independent tokens that touch as many experts as neighbours of one sequence do."""
        if tokens <= 1:
            return tokens
        touched = distinct_of_sequence(experts, chosen, tokens, self.growth)
        return min(tokens, independent_tokens(experts, chosen, touched, self.exponent))

    def rows(
        self, experts: int, chosen: int, tokens: StepTokens, ranks: int, *, balanced: bool = False, copies: int = 0
    ) -> float:
        """Expected rows of the busiest rank; `balanced` and `copies` as `distinct` has them."""
        if balanced and ranks > 1 and experts % ranks == 0:
            return _placed_rows(_law(experts - copies, chosen, self.exponent), tokens.all, ranks, copies)
        return busiest_rows(experts, chosen, tokens.all, ranks, 0.0 if balanced else self.exponent)


class MeasuredUse:
    """Counts of a routing profile: of each layer, in which share of tokens an expert is chosen."""

    basis: Literal["measured"] = "measured"

    def __init__(
        self,
        inclusions: Sequence[Sequence[float]],
        chosen: int,
        exponent: float,
        growth: float,
        source: str,
        growth_band: tuple[float, float] = (SEQUENCE_GROWTH_LOW, SEQUENCE_GROWTH_HIGH),
        layers: Sequence[int] = (),
    ) -> None:
        """`inclusions` sum to `chosen` in each layer; `exponent` and `growth` are the laws that fit the profile best, and the
        growth lies within its band. `layers` are their places in the model, by default from 0."""
        self.inclusions = tuple(tuple(layer) for layer in inclusions)
        self.layers = tuple(layers) or tuple(range(len(self.inclusions)))
        self.chosen = chosen
        self.exponent = exponent
        self.growth = growth
        self.source = source
        self.growth_low, self.growth_high = growth_band
        self._distinct: dict[tuple[int, int, int, StepTokens, int, bool], float] = {}
        self._rows: dict[tuple[int, StepTokens, int, bool], float] = {}
        self._copied: dict[tuple[tuple[float, ...], int], tuple[float, ...]] = {}
        self._worth: dict[tuple[tuple[float, ...], int, float], float] = {}

    def exponent_below(self) -> float:
        """Of a Zipf law that touches no more experts than any layer, by any number of tokens up to 8,192: a bound from below.

        The law that is nearest is none: where experts are dead, counts stay below it. At most `STEEPEST`.
        """
        return max((_law_below(layer) for layer in set(self.inclusions)), default=0.0)

    def doubled(self) -> MeasuredUse:
        """Twice as uneven: gates' weights squared."""
        layers = [
            inclusion_of([share * share for share in layer], max(1, round(sum(layer)))) for layer in self.inclusions
        ]
        band = self.growth_low, self.growth_high
        return MeasuredUse(layers, self.chosen, 2 * self.exponent, self.growth, self.source, band, self.layers)

    def growing(self, growth: float) -> MeasuredUse:
        """The same with another growth."""
        band = self.growth_low, self.growth_high
        return MeasuredUse(self.inclusions, self.chosen, self.exponent, growth, self.source, band, self.layers)

    def distinct(
        self,
        experts: int,
        chosen: int,
        on_rank: int,
        tokens: StepTokens,
        ranks: int = 1,
        *,
        balanced: bool = False,
        copies: int = 0,
    ) -> float:
        """Expected distinct experts on the rank that touches most of its own, the mean of all layers of so many experts.

        Copies of experts (more than the profile has) go to the busiest ones, as balancers give them, and split their tokens.
        Experts are placed by load where `balanced`, else in their order.
        """
        key = experts, chosen, on_rank, tokens, ranks, balanced
        if key not in self._distinct:
            found = [
                self._layer_distinct(layer, experts, chosen, on_rank, tokens, ranks, balanced=balanced)
                for layer in self._layers_of(experts)
            ]
            self._distinct[key] = sum(found) / len(found)
        return self._distinct[key]

    def rows(
        self,
        experts: int,
        chosen: int,
        tokens: StepTokens,
        ranks: int,
        *,
        balanced: bool = False,
        copies: int = 0,
    ) -> float:
        """Expected rows of the busiest rank, the mean of all layers: experts placed by load where `balanced`, else in their order."""
        layers = self._layers_of(experts)
        if ranks == 1 or (balanced and experts % ranks):
            return busiest_rows_uniform(experts, chosen, tokens.all, ranks)
        key = experts, tokens, ranks, balanced
        if key not in self._rows:
            found = [
                _placed_rows(layer, tokens.all, ranks, max(0, experts - len(layer)) if balanced else None)
                for layer in layers
            ]
            self._rows[key] = sum(found) / len(found)
        return self._rows[key]

    def _layers_of(self, experts: int) -> Sequence[tuple[float, ...]]:
        """The layers of so many experts, copies among them: in some models layers differ."""
        sizes = {len(layer) for layer in self.inclusions}
        size = max((each for each in sizes if each <= experts), default=min(sizes))
        return self.inclusions if len(sizes) == 1 else [layer for layer in self.inclusions if len(layer) == size]

    def _layer_distinct(
        self,
        inclusion: tuple[float, ...],
        experts: int,
        chosen: int,
        on_rank: int,
        tokens: StepTokens,
        ranks: int,
        *,
        balanced: bool,
    ) -> float:
        worth = tokens.decoding * (1.0 if tokens.each == 1 else self._neighbours_worth(inclusion, chosen, tokens.each))
        if tokens.new:
            worth += tokens.prompts * self._neighbours_worth(inclusion, chosen, tokens.new / tokens.prompts)
        copies = max(0, experts - len(inclusion))
        if ranks > 1 and (balanced or not copies) and max(experts, len(inclusion)) % ranks == 0:
            return _placed_distinct(inclusion, on_rank, worth, ranks, copies if balanced else None)
        physical = self._with_copies(inclusion, experts) if copies else inclusion
        return min(float(on_rank), _on_rank(distinct_weighted(physical, worth), len(physical), on_rank, ranks))

    def _neighbours_worth(self, inclusion: tuple[float, ...], chosen: int, tokens: float) -> float:
        """Independent tokens that touch as many experts as neighbours of one sequence do: so these add up as tokens of other
        sequences."""
        key = inclusion, chosen, tokens
        if key not in self._worth:
            touched = distinct_of_sequence(len(inclusion), chosen, max(1.0, tokens), self.growth)
            self._worth[key] = min(tokens, tokens_of_distinct(inclusion, touched))
        return self._worth[key]

    def _with_copies(self, inclusion: tuple[float, ...], slots: int) -> tuple[float, ...]:
        """The share of tokens that each slot gets."""
        key = inclusion, slots
        if key not in self._copied:
            from moeplan.core.expert_placement import replicate  # few layouts have copies

            counts = replicate(inclusion, slots)
            self._copied[key] = tuple(
                share / count for share, count in zip(inclusion, counts, strict=True) for _ in range(count)
            )
        return self._copied[key]


ExpertUse = GateSkew | MeasuredUse
LIGHT = GateSkew()
EVEN = GateSkew(0.0)


def _law_below(inclusion: tuple[float, ...]) -> float:
    chosen = max(1, math.floor(sum(inclusion) * (1 + 1e-6)))
    points = [(float(2**power), distinct_weighted(inclusion, 2.0**power)) for power in range(14)]

    def below(exponent: float) -> bool:
        law = partial(distinct_on_rank, len(inclusion), chosen, len(inclusion), skew=exponent)
        return all(law(tokens) <= touched * (1 + 1e-6) for tokens, touched in points)

    low, high = 0, round(STEEPEST * LAW_STEPS)  # low is above the counts, or even
    if below(0.0):
        return 0.0
    while high - low > 1:
        middle = (low + high) // 2
        if below(middle / LAW_STEPS):
            high = middle
        else:
            low = middle
    return high / LAW_STEPS


@lru_cache(maxsize=64)
def _law(experts: int, chosen: int, exponent: float) -> tuple[float, ...]:
    """Inclusions of a Zipf law."""
    return tuple(inclusion_of(zipf(experts, exponent), chosen))


def _placed_rows(inclusion: tuple[float, ...], tokens: float, ranks: int, copies: int | None) -> float:
    """Rows of the busiest rank, experts and `copies` placed by load; None of them: in their order."""
    from moeplan.core.busiest_rank import busiest_rows_placed, in_order, placed  # few questions have several ranks

    placement = in_order(len(inclusion), ranks) if copies is None else placed(inclusion, ranks, copies)
    return busiest_rows_placed(placement, inclusion, tokens)


def _placed_distinct(
    inclusion: tuple[float, ...], on_rank: int, tokens: float, ranks: int, copies: int | None
) -> float:
    from moeplan.core.busiest_rank import busiest_distinct_placed, in_order, placed

    placement = in_order(len(inclusion), ranks) if copies is None else placed(inclusion, ranks, copies)
    return min(float(on_rank), busiest_distinct_placed(placement, inclusion, tokens))


def _of_prompts(experts: int, chosen: int, tokens: StepTokens, independent: float, growth: float) -> float:
    """Distinct experts of all prompts: of one by the law of neighbours, of several as of sequences of their own."""
    one = min(independent, distinct_of_sequence(experts, chosen, max(1.0, tokens.new / tokens.prompts), growth))
    return distinct_of_batch(experts, one, tokens.prompts)


def _both(experts: int, first: float, second: float) -> float:
    """Distinct experts of two sets of tokens that choose independently."""
    return experts * (1 - (1 - first / experts) * (1 - second / experts))


def _on_rank(whole: float, experts: int, on_rank: int, ranks: int) -> float:
    if ranks == 1:
        return min(whole, float(on_rank))
    return min(float(on_rank), busiest_distinct(on_rank, min(1.0, whole / experts), ranks))
