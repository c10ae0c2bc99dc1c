"""What refusals advise, followed: the refusal is gone, no other has come, and nothing contradicts.

Behind the last semicolon of a message stand degrees; alternatives are parted by `, or`.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest

from moeplan.core.deployment import Constants, Deployment, Refusal, Serving
from moeplan.core.errors import InputError
from moeplan.core.layout import AskedLayout
from moeplan.core.quant import BY_DTYPE, Quantisation
from moeplan.core.weights import inventory
from moeplan.engines import load
from moeplan.sources.engine_constants import engine_constants
from moeplan.sources.models import find_model
from moeplan.sources.profile_folders import builtin_folder

DEGREE = re.compile(r"--(tp|pp|dp|ep|dcp|redundant-experts) (\d+)|--(dp-attention)")
ENGINES = [("vllm", None), ("vllm", "0.9.2"), ("sglang", None), ("trtllm", None), ("trtllm", "1.1")]


@cache
def catalogue() -> tuple[Serving, ...]:
    """Every model, without a card."""
    found = []
    for path in sorted(builtin_folder("models").glob("*.yaml")):
        model = find_model(path.stem)
        plain = BY_DTYPE[model.spec.dtype]
        quantisation = model.quantisation or Quantisation(plain.name, plain)
        deployment, constants = Deployment("", 1024, 1), constants_of("vllm", None)
        found.append(Serving(model.spec, inventory(model.spec), quantisation, deployment, None, None, constants))
    return tuple(found)


@cache
def constants_of(engine: str, version: str | None) -> Constants:
    return engine_constants(engine, version)


def refused(model: Serving, engine: str, version: str | None, asked: AskedLayout) -> tuple[Refusal, ...]:
    rules = load(engine)
    layout = rules.resolve_layout(model.spec, asked, None, {})
    deployment = Deployment(engine, 1024, 1, layout=layout)
    of = model._replace(deployment=deployment, constants=constants_of(engine, version))
    return rules.refusals(of, rules.settle(of))


def alternatives(message: str) -> list[dict[str, Any]]:
    told, _, advice = message.rpartition("; ")
    assert told, message
    found = []
    for part in advice.split(", or "):
        degrees = {name.replace("-", "_"): int(value) for name, value, _ in DEGREE.findall(part) if name}
        found.append(degrees | ({"dp_attention": True} if "--dp-attention" in part else {}))
    return found


def follow(model: Serving, engine: str, version: str | None, asked: AskedLayout) -> int:
    """Follows all that is advised; how many alternatives there were."""
    found = [each for each in refused(model, engine, version, asked) if each.code != "not-supported"]
    codes, followed = {each.code for each in found}, 0
    for refusal in found:
        for degrees in alternatives(refusal.message):
            assert degrees, refusal.message
            left = {
                each.code
                for each in refused(model, engine, version, asked._replace(**degrees))
                if each.code != "not-supported"
            }
            assert refusal.code not in left, (asked, refusal.message)
            assert left <= codes, (asked, refusal.message, left)
            followed += 1
    return followed


@pytest.mark.parametrize(("engine", "version"), ENGINES)
def test_advice_on_tensor_parallel_ranks_holds_for_every_model(engine: str, version: str | None) -> None:
    layouts = [AskedLayout(tp=tp) for tp in range(2, 17)]
    assert sum(follow(model, engine, version, asked) for model in catalogue() for asked in layouts) > 1000


@pytest.mark.parametrize(("engine", "version"), ENGINES)
def test_advice_on_several_degrees_holds(engine: str, version: str | None) -> None:
    layouts = [
        AskedLayout(tp=tp, dp=dp, ep=ep, dcp=dcp, redundant_experts=redundant, pp=pp)
        for tp, dp, pp in ((8, None, None), (8, 3, None), (12, 8, 3))
        for ep in (None, 5, 8, 24)
        for dcp, redundant in ((None, 5), (2, None), (3, 5))
    ]
    layouts += [AskedLayout(tp=tp, dp=3, dp_attention=True, ep=ep) for tp in (8, 12) for ep in (None, 8)]
    layouts.append(AskedLayout(tp=6, pp=100))
    followed = 0
    for model in catalogue()[::16]:
        for asked in layouts:
            try:
                followed += follow(model, engine, version, asked)
            except InputError:
                # Only the question itself may be none: advice that is none fails the test.
                with pytest.raises(InputError):
                    load(engine).resolve_layout(model.spec, asked, None, {})
    assert followed > 100


def test_no_number_of_ranks_divides_is_told_as_another_way() -> None:
    # 2,048 of DeepSeek-V3's experts over 3 groups leaves a rest on any number of ranks: whole experts do not care.
    model = next(each for each in catalogue() if each.spec.model_type == "deepseek_v3")
    (refusal,) = refused(model, "vllm", None, AskedLayout(tp=8, dp=3))
    assert alternatives(refusal.message) == [{"ep": 24}]


def test_advice_is_in_the_words_that_the_degree_was_stated_in() -> None:
    model = next(each for each in catalogue() if each.spec.model_type == "qwen3_moe")
    rules = load("vllm")
    flags = {"tp": "--tensor-parallel-size", "expert_parallel": "--enable-expert-parallel"}
    layout = rules.resolve_layout(model.spec, AskedLayout(tp=12, expert_parallel=True), None, {})
    of = model._replace(deployment=Deployment("vllm", 1024, 1, layout=layout, flags=flags))
    told = {each.code: each.message for each in rules.refusals(of, rules.settle(of))}
    assert re.search(r"; --tensor-parallel-size \d+ does$", told["heads-not-divisible"])
