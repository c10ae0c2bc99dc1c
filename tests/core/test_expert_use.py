"""How a step's tokens use experts, held against draws that share no code with the closed forms."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from moeplan.core.coverage import inclusion_of, zipf
from moeplan.core.expert_use import EVEN, GateSkew, MeasuredUse, StepTokens

EXPERTS, CHOSEN = 64, 4


def drawn(weights: list[float], chosen: int, chance: random.Random) -> set[int]:
    """Experts of one token, by weight, none twice."""
    left, found = dict(enumerate(weights)), set()
    for _ in range(chosen):
        (expert,) = chance.choices(list(left), list(left.values()))
        found.add(expert)
        del left[expert]
    return found


def steps(weights: list[float], tokens: int, draws: int = 400) -> Iterator[list[set[int]]]:
    chance = random.Random(7)  # noqa: S311 - no secret
    for _ in range(draws):
        yield [drawn(weights, CHOSEN, chance) for _ in range(tokens)]


def measured(exponent: float, draws: int = 4000) -> MeasuredUse:
    """A profile of one layer, counted from draws."""
    counts = [0] * EXPERTS
    for (token,) in steps(zipf(EXPERTS, exponent), 1, draws):
        for expert in token:
            counts[expert] += 1
    return MeasuredUse([[count / draws for count in counts]], CHOSEN, exponent, 0.7, "drawn here")


@pytest.mark.parametrize("exponent", [0.3, 0.8])
@pytest.mark.parametrize("tokens", [1, 8, 64])
def test_counts_of_a_profile_touch_as_many_experts_as_draws(exponent: float, tokens: int) -> None:
    found = measured(exponent).distinct(EXPERTS, CHOSEN, EXPERTS, StepTokens(tokens))
    sizes = [len(set().union(*step)) for step in steps(zipf(EXPERTS, exponent), tokens)]
    assert found == pytest.approx(sum(sizes) / len(sizes), rel=0.015)


def test_the_busiest_rank_of_a_profile_has_as_many_rows_as_draws() -> None:
    use, ranks, tokens = measured(0.8), 4, 512
    most = []
    for step in steps(zipf(EXPERTS, 0.8), tokens, draws=20):
        rows = [0] * ranks
        for token in step:
            for expert in token:
                rows[expert * ranks // EXPERTS] += 1
        most.append(max(rows))
    assert use.rows(EXPERTS, CHOSEN, StepTokens(tokens), ranks) == pytest.approx(sum(most) / len(most), rel=0.03)
    assert use.rows(EXPERTS, CHOSEN, StepTokens(tokens), ranks, balanced=True) < sum(most) / len(most)


def test_a_profile_of_even_counts_is_no_skew() -> None:
    even = MeasuredUse([[CHOSEN / EXPERTS] * EXPERTS], CHOSEN, 0.0, 0.7, "even")
    for tokens in (StepTokens(1), StepTokens(37), StepTokens(3, 200, 2)):
        for ranks in (1, 8):
            on_rank = EXPERTS // ranks
            assert even.distinct(EXPERTS, CHOSEN, on_rank, tokens, ranks) == pytest.approx(
                EVEN.distinct(EXPERTS, CHOSEN, on_rank, tokens, ranks), rel=0.02
            )


@pytest.mark.parametrize("use", [EVEN, GateSkew(0.6), measured(0.6, 400)], ids=["even", "skew", "measured"])
def test_neighbours_touch_fewer_experts_than_strangers_and_never_fewer_than_one_token(use: GateSkew) -> None:
    for tokens in (1, 2, 16, 128, 4096):
        strangers = use.distinct(EXPERTS, CHOSEN, EXPERTS, StepTokens(tokens))
        neighbours = use.distinct(EXPERTS, CHOSEN, EXPERTS, StepTokens(0, tokens))
        assert CHOSEN * (1 - 0.02) <= neighbours <= strangers * (1 + 1e-9)
    assert use.distinct(EXPERTS, CHOSEN, EXPERTS, StepTokens(8, 64)) > use.distinct(
        EXPERTS, CHOSEN, EXPERTS, StepTokens(8)
    )


def test_twice_the_skew_touches_fewer_experts_and_loads_a_rank_more() -> None:
    for use in (GateSkew(0.5), measured(0.5)):
        more, tokens = use.doubled(), StepTokens(256)
        assert more.exponent == 2 * use.exponent
        assert more.distinct(EXPERTS, CHOSEN, EXPERTS, StepTokens(16)) < use.distinct(
            EXPERTS, CHOSEN, EXPERTS, StepTokens(16)
        )
        assert more.rows(EXPERTS, CHOSEN, tokens, 8) > use.rows(EXPERTS, CHOSEN, tokens, 8)


def test_the_window_of_a_sequence_that_was_published() -> None:
    """131 distinct experts of 256 in 128 neighbouring tokens of Qwen3.5-35B (top 8), where independent ones touch 252."""
    tokens = StepTokens(0, 128)
    low, high = (GateSkew(0.0, growth).distinct(256, 8, 256, tokens) for growth in (0.58, 0.9))
    assert low < 135
    assert high > 131
    assert low <= GateSkew(0.0).distinct(256, 8, 256, tokens) <= high


def test_a_profile_sums_to_what_is_chosen_after_doubling() -> None:
    shares = inclusion_of(zipf(EXPERTS, 0.4), CHOSEN)
    twice = MeasuredUse([shares], CHOSEN, 0.4, 0.7, "made").doubled()
    assert sum(twice.inclusions[0]) == pytest.approx(CHOSEN)
