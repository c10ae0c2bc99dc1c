"""Distinct experts that a step touches, and the load of the busiest rank, in closed form.

Symbols: E experts of a layer, k per token, n tokens of the step over the whole expert group, R ranks of E/R experts.
Tokens route independently unless a function says otherwise. The forms were held against Monte Carlo draws
(facts on routing, sections 2 and 3); each function states how far they were off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

SEQUENCE_GROWTH = 0.7
SEQUENCE_GROWTH_LOW = 0.57
SEQUENCE_GROWTH_HIGH = 0.91
"""Exponent b of `distinct_of_sequence` where no profile tells it: assumed, and the band of all that was observed, rounded outwards:
0.576 Qwen3.5-35B, 0.63 Qwen3-30B, 0.72 GLM-5, 0.80 GLM-4.7-Flash, 0.903 DeepSeek-V4-Flash (facts on routing, section 2c)."""

NEVER = 1e-12
"""Probability from which an expert counts as touched for sure: sums over experts need not be taken for whole prompts."""

NORMAL_FROM_ROWS = 32
"""Mean rows of a rank from which the busiest rank follows the normal form; below it the Poisson form."""


def distinct_uniform(experts: int, experts_per_token: float, tokens: float) -> float:
    """Expected distinct experts, all equally likely: E (1 - (1 - k/E)^n). Exact."""
    return experts * (1 - math.pow(1 - experts_per_token / experts, tokens))


def distinct_weighted(inclusion: Sequence[float], tokens: float) -> float:
    """Expected distinct experts where expert i is among a token's choice with probability `inclusion[i]`.

    The inclusions sum to k: a profile's tokens per expert over all tokens. Exact for independent tokens. Counts of engines may
    be a little more than their tokens: such an expert is chosen by all.
    """
    return sum(1 - math.pow(max(0.0, 1 - share), tokens) for share in inclusion)


def tokens_of_distinct(inclusion: Sequence[float], distinct: float) -> float:
    """Independent tokens that touch so many experts: the inverse of `distinct_weighted`; infinite where they never do.

    Newton's steps from below: the curve bends down, so none of them goes too far.
    """
    always = sum(share >= 1 for share in inclusion)
    logs = [math.log1p(-share) for share in inclusion if 0 < share < 1]
    wanted = distinct - always
    if wanted >= len(logs) * (1 - 1e-9):
        return math.inf
    tokens = 0.0
    for _ in range(100):
        missed = [math.exp(tokens * log) for log in logs]
        short = wanted - (len(logs) - sum(missed))
        step = short / -sum(log * one for log, one in zip(logs, missed, strict=True))
        tokens += step
        if step <= 1e-9 * max(1.0, tokens):
            break
    return max(0.0, tokens)


@lru_cache(maxsize=1024)
def independent_tokens(experts: int, experts_per_token: int, distinct: float, skew: float = 0.0) -> float:
    """Independent tokens that touch so many of all experts: the inverse of `distinct_on_rank` on one rank; infinite where
    they never do. So tokens that share experts add up as fewer tokens of other sequences: of B sequences that touch d each,
    experts alike likely, it leads to E (1 - (1 - d/E)^B) (facts on routing, section 2d)."""
    if skew > 0:
        return tokens_of_distinct(_zipf_inclusion(experts, experts_per_token, skew), distinct)
    if experts_per_token >= experts or distinct >= experts * (1 - 1e-9):
        return math.inf
    return math.log1p(-distinct / experts) / math.log1p(-experts_per_token / experts)


def inclusion_of(weights: Sequence[float], experts_per_token: int) -> list[float]:
    """Inclusion probabilities of a top-k choice by gate weights: 1 - exp(-t w), t such that they sum to k.

    Distinct experts from these were off by 1.5 % at most; single ones may be 10 to 20 % off for k of 8 and more. With
    k = 1 the weights themselves, made to sum to 1. ValueError unless k experts have a weight.
    """
    total = sum(weights)
    if experts_per_token == 1 and total > 0:
        return [weight / total for weight in weights]
    if sum(weight > 0 for weight in weights) < experts_per_token:
        raise ValueError(f"{experts_per_token} experts per token, and fewer have a weight")
    low, high = 0.0, 1.0
    while sum(-math.expm1(-high * weight / total) for weight in weights) < experts_per_token and high < 1e18:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):  # neighbours among floats
            break
        if sum(-math.expm1(-middle * weight / total) for weight in weights) < experts_per_token:
            low = middle
        else:
            high = middle
    return [-math.expm1(-high * weight / total) for weight in weights]


def zipf(experts: int, exponent: float) -> list[float]:
    """Gate weights 1 / rank^exponent, that sum to 1: 0.3 is a light skew, 0.65 to 0.7 the skew of DeepSeek-R1."""
    weights = [rank**-exponent for rank in range(1, experts + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]


@lru_cache(maxsize=8192)
def distinct_on_rank(
    experts: int, experts_per_token: int, on_rank: int, tokens: float, ranks: int = 1, skew: float = 0.0
) -> float:
    """Expected distinct experts of a step on one rank, copies counted as experts.

    `ranks` share the experts as wholes, `on_rank` on each, and the rank that touches most of its own is meant; 1 where every
    rank has a part of each. `skew` is the exponent of a Zipf law of the gates' weights, 0 for experts alike likely.
    """
    if skew > 0:
        inclusion = _zipf_inclusion(experts, experts_per_token, skew)
        rarest = 1 - inclusion[-1]  # weights fall from the first to the last
        sure = rarest <= 0 or tokens * math.log(rarest) < math.log(NEVER)
        distinct = float(experts) if sure else distinct_weighted(inclusion, tokens)
    else:
        distinct = distinct_uniform(experts, experts_per_token, tokens)
    if ranks > 1:
        distinct = busiest_distinct(on_rank, distinct / experts, ranks)
    return min(distinct, on_rank)


@lru_cache(maxsize=64)
def _zipf_inclusion(experts: int, experts_per_token: int, skew: float) -> tuple[float, ...]:
    return tuple(inclusion_of(zipf(experts, skew), experts_per_token))


def distinct_of_sequence(experts: int, experts_per_token: int, tokens: float, growth: float = SEQUENCE_GROWTH) -> float:
    """Distinct experts of neighbouring tokens of one sequence: min(E, k n^b). They share experts, so fewer than drawn."""
    return min(float(experts), experts_per_token * math.pow(tokens, growth))


def distinct_kept(experts: int, experts_per_token: int, tokens: float, kept_fraction: float) -> float:
    """Distinct experts of neighbouring tokens, each of which keeps a share of the experts of the one before it.

    E [1 - (1-q) (1 - q (1-s) / (1-q))^(n-1)] with q = k/E; s = q are independent tokens. Within 0.9 % of draws of such a
    chain. Real sequences keep their experts longer: beyond some four tokens it is too high (facts on routing, 2c).
    """
    if experts_per_token >= experts:
        return float(experts)
    share = experts_per_token / experts
    missed = max(0.0, 1 - share * (1 - kept_fraction) / (1 - share))
    return experts * (1 - (1 - share) * math.pow(missed, tokens - 1))


def distinct_of_batch(experts: int, distinct_per_sequence: float, sequences: float) -> float:
    """Distinct experts of independent sequences that touch so many each: E (1 - (1 - d/E)^B)."""
    return experts * (1 - math.pow(1 - distinct_per_sequence / experts, sequences))


def busiest_distinct(experts_on_rank: int, touched_fraction: float, ranks: int) -> float:
    """Expected distinct experts of the rank that touches most of its own: the maximum over R binomials.

    `touched_fraction` is distinct / E over the group. sum over j below E/R of 1 - F(j)^R; within 0.6 % of draws.
    """
    below = found = 0.0
    for j in range(experts_on_rank):
        below += binomial(experts_on_rank, j, touched_fraction)
        found += 1 - min(1.0, below) ** ranks
    return found


def busiest_rows_uniform(experts: int, experts_per_token: int, tokens: float, ranks: int) -> float:
    """Expected rows of the busiest rank under uniform routing.

    From 32 mean rows on: mean (1 + a_R sqrt(R/(R-1)) sqrt(n v) / mean) with v the variance of one token's rows on a
    rank, k (m/E) (1 - m/E) (E-k)/(E-1), m = E/R, and a_R the expected maximum of R standard normals; within 2.5 %.
    Below: the expected maximum of R Poisson variables; within 1.8 %, with one expert per rank 3 to 4 % high.
    """
    mean = tokens * experts_per_token / ranks
    if ranks == 1 or mean == 0:
        return mean
    if mean < NORMAL_FROM_ROWS:
        most = min(_poisson_maximum(mean, ranks), tokens * min(experts_per_token, experts / ranks))
        return max(mean, most)
    share = 1 / ranks
    variance = experts_per_token * share * (1 - share) * (experts - experts_per_token) / max(1, experts - 1)
    return mean + normal_maximum(ranks) * math.sqrt(ranks / (ranks - 1)) * math.sqrt(tokens * variance)


@lru_cache(maxsize=8192)
def busiest_rows(experts: int, experts_per_token: int, tokens: float, ranks: int, skew: float = 0.0) -> float:
    """Expected rows of the busiest rank where experts lie on ranks at random, and `skew` is a Zipf law's exponent.

    The largest of three: the uniform form; the normal form with the spread of placement beside that of the batch, sums of
    m = E/R inclusions drawn without putting back; the rank of the hottest expert. Against draws of 256 experts, 8 a token, over 8
    and 32 ranks it was 0 to 4 % low at exponents of 0.3, 0.6 and 1.
    """
    floor = busiest_rows_uniform(experts, experts_per_token, tokens, ranks)
    if ranks == 1 or skew <= 0 or experts_per_token >= experts:
        return floor
    mean, on_rank = tokens * experts_per_token / ranks, experts / ranks
    hottest, _ = _zipf_spread(experts, experts_per_token, skew)
    deviation = rows_deviation(experts, experts_per_token, tokens, ranks, skew)
    spread = mean + normal_maximum(ranks) * math.sqrt(ranks / (ranks - 1)) * deviation
    around_hottest = tokens * (hottest + max(0.0, on_rank - 1) * (experts_per_token - hottest) / (experts - 1))
    most = tokens * min(experts_per_token, max(1.0, on_rank))
    return max(floor, min(most, around_hottest), min(most, spread) if mean >= NORMAL_FROM_ROWS else 0.0)


def rows_deviation(experts: int, experts_per_token: int, tokens: float, ranks: int, skew: float = 0.0) -> float:
    """Standard deviation of the rows of ranks: the spread of placement and that of the batch, as `busiest_rows` has it.

    With as many ranks as experts that of the rows of experts.
    """
    on_rank, share = experts / ranks, 1 / ranks
    _, variance = _zipf_spread(experts, experts_per_token, skew)
    placed = tokens * tokens * variance * on_rank * (experts - on_rank) / (experts - 1)
    drawn = tokens * experts_per_token * share * (1 - share) * (experts - experts_per_token) / (experts - 1)
    return math.sqrt(placed + drawn)


@lru_cache(maxsize=64)
def _zipf_spread(experts: int, experts_per_token: int, skew: float) -> tuple[float, float]:
    """The largest inclusion, and the variance of all of them."""
    inclusion = _zipf_inclusion(experts, experts_per_token, skew)
    even = experts_per_token / experts
    return max(inclusion), sum((share - even) ** 2 for share in inclusion) / experts


@lru_cache(maxsize=64)
def normal_maximum(count: int) -> float:
    """Expected maximum of so many standard normals: the integral of [x > 0] - Phi(x)^count."""
    total = 0.0
    for i in range(-2560, 2561):  # steps of 1/256 from -10 to 10
        below = (0.5 * math.erfc(-i / 256 / math.sqrt(2))) ** count
        total += (0.5 if i == 0 else float(i > 0)) - below
    return total / 256


def binomial(size: int, hits: int, share: float) -> float:
    """Probability of so many hits in `size` trials."""
    if share <= 0 or share >= 1:
        return float(hits == (size if share >= 1 else 0))
    log = math.lgamma(size + 1) - math.lgamma(hits + 1) - math.lgamma(size - hits + 1)
    return math.exp(log + hits * math.log(share) + (size - hits) * math.log1p(-share))


def _poisson_maximum(mean: float, count: int) -> float:
    """Expected maximum of independent Poisson variables: sum over j of 1 - F(j)^count."""
    term = below = math.exp(-mean)
    found, j = 0.0, 0
    while (above := 1 - min(1.0, below) ** count) > 1e-9:
        found += above
        j += 1
        term *= mean / j
        below += term
    return found
