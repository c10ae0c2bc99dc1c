"""Plans as a chart on the screen: time per token over what they cost, each with the letter of its row in the table."""

from __future__ import annotations

from moeplan.core.units import duration
from moeplan.plan.result import Plan, PlanResult
from moeplan.report.plan_words import MOST_ROWS
from moeplan.report.terminal_chart import Axis, Chart, Guide, Mark

FRONTIER_SIGNS = "ABCDEFGHIJ"
OTHER_SIGNS = FRONTIER_SIGNS.lower()
"""Of plans in other formats; as many as a table has rows."""
assert len(FRONTIER_SIGNS) == MOST_ROWS


def plans_chart(result: PlanResult) -> Chart:
    """The plans that the tables show, and the limit on the time per token where it lies among them."""
    by_cost = result.request.rank == "cost"
    frontier = _marks(result, result.frontier, FRONTIER_SIGNS, "bold green")
    others = _marks(result, result.smaller_formats, OTHER_SIGNS, "magenta")
    limit_s = result.workload.tpot_s
    return Chart(
        x=Axis("USD per hour" if by_cost else "GPUs", lambda value: f"{value:,.0f}"),
        y=Axis("time per token", duration),
        marks=frontier + others,
        lines=(tuple((mark.x, mark.y) for mark in frontier),),
        guides=() if limit_s is None else (Guide(limit_s, f"limit of {duration(limit_s)}", upright=False),),
        legend=((_range(frontier), "in the checkpoint's own format"), (_range(others), "in other formats"))
        if others
        else (),
    )


def _marks(result: PlanResult, plans: tuple[Plan, ...], signs: str, style: str) -> tuple[Mark, ...]:
    return tuple(
        Mark(_price(result, plan), plan.speed and plan.speed.tpot.value_s, sign, style)
        for plan, sign in zip(plans, signs, strict=False)
    )


def _price(result: PlanResult, plan: Plan) -> float | None:
    if result.request.rank != "cost":
        return plan.num_gpus
    return plan.cost and plan.cost.usd_per_hour


def _range(marks: tuple[Mark, ...]) -> str:
    return f"{marks[0].sign}-{marks[-1].sign}" if len(marks) > 1 else "".join(mark.sign for mark in marks)
