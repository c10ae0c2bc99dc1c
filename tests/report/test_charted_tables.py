"""Charts below tables: of a load's reach and of plans, where there is room; what they show stands in the rows above."""

from __future__ import annotations

import re
from functools import cache

import pytest

import moeplan
from moeplan.estimate.result import Estimate
from moeplan.plan.result import PlanResult
from moeplan.report.estimate_table import estimate_table
from moeplan.report.plan_chart import plans_chart
from moeplan.report.plan_table import plan_table
from moeplan.report.speed_chart import reach_chart


@cache
def estimated(gpu: str) -> Estimate:
    return moeplan.estimate("gpt-oss-120b", gpu=gpu, concurrency=64, context="32k", speed=True, offline=True)


@cache
def planned(**asked: object) -> PlanResult:
    cards = ["h100-sxm", "l40s"]
    return moeplan.plan("qwen3-30b-a3b", gpus=cards, max_gpus=8, concurrency=32, context="8k", offline=True, **asked)  # type: ignore[arg-type]


def shown(found: Estimate | PlanResult, width: int = 80) -> str:
    draw = estimate_table if isinstance(found, Estimate) else plan_table
    return draw(found, width=width, color=False, unicode=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(("gpu", "asked"), [("2xh100-sxm", "◇ asked, no room in the cache"), ("4xh100-sxm", "◆ asked")])
def test_an_estimate_shows_its_curve_the_asked_point_and_where_the_cache_ends(gpu: str, asked: str) -> None:
    found = estimated(gpu)
    text = shown(found)
    assert found.speed is not None
    assert "tokens/s per GPU over requests in flight" in text
    legend = next(row for row in text.splitlines() if row.startswith(asked[0]))
    assert legend == f"{asked}   ┊ the cache ends: room for {found.capacity.max_concurrency:,}"
    plot = "".join(re.findall("^.{0,9}[│┤](.*)$", text, flags=re.MULTILINE))
    assert plot.count(asked[0]) == 1
    assert plot.count("●") == len(found.speed.over_concurrency) - 1


def test_the_room_is_that_of_all_data_parallel_ranks() -> None:
    found = moeplan.estimate("qwen3-30b-a3b", gpu="2xl40s", dp=2, concurrency=8, context="4k", speed=True, offline=True)
    assert found.speed is not None
    assert found.capacity.max_concurrency is not None
    (guide,) = reach_chart(found, found.speed).guides
    assert guide.value == 2 * found.capacity.max_concurrency
    held = [each.concurrency for each in found.speed.over_concurrency if each.fits]
    assert max(held) <= guide.value < 2 * max(held)


@pytest.mark.parametrize("verb", ["estimate", "plan"])
def test_a_narrow_page_has_the_figures_alone(verb: str) -> None:
    found = estimated("4xh100-sxm") if verb == "estimate" else planned()
    assert "└" in shown(found, 60)
    assert "└" not in shown(found, 59)


def test_few_points_make_no_chart() -> None:
    found = moeplan.estimate("qwen3-30b-a3b", gpu="2xl40s", concurrency=1, context="30k", speed=True, offline=True)
    assert found.speed is not None
    few = found._replace(speed=found.speed._replace(over_concurrency=found.speed.over_concurrency[:2]))
    assert "└" not in shown(few, 100)


@pytest.mark.parametrize("rank", ["cost", "gpus"])
def test_plans_have_the_letters_of_their_rows(rank: str) -> None:
    found = planned(rank=rank)
    drawn = plans_chart(found)
    text = shown(found, 100)
    assert drawn.x.label == {"cost": "USD per hour", "gpus": "GPUs"}[rank]
    assert f"time per token over {drawn.x.label}" in text
    plans = {"A": found.frontier[0], "B": found.frontier[1]}
    if found.smaller_formats:
        plans["a"] = found.smaller_formats[0]
    for sign, plan in plans.items():
        (mark,) = [mark for mark in drawn.marks if mark.sign == sign]
        row = next(row for row in text.splitlines() if row.startswith(f"{sign} "))
        assert row.split()[1] == plan.profile.removeprefix("nvidia-")
        assert plan.speed is not None
        assert plan.cost is not None
        assert mark.y == plan.speed.tpot.value_s
        assert mark.x == {"cost": plan.cost.usd_per_hour, "gpus": plan.num_gpus}[rank]
    assert len({mark.sign for mark in drawn.marks}) == len(drawn.marks)


def test_a_limit_among_the_plans_is_a_line() -> None:
    slowest = max(plan.speed.tpot.value_s for plan in planned().frontier if plan.speed)
    found = planned()
    middle = found._replace(workload=found.workload._replace(tpot_s=0.9 * slowest))
    assert f"╌ limit of {0.9 * slowest * 1e3:.1f} ms" in shown(middle)
    far = found._replace(workload=found.workload._replace(tpot_s=100.0))
    assert "limit of" not in shown(far)
