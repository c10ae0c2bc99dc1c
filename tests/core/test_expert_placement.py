"""Placement against the published example of DeepSeek's balancer, against draws, and by its own rules.

The example is that of deepseek-ai/EPLB, README.md at d52c72d5: two layers of 12 experts in 4 groups, 16 slots, 2 nodes, 8 GPUs.
"""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.coverage import zipf
from moeplan.core.errors import InputError
from moeplan.core.exchange import ranks_touched
from moeplan.core.expert_placement import (
    Placement,
    balance,
    balancedness_of_steps,
    contiguous,
    fan_out,
    most_without_copies,
    pack,
    place,
    replicate,
    spare_bytes_per_rank,
)
from moeplan.core.placement import local_experts

FIRST = (90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86)
SECOND = (20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27)
PUBLISHED: dict[tuple[int, ...], tuple[int, ...]] = {
    FIRST: (5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1),
    SECOND: (7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1),
}
GPU_LOADS: dict[tuple[int, ...], tuple[float, ...]] = {
    FIRST: (121.5, 86.5, 125, 113, 147.5, 131.5, 156, 152),
    SECOND: (173, 179.5, 120.5, 172, 123, 152, 118.5, 117.5),
}

# Draws: an oracle that knows gates alone -----------------------------------------------------------------------

Ids = npt.NDArray[np.int64]


def gates(experts: int, exponent: float, seed: int) -> npt.NDArray[np.float64]:
    """Weights of a Zipf law, experts in random order."""
    order = np.random.default_rng(seed).permutation(experts)
    return np.array(zipf(experts, exponent))[order]


def draw(weights: npt.NDArray[np.float64], chosen: int, tokens: int, seed: int, groups: int = 1, kept: int = 1) -> Ids:
    """Top-k by noisy gates [tokens, k]; of several groups those are kept whose two best weights sum to most."""
    scores = np.log(weights) + np.random.default_rng(seed).gumbel(size=(tokens, len(weights)))
    if kept < groups:
        size = len(weights) // groups
        best = np.sort(np.exp(scores - scores.max(1, keepdims=True)).reshape(tokens, groups, size), -1)[:, :, -2:]
        kept_ids = np.argsort(-best.sum(-1), 1)[:, :kept]
        mask = np.zeros((tokens, groups), bool)
        np.put_along_axis(mask, kept_ids, values=True, axis=1)
        scores = np.where(np.repeat(mask, size, 1), scores, -np.inf)
    return np.argpartition(-scores, chosen - 1, 1)[:, :chosen]


def counts_of(ids: Ids, experts: int) -> list[int]:
    return [int(count) for count in np.bincount(ids.ravel(), minlength=experts)]


def visited(ids: Ids, places: tuple[tuple[int, ...], ...], experts: int, seed: int = 9) -> float:
    """Mean distinct places of a token that takes any copy of each of its experts."""
    homes: list[list[int]] = [[] for _ in range(experts)]
    for number, here in enumerate(places):
        for expert in here:
            homes[expert].append(number)
    widest = max(len(home) for home in homes)
    table = np.array([home + [0] * (widest - len(home)) for home in homes])
    picks = (np.random.default_rng(seed).random(ids.shape) * np.array([len(home) for home in homes])[ids]).astype(int)
    touched = np.zeros((len(ids), len(places)), bool)
    np.put_along_axis(touched, table[ids, picks], values=True, axis=1)
    return float(touched.sum(1).mean())


# The balancer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loads", PUBLISHED, ids=("first", "second"))
def test_the_published_example_is_found_again(loads: tuple[int, ...]) -> None:
    found = place(loads, 8, 4, num_nodes=2, num_groups=4)
    assert tuple(expert for rank in found.slots for expert in rank) == PUBLISHED[loads]
    assert balance(found, loads).loads == GPU_LOADS[loads]


def test_balancedness_of_the_example() -> None:
    found = [balance(place(loads, 8, 4, num_nodes=2, num_groups=4), loads) for loads in PUBLISHED]
    assert [round(one.balancedness or 0, 3) for one in found] == [0.828, 0.805]
    assert found[0].busiest_over_mean == pytest.approx(156 * 8 / 1033)


def test_groups_that_nodes_do_not_divide_are_ignored() -> None:
    alone = place(FIRST, 8, 4, num_nodes=1)
    assert place(FIRST, 8, 4, num_nodes=2, num_groups=3).slots == alone.slots
    hierarchical = balance(place(FIRST, 8, 4, num_nodes=2, num_groups=4), FIRST).balancedness
    everywhere = balance(alone, FIRST).balancedness
    assert everywhere is not None
    assert hierarchical is not None
    assert everywhere > hierarchical


def test_groups_stay_on_their_node_with_all_copies() -> None:
    found = place(SECOND, 8, 4, num_nodes=2, num_groups=4)
    first, second = ({expert // 3 for expert in node} for node in found.nodes())
    assert len(first) == len(second) == 2
    assert not first & second


def test_a_spare_slot_goes_where_a_copy_bears_most() -> None:
    # 12 alone beats 7 and 5; halved to 6 it is behind 7; halved to 3.5 that is behind 6, which becomes three times 4.
    assert replicate((12, 7, 5), 4) == (2, 1, 1)
    assert replicate((12, 7, 5), 5) == (2, 2, 1)
    assert replicate((12, 7, 5), 6) == (3, 2, 1)
    assert replicate((3, 3), 3) == (2, 1)  # the lower number where both are alike
    with pytest.raises(ValueError, match="2 slots for 3"):
        replicate((1, 2, 3), 2)


def test_packing_by_hand() -> None:
    assert pack((5, 4, 3, 3, 2, 1), 2) == ((0, 3, 5), (1, 2, 4))
    assert pack((1, 9), 2) == ((0,), (1,))  # one each stays where it is
    with pytest.raises(ValueError, match="3 items do not divide over 2"):
        pack((1, 2, 3), 2)


loads_of_a_layer = st.integers(1, 6).flatmap(
    lambda ranks: st.tuples(
        st.just(ranks),
        st.integers(1, 5).flatmap(
            lambda each: st.lists(st.integers(0, 1000), min_size=each * ranks, max_size=each * ranks)
        ),
    )
)


@given(loads_of_a_layer, st.integers(0, 3))
def test_every_expert_has_a_slot_and_no_load_is_lost(case: tuple[int, list[int]], spare_per_rank: int) -> None:
    ranks, loads = case
    found = place(loads, ranks, spare_per_rank * ranks)
    assert {len(rank) for rank in found.slots} == {len(loads) // ranks + spare_per_rank}
    assert min(found.copies) >= 1
    assert found.spare_slots == spare_per_rank * ranks
    judged = balance(found, loads)
    assert sum(judged.loads) == pytest.approx(sum(loads))
    if any(loads):
        assert judged.balancedness is not None
        assert 1 / ranks - 1e-9 <= judged.balancedness <= 1 + 1e-9


@given(loads_of_a_layer)
def test_copies_bear_no_more_than_the_next_copy_of_any_other_would(case: tuple[int, list[int]]) -> None:
    ranks, loads = case
    copies = replicate(loads, len(loads) + 2 * ranks)
    heaviest = max(load / count for load, count in zip(loads, copies, strict=True))
    # What was copied bore, before its last copy, at least what is heaviest now: else the slot was wasted.
    for load, count in zip(loads, copies, strict=True):
        assert count == 1 or load / (count - 1) >= heaviest - 1e-9


@given(loads_of_a_layer)
def test_placement_alone_stays_below_the_bound_of_the_hottest_expert(case: tuple[int, list[int]]) -> None:
    ranks, loads = case
    bound = most_without_copies(loads, ranks)
    reached = balance(place(loads, ranks), loads).balancedness
    assert (bound is None) == (reached is None) == (not any(loads))
    if bound is not None and reached is not None:
        assert reached <= bound + 1e-9


def test_small_cases_stay_within_a_third_of_the_best_placement_there_is() -> None:
    chance = random.Random(5)  # noqa: S311
    for _ in range(20):
        loads = [chance.randrange(100) for _ in range(6)]
        halves = [sum(loads[expert] for expert in first) for first in itertools.combinations(range(6), 3)]
        best = min(max(half, sum(loads) - half) for half in halves)
        reached = max(balance(place(loads, 2), loads).loads)
        assert best <= reached <= best * 4 / 3 + 1e-9


# Where experts start -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("experts", "ranks"), [(256, 8), (60, 8), (7, 3), (4, 4)])
def test_contiguous_ranks_hold_as_many_as_the_memory_rules_say(experts: int, ranks: int) -> None:
    found = contiguous(experts, ranks)
    assert [len(rank) for rank in found.slots] == [local_experts(experts, ranks, rank) for rank in range(ranks)]
    assert [expert for rank in found.slots for expert in rank] == list(range(experts))


def test_contiguous_spare_slots_hold_the_first_experts_again() -> None:
    # As vllm-project/vllm vllm/distributed/eplb/eplb_state.py describes it: 4 logical, 6 physical experts on 3 ranks.
    assert contiguous(4, 3, 2).slots == ((0, 1), (2, 3), (0, 1))


def test_contiguous_ranks_load_what_their_experts_do() -> None:
    # Inclusions 0.5, 0.3 | 0.1, 0.1 on two ranks.
    assert balance(contiguous(4, 2), (0.5, 0.3, 0.1, 0.1)).loads == pytest.approx((0.8, 0.2))


# Judging -------------------------------------------------------------------------------------------------------


def test_without_load_nothing_is_known() -> None:
    found = contiguous(4, 2)
    assert balance(found, (0, 0, 0, 0)).balancedness is None
    assert balance(found, (0, 0, 0, 0)).busiest_over_mean is None
    assert balancedness_of_steps(found, ()) is None


def test_steps_wait_for_their_own_busiest_rank() -> None:
    found = contiguous(4, 2)
    steps = ((2, 2, 0, 0), (0, 0, 2, 2), (0, 0, 0, 0))
    assert balancedness_of_steps(found, steps) == 0.5
    assert balance(found, [sum(step) for step in zip(*steps, strict=True)]).balancedness == 1


def test_spare_slots_cost_what_one_more_expert_in_every_layer_does() -> None:
    # DeepSeek-V3 in fp8: three matrices of 7168 x 2048, 58 layers; 2.55 GB a GPU for one slot each.
    expert = 3 * 7168 * 2048
    assert spare_bytes_per_rank(32, 32, expert, 58) == expert * 58
    assert spare_bytes_per_rank(32, 32, expert, 58) / 1e9 == pytest.approx(2.55, abs=0.01)
    assert spare_bytes_per_rank(32, 144, expert, 58) == math.ceil(32 * expert * 58 / 144)


# Against the simulation of the facts on routing, section 4 -----------------------------------------------------

# Zipf exponent, ranks -> balancedness of contiguous placement; placement alone: planned, live; 32 spare slots: planned, live.
SIMULATED = [
    (0.3, 8, 0.89, 0.98, 0.95, 1.00, 0.96),
    (0.3, 32, 0.73, 0.87, 0.87, 1.00, 0.94),
    (0.6, 8, 0.74, 0.96, 0.95, 1.00, 0.96),
    (0.6, 32, 0.45, 0.53, 0.52, 1.00, 0.95),
    (0.6, 72, None, None, None, 0.96, 0.93),
    (0.6, 144, None, None, None, 0.73, 0.72),
    (1.0, 32, 0.20, 0.23, 0.23, 1.00, 0.95),
    (1.0, 144, None, None, None, 0.51, 0.50),
]


def test_balance_reached_is_that_of_the_simulation() -> None:
    """An expert is in a token's choice with min(1, k x its weight), on its own: the draws that all rows there agree with.

    Plans are made on these shares, and judged on them and on one step of 128 tokens a rank. Orders of experts are random, which
    moves naive placement by 0.06, and a single step by 0.02.
    """
    for exponent, ranks, naive, alone, alone_live, spread, spread_live in SIMULATED:
        found: dict[str, list[float]] = {}
        for seed in range(12):
            planned = np.minimum(1, 8 * gates(256, exponent, seed))
            live = np.random.default_rng(seed).binomial(128 * ranks, planned)
            plans = {"spread": place(list(planned), ranks, 32)}
            if 256 % ranks == 0:
                plans |= {"naive": contiguous(256, ranks), "alone": place(list(planned), ranks)}
            for name, plan in plans.items():
                found.setdefault(name, []).append(balance(plan, list(planned)).balancedness or 0)
                found.setdefault(name + " live", []).append(balance(plan, list(live)).balancedness or 0)
        mean = {name: sum(values) / len(values) for name, values in found.items()}
        assert mean["spread"] == pytest.approx(spread, abs=0.015), (exponent, ranks)
        assert mean["spread live"] == pytest.approx(spread_live, abs=0.015), (exponent, ranks)
        if naive is not None:
            assert mean["naive"] == pytest.approx(naive, abs=0.04), (exponent, ranks)
            assert mean["alone"] == pytest.approx(alone, abs=0.015), (exponent, ranks)
            assert mean["alone live"] == pytest.approx(alone_live, abs=0.015), (exponent, ranks)


# Fan-out -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("experts", "chosen", "ranks"), [(256, 8, 2), (256, 8, 16), (128, 1, 8), (128, 4, 32), (8, 2, 8)]
)
def test_fan_out_of_alike_experts_is_the_closed_form(experts: int, chosen: int, ranks: int) -> None:
    found = fan_out(contiguous(experts, ranks), [chosen / experts] * experts, chosen)
    assert found.ranks == pytest.approx(ranks_touched(experts, chosen, ranks))
    assert found.nodes == pytest.approx(1)


def test_fan_out_by_hand() -> None:
    # One of three experts, p = 1/2, 1/4, 1/4; the first lies on both ranks. Two of three always leave one out.
    placement = Placement(3, ((0, 1), (0, 2)), 2)
    assert fan_out(placement, (0.5, 0.25, 0.25), 1).ranks == pytest.approx(1)
    # Two of three alike: 0 and 1, or 0 and 2: the copy of 0 is elsewhere half the time; 1 and 2: two ranks.
    assert fan_out(placement, (2 / 3,) * 3, 2).ranks == pytest.approx((1.5 + 1.5 + 2) / 3)


@pytest.mark.parametrize("exponent", [0.0, 0.6, 1.0])
@pytest.mark.parametrize(("experts", "chosen"), [(256, 8), (128, 4), (64, 8)])
def test_fan_out_against_draws(experts: int, chosen: int, exponent: float) -> None:
    ids = draw(gates(experts, exponent, 1), chosen, 8000, 2)
    inclusion = [count / 8000 for count in counts_of(ids, experts)]
    for ranks, nodes, spare in ((8, 2, 0), (16, 4, 16), (32, 8, 32)):
        for placement in (contiguous(experts, ranks, spare, nodes), place(inclusion, ranks, spare, num_nodes=nodes)):
            found = fan_out(placement, inclusion, chosen)
            assert found.ranks == pytest.approx(visited(ids, placement.slots, experts), rel=0.012)
            assert found.nodes == pytest.approx(visited(ids, placement.nodes(), experts), rel=0.012)


@pytest.mark.parametrize(("exponent", "off"), [(0.0, 0.01), (0.6, 0.02), (1.0, 0.06)])
@pytest.mark.parametrize(("experts", "chosen", "groups", "kept"), [(256, 8, 8, 4), (160, 6, 8, 3)])
def test_group_limits_against_draws(
    experts: int, chosen: int, groups: int, kept: int, exponent: float, off: float
) -> None:
    ids = draw(gates(experts, exponent, 1), chosen, 8000, 2, groups, kept)
    inclusion = [count / 8000 for count in counts_of(ids, experts)]
    for ranks, nodes, spare in ((8, 8, 0), (16, 4, 16), (32, 8, 32), (32, 4, 0)):
        for placement in (
            contiguous(experts, ranks, spare, nodes),
            place(inclusion, ranks, spare, num_nodes=nodes, num_groups=groups),
            place(inclusion, ranks, spare, num_nodes=nodes),
        ):
            found = fan_out(placement, inclusion, chosen, num_groups=groups, kept_groups=kept)
            assert found.ranks == pytest.approx(visited(ids, placement.slots, experts), rel=off)
            assert found.nodes == pytest.approx(visited(ids, placement.nodes(), experts), rel=off)


@pytest.mark.parametrize(("nodes", "drawn"), [(2, 1.97), (4, 3.11), (8, 3.96)])
def test_nodes_of_a_deepseek_v3_token(nodes: int, drawn: float) -> None:
    """Draws of the facts on routing, section 5: 256 experts, 8 a token, 4 of 8 groups; without limits 1.99, 3.61, 5.29."""
    placement = contiguous(256, 8, num_nodes=nodes)
    alike = [8 / 256] * 256
    limited = fan_out(placement, alike, 8, num_groups=8, kept_groups=4).nodes
    assert limited == pytest.approx(drawn, rel=0.011)
    assert limited < fan_out(placement, alike, 8).nodes


def test_few_counts_leave_a_fan_out() -> None:
    # One token was seen, of 2 experts in 1 group: its ranks are known, though the router keeps 1 of 2 or all of 4 groups.
    counted = (1, 1, 0, 0, 0, 0, 0, 0)
    assert fan_out(contiguous(8, 4, num_nodes=2), counted, 2, num_groups=2, kept_groups=1) == pytest.approx(
        (1, 1), abs=1e-4
    )
    counted = (1, 1, 1, 1, 0, 0, 0, 0)
    assert fan_out(contiguous(8, 4, num_nodes=2), counted, 4, num_groups=2, kept_groups=1) == pytest.approx(
        (2, 1), abs=1e-4
    )
    spread = (1, 1, 0, 0, 1, 1, 0, 0)
    assert fan_out(contiguous(8, 4, num_nodes=2), spread, 4, num_groups=2, kept_groups=1) == pytest.approx(
        (2, 2), abs=1e-4
    )


def test_a_choice_that_some_tokens_cannot_make_is_refused() -> None:
    with pytest.raises(ValueError, match="2 experts per token, and fewer"):
        fan_out(contiguous(4, 2), (1, 0, 0, 0), 2)
    with pytest.raises(ValueError, match="3 inclusions for 4"):
        fan_out(contiguous(4, 2), (1, 0, 0), 1)


# Bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [-1, math.nan, math.inf])
def test_loads_that_are_no_counts_are_refused(load: float) -> None:
    with pytest.raises(InputError, match="the load of expert 1 is") as caught:
        place((1, load), 2)
    assert "numbers from 0 on" in caught.value.hint


def test_what_does_not_divide_is_refused_with_the_nearest_that_does() -> None:
    with pytest.raises(InputError, match="256 experts and 40 spare slots do not divide over 32 ranks") as caught:
        place([1] * 256, 32, 40)
    assert caught.value.hint == "take 32 or 64 spare slots"
    with pytest.raises(InputError, match="60 experts and 0 spare") as caught:
        place([1] * 60, 8)
    assert caught.value.hint == "take 4 spare slots"
    with pytest.raises(InputError, match="-4 spare slots"):
        place([1] * 60, 8, -4)
    with pytest.raises(InputError, match="8 ranks do not divide over 3 nodes"):
        place([1] * 8, 8, num_nodes=3)
    with pytest.raises(InputError, match="8 experts do not divide over 3 groups"):
        place([1] * 8, 8, num_groups=3)


def test_a_balance_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="5 loads for 4 experts"):
        balance(contiguous(4, 2), [1] * 5)
