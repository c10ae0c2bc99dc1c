"""Distinct experts and busiest ranks: closed forms against published tables and against draws made here."""

from __future__ import annotations

import random
from statistics import fmean, pstdev

import pytest

from moeplan.core.coverage import (
    busiest_distinct,
    busiest_rows_uniform,
    distinct_of_batch,
    distinct_of_sequence,
    distinct_uniform,
    distinct_weighted,
    inclusion_of,
    normal_maximum,
    zipf,
)


@pytest.mark.parametrize(
    ("experts", "chosen", "expected"),
    [
        # E (1 - (1 - k/E)^n) for n = 1, 4, 16, 64, 256, as published for these models (facts on routing, 2a)
        (8, 2, (2, 5.47, 7.92, 8, 8)),
        (64, 8, (8, 26.5, 56.4, 64, 64)),
        (128, 8, (8, 29.1, 82.4, 125.9, 128)),
        (128, 4, (4, 15.3, 51.0, 111.2, 128)),
        (128, 1, (1, 3.95, 15.1, 50.5, 110.8)),
        (256, 8, (8, 30.5, 102.0, 222.4, 255.9)),
        (384, 8, (8, 31.0, 109.8, 284.2, 382.2)),
    ],
)
def test_uniform_coverage_of_known_models(experts: int, chosen: int, expected: tuple[float, ...]) -> None:
    for tokens, distinct in zip((1, 4, 16, 64, 256), expected, strict=True):
        assert distinct_uniform(experts, chosen, tokens) == pytest.approx(distinct, abs=0.06), tokens


def test_equal_inclusions_are_uniform() -> None:
    assert distinct_weighted([8 / 256] * 256, 64) == pytest.approx(distinct_uniform(256, 8, 64))
    assert inclusion_of([1.0] * 128, 4) == pytest.approx([4 / 128] * 128)
    assert inclusion_of([3.0, 1.0], 1) == [0.75, 0.25]


def draws(weights: list[float], chosen: int, tokens: int, chance: random.Random) -> list[int]:
    """Tokens of each expert where each token draws `chosen` without replacement by weight (exponential keys)."""
    counts = [0] * len(weights)
    for _ in range(tokens):
        keys = sorted(range(len(weights)), key=lambda i: chance.expovariate(1) / weights[i])
        for expert in keys[:chosen]:
            counts[expert] += 1
    return counts


@pytest.mark.parametrize(("experts", "chosen", "skew"), [(64, 8, 0.6), (64, 8, 1.0), (128, 4, 0.6)])
def test_skewed_coverage_against_draws(experts: int, chosen: int, skew: float) -> None:
    weights, chance = zipf(experts, skew), random.Random(1)  # noqa: S311 - no secret
    for tokens in (4, 32):
        drawn = fmean(sum(count > 0 for count in draws(weights, chosen, tokens, chance)) for _ in range(60))
        assert distinct_weighted(inclusion_of(weights, chosen), tokens) == pytest.approx(drawn, rel=0.03), tokens


def test_zipf_skews_as_published() -> None:
    # Load CV of experts, 256 choose 8 (facts on routing, 3c). Published by simulation with draws; inclusions of single
    # experts are off by up to a fifth there, so the CV is held to a tenth.
    for skew, cv in ((0.5, 0.78), (0.6, 1.04), (0.65, 1.19), (0.7, 1.34), (0.8, 1.67)):
        shares = inclusion_of(zipf(256, skew), 8)
        assert sum(shares) == pytest.approx(8)
        assert pstdev(shares) / fmean(shares) == pytest.approx(cv, rel=0.1), skew


def test_fewer_weights_than_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="2 experts per token, and fewer have a weight"):
        inclusion_of([1.0, 0.0, 0.0], 2)


def test_neighbours_share_experts() -> None:
    # 131 distinct experts in 128 tokens of one sequence where 252 would be drawn (256 choose 8): b = 0.58.
    assert distinct_of_sequence(256, 8, 128, 0.58) == pytest.approx(131, rel=0.03)
    assert distinct_of_sequence(256, 8, 1) == 8
    assert distinct_of_sequence(64, 8, 10**6) == 64
    # Four independent sequences of one token each are four independent tokens.
    assert distinct_of_batch(256, 8, 4) == pytest.approx(distinct_uniform(256, 8, 4))


@pytest.mark.parametrize(
    ("count", "expected"),
    [(2, 0.564), (4, 1.029), (8, 1.423), (16, 1.765), (32, 2.069), (72, 2.387), (144, 2.635), (320, 2.898)],
)
def test_expected_maximum_of_normals(count: int, expected: float) -> None:
    # Published table of order statistics (facts on routing, 3a).
    assert normal_maximum(count) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("ranks", "tokens", "over_mean"),
    [(8, 512, 1.06), (32, 4096, 1.07), (64, 4096, 1.10), (256, 4096, 1.26), (256, 512, 1.75)],
)
def test_busiest_rank_of_a_deepseek_shape(ranks: int, tokens: int, over_mean: float) -> None:
    # facts on routing, 3a: 256 choose 8; the forms are within 2.5 % of draws
    assert busiest_rows_uniform(256, 8, tokens, ranks) / (tokens * 8 / ranks) == pytest.approx(over_mean, rel=0.025)


@pytest.mark.parametrize(
    ("experts", "chosen", "tokens", "ranks"),
    [(64, 8, 2, 8), (64, 8, 16, 8), (128, 8, 64, 8), (8, 2, 32, 4), (128, 1, 64, 16)],
)
def test_busiest_rank_against_draws(experts: int, chosen: int, tokens: int, ranks: int) -> None:
    chance, on_rank = random.Random(7), experts // ranks  # noqa: S311 - no secret
    rows, distinct = [], []
    for _ in range(400):
        counts = [0] * experts
        for _ in range(tokens):
            for expert in chance.sample(range(experts), chosen):
                counts[expert] += 1
        parts = [counts[first : first + on_rank] for first in range(0, experts, on_rank)]
        rows.append(max(sum(part) for part in parts))
        distinct.append(max(sum(count > 0 for count in part) for part in parts))
    touched = distinct_uniform(experts, chosen, tokens) / experts
    assert busiest_rows_uniform(experts, chosen, tokens, ranks) == pytest.approx(fmean(rows), rel=0.035)
    assert busiest_distinct(on_rank, touched, ranks) == pytest.approx(fmean(distinct), rel=0.02)


def test_edges_of_the_busiest_rank() -> None:
    assert busiest_rows_uniform(64, 8, 100, 1) == 800
    assert busiest_rows_uniform(64, 8, 0, 8) == 0
    # One token puts at most 8 experts on a rank, and on 64 ranks of one expert at most one.
    assert busiest_rows_uniform(64, 8, 1, 64) == pytest.approx(1, abs=0.2)
    assert busiest_distinct(8, 1.0, 4) == 8
    assert busiest_distinct(8, 0.0, 4) == 0
