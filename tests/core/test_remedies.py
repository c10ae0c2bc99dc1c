"""Advice inside refusals, with rules made for the test: what is named was tried, nearest first."""

from __future__ import annotations

from collections.abc import Mapping

from moeplan.core.deployment import Constants, Deployment, Serving, Value
from moeplan.core.errors import InputError
from moeplan.core.layout import AskedLayout, Layout
from moeplan.core.model import ModelSpec
from moeplan.core.quant import BF16, Quantisation
from moeplan.core.remedies import Problem, Ways, nearest, refused
from tests.core.test_placement import model

SPEC, HEADS, WIDTH = model(), 48, 32
NEVER = 7


def resolve(spec: ModelSpec, asked: AskedLayout, num_devices: int | None, stated: Mapping[str, Value]) -> Layout:
    if asked.tp == NEVER:
        raise InputError("none", hint="another")
    tp, ep = asked.tp or 1, asked.ep or 1
    return Layout(tp=tp, ep=ep, num_gpus=tp, redundant_experts=asked.redundant_experts or 0)


def problems(of: Serving) -> list[Problem]:
    """Heads over all ranks, a width over those that do not hold experts as wholes, nothing else with copies."""
    tp, ep = of.layout.tp, of.layout.ep
    found = [Problem("heads", f"{HEADS} over {tp}")] if HEADS % tp else []
    found += [Problem("width", f"{WIDTH} over {tp}")] if ep == 1 and WIDTH % tp else []
    return found + ([Problem("copies", "copies")] if of.layout.redundant_experts else [])


def ways(problem: Problem, layout: Layout) -> Ways:
    if problem.code == "copies":
        return Ways()
    return Ways(([{"tp": tp} for tp in nearest(layout.tp, 64)], [{"ep": layout.tp}]))


def told(tp: int, flags: Mapping[str, str] | None = None, redundant: int = 0) -> dict[str, str]:
    layout = resolve(SPEC, AskedLayout(tp=tp, redundant_experts=redundant), None, {})
    deployment = Deployment("engine", 1024, 1, layout=layout, flags=flags or {})
    of = Serving(SPEC, (), Quantisation("bf16", BF16), deployment, None, None, Constants("engine", "1", {}))
    return {refusal.code: refusal.message for refusal in refused(of, problems, ways, resolve)}


def test_all_rules_are_asked_and_not_only_the_one_that_was_broken() -> None:
    # 32 divides over 12's neighbours 8 and 16; 48 over 12, 8 and 16; 11 to 9 divide neither, and more GPUs are none.
    assert told(12) == {"width": "32 over 12; --tp 8 does, or --ep 12"}


def test_a_change_that_another_rule_forbids_is_not_named() -> None:
    # As wholes the width is no matter, but 48 heads over 9 ranks still are.
    assert told(9) == {"heads": "48 over 9; --tp 8 does", "width": "32 over 9; --tp 8 does"}
    assert told(8) == {}


def test_what_contradicts_is_not_named() -> None:
    # From 10 down: 9 and 8; from 8 down 7 raises, and 4 divides both.
    assert told(10)["heads"].endswith("; --tp 8 does")


def test_the_words_are_the_users() -> None:
    assert told(12, {"tp": "-tp"})["width"].endswith("; -tp 8 does, or --ep 12")


def test_several_degrees_are_changed_where_no_single_one_helps() -> None:
    # Copies are refused whatever else is changed, and no way of their own was given.
    assert told(8, redundant=2) == {"copies": "copies; --tp 8 --redundant-experts 0 does"}


def test_nearest_goes_down_first() -> None:
    assert list(nearest(3, 6)) == [2, 1, 4, 5, 6]
