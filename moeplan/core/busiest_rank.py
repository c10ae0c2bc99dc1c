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

SURE = 1e-5
"""Chance to be missed below which a slot counts as touched."""
NORMAL_FROM_SLOTS = 48
"""Of a rank: for fewer the exact form takes no longer."""


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

    Each slot is touched on its own with 1 - (1 - p / copies)^n; the maximum is exact for ranks that are independent of each other,
    and of normal variables, within 1.2 % of that, for ranks of many slots that are far from touching none or all. Against the same
    draws within 2.3 %. `tokens` may be what the tokens of prompts, which share experts, are worth.
    """
    copies = placement.copies
    missed = [
        math.pow(max(0.0, 1 - share / count), tokens) if share < count else 0.0
        for share, count in zip(inclusion, copies, strict=True)
    ]
    if len(placement.slots[0]) >= NORMAL_FROM_SLOTS:
        means = [sum(1 - missed[slot] for slot in rank) for rank in placement.slots]
        deviations = [math.sqrt(sum(missed[slot] * (1 - missed[slot]) for slot in rank)) for rank in placement.slots]
        if all(
            3 * deviation < mean < len(rank) - 3 * deviation
            for mean, deviation, rank in zip(means, deviations, placement.slots, strict=True)
        ):
            return normal_maximum_of(means, deviations)
    # Of each rank: slots that are touched for sure, and the chances of so many others.
    ranks = [_chances([missed[slot] for slot in rank]) for rank in placement.slots]
    low, high = max(sure for sure, _ in ranks), max(sure + len(chances) - 1 for sure, chances in ranks)
    below = [sum(chances[: low - sure]) for sure, chances in ranks]
    found = float(low)
    for touched in range(low, high):
        product = 1.0
        for number, (sure, chances) in enumerate(ranks):
            more = touched - sure
            if more < len(chances) - 1:
                below[number] += chances[more]
                product *= below[number]
        found += 1 - product
    return found


def _chances(missed: Sequence[float]) -> tuple[int, list[float]]:
    sure, chances = 0, [1.0]
    for miss in missed:
        if miss < SURE:
            sure += 1
        elif miss < 1:
            before, more = 0.0, []
            for chance in chances:
                more.append(chance * miss + before * (1 - miss))
                before = chance
            chances = [*more, before * (1 - miss)]
    return sure, chances


def normal_maximum_of(means: Sequence[float], deviations: Sequence[float]) -> float:
    """Expected maximum of independent normal variables: two at a time, as if the larger of two were normal too.

    C. E. Clark, The Greatest of a Finite Set of Random Variables, Operations Research 9, 1961. From the smallest on it is 0.02
    deviations low for 320 variables alike, and less for fewer (against the integral of `core/coverage.normal_maximum`).
    """
    pairs = sorted(zip(means, deviations, strict=True))
    mean, variance = pairs[0][0], pairs[0][1] ** 2
    for other, deviation in pairs[1:]:
        apart = math.sqrt(variance + deviation * deviation)
        if apart == 0:
            mean = max(mean, other)
            continue
        z = (mean - other) / apart
        first, density = 0.5 * math.erfc(-z / math.sqrt(2)), math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        larger = mean * first + other * (1 - first) + apart * density
        square = (mean * mean + variance) * first + (other * other + deviation * deviation) * (1 - first)
        square += (mean + other) * apart * density
        mean, variance = larger, max(0.0, square - larger * larger)
    return mean


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
