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
the error of these rows on unseen shapes falls from 37 % to 10 %, that of the power laws from 12 % to 7 %.

SGLang 0.5.10 with several ranks (collector/sglang/collect_moe.py) got the tokens that rank 0 has an expert of, and all
of their pairs: those of other ranks' experts were folded onto expert 0, with a weight of zero. So that expert computed
them. With this the error falls from 18 % to 14 % (bfloat16) and from 14 % to 9 % (int4).

TensorRT-LLM 1.0 and vLLM 0.14 were measured with earlier forms of the draw, which do not spread the remainder over the
ranks. `early` (TensorRT-LLM): what is missing goes to the most loaded experts, what is too much leaves the least loaded,
and an expert may be chosen twice by one token, whose second choice then is the first expert. `unspread` (vLLM): no expert
has more than all tokens, and what is missing goes to the least loaded, the last ones first among equals. All experts of
a single token lie on rank 0 in both: vLLM took 219 us without and 223 us with 8 ranks for it. Without this, DeepSeek-V3
under TensorRT-LLM on an A100 would have read its weights at 1.22 times the bandwidth.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from typing import Literal, NamedTuple

DRAWS = 60
DRAWS_OF_TOKENS = 10
"""Fewer where every token is dealt, not only every expert counted: it takes long."""

GROUPS, GROUPS_KEPT = 8, 4

Router = Literal["plain", "grouped", "folded", "early", "unspread"]
"""`grouped`: the router of DeepSeek-V3; `folded`: pairs of other ranks fall on expert 0; the last two: earlier draws."""

COUNTED = ("plain", "early", "unspread")
"""Routers that leave the counts of a draw as they are."""


class Case(NamedTuple):
    """What decides on a routing."""

    experts: int
    experts_per_token: int
    router: Router
    ranks: int
    tokens: int
    distribution: str


class Routed(NamedTuple):
    """What rank 0 got: means over the draws."""

    tokens: float
    """That pass through its layer."""
    distinct: float
    """Of its experts, those with at least one row."""
    rows: float


def router_of(model: str, backend: str, version: str, ranks: int) -> Router:
    """How the rows of a model, engine and layout were routed."""
    if backend == "sglang" and version == "0.5.10" and ranks > 1:
        return "folded"
    if (backend, version) == ("trtllm", "1.0.0"):
        return "early"
    if (backend, version) == ("vllm", "0.14.0"):
        return "unspread"
    if model.startswith("DeepSeek") and (backend, version) in {("vllm", "0.24.0"), ("sglang", "0.5.14")}:
        return "grouped"
    return "plain"


def routed(case: Case) -> Routed:
    """Means over seeded draws; one draw where the distribution leaves nothing to chance."""
    draws = [_draw(case, number) for number in range(_draws(case))]
    return Routed(*(round(sum(values) / len(draws), 3) for values in zip(*draws, strict=True)))


def _draws(case: Case) -> int:
    if case.distribution == "balanced":
        return 1
    return DRAWS if case.router in COUNTED else DRAWS_OF_TOKENS


def _draw(case: Case, number: int) -> tuple[int, int, int]:
    """Tokens, distinct experts and rows of rank 0."""
    on_rank = case.experts // case.ranks
    if case.router in COUNTED and case.distribution != "balanced":
        counts = _drawn(case, number)[:on_rank]
    else:
        if case.distribution == "balanced":
            choices = balanced(case.tokens, case.experts, case.experts_per_token)
        else:
            choices = _dealt(_drawn(case, number), case.tokens, case.experts_per_token)
        if case.router == "folded":
            return _folded(choices, on_rank)
        if case.router == "grouped":
            counts = group_limited(choices, case.experts, case.experts_per_token)[:on_rank]
        else:
            hits = Counter(expert for choice in choices for expert in choice)
            counts = [hits[expert] for expert in range(on_rank)]
    return case.tokens, sum(rows > 0 for rows in counts), sum(counts)


def _folded(choices: list[list[int]], on_rank: int) -> tuple[int, int, int]:
    """Tokens with an expert below `on_rank`, their distinct experts, and their pairs: all others are of expert 0."""
    kept = [choice for choice in choices if any(expert < on_rank for expert in choice)]
    folded = Counter(expert if expert < on_rank else 0 for choice in kept for expert in choice)
    return len(kept), len(folded), folded.total()


def _drawn(case: Case, number: int) -> list[int]:
    exponent = float(case.distribution.removeprefix("power_law_"))
    chance = random.Random(str((*case, number)))  # noqa: S311 - no secret
    draws = {"early": early_power_law, "unspread": unspread_power_law}
    return draws.get(case.router, power_law)(case, exponent, chance)


def balanced(tokens: int, experts: int, experts_per_token: int) -> list[list[int]]:
    """Experts of each token, dealt in turn."""
    stride = -(-experts // experts_per_token)
    shift = 1 if tokens >= stride else stride / tokens
    return [[int((token * shift + j * stride) % experts) for j in range(experts_per_token)] for token in range(tokens)]


def power_law(case: Case, exponent: float, chance: random.Random) -> list[int]:
    """Rows of every expert for one draw, the busiest rank first."""
    counts = [min(case.tokens, count) for count in _rounded(case, exponent, chance)]
    ranks = _by_rank(counts, case)
    missing = case.tokens * case.experts_per_token - sum(counts)
    _deal(ranks, abs(missing), 1 if missing > 0 else -1, case.tokens)
    return _busiest_first(ranks)


def early_power_law(case: Case, exponent: float, chance: random.Random) -> list[int]:
    """As `power_law`, with the remainder dealt from the most loaded expert on, or taken from the least loaded on."""
    counts = _rounded(case, exponent, chance)
    order = _falling(counts)
    missing = case.tokens * case.experts_per_token - sum(counts)
    for i in range(missing):
        counts[order[i % case.experts]] += 1
    for i in range(-missing):
        least = order[-(i % case.experts) - 1]
        counts[least if counts[least] else counts.index(max(counts))] -= 1
    counts = _busiest_first(_by_rank(counts, case))
    for expert, count in enumerate(counts):
        if count > case.tokens:
            counts[expert] = case.tokens
            counts[0 if expert else 1] += count - case.tokens
    return [min(case.tokens, count) for count in counts]


def unspread_power_law(case: Case, exponent: float, chance: random.Random) -> list[int]:
    """As `power_law`, with the remainder dealt to the least loaded experts whatever their rank."""
    drawn = _rounded(case, exponent, chance)
    counts = [min(case.tokens, count) for count in drawn]
    surplus = sum(drawn) - sum(counts)
    for expert in _falling(counts)[::-1]:
        given = min(surplus, case.tokens - counts[expert])
        counts[expert] += given
        surplus -= given
    order, missing = _falling(counts)[::-1], case.tokens * case.experts_per_token - sum(counts)
    while missing > 0:
        for expert in order:
            if missing and counts[expert] < case.tokens:
                counts[expert] += 1
                missing -= 1
    for i in range(-missing):
        least = order[i % case.experts]
        counts[least if counts[least] else counts.index(max(counts))] -= 1
    return _busiest_first(_by_rank(counts, case))


def _falling(counts: list[int]) -> list[int]:
    """Experts by their load, the most loaded first, and the first among equals."""
    return sorted(range(len(counts)), key=lambda expert: -counts[expert])


def _rounded(case: Case, exponent: float, chance: random.Random) -> list[int]:
    """Shares of all experts by the power law, scaled to the pairs of token and expert, and rounded."""
    pairs = case.tokens * case.experts_per_token
    low, high = (1.0, 0.8 * case.tokens) if pairs > case.experts else (0.01, 2.0)
    power = 1 - exponent
    shares = [
        math.pow((high**power - low**power) * chance.random() + low**power, 1 / power) for _ in range(case.experts)
    ]
    scale = pairs / sum(shares)
    return [round(share * scale) for share in shares]


def _by_rank(counts: list[int], case: Case) -> list[list[int]]:
    on_rank = case.experts // case.ranks
    return [counts[first : first + on_rank] for first in range(0, case.experts, on_rank)]


def _busiest_first(ranks: list[list[int]]) -> list[int]:
    busiest = max(range(len(ranks)), key=lambda rank: sum(ranks[rank]))
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
    pairs = [expert for expert in _falling(counts) for _ in range(counts[expert])]
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
