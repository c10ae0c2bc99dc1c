"""Evenness of experts: hand values on uniform, one-hot and ramp histograms; floors, capacities and deaths against draws."""

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.coverage import inclusion_of, zipf
from moeplan.core.routing_metrics import (
    beyond_chance,
    busiest_over_mean,
    capacity_factor,
    capacity_tokens,
    coverage_fraction,
    dead_experts,
    drop_fraction,
    effective_experts,
    entropy,
    expected_drop_fraction,
    gini,
    independent_tokens,
    load_cv,
    mean_coverage,
    noise_floor_busiest,
    noise_floor_cv,
    noise_floor_entropy,
    noise_floor_gini,
    normalised_entropy,
    tokens_to_judge,
)

UNIFORM = (5, 5, 5, 5)
ONE_HOT = (0, 0, 12, 0)
RAMP = (3, 1, 4, 2)


def draws(chance: random.Random, experts: int, chosen: int, tokens: int) -> list[int]:
    counts = [0] * experts
    for _ in range(tokens):
        for expert in chance.sample(range(experts), chosen):
            counts[expert] += 1
    return counts


def test_a_uniform_histogram() -> None:
    assert load_cv(UNIFORM) == 0
    assert entropy(UNIFORM) == pytest.approx(math.log(4))
    assert normalised_entropy(UNIFORM) == pytest.approx(1)
    assert effective_experts(UNIFORM) == pytest.approx(4)
    assert gini(UNIFORM) == 0
    assert busiest_over_mean(UNIFORM) == 1
    assert coverage_fraction(UNIFORM) == 1


def test_a_histogram_of_one_expert_alone() -> None:
    assert load_cv(ONE_HOT) == pytest.approx(math.sqrt(3))  # mean 3; (3 x 9 + 81) / 4 = 27; sqrt(27) / 3
    assert entropy(ONE_HOT) == 0
    assert math.copysign(1, entropy(ONE_HOT)) == 1  # no -0.0 on the screen
    assert normalised_entropy(ONE_HOT) == 0
    assert effective_experts(ONE_HOT) == 1
    assert gini(ONE_HOT) == 0.75  # 1 - 1/E
    assert busiest_over_mean(ONE_HOT) == 4
    assert coverage_fraction(ONE_HOT) == 0.25


def test_a_ramp() -> None:
    # 1, 2, 3, 4 of 10: mean 2.5, variance 1.25
    assert load_cv(RAMP) == pytest.approx(math.sqrt(1.25) / 2.5)
    bits = 0.1 * math.log2(10) + 0.2 * math.log2(5) + 0.3 * math.log2(10 / 3) + 0.4 * math.log2(2.5)
    assert entropy(RAMP) == pytest.approx(bits * math.log(2))
    assert normalised_entropy(RAMP) == pytest.approx(bits / 2)
    assert effective_experts(RAMP) == pytest.approx(2**bits)
    assert gini(RAMP) == pytest.approx(0.25)  # 2 (1 + 4 + 9 + 16) / (4 x 10) - 5/4
    assert busiest_over_mean(RAMP) == 1.6
    assert coverage_fraction(RAMP) == 1
    assert mean_coverage([RAMP, ONE_HOT]) == 0.625
    assert mean_coverage([]) is None


def test_one_expert_is_even() -> None:
    assert (load_cv([7]), normalised_entropy([7]), gini([7]), noise_floor_entropy(1, 1, 9)) == (0, 1, 0, 0)
    assert beyond_chance([7], 1, 7) == 0


@pytest.mark.parametrize("figure", [load_cv, entropy, normalised_entropy, effective_experts, gini, busiest_over_mean])
def test_nothing_counted_is_refused(figure: object) -> None:
    assert callable(figure)
    with pytest.raises(ValueError, match="nothing was counted"):
        figure([0, 0, 0])


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=30).filter(any), st.integers(2, 9))
def test_figures_do_not_know_the_number_of_tokens_and_stay_in_range(counts: list[int], times: int) -> None:
    number = len(counts)
    for figure in (load_cv, normalised_entropy, effective_experts, gini, busiest_over_mean):
        assert figure([times * count for count in counts]) == pytest.approx(figure(counts), abs=1e-9)
        assert figure(sorted(counts)) == pytest.approx(figure(counts), abs=1e-9)
    assert 0 <= load_cv(counts) <= math.sqrt(number - 1) + 1e-9
    assert 1 - 1e-9 <= effective_experts(counts) <= number + 1e-9
    assert -1e-9 <= gini(counts) <= 1 - 1 / number + 1e-9
    assert 1 - 1e-9 <= busiest_over_mean(counts) <= number + 1e-9


def test_gini_is_the_mean_difference_of_pairs() -> None:
    chance = random.Random(5)  # noqa: S311 - no secret
    counts = [chance.randrange(100) for _ in range(40)]
    pairs = fmean(abs(a - b) for a in counts for b in counts)
    assert gini(counts) == pytest.approx(pairs / (2 * fmean(counts)))


@pytest.mark.parametrize(("experts", "chosen", "tokens"), [(64, 8, 256), (64, 8, 1024), (128, 4, 1024)])
def test_floors_are_those_of_uniform_draws(experts: int, chosen: int, tokens: int) -> None:
    chance = random.Random(6)  # noqa: S311 - no secret
    found = [draws(chance, experts, chosen, tokens) for _ in range(40)]
    # Within 4 % at 256 tokens, within 2 % from 1,024 on (facts on routing, 3d); 40 draws add a percent or two.
    within = 0.06 if tokens < 1024 else 0.04
    assert fmean(map(load_cv, found)) == pytest.approx(noise_floor_cv(experts, chosen, tokens), rel=within)
    assert fmean(map(gini, found)) == pytest.approx(noise_floor_gini(experts, chosen, tokens), rel=within)
    lacking = 1 - fmean(map(normalised_entropy, found))
    assert lacking == pytest.approx(noise_floor_entropy(experts, chosen, tokens), rel=2 * within)
    busiest = fmean(map(busiest_over_mean, found))
    assert busiest == pytest.approx(noise_floor_busiest(experts, chosen, tokens), rel=0.045)


def test_spread_beyond_chance_is_a_standard_normal_by_chance_and_large_for_light_skew() -> None:
    chance = random.Random(7)  # noqa: S311 - no secret
    found = [beyond_chance(draws(chance, 32, 4, 200), 4, 200) for _ in range(300)]
    assert fmean(found) == pytest.approx(0, abs=0.2)
    assert fmean(value * value for value in found) == pytest.approx(1, rel=0.25)
    skewed = [round(1000 * share) for share in inclusion_of(zipf(32, 0.2), 4)]
    assert load_cv(skewed) < 0.25
    assert beyond_chance(skewed, 4, 1000) > 5


def test_correlated_tokens_are_worth_fewer() -> None:
    # Correlation 0.5 at distance 1, none at 2 and beyond: 1 / (1 + 2 x 0.5).
    q = 0.125
    assert independent_tokens(1000, ((1, q + 0.5 * (1 - q)), (2, q)), q) == pytest.approx(500)
    # Between 2 (0.4) and 4 (0.2) there is 0.3: 1 + 2 (0.5 + 0.4 + 0.3 + 0.2).
    curve = tuple((d, q + share * (1 - q)) for d, share in ((1, 0.5), (2, 0.4), (4, 0.2)))
    assert independent_tokens(1000, curve, q) == pytest.approx(1000 / 3.8)
    assert independent_tokens(1000, (), q) == 1000
    assert independent_tokens(1000, ((1, 0.0),), q) == 1000
    assert independent_tokens(2, ((1, 1.0), (16, 1.0)), q) == 1


def test_the_floor_of_tokens_that_keep_experts() -> None:
    # Each token keeps its one expert with probability 0.6: correlation 0.6^d, whose whole sum is 1.5.
    chance = random.Random(9)  # noqa: S311 - no secret
    experts, tokens, squares = 16, 400, []
    for _ in range(200):
        counts, expert = [0] * experts, 0
        for _ in range(tokens):
            expert = expert if chance.random() < 0.6 else chance.randrange(experts)
            counts[expert] += 1
        squares.append(load_cv(counts) ** 2)
    q = 1 / experts
    curve = tuple((float(d), q + 0.6**d * (1 - q)) for d in (1, 2, 4, 8, 16))
    worth = independent_tokens(tokens, curve, q)
    assert worth == pytest.approx(tokens / 4, rel=0.1)
    assert math.sqrt(fmean(squares)) == pytest.approx(noise_floor_cv(experts, 1, worth), rel=0.08)


# Dead experts


def test_tokens_that_leave_half_an_expert_missed() -> None:
    # Facts on routing, section 9: 10 times these are asked for.
    known = {(8, 2): 10, (64, 8): 37, (128, 8): 86, (128, 4): 175, (256, 8): 197, (384, 8): 316, (512, 10): 352}
    known[128, 1] = 708
    for (experts, chosen), tokens in known.items():
        assert tokens_to_judge(experts, chosen) == 10 * tokens
        share = chosen / experts
        assert experts * (1 - share) ** tokens < 0.5 <= experts * (1 - share) ** (tokens - 1)


def test_dead_experts_know_the_size_of_the_sample() -> None:
    counts = [0, 50, 25, 0, 25, 60, 40, 0]
    few = dead_experts(counts, 2, 99)
    assert (few.experts, few.judged, few.tokens_to_judge) == ((0, 3, 7), False, 100)
    many = dead_experts(counts, 2, 100)
    assert many.judged
    assert many.by_chance == pytest.approx(8 * 0.75**100)
    assert many.inclusion_at_most == pytest.approx(0.0295, abs=1e-4)  # (1 - p)^100 = 0.05
    assert dead_experts([3, 3], 2, 3).experts == ()


def test_no_living_expert_of_uniform_routing_is_called_dead() -> None:
    chance, missed = random.Random(10), []  # noqa: S311 - no secret
    for _ in range(400):
        counts = draws(chance, 64, 1, 60)
        missed.append(len(dead_experts(counts, 1, 60).experts))
        assert not dead_experts(counts, 1, 60).judged
    assert fmean(missed) == pytest.approx(dead_experts([0] * 64, 1, 60).by_chance, rel=0.03)
    for _ in range(5):
        found = dead_experts(draws(chance, 16, 2, tokens_to_judge(16, 2)), 2, tokens_to_judge(16, 2))
        assert found.judged
        assert not found.experts


# Capacity


@pytest.mark.parametrize(
    ("experts", "chosen", "tokens", "dropped"),
    # Percent at capacity factors of 1, 1.25 and 2 (facts on routing, section 8)
    [(8, 1, 256, (6.6, 0.5, 0)), (128, 1, 512, (19.5, 10.2, 0.8)), (256, 8, 4096, (3.5, 0.01, 0))],
)
def test_drops_of_uniform_routing_as_published(
    experts: int, chosen: int, tokens: int, dropped: tuple[float, ...]
) -> None:
    for factor, percent in zip((1, 1.25, 2), dropped, strict=True):
        capacity = capacity_tokens(factor, tokens, chosen, experts)
        found = 100 * expected_drop_fraction([chosen / experts] * experts, tokens, capacity)
        assert found == pytest.approx(percent, abs=0.06)


@pytest.mark.parametrize(("skew", "dropped"), [(0.5, (21, 15, 6.7)), (1.0, (47, 42, 33))])
def test_drops_of_skewed_routing_as_published(skew: float, dropped: tuple[float, ...]) -> None:
    for factor, percent in zip((1, 1.25, 2), dropped, strict=True):
        found = 100 * expected_drop_fraction(zipf(64, skew), 4096, capacity_tokens(factor, 4096, 1, 64))
        assert found == pytest.approx(percent, abs=0.5)


@pytest.mark.parametrize(
    ("experts", "chosen", "tokens", "skew", "within"),
    # Binomial 0.35 points, normal 0.3 points for means of 16 and more (facts on routing, section 8). Shares of a top-k choice
    # are those of the draws, so that the form alone is judged.
    [
        (8, 1, 64, 0.0, 0.0035),
        (16, 2, 40, 0.0, 0.0035),
        (16, 1, 120, 0.7, 0.0035),
        (4, 1, 400, 0.5, 0.003),  # variances of 64 and more
        (64, 1, 20, 0.0, 0.0035),  # less than a token per expert
    ],
)
def test_drops_against_draws(experts: int, chosen: int, tokens: int, skew: float, within: float) -> None:
    chance = random.Random(11)  # noqa: S311 - no secret
    weights = zipf(experts, skew)
    steps, rounds = [], 700
    for _ in range(rounds):
        counts = [0] * experts
        if chosen == 1:
            for expert in chance.choices(range(experts), weights, k=tokens):
                counts[expert] += 1
        else:
            counts = draws(chance, experts, chosen, tokens)
        steps.append(counts)
    inclusion = [chosen * weight for weight in weights]
    for factor in (0.5, 1, 1.25, 2):
        capacity = capacity_tokens(factor, tokens, chosen, experts)
        drawn = fmean(drop_fraction(counts, sum(max(0, c - capacity) for c in counts)) for counts in steps)
        assert expected_drop_fraction(inclusion, tokens, capacity) == pytest.approx(drawn, abs=within), factor


def test_the_two_forms_of_an_experts_excess_meet() -> None:
    # One expert on either side of the variance at which the form changes: share 0.5, 254 and 258 tokens.
    for capacity in (100, 127, 135, 150):
        binomial = expected_drop_fraction([0.5, 0.5], 254, capacity)
        normal = expected_drop_fraction([0.5, 0.5], 258, capacity + 2)
        assert normal == pytest.approx(binomial, abs=0.004)


@given(
    st.integers(2, 12).flatmap(lambda number: st.lists(st.floats(0.01, 1), min_size=number, max_size=number)),
    st.integers(1, 300),
    st.floats(0, 0.5),
)
def test_the_least_capacity_keeps_the_bound(weights: list[float], tokens: int, bound: float) -> None:
    total = sum(weights)
    inclusion = [weight / total for weight in weights]
    factor = capacity_factor(inclusion, tokens, bound)
    capacity = capacity_tokens(factor, tokens, 1, len(inclusion))
    assert expected_drop_fraction(inclusion, tokens, capacity) <= bound + 1e-9
    if capacity > 1:
        assert expected_drop_fraction(inclusion, tokens, capacity - 1) > bound - 1e-9
    assert factor <= len(inclusion) + 1e-9


def test_capacity_of_known_numbers() -> None:
    assert capacity_tokens(1.25, 256, 1, 8) == 40
    assert capacity_tokens(1.1, 100, 1, 10) == 11  # not 12 for 11.000000000000002
    assert capacity_tokens(1.0, 10, 1, 3) == 4
    assert capacity_factor([1.0, 1.0], 10, 0.0) == 1
    assert drop_fraction([6, 2], 2) == 0.25
    with pytest.raises(ValueError, match=r"a share of drops of -0\.1"):
        capacity_factor([0.5, 0.5], 10, -0.1)


def test_no_capacity_factor_cures_skew() -> None:
    even = capacity_factor([1 / 64] * 64, 4096, 0.01)
    heavy = capacity_factor(zipf(64, 1.0), 4096, 0.01)
    assert even < 1.3
    assert heavy > 8


def test_distances_between_those_of_an_overlap_are_added_without_walking_them() -> None:
    curve, q = ((1.0, 0.4), (4.0, 0.3), (9.0, 0.1)), 0.1
    known = {1: 0.4, 2: 0.4 - 0.1 / 3, 3: 0.4 - 0.2 / 3, 4: 0.3, 5: 0.26, 6: 0.22, 7: 0.18, 8: 0.14, 9: 0.1}
    worth = 1 + 2 * sum((share - q) / (1 - q) for share in known.values())
    assert independent_tokens(1000, curve, q) == pytest.approx(1000 / worth)
    assert independent_tokens(1000, ((1.0, 0.2), (1e14, 0.2)), q) == 1
