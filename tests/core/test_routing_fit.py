"""Laws fitted to profiles: laws that made the counts are found again."""

from __future__ import annotations

import random
from statistics import pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.coverage import distinct_kept, distinct_of_sequence, distinct_uniform, inclusion_of, zipf
from moeplan.core.routing_fit import (
    growth_exponent,
    kept_fraction,
    lognormal,
    lognormal_sigma,
    zipf_exponent,
    zipf_noise_floor,
)
from moeplan.core.routing_metrics import gini

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


def draws(chance: random.Random, weights: list[float], chosen: int, tokens: int) -> list[int]:
    """Tokens of each expert where each token draws without replacement by weight (exponential keys)."""
    counts = [0] * len(weights)
    for _ in range(tokens):
        keys = sorted(range(len(weights)), key=lambda i: chance.expovariate(1) / weights[i])
        for expert in keys[:chosen]:
            counts[expert] += 1
    return counts


@given(st.floats(0.3, 1), st.integers(1, 8))
def test_growth_of_a_power_law_is_found_again(exponent: float, first: int) -> None:
    curve = tuple((float(first * n), 8 * n**exponent) for n in SIZES)
    found = growth_exponent(curve)
    assert found == pytest.approx((exponent, exponent, exponent))


def test_growth_knows_when_experts_run_out() -> None:
    curve = tuple((float(n), distinct_of_sequence(64, 8, n, 0.7)) for n in SIZES)
    assert curve[-1][1] == 64
    assert growth_exponent(curve, 64).exponent == pytest.approx(0.7)
    assert growth_exponent(curve).exponent < 0.55
    few = ((1.0, 8.0), (2.0, 15.0))  # the second point stays, whatever it is
    assert growth_exponent(few, 16).exponent == growth_exponent(few).exponent


def test_growth_of_published_models() -> None:
    # Distinct experts of two tokens and of a window (facts on routing, 2c)
    assert growth_exponent(((1, 8), (128, 131))).exponent == pytest.approx(0.58, abs=0.005)
    assert growth_exponent(((1, 8), (2, 8 * (2 - 0.447)))).exponent == pytest.approx(0.63, abs=0.006)
    assert growth_exponent(((1, 8), (2, 8 * (2 - 0.350)))).exponent == pytest.approx(0.72, abs=0.006)


def test_growth_of_a_curve_that_bends_has_a_band() -> None:
    curve = tuple((float(n), distinct_uniform(128, 8, n)) for n in SIZES)
    found = growth_exponent(curve, 128)
    assert found.low < found.exponent < found.high <= 1


@pytest.mark.parametrize("curve", [(), ((1.0, 8.0),), ((1.0, 0.0), (2.0, 1.0)), ((1.0, 1.0), (2.0, 0.0))])
def test_curves_without_growth_are_refused(curve: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="growth needs"):
        growth_exponent(curve)


@given(st.sampled_from([(64, 8), (128, 4), (16, 1)]), st.floats(0, 1), st.sampled_from([2, 4]))
def test_the_kept_share_is_found_again(shape: tuple[int, int], kept: float, second: int) -> None:
    curve = ((1.0, float(shape[1])), (float(second), distinct_kept(*shape, second, kept)))
    assert kept_fraction(curve, *shape) == pytest.approx(kept, abs=1e-6)


def test_the_kept_share_of_two_tokens_by_hand() -> None:
    assert kept_fraction(((1, 8), (2, 13.2)), 256, 8) == pytest.approx(2 - 13.2 / 8)
    assert kept_fraction(((1, 8), (2, 16)), 256, 8) == 0  # nothing in common
    assert kept_fraction(((1, 8), (2, 8)), 256, 8) == pytest.approx(1)
    with pytest.raises(ValueError, match="beyond one token"):
        kept_fraction(((1, 8),), 256, 8)


def test_tokens_that_keep_what_chance_keeps_are_independent() -> None:
    for n in SIZES:
        assert distinct_kept(128, 8, n, 8 / 128) == pytest.approx(distinct_uniform(128, 8, n))
    assert distinct_kept(8, 8, 5, 0.2) == 8


@pytest.mark.parametrize(("experts", "chosen", "exponent"), [(64, 8, 0.3), (128, 4, 0.6), (64, 1, 1.0), (8, 2, 0.5)])
def test_a_zipf_law_is_found_in_draws(experts: int, chosen: int, exponent: float) -> None:
    chance = random.Random(12)  # noqa: S311 - no secret
    counts = draws(chance, zipf(experts, exponent), chosen, 3000)
    chance.shuffle(counts)
    found = zipf_exponent(counts, chosen)
    # Inclusions of a law are approximate for top-k (facts on routing, 2b), and a sample is never as even as its law.
    assert found.exponent == pytest.approx(exponent, abs=0.05)
    assert found.error < 0.03
    assert lognormal_sigma(counts, chosen).error > found.error


@pytest.mark.parametrize(("experts", "chosen", "sigma"), [(64, 4, 0.5), (128, 4, 1.8)])
def test_a_lognormal_law_is_found_in_draws(experts: int, chosen: int, sigma: float) -> None:
    counts = draws(random.Random(13), lognormal(experts, sigma), chosen, 3000)  # noqa: S311 - no secret
    found = lognormal_sigma(counts, chosen)
    assert found.sigma == pytest.approx(sigma, rel=0.1)
    assert found.error < 0.03
    assert zipf_exponent(counts, chosen).error > found.error


def test_laws_of_published_skews() -> None:
    # Facts on routing, 3c: no Zipf law has both the CV (1.86) and the Gini (0.72) of gpt-oss-120b; a log-normal one comes near.
    assert gini(inclusion_of(zipf(128, 0.92), 4)) == pytest.approx(0.56, abs=0.01)
    assert gini(inclusion_of(lognormal(128, 1.8), 4)) == pytest.approx(0.74, abs=0.02)
    assert pstdev(inclusion_of(lognormal(128, 0), 4)) == pytest.approx(0, abs=1e-12)


def test_even_counts_have_no_skew_and_samples_the_skew_of_chance() -> None:
    assert zipf_exponent([7] * 64, 8) == pytest.approx((0, 0), abs=1e-9)
    assert lognormal_sigma([7] * 64, 8) == pytest.approx((0, 0), abs=1e-9)
    chance = random.Random(14)  # noqa: S311 - no secret
    for tokens in (200, 2000):
        floor = zipf_noise_floor(64, 8, tokens)
        assert zipf_exponent(draws(chance, [1.0] * 64, 8, tokens), 8).exponent == pytest.approx(floor, rel=0.25)
    assert zipf_noise_floor(64, 8, 200) > 2 * zipf_noise_floor(64, 8, 2000) > 0
    assert zipf_noise_floor(8, 8, 200) == 0


def test_one_expert_alone_is_the_end_of_the_scale() -> None:
    found = zipf_exponent([0, 0, 50, 0], 1)
    assert found.exponent == 4
    assert found.error == pytest.approx(1 - zipf(4, 4)[0])
    with pytest.raises(ValueError, match="nothing was counted"):
        zipf_exponent([0, 0], 1)


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=12).filter(any))
def test_the_fit_is_the_best_of_all_exponents(counts: list[int]) -> None:
    found = zipf_exponent(counts, 1)
    total, counted, so_far = sum(counts), [], 0
    for count in sorted(counts, reverse=True):
        so_far += count
        counted.append(so_far / total)

    def error(exponent: float) -> float:
        law, shares = 0.0, []
        for share in zipf(len(counts), exponent):
            law += share
            shares.append(law)
        return max(abs(a - b) for a, b in zip(shares, counted, strict=True))

    assert found.error == pytest.approx(error(found.exponent))
    assert found.error <= min(error(step / 50) for step in range(201)) + 1e-9 + 0.004
