"""What the busiest rank of a placement has of one step: rows and distinct experts, expected.

A placement says on which ranks each expert lies (`core/expert_placement`), an inclusion in which share of tokens it is chosen. All
ranks wait for the one with most, and which one that is changes from step to step: the expected maximum is above the largest
expectation. Tokens choose independently; a token takes any copy of an expert, all alike.
"""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from moeplan.core.coverage import NORMAL_FROM_ROWS
from moeplan.core.expert_placement import Placement, contiguous, place

FAR_DEVIATIONS = 6.0
"""Beyond which a normal variable is not found."""
POINTS = 96
"""Of the integral of a maximum: half of them move it by less than a thousandth of a deviation."""


@lru_cache(maxsize=1024)
def placed(inclusion: tuple[float, ...], ranks: int, copies: int) -> Placement:
    """The balancer's plan for these inclusions, with so many spare slots over all ranks; nodes and groups are ignored."""
    return place(inclusion, ranks, copies)


@lru_cache(maxsize=1024)
def in_order(experts: int, ranks: int) -> Placement:
    """Experts in their order, without copies."""
    return contiguous(experts, ranks)


def busiest_rows_placed(placement: Placement, inclusion: tuple[float, ...], tokens: float) -> float:
    """Expected rows of the busiest rank of a step of `tokens` over all ranks.

    `inclusion` [E] sums to k. The expected maximum of normal variables, one for each rank, whose variances are those of draws of k
    experts by these inclusions (J. Hajek, Ann. Math. Stat. 35, 1964: what is drawn without putting back), made larger by
    R / (R - 1) since rows sum to n k; of Poisson variables where no rank has 32 rows or more. Where experts are alike both are
    `core/coverage.busiest_rows_uniform`. Against draws of top-k choices (256 experts, 8 a token; 64, 4; 128, 1; 8 to 72 ranks;
    Zipf exponents of 0 to 1; in order and placed, with copies and without) it was within 1.6 % from 64 mean rows on, within 3 %
    at 16, and up to 4 % high at 2 rows, 8 % at an exponent of 1.
    """
    shares, variances = _of_a_token(placement, inclusion)
    means = [tokens * share for share in shares]
    ranks, largest = len(means), max(means)
    if ranks == 1 or largest == 0:
        return largest
    if largest < NORMAL_FROM_ROWS:
        slots = max(len(set(rank)) for rank in placement.slots)
        return min(poisson_maximum(means), max(largest, tokens * min(sum(inclusion), slots)))
    wider = ranks / (ranks - 1)
    return normal_maximum_of(means, [math.sqrt(tokens * variance * wider) for variance in variances])


def busiest_distinct_placed(placement: Placement, inclusion: tuple[float, ...], tokens: float) -> float:
    """Expected distinct slots of the rank that touches most of its own: a copy that is touched on two ranks is read twice.

    Each slot is touched on its own with 1 - (1 - p / copies)^n; the maximum is exact for ranks that are independent of each other.
    Against the same draws within 2.3 %. `tokens` may be what the tokens of prompts, which share experts, are worth.
    """
    copies = placement.copies
    missed = [
        math.pow(max(0.0, 1 - share / count), tokens) if share < count else 0.0
        for share, count in zip(inclusion, copies, strict=True)
    ]
    below: list[list[float]] = []
    for rank in placement.slots:
        chances = [1.0]  # of so many touched ones
        for slot in rank:
            miss = missed[slot]
            chances = [
                here * miss + before * (1 - miss) for here, before in zip([*chances, 0.0], [0.0, *chances], strict=True)
            ]
        below.append(chances)
    most = max(len(rank) for rank in below) - 1
    sums = [0.0] * len(below)
    found = 0.0
    for touched in range(most):
        product = 1.0
        for number, chances in enumerate(below):
            sums[number] += chances[touched] if touched < len(chances) else 0.0
            product *= min(1.0, sums[number])
        found += 1 - product
    return found


def normal_maximum_of(means: Sequence[float], deviations: Sequence[float]) -> float:
    """Expected maximum of independent normal variables: the integral of 1 - product of their distributions."""
    low = max(mean - FAR_DEVIATIONS * deviation for mean, deviation in zip(means, deviations, strict=True))
    high = max(mean + FAR_DEVIATIONS * deviation for mean, deviation in zip(means, deviations, strict=True))
    if high <= low:
        return high
    alike = Counter(
        (mean, deviation)
        for mean, deviation in zip(means, deviations, strict=True)
        if mean + FAR_DEVIATIONS * deviation > low
    )
    step = (high - low) / POINTS
    below = 0.0
    for i in range(POINTS + 1):
        point = low + i * step
        product = 1.0
        for (mean, deviation), count in alike.items():
            # One that never varies lies below `low`, and is none of these.
            product *= (0.5 * math.erfc((mean - point) / (deviation * math.sqrt(2)))) ** count
        below += product * (0.5 if i in (0, POINTS) else 1.0)
    return high - below * step


def poisson_maximum(means: Sequence[float]) -> float:
    """Expected maximum of independent Poisson variables: sum over j of 1 - product of F(j)."""
    alike = Counter(means)
    terms = {mean: math.exp(-mean) for mean in alike}
    below = dict(terms)
    found, j = 0.0, 0
    while True:
        product = 1.0
        for mean, count in alike.items():
            product *= min(1.0, below[mean]) ** count
        if 1 - product <= 1e-9:
            return found
        found += 1 - product
        j += 1
        for mean in alike:
            terms[mean] *= mean / j
            below[mean] += terms[mean]


@lru_cache(maxsize=1024)
def _of_a_token(placement: Placement, inclusion: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and variance of the rows that one token has on each rank.

    With h of an expert's c copies on the rank, and p chosen: sum of p h/c (1 - h/c) for which copy is taken, and sum of (h/c)^2 v less
    (sum of h/c v)^2 / sum of all v, v = p (1 - p), times E / (E - 1), for which experts are.
    """
    copies = placement.copies
    spread = [share * max(0.0, 1 - share) for share in inclusion]
    whole = sum(spread)
    experts = len(inclusion)
    means, variances = [], []
    for rank in placement.slots:
        mean = taken = squares = together = 0.0
        for expert, here in Counter(rank).items():
            part = here / copies[expert]
            mean += inclusion[expert] * part
            taken += inclusion[expert] * part * (1 - part)
            squares += part * part * spread[expert]
            together += part * spread[expert]
        drawn = squares - together * together / whole if whole > 0 else 0.0
        means.append(mean)
        variances.append(taken + max(0.0, drawn) * (experts / (experts - 1) if experts > 1 else 1.0))
    return tuple(means), tuple(variances)
