"""Laws that fit a routing profile: growth of distinct experts over tokens, and the skew of the gates' weights."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from statistics import NormalDist
from typing import NamedTuple

from moeplan.core.coverage import distinct_kept, inclusion_of, zipf
from moeplan.core.routing_profile import Curve

STEP = 1 / 256
"""Exponents are found to this step: far finer than prompts of one kind agree, and layers share what is worked out."""

MOST_STEPS = 4 * 256
"""Up to an exponent, or sigma, of 4: beyond it one expert has nearly all."""

UNSATURATED = 0.75
"""Points above this share of all experts say little of growth: k n^b holds until experts run out."""


class Growth(NamedTuple):
    """Exponent b of k n^b over neighbouring tokens."""

    exponent: float
    low: float
    high: float
    """The least and the greatest exponent of single points."""


class ZipfFit(NamedTuple):
    """A Zipf law of the gates' weights."""

    exponent: float
    error: float
    """Largest distance of the fitted from the counted cumulative share, experts sorted by use."""


class LognormalFit(NamedTuple):
    """A log-normal law of the gates' weights."""

    sigma: float
    error: float
    """As of `ZipfFit`."""


def growth_exponent(curve: Curve, num_experts: int | None = None) -> Growth:
    """Exponent b of value = first value x (n / first n)^b, by least squares of logarithms through the first point.

    With `num_experts`, points above three quarters of them are left out, but never the second. ValueError where the curve
    has fewer than two points, or the first is zero.
    """
    if len(curve) < 2 or curve[0][1] <= 0:
        raise ValueError("growth needs a curve of two points that begins above zero")
    (first_tokens, first), rest = curve[0], curve[1:]
    if num_experts is not None:
        below = tuple(point for point in rest if point[1] <= UNSATURATED * num_experts)
        rest = below or rest[:1]
    points = [(math.log(tokens / first_tokens), math.log(value / first)) for tokens, value in rest if value > 0]
    if not points:
        raise ValueError("growth needs a second point above zero")
    exponent = sum(x * y for x, y in points) / sum(x * x for x, y in points)
    single = [y / x for x, y in points]
    return Growth(exponent, min(single), max(single))


def kept_fraction(curve: Curve, num_experts: int, experts_per_token: int) -> float:
    """Share s of a token's experts that the next one keeps, by `coverage.distinct_kept` at the second point of a curve.

    At two tokens s = 2 - D / k. Between 0 and 1. ValueError where the curve has no point beyond one token.
    """
    point = next((point for point in curve if point[0] > 1), None)
    if point is None:
        raise ValueError("a kept share needs a point beyond one token")
    low, high = 0.0, 1.0  # more is kept, fewer are touched
    for _ in range(60):
        middle = (low + high) / 2
        if distinct_kept(num_experts, experts_per_token, point[0], middle) > point[1]:
            low = middle
        else:
            high = middle
    return high if low > 0 else 0.0


def zipf_exponent(counts: Sequence[int], experts_per_token: int) -> ZipfFit:
    """The exponent s of gate weights 1 / rank^s whose inclusions lie nearest to the counts: least `error`.

    Samples are never even: `zipf_noise_floor` is what chance gives. ValueError where nothing was counted.
    """
    exponent, error = _fitted(counts, lambda step: _zipf_shares(len(counts), experts_per_token, step))
    return ZipfFit(exponent, error)


def zipf_noise_floor(num_experts: int, experts_per_token: int, tokens: float) -> float:
    """The exponent that uniform routing of n tokens seems to have: fitted to normal quantiles of its counts."""
    share = experts_per_token / num_experts
    mean, deviation = tokens * share, math.sqrt(tokens * share * max(0.0, 1 - share))
    counts = [max(0.0, mean + deviation * quantile) for quantile in _normal_quantiles(num_experts)]
    return _fitted(counts, lambda step: _zipf_shares(num_experts, experts_per_token, step))[0]


def lognormal_sigma(counts: Sequence[int], experts_per_token: int) -> LognormalFit:
    """The sigma of gate weights exp(sigma z), z normal quantiles, whose inclusions lie nearest to the counts."""
    sigma, error = _fitted(counts, lambda step: _lognormal_shares(len(counts), experts_per_token, step))
    return LognormalFit(sigma, error)


def lognormal(num_experts: int, sigma: float) -> list[float]:
    """Gate weights exp(sigma z) at normal quantiles, largest first, that sum to 1."""
    weights = [math.exp(sigma * quantile) for quantile in _normal_quantiles(num_experts)]
    total = sum(weights)
    return [weight / total for weight in weights]


def _fitted(counts: Sequence[float], shares_at: Callable[[int], tuple[float, ...]]) -> tuple[float, float]:
    """The parameter and its error. A larger one raises every cumulative share: where it is above and below the counts by as much
    is the least distance."""
    total = sum(counts)
    if total <= 0:
        raise ValueError("nothing was counted")
    counted = [share / total for share in accumulate(sorted(counts, reverse=True))]

    def apart(step: int) -> tuple[float, float]:
        pairs = list(zip(shares_at(step), counted, strict=True))
        return max(law - seen for law, seen in pairs), max(seen - law for law, seen in pairs)

    low, high = 0, MOST_STEPS  # below the crossing, or at it
    while low < high:
        middle = (low + high) // 2
        above, below = apart(middle)
        if above >= below:
            high = middle
        else:
            low = middle + 1
    best = min((max(apart(step)), step) for step in (max(0, low - 1), low))
    return best[1] * STEP, best[0]


@lru_cache(maxsize=256)
def _zipf_shares(num_experts: int, experts_per_token: int, step: int) -> tuple[float, ...]:
    return _cumulative(inclusion_of(zipf(num_experts, step * STEP), experts_per_token))


@lru_cache(maxsize=256)
def _lognormal_shares(num_experts: int, experts_per_token: int, step: int) -> tuple[float, ...]:
    return _cumulative(inclusion_of(lognormal(num_experts, step * STEP), experts_per_token))


def _cumulative(inclusion: Sequence[float]) -> tuple[float, ...]:
    total = sum(inclusion)
    return tuple(share / total for share in accumulate(inclusion))


@lru_cache(maxsize=16)
def _normal_quantiles(number: int) -> tuple[float, ...]:
    """Middles of `number` equal parts of a standard normal, largest first."""
    normal = NormalDist()
    return tuple(normal.inv_cdf((place + 0.5) / number) for place in reversed(range(number)))
