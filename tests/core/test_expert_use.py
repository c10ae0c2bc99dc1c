"""How a step's tokens use experts, held against draws that share no code with the closed forms."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from moeplan.core.coverage import distinct_weighted, inclusion_of, tokens_of_distinct, zipf
from moeplan.core.expert_placement import replicate
from moeplan.core.expert_use import EVEN, GateSkew, MeasuredUse, StepTokens
from moeplan.core.routing_fit import lognormal

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


@pytest.mark.parametrize("exponent", [0.01, 0.6, 1.0])
def test_copies_of_busy_experts_are_touched_as_by_draws(exponent: float) -> None:
    """Sixteen spare slots, of which the busiest experts have one each; a token takes any copy."""
    spare, draws, use = 16, 200, measured(exponent)
    homes = [place for place, count in enumerate(replicate(use.inclusions[0], EXPERTS + spare)) for _ in range(count)]
    slots = {expert: [slot for slot, home in enumerate(homes) if home == expert] for expert in range(EXPERTS)}
    chance = random.Random(11)  # noqa: S311 - no secret
    for tokens in (1, 8, 64):
        sizes = [
            len({chance.choice(slots[expert]) for token in step for expert in token})
            for step in steps(zipf(EXPERTS, exponent), tokens, draws)
        ]
        found = use.distinct(EXPERTS + spare, CHOSEN, EXPERTS + spare, StepTokens(tokens))
        assert found == pytest.approx(sum(sizes) / draws, rel=0.02)


def test_copies_are_not_mixed_up_with_experts_of_a_rank_that_holds_as_many() -> None:
    use, tokens = MeasuredUse([[8 / 256] * 256], 8, 0.0, 0.7, "even"), StepTokens(8)
    fewer, more = use.distinct(256, 8, 4, tokens, 72), use.distinct(288, 8, 4, tokens, 72)
    assert more < fewer


def test_experts_that_nobody_chooses_are_not_touched_by_many_prompts_either() -> None:
    use = MeasuredUse([[CHOSEN / 16] * 16 + [0.0] * (EXPERTS - 16)], CHOSEN, 1.0, 0.7, "a quarter is alive")
    for tokens in (StepTokens(0, 1000, 10), StepTokens(10, 1000, 10), StepTokens(10, 40, 10)):
        touched = use.distinct(EXPERTS, CHOSEN, EXPERTS, tokens)
        strangers = use.distinct(EXPERTS, CHOSEN, EXPERTS, StepTokens(tokens.all))
        assert touched <= strangers * (1 + 1e-9)
        assert strangers <= 16


def test_layers_of_other_sizes_do_not_speak_for_each_other() -> None:
    small, large = [4 / 32] * 32, [4 / 64] * 64
    use = MeasuredUse([small, large], 4, 0.0, 0.7, "two sizes")
    for layer in (small, large):
        alone = MeasuredUse([layer], 4, 0.0, 0.7, "one size")
        for ranks in (1, 4):
            asked = len(layer), 4, len(layer) // ranks, StepTokens(16, 64, 2), ranks
            assert use.distinct(*asked) == pytest.approx(alone.distinct(*asked))
    assert [sum(layer) for layer in use.doubled().inclusions] == pytest.approx([4, 4])


@pytest.mark.parametrize(
    "inclusion",
    [
        [CHOSEN / 16] * 16 + [0.0] * 48,
        [CHOSEN / 58] * 58 + [0.0] * 6,
        inclusion_of(zipf(EXPERTS, 0.7), CHOSEN),
        [1.0, *([3 / 63] * 63)],
        inclusion_of(lognormal(EXPERTS, 1.8), CHOSEN),
    ],
    ids=["quarter", "few-dead", "zipf", "one-for-all", "lognormal"],
)
def test_the_law_below_never_touches_more(inclusion: list[float]) -> None:
    use = MeasuredUse([inclusion], CHOSEN, 0.0, 0.7, "made")
    law = GateSkew(use.exponent_below())
    for tokens in (1, 3, 6, 12, 48, 100, 200, 1000, 5000):
        asked = EXPERTS, CHOSEN, EXPERTS, StepTokens(tokens)
        assert law.distinct(*asked) <= use.distinct(*asked) * 1.005
    assert GateSkew(0.4).exponent_below() == 0.4


@pytest.mark.parametrize("tokens", [0.25, 1, 7, 300])
def test_tokens_are_found_back_from_the_experts_that_they_touch(tokens: float) -> None:
    for inclusion in (inclusion_of(zipf(EXPERTS, 0.9), CHOSEN), [1.0, 0.0, *([3 / 62] * 62)]):
        assert tokens_of_distinct(inclusion, distinct_weighted(inclusion, tokens)) == pytest.approx(tokens, rel=1e-6)
        assert tokens_of_distinct(inclusion, EXPERTS + 1) == float("inf")


def test_an_expert_that_engines_counted_a_little_too_often_is_chosen_by_all() -> None:
    use = MeasuredUse([[1.01, *([(CHOSEN - 1.01) / 63] * 63)]], CHOSEN, 0.0, 0.7, "counted")
    one, seven = (use.distinct(EXPERTS, CHOSEN, EXPERTS, StepTokens(tokens)) for tokens in (0.5, 7.5))
    assert 1 < one < seven < EXPERTS
