"""Rows and distinct experts of the busiest rank of a placement, against draws that know gates alone, and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest

from moeplan.core.busiest_rank import (
    busiest_distinct_placed,
    busiest_rows_placed,
    in_order,
    normal_maximum_of,
    placed,
    poisson_maximum,
)
from moeplan.core.coverage import (
    busiest_distinct,
    busiest_rows_uniform,
    distinct_uniform,
    inclusion_of,
    normal_maximum,
    zipf,
)
from moeplan.core.expert_placement import Placement
from moeplan.core.expert_use import GateSkew, MeasuredUse, StepTokens

Ids = npt.NDArray[np.int64]


def gates(experts: int, exponent: float) -> npt.NDArray[np.float64]:
    """Weights of a Zipf law, experts in random order."""
    return np.array(zipf(experts, exponent))[np.random.default_rng(1).permutation(experts)]


def choices(weights: npt.NDArray[np.float64], chosen: int, tokens: int, chance: np.random.Generator) -> Ids:
    """Top-k by noisy gates [tokens, k]."""
    scores = np.log(weights) + chance.gumbel(size=(tokens, len(weights)))
    return np.argpartition(-scores, chosen - 1, 1)[:, :chosen]


def drawn(
    placement: Placement, weights: npt.NDArray[np.float64], chosen: int, tokens: int, steps: int
) -> tuple[float, float]:
    """Mean rows and distinct slots of the busiest rank over steps; each choice takes any copy."""
    rank_of = np.repeat(np.arange(placement.num_ranks), [len(rank) for rank in placement.slots])
    flat = np.array([expert for rank in placement.slots for expert in rank])
    homes = [np.flatnonzero(flat == expert) for expert in range(len(weights))]
    widest = max(map(len, homes))
    table, counts = np.array([np.resize(home, widest) for home in homes]), np.array([len(home) for home in homes])
    chance = np.random.default_rng(2)
    rows, touched = [], []
    for _ in range(steps):
        ids = choices(weights, chosen, tokens, chance)
        slots = table[ids, (chance.random(ids.shape) * counts[ids]).astype(int)]
        rows.append(int(np.bincount(rank_of[slots].ravel()).max()))
        touched.append(int(np.bincount(rank_of[np.unique(slots)]).max()))
    return float(np.mean(rows)), float(np.mean(touched))


@pytest.mark.parametrize(("exponent", "most"), [(0.0, 0.02), (0.65, 0.025), (1.0, 0.06)])
@pytest.mark.parametrize(("ranks", "copies", "by_load"), [(8, 0, False), (8, 0, True), (8, 8, True), (32, 32, True)])
@pytest.mark.parametrize(("tokens", "steps"), [(16, 600), (128, 150)])
def test_the_busiest_rank_is_that_of_draws(
    ranks: int, copies: int, by_load: bool, exponent: float, most: float, tokens: int, steps: int
) -> None:
    weights, chosen = gates(64, exponent), 4
    many = choices(weights, chosen, 40_000, np.random.default_rng(3))
    inclusion = tuple(float(share) for share in np.bincount(many.ravel(), minlength=64) / 40_000)
    plan = placed(inclusion, ranks, copies) if by_load else in_order(64, ranks)
    rows, touched = drawn(plan, weights, chosen, tokens, steps)
    assert busiest_rows_placed(plan, inclusion, tokens) == pytest.approx(rows, rel=most)
    assert busiest_distinct_placed(plan, inclusion, tokens) == pytest.approx(touched, rel=0.025)


@pytest.mark.parametrize(("experts", "chosen", "ranks"), [(256, 8, 32), (128, 4, 8), (64, 8, 64)])
@pytest.mark.parametrize("tokens", [4, 64, 4096])
def test_experts_alike_are_the_uniform_forms(experts: int, chosen: int, ranks: int, tokens: int) -> None:
    inclusion = (chosen / experts,) * experts
    rows = busiest_rows_placed(in_order(experts, ranks), inclusion, tokens)
    assert rows == pytest.approx(busiest_rows_uniform(experts, chosen, tokens, ranks), rel=3e-3)
    touched = distinct_uniform(experts, chosen, tokens) / experts
    assert busiest_distinct_placed(in_order(experts, ranks), inclusion, tokens) == pytest.approx(
        busiest_distinct(experts // ranks, touched, ranks)
    )


@pytest.mark.parametrize("tokens", [8, 32, 128])
def test_ranks_of_many_slots_are_near_the_exact_form(tokens: int) -> None:
    """128 experts on 2 ranks; the exact maximum over both by all pairs of numbers of touched ones."""
    inclusion = inclusion_of(zipf(128, 0.5), 4)
    missed = [(1 - share) ** tokens for share in inclusion]
    halves = []
    for half in (missed[:64], missed[64:]):
        chances = np.array([1.0])
        for miss in half:
            chances = np.convolve(chances, [miss, 1 - miss])
        halves.append(chances)
    exact = sum(a * b * max(i, j) for (i, a), (j, b) in itertools.product(enumerate(halves[0]), enumerate(halves[1])))
    assert busiest_distinct_placed(in_order(128, 2), tuple(inclusion), tokens) == pytest.approx(float(exact), rel=0.012)


def test_by_hand() -> None:
    # One token, one of two experts, each on a rank of its own: one row somewhere, always.
    assert busiest_distinct_placed(in_order(2, 2), (0.5, 0.5), 1) == pytest.approx(1 - 0.25)
    # An expert that all choose, on both ranks: half of the tokens each, and both copies are read.
    both = Placement(1, ((0,), (0,)))
    assert busiest_rows_placed(both, (1.0,), 10_000) == pytest.approx(5000, rel=0.02)
    assert busiest_distinct_placed(both, (1.0,), 50) == pytest.approx(1)
    # On one rank alone it is certain: no noise.
    assert busiest_rows_placed(in_order(2, 2), (1.0, 0.0), 100) == pytest.approx(100)


def test_maxima_of_known_variables() -> None:
    for count in (2, 8, 32, 320):
        assert normal_maximum_of([5.0] * count, [2.0] * count) == pytest.approx(5 + 2 * normal_maximum(count), abs=0.05)
    unlike = (
        np.random.default_rng(4).normal([1.0, 2.0, 2.5, 3.0], [1.0, 2.0, 0.5, 0.1], size=(200_000, 4)).max(1).mean()
    )
    assert normal_maximum_of([1.0, 2.0, 2.5, 3.0], [1.0, 2.0, 0.5, 0.1]) == pytest.approx(float(unlike), rel=0.01)
    # The larger of N(0, 1) and N(d, 1): d Phi(d / sqrt 2) + phi(d / sqrt 2) sqrt 2 (C. E. Clark, Operations Research 9, 1961).
    for apart in (0.0, 0.7, 3.0):
        z = apart / math.sqrt(2)
        known = apart * 0.5 * math.erfc(-z / math.sqrt(2)) + math.sqrt(2) * math.exp(-z * z / 2) / math.sqrt(
            2 * math.pi
        )
        assert normal_maximum_of([0.0, apart], [1.0, 1.0]) == pytest.approx(known)
    assert normal_maximum_of([1.0, 4.0], [0.0, 0.0]) == 4
    assert poisson_maximum([3.0]) == pytest.approx(3)
    draws = np.random.default_rng(5).poisson([1.0, 2.0, 6.0], size=(200_000, 3)).max(1).mean()
    assert poisson_maximum([1.0, 2.0, 6.0]) == pytest.approx(float(draws), rel=0.005)


# In a step -----------------------------------------------------------------------------------------------------


def law(exponent: float) -> MeasuredUse:
    """A profile whose counts are the law's, experts in random order."""
    return MeasuredUse([inclusion_of(list(gates(256, exponent)), 8)], 8, exponent, 0.7, "made")


@pytest.mark.parametrize("tokens", [StepTokens(64), StepTokens(4096), StepTokens(32, 8192, 8)])
def test_a_stated_law_and_counts_of_it_are_placed_alike(tokens: StepTokens) -> None:
    for copies in (0, 32):
        asked = 256 + copies, 8, 8 + copies // 32, tokens, 32
        stated, counted = GateSkew(0.65), law(0.65)
        assert stated.distinct(*asked, balanced=True, copies=copies) == pytest.approx(
            counted.distinct(*asked, balanced=True, copies=copies)
        )
        rows = 256 + copies, 8, tokens, 32
        assert stated.rows(*rows, balanced=True, copies=copies) == pytest.approx(
            counted.rows(*rows, balanced=True, copies=copies)
        )


def test_too_few_copies_leave_the_skew() -> None:
    """Of 144 ranks and a heavy skew, 32 spare slots reach 0.73 and not the evenness of uniform routing (0.92)."""
    use, tokens = GateSkew(0.6), StepTokens(128 * 144)
    few, many = (use.rows(256 + copies, 8, tokens, 144, balanced=True, copies=copies) for copies in (32, 320))
    even = busiest_rows_uniform(256, 8, tokens.all, 144)
    assert few > 1.2 * even
    assert many == pytest.approx(even, rel=0.03)


def test_copies_even_out_rows_and_are_read_twice() -> None:
    use, busy, quiet = GateSkew(0.65), StepTokens(8192), StepTokens(64)
    rows = {copies: use.rows(256 + copies, 8, busy, 32, balanced=True, copies=copies) for copies in (0, 32)}
    assert rows[32] < 0.65 * rows[0] < rows[0] < use.rows(256, 8, busy, 32)
    everything = {
        copies: use.distinct(256 + copies, 8, 8 + copies // 32, busy, 32, balanced=True, copies=copies)
        for copies in (0, 32)
    }
    assert everything[0] == pytest.approx(8, rel=0.01)
    assert everything[32] == pytest.approx(9, rel=0.01)
    # Where few tokens touch few experts a spare slot spreads them, and hardly adds any.
    few = [
        use.distinct(256 + copies, 8, 8 + copies // 32, quiet, 32, balanced=True, copies=copies) for copies in (0, 32)
    ]
    assert few[1] < few[0] * 1.15
