from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from moeplan.core.measurement import Effort, MeasuredDevice, MoeShape, Task
from moeplan.measure.router_times import PARTS, measure, plan, router_options
from moeplan.measure.routers import ROUTERS, SCORES
from moeplan.measure.session import Session, open_session
from moeplan.measure.shapes import builtin_shapes, shape_case

EFFORTS: tuple[Effort, ...] = ("quick", "default", "full")
HAS_CUDA = torch.cuda.is_available() and not torch.version.hip
SHAPE = MoeShape("tiny", 32, 16, 16, 2)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # these tensors are too small for more, which would wait for each other
    yield
    torch.set_num_threads(before)


@pytest.fixture
def session() -> Session:
    return open_session("cpu", 3)


def device_of(kind: str) -> MeasuredDevice:
    unknown: dict[str, Any] = dict.fromkeys(MeasuredDevice._fields)
    return MeasuredDevice(**{**unknown, "kind": kind, "free_bytes": 140 * 10**9})


def task_of(part: str, shape: MoeShape = SHAPE, tokens: int = 6) -> Task:
    return Task("router", "torch", "bfloat16", {**shape_case(shape), "part": part, "tokens": tokens})


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_every_routing_function_is_timed(part: str, router: str, session: Session) -> None:
    if part == "score" and router not in SCORES:
        return
    task = task_of(part, SHAPE._replace(router=router))
    point = measure(task, session)
    assert point.problem is None
    assert point[:4] == task[:4]
    assert point.spread is not None
    assert point.values["bytes_per_s"] * point.spread.median_s == pytest.approx(point.values["bytes"])


def test_bytes_are_those_that_must_move(session: Session) -> None:
    seen = {part: measure(task_of(part), session).values["bytes"] for part in PARTS}
    # 6 tokens of 32 values and 16 experts of 32, two bytes each; 16 logits a token.
    assert seen["gate"] == 2 * (16 * 32 + 6 * 32 + 6 * 16)
    assert seen["score"] == 6 * 16 * (2 + 4)  # to float32
    assert seen["route"] == 6 * 16 * 2 + 6 * 2 * (4 + 8)  # to two float32 weights and two int64 ids
    assert seen["permute"] == 2 * (12 * 32 + 12 * 32)
    assert seen["combine"] == 2 * (12 * 32 + 6 * 32)
    assert seen["all"] == seen["gate"] + seen["route"] + seen["permute"] + seen["combine"]


def test_latents_are_permuted_and_hidden_states_routed(session: Session) -> None:
    latent = SHAPE._replace(latent_size=8)
    assert measure(task_of("permute", latent), session).values["bytes"] == 2 * 2 * 12 * 8
    assert measure(task_of("gate", latent), session).values["bytes"] == 2 * (16 * 32 + 6 * 32 + 6 * 16)


def test_weights_that_sum_to_one_give_tokens_back(session: Session) -> None:
    assert measure(task_of("all"), session).values["relative_error"] < 5e-3  # a rounding of weights and one of the sum


def test_a_wrong_permutation_is_reported_and_not_timed(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    from moeplan.measure import router_times

    monkeypatch.setattr(router_times, "combine", lambda out, rows, _: out[: len(rows)] * 0)
    point = measure(task_of("all"), session)
    assert point.spread is None
    assert "wrong: relative error 1" in str(point.problem)


def test_unknown_functions_and_too_little_memory_are_problems(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "'magic' is not one of softmax_topk" in str(
        measure(task_of("route", SHAPE._replace(router="magic")), session).problem
    )
    assert "sparsemixer chooses 2 experts, not 4" in str(
        measure(task_of("route", SHAPE._replace(router="sparsemixer", experts_per_token=4)), session).problem
    )
    monkeypatch.setattr(Session, "free_bytes", lambda _: 10)
    assert "GiB are free" in str(measure(task_of("gate"), session).problem)


@pytest.mark.parametrize(
    ("shape", "groups"),
    [
        (MoeShape("v3", 64, 64, 256, 8, "sigmoid_bias_groups"), (8, 4)),
        (MoeShape("v2", 64, 64, 160, 6, "group_limited_greedy"), (8, 4)),
        (MoeShape("odd", 64, 64, 60, 4, "sigmoid_bias_groups"), (1, 1)),  # 8 does not divide 60
        (MoeShape("few", 64, 64, 8, 2, "sigmoid_bias_groups"), (1, 1)),  # a group has two experts or more
        (MoeShape("many", 64, 64, 16, 12, "group_limited_greedy"), (1, 1)),  # half of 16 are fewer than 12
        (MoeShape("plain", 64, 64, 256, 8), (1, 1)),
    ],
)
def test_groups_are_those_of_deepseek_where_experts_divide(
    shape: MoeShape, groups: tuple[int, int], session: Session
) -> None:
    options = router_options(shape, 3, session)
    assert (options.num_groups, options.kept_groups) == groups


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
@pytest.mark.parametrize("effort", EFFORTS)
def test_a_plan_has_no_case_twice_and_stays_in_its_time(effort: Effort, kind: str) -> None:
    device = device_of(kind)
    tasks = list(plan(effort, builtin_shapes(effort, device), (), device))
    assert len({tuple(sorted(task.case.items())) for task in tasks}) == len(tasks)
    assert {task.dtype for task in tasks} == {"bfloat16"}
    assert sum(task.expected_s for task in tasks) < {"quick": 4, "default": 30, "full": 100}[effort]
    if effort != "quick":
        assert {task.case["router"] for task in tasks} == set(ROUTERS)


def test_a_models_own_shape_is_measured_alone() -> None:
    mine = MoeShape("mine", 64, 64, 64, 4, "topk_softmax")
    tasks = list(plan("default", (mine,), ("float8_e4m3fn", "float16"), device_of("cuda")))
    assert {task.case["shape"] for task in tasks} == {"mine"}
    assert {task.dtype for task in tasks} == {"float16"}
    assert {task.case["part"] for task in tasks} == set(PARTS) - {"score"}  # only the chosen are scored


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA device")
@pytest.mark.parametrize("router", ROUTERS)
def test_a_whole_router_goes_into_a_graph(router: str) -> None:
    session = open_session("cuda", 0)
    point = measure(task_of("all", SHAPE._replace(router=router)), session)
    assert point.problem is None
    assert "eager" not in point.values
