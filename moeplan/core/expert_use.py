"""How the tokens of a step use the experts of a layer: a skew that is assumed or stated, or counts of a routing profile.

A step has decoding tokens, each of another sequence, and new tokens of prompts, which neighbour each other. Tokens of
different sequences choose independently: with inclusion p an expert is missed by n of them with probability (1 - p)^n.
Neighbours share experts: a prompt's tokens touch k n^b, never more than independent ones would.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from moeplan.core.coverage import (
    SEQUENCE_GROWTH,
    busiest_distinct,
    busiest_rows,
    busiest_rows_uniform,
    busiest_rows_weighted,
    distinct_of_batch,
    distinct_of_sequence,
    distinct_on_rank,
    distinct_weighted,
    inclusion_of,
)

LIGHT_SKEW = 0.3
"""Exponent of a light skew of the gates (facts on routing, section 3c); without any, errors on public runs are alike."""


class StepTokens(NamedTuple):
    """Tokens of one step over a whole expert group."""

    decoding: float
    """Each of another sequence."""
    new: float = 0.0
    """Of prompts, all together."""
    prompts: float = 1.0
    """That these belong to."""

    @property
    def all(self) -> float:
        """Tokens that every layer routes."""
        return self.decoding + self.new


class GateSkew(NamedTuple):
    """A Zipf law of the gates' weights."""

    exponent: float = LIGHT_SKEW
    growth: float = SEQUENCE_GROWTH
    """Exponent b of distinct experts over neighbouring tokens."""
    basis: Literal["assumed", "stated"] = "assumed"
    growth_why: str = ""
    """Where the growth comes from, where it is not the default."""

    def doubled(self) -> GateSkew:
        """Twice as uneven."""
        return self._replace(exponent=2 * self.exponent)

    def distinct(self, experts: int, chosen: int, on_rank: int, tokens: StepTokens, ranks: int = 1) -> float:
        """Expected distinct experts on the rank that touches most of its own."""
        alone = distinct_on_rank(experts, chosen, on_rank, tokens.decoding, ranks, self.exponent)
        if not tokens.new:
            return alone
        independent = distinct_on_rank(experts, chosen, experts, tokens.new / tokens.prompts, 1, self.exponent)
        read = _of_prompts(experts, chosen, tokens, independent, self.growth)
        whole = distinct_on_rank(experts, chosen, experts, tokens.decoding, 1, self.exponent)
        return _on_rank(_both(experts, whole, read), experts, on_rank, ranks)

    def rows(self, experts: int, chosen: int, tokens: StepTokens, ranks: int, *, balanced: bool = False) -> float:
        """Expected rows of the busiest rank; `balanced` where copies of experts even out all but the noise of a batch."""
        return busiest_rows(experts, chosen, tokens.all, ranks, 0.0 if balanced else self.exponent)


class MeasuredUse:
    """Counts of a routing profile: of each layer, in which share of tokens an expert is chosen."""

    basis: Literal["measured"] = "measured"

    def __init__(
        self, inclusions: Sequence[Sequence[float]], chosen: int, exponent: float, growth: float, source: str
    ) -> None:
        """`inclusions` sum to `chosen` in each layer; `exponent` and `growth` are the laws that fit the profile best."""
        self.inclusions = tuple(tuple(layer) for layer in inclusions)
        self.chosen = chosen
        self.exponent = exponent
        self.growth = growth
        self.source = source
        self._distinct: dict[tuple[int, StepTokens, int], float] = {}
        self._rows: dict[tuple[StepTokens, int], float] = {}

    @property
    def num_experts(self) -> int:
        """Of a layer."""
        return len(self.inclusions[0])

    def doubled(self) -> MeasuredUse:
        """Twice as uneven: gates' weights squared."""
        layers = [inclusion_of([share * share for share in layer], self.chosen) for layer in self.inclusions]
        return MeasuredUse(layers, self.chosen, 2 * self.exponent, self.growth, self.source)

    def distinct(self, experts: int, chosen: int, on_rank: int, tokens: StepTokens, ranks: int = 1) -> float:
        """Expected distinct experts on the rank that touches most of its own, the mean of all layers.

        Copies of experts (more than the profile has) split an expert's tokens, and each may be touched.
        """
        key = on_rank, tokens, ranks
        if key not in self._distinct:
            found = [self._layer_distinct(layer, experts, on_rank, tokens, ranks) for layer in self.inclusions]
            self._distinct[key] = sum(found) / len(found)
        return self._distinct[key]

    def rows(self, experts: int, chosen: int, tokens: StepTokens, ranks: int, *, balanced: bool = False) -> float:
        """Expected rows of the busiest rank, the mean of all layers: experts in their order, at least the noise of a batch."""
        floor = busiest_rows_uniform(experts, chosen, tokens.all, ranks)
        if balanced or ranks == 1 or self.num_experts % ranks:
            return floor
        key = tokens, ranks
        if key not in self._rows:
            found = [max(floor, busiest_rows_weighted(layer, tokens.all, ranks)) for layer in self.inclusions]
            self._rows[key] = sum(found) / len(found)
        return self._rows[key]

    def _layer_distinct(
        self, inclusion: tuple[float, ...], experts: int, on_rank: int, tokens: StepTokens, ranks: int
    ) -> float:
        share = experts / len(inclusion)  # above 1 where some are there twice
        whole = distinct_weighted(inclusion, tokens.decoding)
        if tokens.new:
            each = tokens._replace(decoding=0.0)
            independent = distinct_weighted(inclusion, tokens.new / tokens.prompts)
            read = _of_prompts(len(inclusion), self.chosen, each, independent, self.growth)
            whole = _both(len(inclusion), whole, read)
        elif ranks > 1 and len(inclusion) % ranks == 0 and share == 1:
            size = len(inclusion) // ranks
            parts = (inclusion[first : first + size] for first in range(0, len(inclusion), size))
            placed = max(distinct_weighted(part, tokens.decoding) for part in parts)
            return min(float(on_rank), max(placed, _on_rank(whole, experts, on_rank, ranks)))
        return _on_rank(whole * share, experts, on_rank, ranks)


ExpertUse = GateSkew | MeasuredUse
LIGHT = GateSkew()
EVEN = GateSkew(0.0)


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
