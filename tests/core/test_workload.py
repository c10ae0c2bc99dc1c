"""Means of lengths against draws and against integrals made here."""

from __future__ import annotations

import math
import random
from statistics import NormalDist, fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.workload import Lengths, RequestClass, Workload


def test_one_length_is_its_own_mean() -> None:
    assert Lengths(512, 512, 512).mean == 512


@pytest.mark.parametrize(("median", "width"), [(300, 0.4), (1000, 0.9), (200, 1.4)])
def test_the_mean_is_that_of_drawn_lengths(median: int, width: float) -> None:
    draw = random.Random(7)  # noqa: S311 - draws, no secrets
    normal = NormalDist()
    p95, p99 = (median * math.exp(width * normal.inv_cdf(share)) for share in (0.95, 0.99))
    drawn = fmean(min(draw.lognormvariate(math.log(median), width), p99) for _ in range(200_000))
    assert Lengths(median, round(p95), round(p99)).mean == pytest.approx(drawn, rel=0.01)


def test_a_width_between_two_percentiles_that_disagree() -> None:
    # s = (1.645 ln 4 + 2.326 ln 4) / (1.645^2 + 2.326^2) = 0.678: no law has both, the mean is that of the one between.
    width = (1.6449 + 2.3263) * math.log(4) / (1.6449**2 + 2.3263**2)
    grid = [(number + 0.5) / 100_000 for number in range(100_000)]
    normal = NormalDist(math.log(100), width)
    expected = fmean(min(math.exp(normal.inv_cdf(share)), 400) for share in grid)
    assert Lengths(100, 400, 400).mean == pytest.approx(expected, rel=1e-3)


@given(st.lists(st.integers(1, 10**8), min_size=3, max_size=3).map(sorted))
def test_a_mean_lies_between_half_the_median_and_the_longest(found: list[int]) -> None:
    p50, _, p99 = found
    # Half of all requests have the median or more, so the mean is at least half of it.
    assert p50 / 2 <= Lengths(*found).mean <= p99 * (1 + 1e-9)


def lengths(count: int, longest: int | None = None) -> Lengths:
    return Lengths(count, longest or count, longest or count)


def asked(*classes: RequestClass, context_tokens: int = 8192) -> Workload:
    return Workload(classes, context_tokens, 4, None, 2.0, 0.05, {})


def test_means_are_over_classes_by_their_shares() -> None:
    found = asked(
        RequestClass("easy", 0.75, lengths(400), lengths(100), None, None),
        RequestClass("long", 0.25, lengths(4000), lengths(500), None, None),
    )
    assert found.mean_input_tokens == pytest.approx(0.75 * 400 + 0.25 * 4000)
    assert found.mean_output_tokens == pytest.approx(0.75 * 100 + 0.25 * 500)


def test_the_longest_class_at_its_99th_percentile_fits_the_context() -> None:
    short = RequestClass("easy", 0.9, lengths(400), lengths(100), None, None)
    long = RequestClass("long", 0.1, lengths(2000, 6000), lengths(100, 900), None, None)
    assert asked(short, long).context_p99_tokens == 6900
    assert asked(short, long, context_tokens=5000).context_p99_tokens == 5000


def test_a_class_has_its_own_limits_or_the_workloads() -> None:
    own = RequestClass("high-value", 0.5, lengths(1), lengths(1), 0.5, None)
    other = RequestClass("easy", 0.5, lengths(1), lengths(1), None, 0.1)
    found = asked(own, other)
    assert (found.ttft_limit_s(own), found.tpot_limit_s(own)) == (0.5, 0.05)
    assert (found.ttft_limit_s(other), found.tpot_limit_s(other)) == (2.0, 0.1)
