"""How evenly experts are used: each figure of the field once, beside what chance alone would give.

Counts are tokens (choices) per expert of one layer, or per rank. Chance is uniform routing of independent tokens: E experts,
k per token, n tokens, q = k/E. Neighbouring tokens are not independent; `independent_tokens` says how many they are worth.
Sources of the formulas: facts on routing, sections 3d, 8 and 9; each docstring says how it was held against draws.
Counts that are all zero raise ValueError: nothing was counted.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from moeplan.core.coverage import binomial, busiest_rows_uniform
from moeplan.core.routing_profile import Curve

JUDGED_FROM = 10
"""An expert is called dead from so many times the tokens that make half an expert missed by chance."""

NORMAL_FROM_VARIANCE = 64.0
"""Variance of an expert's tokens from which its excess follows the normal form; below it the binomial is summed."""

BEYOND_SIGMAS = 10.0
"""Standard deviations beyond which a sum over a binomial needs no more terms: the rest is below 1e-20."""


def load_cv(counts: Sequence[float]) -> float:
    """Coefficient of variation: standard deviation over mean, of all experts (population)."""
    mean = _total(counts) / len(counts)
    return math.sqrt(sum((count - mean) ** 2 for count in counts) / len(counts)) / mean


def noise_floor_cv(num_experts: int, experts_per_token: float, tokens: float) -> float:
    """Load CV by chance: sqrt((1-q) / (n q)), the root of the exact mean square; within 4 % of draws at 256 tokens."""
    share = experts_per_token / num_experts
    return math.sqrt(max(0.0, 1 - share) / (tokens * share))


def beyond_chance(counts: Sequence[float], experts_per_token: float, tokens: float) -> float:
    """How far the spread of counts is beyond chance, in standard deviations; above 3, chance does not explain it.

    sum (c - mean)^2 / (n q (1-q)) (E-1)/E follows chi-square with E - 1 degrees of freedom, as a normal by Wilson and Hilferty.
    0 where chance leaves no spread (one expert, or all chosen).
    """
    num_experts = len(counts)
    expected = noise_floor_cv(num_experts, experts_per_token, tokens)
    freedom = num_experts - 1
    if freedom == 0 or expected == 0:
        return 0.0
    ratio = (load_cv(counts) / expected) ** 2
    return (math.cbrt(ratio) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))


def independent_tokens(tokens: float, overlap: Curve, chance_fraction: float) -> float:
    """Independent tokens that as many neighbouring ones are worth: n / (1 + 2 sum of correlations).

    The correlation at distance d is (overlap - q) / (1 - q), q being `chance_fraction`; between the distances of the curve it is
    drawn straight, and behind the last nothing is known and nothing is added, so it may still be too many. At most n, at
    least 1.
    """
    if chance_fraction >= 1 or not overlap:
        return tokens
    points = [(0.0, 1.0)]
    points += [(distance, (share - chance_fraction) / (1 - chance_fraction)) for distance, share in overlap]
    correlated = 0.0
    for (near, first), (far, last) in pairwise(points):
        begin, end = int(near), int(far)
        # The sum over the whole distances behind `near`, up to `far`; a file may say that they are many.
        sum_behind = (end - begin) * ((begin + end + 1) / 2 - near)
        correlated += (end - begin) * first + (last - first) * sum_behind / (far - near)
    return max(1.0, tokens / max(1.0, 1 + 2 * correlated))


def entropy(counts: Sequence[float]) -> float:
    """-sum p ln p, in nats."""
    total = _total(counts)
    return -sum(count / total * math.log(count / total) for count in counts if count > 0) + 0.0


def normalised_entropy(counts: Sequence[float]) -> float:
    """Entropy over ln E: 1 where all experts are used alike, 0 where one is. 1 for a single expert."""
    return entropy(counts) / math.log(len(counts)) if len(counts) > 1 else 1.0


def noise_floor_entropy(num_experts: int, experts_per_token: float, tokens: float) -> float:
    """1 - normalised entropy by chance: CV0^2 / (2 ln E); within 4 % of draws at 256 tokens of 64 experts."""
    if num_experts == 1:
        return 0.0
    return noise_floor_cv(num_experts, experts_per_token, tokens) ** 2 / (2 * math.log(num_experts))


def effective_experts(counts: Sequence[float]) -> float:
    """exp of the entropy: so many experts used alike have it."""
    return math.exp(entropy(counts))


def gini(counts: Sequence[float]) -> float:
    """(2 sum i c_(i)) / (E sum c) - (E+1)/E, counts ascending: 0 where all are used alike, 1 - 1/E where one is."""
    number = len(counts)
    weighted = sum(place * count for place, count in enumerate(sorted(counts), start=1))
    return 2 * weighted / (number * _total(counts)) - (number + 1) / number


def noise_floor_gini(num_experts: int, experts_per_token: float, tokens: float) -> float:
    """Gini by chance: CV0 / sqrt(pi); within 4 % of draws at 256 tokens of 64 experts."""
    return noise_floor_cv(num_experts, experts_per_token, tokens) / math.sqrt(math.pi)


def busiest_over_mean(counts: Sequence[float]) -> float:
    """Largest over mean. MaxVio and TensorRT-LLM's imbalance ratio are this less 1; balancedness is its inverse."""
    return max(counts) * len(counts) / _total(counts)


def noise_floor_busiest(num_experts: int, experts_per_token: int, tokens: float) -> float:
    """Largest over mean by chance: `coverage.busiest_rows_uniform` with one expert per rank, and its errors."""
    mean = tokens * experts_per_token / num_experts
    return busiest_rows_uniform(num_experts, experts_per_token, tokens, num_experts) / mean


def coverage_fraction(counts: Sequence[float]) -> float:
    """Share of experts that any token came to. Of a step it tells something; of a long run hardly."""
    return sum(count > 0 for count in counts) / len(counts)


def mean_coverage(windows: Sequence[Sequence[float]]) -> float | None:
    """Mean share of experts that a step or window touches; None without windows."""
    return sum(map(coverage_fraction, windows)) / len(windows) if windows else None


class DeadExperts(NamedTuple):
    """Experts without a token, and what that means."""

    experts: tuple[int, ...]
    """Never chosen, ascending."""
    by_chance: float
    """As many would be missed by chance: E (1 - q)^n."""
    judged: bool
    """True where enough tokens were seen to call them dead, for these prompts: another domain may use them."""
    tokens_to_judge: int
    """That it takes: ten times those that leave half an expert missed by chance."""
    inclusion_at_most: float
    """Upper bound (95 %) of the share of tokens that choose such an expert: 1 - 0.05^(1/n)."""


def dead_experts(counts: Sequence[int], experts_per_token: float, tokens: float) -> DeadExperts:
    """The experts without a token, judged by the sample's size."""
    number = len(counts)
    needed = tokens_to_judge(number, experts_per_token)
    share = min(1.0, experts_per_token / number)
    return DeadExperts(
        experts=tuple(expert for expert, count in enumerate(counts) if count == 0),
        by_chance=number * math.pow(1 - share, tokens),
        judged=tokens >= needed,
        tokens_to_judge=needed,
        inclusion_at_most=-math.expm1(math.log(0.05) / tokens) if tokens > 0 else 1.0,
    )


def tokens_to_judge(num_experts: int, experts_per_token: float) -> int:
    """Ten times the tokens after which fewer than half an expert is expected to be missed by chance."""
    share = experts_per_token / num_experts
    if share >= 1:
        return JUDGED_FROM
    return JUDGED_FROM * math.ceil(math.log(0.5 / num_experts) / math.log1p(-share))


def drop_fraction(counts: Sequence[float], dropped: float) -> float:
    """Share of the choices that a capacity cut."""
    return dropped / _total(counts)


def capacity_tokens(factor: float, tokens: float, experts_per_token: float, num_experts: int) -> int:
    """Tokens that an expert takes: ceil(c n k / E). Some models state it as such instead."""
    return math.ceil(factor * tokens * experts_per_token / num_experts - 1e-9)


def expected_drop_fraction(inclusion: Sequence[float], tokens: int, capacity: int) -> float:
    """Share of choices that a capacity of so many tokens per expert cuts in a step of n independent tokens.

    sum of E(X_i - C)+ / (n k), X_i binomial of n tokens and the share of tokens that choose expert i, k the sum of those.
    Within 0.35 points of draws; for experts whose variance is 64 and more by the normal form,
    sd (phi(z) - z (1 - Phi(z))), z = (C - mean) / sd.
    """
    # Uniform routing has one share for all: each is worked out once.
    shares: dict[float, int] = {}
    for share in inclusion:
        shares[share] = shares.get(share, 0) + 1
    excess = sum(number * _excess(tokens, share, capacity) for share, number in shares.items())
    return excess / (tokens * _total(inclusion))


def capacity_factor(inclusion: Sequence[float], tokens: int, most_dropped_fraction: float) -> float:
    """The least capacity factor C E / (n k) that keeps the expected drops of a step of n tokens within a share.

    E / k at most: a capacity of all tokens drops none. ValueError for a share below 0.
    """
    if most_dropped_fraction < 0:
        raise ValueError(f"a share of drops of {most_dropped_fraction:g}")
    low, high = 0, tokens  # low drops too much, high does not
    while high - low > 1:
        middle = (low + high) // 2
        if expected_drop_fraction(inclusion, tokens, middle) <= most_dropped_fraction:
            high = middle
        else:
            low = middle
    return high * len(inclusion) / (tokens * _total(inclusion))


def _excess(tokens: int, share: float, capacity: int) -> float:
    """Expected tokens of one expert beyond its capacity."""
    if share <= 0 or capacity >= tokens:
        return 0.0
    if share >= 1:
        return float(tokens - capacity)
    mean, variance = tokens * share, tokens * share * (1 - share)
    deviation = math.sqrt(variance)
    if variance >= NORMAL_FROM_VARIANCE:
        away = (capacity - mean) / deviation
        density = math.exp(-away * away / 2) / math.sqrt(2 * math.pi)
        return deviation * (density - away * 0.5 * math.erfc(away / math.sqrt(2)))
    # The shorter side is summed: E(X - C)+ = mean - C + E(C - X)+.
    if capacity < mean:
        below = sum((capacity - hits) * binomial(tokens, hits, share) for hits in range(capacity))
        return mean - capacity + below
    last = min(tokens, math.ceil(max(mean, capacity) + BEYOND_SIGMAS * deviation + BEYOND_SIGMAS))
    probability, found = binomial(tokens, capacity + 1, share), 0.0
    for hits in range(capacity + 1, last + 1):
        found += (hits - capacity) * probability
        probability *= (tokens - hits) / (hits + 1) * share / (1 - share)
        if probability < 1e-18:
            break
    return found


def _total(counts: Sequence[float]) -> float:
    total = sum(counts)
    if total <= 0:
        raise ValueError("nothing was counted")
    return total
