"""Drift: distances by hand, floors against pairs of samples of one distribution, and verdicts."""

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.coverage import zipf
from moeplan.core.routing_drift import LayerDistance, drift, jensen_shannon, layer_distance, split_distances, verdict
from moeplan.core.routing_profile import Curve, LayerRouting

histograms = st.lists(st.integers(0, 1000), min_size=5, max_size=5).filter(any)


def layer(counts: list[int], chosen: int, tokens: int, number: int = 0, overlap: Curve = ()) -> LayerRouting:
    return LayerRouting(number, len(counts), chosen, tokens, tuple(counts), overlap=overlap)


def sample(chance: random.Random, weights: list[float], chosen: int, tokens: int) -> LayerRouting:
    counts = [0] * len(weights)
    for _ in range(tokens):
        keys = sorted(range(len(weights)), key=lambda i: chance.expovariate(1) / weights[i])
        for expert in keys[:chosen]:
            counts[expert] += 1
    return layer(counts, chosen, tokens)


def test_distances_by_hand() -> None:
    assert jensen_shannon([1, 2, 3], [2, 4, 6]) == 0
    assert jensen_shannon([5, 0], [0, 9]) == 1
    # p = (1, 0), q = (1/2, 1/2): m = (3/4, 1/4)
    bits = (math.log2(4 / 3) + 0.5 * math.log2(2 / 3) + 0.5 * math.log2(2)) / 2
    assert jensen_shannon([4, 0], [3, 3]) == pytest.approx(math.sqrt(bits))
    with pytest.raises(ValueError, match="2 experts in one, 3 in the other"):
        jensen_shannon([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="nothing was counted"):
        jensen_shannon([1, 2], [0, 0])


@given(histograms, histograms, histograms)
def test_the_distance_is_a_metric(a: list[int], b: list[int], c: list[int]) -> None:
    assert jensen_shannon(a, b) == pytest.approx(jensen_shannon(b, a), abs=1e-9)
    assert 0 <= jensen_shannon(a, b) <= 1
    assert jensen_shannon(a, c) <= jensen_shannon(a, b) + jensen_shannon(b, c) + 1e-7


@pytest.mark.parametrize(("experts", "chosen", "skew"), [(64, 8, 0.5), (8, 2, 0.0), (16, 4, 1.0), (64, 1, 0.8)])
@pytest.mark.parametrize(("a_tokens", "b_tokens"), [(200, 200), (400, 100)])
def test_samples_of_one_distribution_are_as_far_apart_as_splits(
    experts: int, chosen: int, skew: float, a_tokens: int, b_tokens: int
) -> None:
    chance, weights = random.Random(15), zipf(experts, skew)  # noqa: S311 - no secret
    found = [
        layer_distance(sample(chance, weights, chosen, a_tokens), sample(chance, weights, chosen, b_tokens))
        for _ in range(40)
    ]
    # Measured within 4 %; forty pairs know their mean to 2 to 4 %.
    assert fmean(each.distance for each in found) == pytest.approx(fmean(each.floor for each in found), rel=0.1)
    assert not any(each.above_noise for each in found)


def test_a_skew_that_moved_is_above_noise() -> None:
    chance, weights = random.Random(16), zipf(64, 0.5)  # noqa: S311 - no secret
    moved = weights[8:] + weights[:8]
    found = layer_distance(sample(chance, weights, 8, 500), sample(chance, moved, 8, 500))
    assert found.above_noise
    assert found.distance > 2 * found.floor
    # An eighth of the tokens cannot tell the same.
    few = layer_distance(sample(chance, weights, 8, 40), sample(chance, moved, 8, 40))
    assert few.floor > 2.5 * found.floor


def test_tokens_that_keep_experts_have_a_higher_floor() -> None:
    # One expert per token, kept with probability 0.8: correlations 0.8^d, so nine tokens are worth one.
    chance = random.Random(17)  # noqa: S311 - no secret
    q = 1 / 16
    curve = tuple((float(d), q + 0.8**d * (1 - q)) for d in (1, 2, 4, 8, 16))

    def kept() -> LayerRouting:
        counts, expert = [0] * 16, 0
        for _ in range(1000):
            expert = expert if chance.random() < 0.8 else chance.randrange(16)
            counts[expert] += 1
        return layer(counts, 1, 1000, overlap=curve)

    found = [layer_distance(kept(), kept()) for _ in range(40)]
    blind = layer_distance(found_layer := kept()._replace(overlap=()), found_layer)
    assert not any(each.above_noise for each in found)
    assert fmean(each.distance for each in found) == pytest.approx(fmean(each.floor for each in found), rel=0.12)
    assert blind.noise < fmean(each.distance for each in found)


def test_the_same_samples_give_the_same_floor() -> None:
    pooled = [40, 3, 0, 100, 57]
    assert split_distances(pooled, 60, 40) == split_distances(pooled, 60, 40)
    assert split_distances([0, 0], 5, 5) == []


def test_layers_must_be_the_same() -> None:
    one = layer([1, 2, 3, 4], 2, 5)
    with pytest.raises(ValueError, match="layer 0 of 4 experts in one, layer 0 of 2 in the other"):
        drift([one], [layer([5, 5], 2, 5)])
    with pytest.raises(ValueError, match="1 layers in one, 2 in the other"):
        drift([one], [one, one._replace(layer=1)])
    assert [each.distance for each in drift([one], [one])] == [0]


def test_verdicts_know_what_cannot_be_told() -> None:
    still = LayerDistance(0, 0.03, 0.03, 0.05)
    moved = LayerDistance(1, 0.3, 0.03, 0.05)
    blurred = LayerDistance(2, 0.3, 0.25, 0.4)
    assert (still.beyond(0.1), moved.beyond(0.1), blurred.beyond(0.1)) == (False, True, None)
    assert moved.beyond(0.35) is False
    assert blurred.beyond(0.35) is None  # noise alone may be 0.4
    assert blurred.beyond(0.5) is False
    assert verdict([still, moved, blurred], 0.1) == (False, (1,), (1,), (2,))
    assert verdict([still, blurred], 0.1) == (None, (), (), (2,))
    assert verdict([still], 0.1) == (True, (), (), ())
    assert verdict([still, moved, blurred], None) == (True, (1,), (), ())
