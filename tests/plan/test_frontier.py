"""What the search shows is what working out every option in full finds."""

from __future__ import annotations

from itertools import pairwise

import pytest

import moeplan
from moeplan.plan.result import PlanResult
from moeplan.plan.search import WORTH
from tests.plan.brute_force import Everything, everything, layout_told, missed, point

CARDS = ("h100-sxm", "l40s", "rtx-4090")
CASES = [("olmoe", 16), ("olmoe", 256), ("qwen3-30b-a3b", 16), ("qwen3-30b-a3b", 64), ("llama-3.1-8b", 64)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def both(request: pytest.FixtureRequest) -> tuple[PlanResult, Everything]:
    model, concurrency = request.param
    found = moeplan.plan(
        model, gpus=CARDS, max_gpus=8, pools="together", concurrency=concurrency, context="4k", offline=True
    )
    return found, everything(model, gpus=CARDS, max_gpus=8, concurrency=concurrency, context="4k")


def test_no_option_is_missed(both: tuple[PlanResult, Everything]) -> None:
    found, full = both
    assert full.num_options > 300
    assert missed(full.stored, found.frontier) == []
    assert missed(full.others, (*found.frontier, *found.smaller_formats)) == []


def test_the_best_is_the_cheapest_and_of_those_the_fastest(both: tuple[PlanResult, Everything]) -> None:
    found, full = both
    cheapest = min(each.axis for each in full.stored)
    fastest = min(each.tpot_s for each in full.stored if each.axis == cheapest)
    assert found.best is not None
    assert point(found.best)[0] == pytest.approx(cheapest)
    assert point(found.best)[1] == pytest.approx(fastest, rel=1e-9)


def test_every_plan_shown_is_an_option_with_the_same_figures(both: tuple[PlanResult, Everything]) -> None:
    found, full = both
    known = {
        (each.profile, each.engine, each.layout, each.replicas, round(each.axis, 6)): each.tpot_s
        for each in full.stored
    }
    for plan in found.frontier:
        (pool,) = plan.pools
        cost, tpot_s = point(plan)
        key = plan.profile, plan.engine, layout_told(pool.layout), pool.replicas, round(cost, 6)
        assert known[key] == pytest.approx(tpot_s, rel=1e-9)


def test_no_plan_shown_is_dearer_and_slower_than_another(both: tuple[PlanResult, Everything]) -> None:
    found, _ = both
    for plans in (found.frontier, found.smaller_formats):
        for (cost, tpot_s), (more, less_s) in pairwise(point(plan) for plan in plans):
            assert cost < more
            assert less_s < tpot_s * WORTH
    for plan in found.smaller_formats:
        cost, tpot_s = point(plan)
        assert not any(other <= cost and time_s * WORTH <= tpot_s for other, time_s in map(point, found.frontier))
