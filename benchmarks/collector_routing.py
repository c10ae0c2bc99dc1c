"""What the collector of the public latency rows routed to rank 0: distinct experts and rows, drawn anew with a seed.

The rows name a distribution, not a routing. How it was drawn is read in ai-dynamo/aiconfigurator (collector/helper.py):

balanced      token t takes experts t + j E/k, so that experts are dealt in turn and every rank gets its share; fewer
              tokens than E/k are spread over the experts.
power_law_a   shares of the experts by the inverse of a power law's distribution with exponent a, between 1 and
              0.8 tokens (0.01 and 2 where tokens x k <= E); scaled to tokens x k and rounded; no expert has more than
              all tokens; what is then missing goes to the least loaded experts, rank by rank in turn, and what is too
              much leaves the most loaded. The rank with most rows becomes rank 0. A row is the mean over five draws.

DeepSeek-V3 under vLLM 0.24 and SGLang 0.5.14 ran through the model's own router, which keeps 4 of 8 groups. The scores
of these draws know only chosen or not, so groups tie, and so do the experts that fill up a token's eight: the first
ones win. Balanced routing then touches 128 of 256 experts, and experts 0 to 4 get a row of nearly every token. Without
this, balanced rows at 64 to 128 tokens would have been read at 1.5 to 1.75 times the bandwidth of an H100; with it
their error falls from 37 % to 10 %.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from typing import NamedTuple

DRAWS = 60
GROUPED_DRAWS = 10
GROUPS, GROUPS_KEPT = 8, 4


class Case(NamedTuple):
    """What decides on a routing."""

    experts: int
    experts_per_token: int
    grouped: bool
    ranks: int
    tokens: int
    distribution: str


class Routed(NamedTuple):
    """Of rank 0: experts with at least one row, and rows; means over the draws."""

    distinct: float
    rows: float


def routed(case: Case) -> Routed:
    """Means over seeded draws; one draw where the distribution leaves nothing to chance."""
    counts = [_counts(case, draw) for draw in range(_draws(case))]
    on_rank = case.experts // case.ranks
    distinct = sum(sum(rows > 0 for rows in each[:on_rank]) for each in counts)
    rows = sum(sum(each[:on_rank]) for each in counts)
    return Routed(round(distinct / len(counts), 3), round(rows / len(counts), 3))


def _draws(case: Case) -> int:
    if case.distribution == "balanced":
        return 1
    return GROUPED_DRAWS if case.grouped else DRAWS


def _counts(case: Case, draw: int) -> list[int]:
    """Rows of every expert, those of rank 0 first."""
    if case.distribution == "balanced":
        choices = balanced(case.tokens, case.experts, case.experts_per_token)
        if not case.grouped:
            hits = Counter(expert for choice in choices for expert in choice)
            return [hits[expert] for expert in range(case.experts)]
    else:
        exponent = float(case.distribution.removeprefix("power_law_"))
        counts = power_law(case, exponent, random.Random(f"{case} {draw}"))  # noqa: S311 - no secret
        if not case.grouped:
            return counts
        choices = _dealt(counts, case.tokens, case.experts_per_token)
    return group_limited(choices, case.experts, case.experts_per_token)


def balanced(tokens: int, experts: int, experts_per_token: int) -> list[list[int]]:
    """Experts of each token, dealt in turn."""
    stride = -(-experts // experts_per_token)
    shift = 1 if tokens >= stride else stride / tokens
    return [
        [int((token * shift + j * stride) % experts) for j in range(experts_per_token)] for token in range(tokens)
    ]


def power_law(case: Case, exponent: float, chance: random.Random) -> list[int]:
    """Rows of every expert for one draw, the busiest rank first."""
    pairs = case.tokens * case.experts_per_token
    low, high = (1.0, 0.8 * case.tokens) if pairs > case.experts else (0.01, 2.0)
    power = 1 - exponent
    shares = [
        ((high**power - low**power) * chance.random() + low**power) ** (1 / power) for _ in range(case.experts)
    ]
    scale = pairs / sum(shares)
    counts = [min(case.tokens, round(share * scale)) for share in shares]
    on_rank = case.experts // case.ranks
    ranks = [counts[first : first + on_rank] for first in range(0, case.experts, on_rank)]
    missing = pairs - sum(counts)
    _deal(ranks, abs(missing), 1 if missing > 0 else -1, case.tokens)
    busiest = max(range(case.ranks), key=lambda rank: sum(ranks[rank]))
    ranks[0], ranks[busiest] = ranks[busiest], ranks[0]
    return [count for rank in ranks for count in rank]


def _deal(ranks: list[list[int]], pairs: int, step: int, most: int) -> None:
    """Give pairs to the least loaded expert of each rank in turn (step 1), or take them from the most loaded (-1)."""
    heaps = [[(step * count, expert) for expert, count in enumerate(rank)] for rank in ranks]
    for heap in heaps:
        heapq.heapify(heap)
    limit = most if step > 0 else 0
    while pairs > 0 and any(heap and heap[0][0] < limit for heap in heaps):
        for rank, heap in zip(ranks, heaps, strict=True):
            if pairs and heap[0][0] < limit:
                load, expert = heap[0]
                heapq.heapreplace(heap, (load + 1, expert))
                rank[expert] += step
                pairs -= 1


def _dealt(counts: list[int], tokens: int, experts_per_token: int) -> list[list[int]]:
    """Experts of each token: pairs sorted by the load of their expert, dealt to the tokens one after the other."""
    order = sorted(range(len(counts)), key=lambda expert: -counts[expert])
    pairs = [expert for expert in order for _ in range(counts[expert])]
    return [[pairs[j * tokens + token] for j in range(experts_per_token)] for token in range(tokens)]


def group_limited(choices: list[list[int]], experts: int, experts_per_token: int) -> list[int]:
    """Rows of every expert after a router that keeps 4 of 8 groups, where all chosen score alike and all others too."""
    counts = [0] * experts
    size = experts // GROUPS
    for choice in choices:
        chosen = [0] * GROUPS
        for expert in choice:
            chosen[expert // size] += 1
        # A group scores by its two best; sorted() keeps the first of equals in front.
        kept = sorted(range(GROUPS), key=lambda group: -min(2, chosen[group]))[:GROUPS_KEPT]
        taken = sorted(expert for expert in choice if expert // size in kept)[:experts_per_token]
        for group in sorted(kept):
            for expert in range(group * size, (group + 1) * size):
                if len(taken) == experts_per_token:
                    break
                if expert not in choice:
                    taken.append(expert)
        for expert in taken:
            counts[expert] += 1
    return counts
