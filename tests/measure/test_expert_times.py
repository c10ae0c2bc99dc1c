from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from moeplan.core.measurement import Effort, MeasuredDevice, MoeShape, Task
from moeplan.measure import experts
from moeplan.measure.expert_times import TOLERANCES, measure, plan
from moeplan.measure.experts import reference
from moeplan.measure.routing_draws import draw
from moeplan.measure.session import Session, open_session
from moeplan.measure.shapes import builtin_shapes, shape_case, shape_of

EFFORTS: tuple[Effort, ...] = ("quick", "default", "full")
HAS_CUDA = torch.cuda.is_available() and not torch.version.hip
SHAPE = MoeShape("tiny", 32, 16, 8, 2)
LATENT = MoeShape("latent", 48, 16, 8, 2, shared_width=24, latent_size=32, gated=False)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # these tensors are too small for more, which would wait for each other
    yield
    torch.set_num_threads(before)


@pytest.fixture
def session() -> Session:
    return open_session("cpu", 3)


def device_of(kind: str, capability: str | None = None) -> MeasuredDevice:
    unknown: dict[str, Any] = dict.fromkeys(MeasuredDevice._fields)
    return MeasuredDevice(**{**unknown, "kind": kind, "compute_capability": capability, "free_bytes": 140 * 10**9})


def task_of(
    backend: str,
    shape: MoeShape = SHAPE,
    tokens: int = 6,
    routing: str = "uniform",
    part: str = "routed",
    dtype: str = "float32",
) -> Task:
    return Task("experts", backend, dtype, {**shape_case(shape), "tokens": tokens, "routing": routing, "part": part})


@pytest.mark.parametrize("backend", ["loop", "batched", "torch.grouped_mm"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_point_counts_the_bytes_and_operations_of_its_routing(backend: str, dtype: str, session: Session) -> None:
    task = task_of(backend, routing="distinct:5", dtype=dtype)
    point = measure(task, session)
    assert point.problem is None
    assert point[:4] == task[:4]
    assert point.spread is not None
    assert point.spread.median_s > 0
    # 5 experts of 3 matrices of 32 x 16; 6 tokens x 2 experts x 3 matrices x 2 operations.
    size = 4 if dtype == "float32" else 2
    assert point.values["weight_bytes_touched"] == 5 * 3 * 32 * 16 * size
    assert point.values["bytes_per_s"] * point.spread.median_s == pytest.approx(5 * 3 * 32 * 16 * size)
    assert point.values["flops_per_s"] * point.spread.median_s == pytest.approx(6 * 2 * 3 * 32 * 16 * 2)
    assert point.values["distinct"] == 5
    assert point.values["busiest"] == 3  # 12 assignments over 5 experts
    assert point.values["relative_error"] < TOLERANCES[dtype]


def test_a_layer_counts_what_stands_around_the_experts(session: Session) -> None:
    point = measure(task_of("torch.grouped_mm", LATENT, routing="distinct:4", part="layer"), session)
    assert point.problem is None
    assert point.spread is not None
    # Experts work on 32 latents in 2 matrices; shared experts of 24 on 48 in 2 matrices; 48 to 32 and back.
    around = 2 * 48 * 24 + 2 * 48 * 32
    assert point.values["weight_bytes_touched"] == 4 * (4 * 2 * 32 * 16 + around)
    assert point.values["flops_per_s"] * point.spread.median_s == pytest.approx(2 * 6 * (2 * 2 * 32 * 16 + around))
    alone = measure(task_of("torch.grouped_mm", LATENT, routing="distinct:4"), session)
    assert alone.values["weight_bytes_touched"] == 4 * 4 * 2 * 32 * 16


def test_distinct_and_busiest_are_those_of_the_routings_that_were_drawn(session: Session) -> None:
    point = measure(task_of("torch.grouped_mm", routing="zipf:1"), session)
    drawn = [draw("zipf:1", 6, 8, 2, 3 + place) for place in range(int(point.values["draws"]))]
    assert point.values["seed"] == 3
    assert len(drawn) >= 4
    assert point.values["distinct"] == pytest.approx(sum(each.distinct for each in drawn) / len(drawn))
    assert point.values["busiest"] == pytest.approx(sum(each.busiest for each in drawn) / len(drawn))


def backend_that(run: Any) -> Any:
    return SimpleNamespace(
        available=lambda *_: None,
        captures=lambda *_: True,
        workspace_bytes=lambda *_: 0,
        prepare=lambda each, _: each,
        run=run,
    )


def test_a_backend_that_is_wrong_is_reported_and_not_timed(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def doubled(prepared: Any, x: Tensor, routing: Any) -> Tensor:
        calls.append(1)
        return 2 * reference.run(prepared, x, routing)

    monkeypatch.setattr(experts, "load", lambda _: backend_that(doubled))
    point = measure(task_of("batched"), session)
    assert point.spread is None
    assert point.values == {"relative_error": pytest.approx(1.0, rel=1e-4)}  # |2y - y| / |y|
    assert "wrong: relative error 1" in str(point.problem)
    assert len(calls) == 1


def test_output_that_is_no_number_is_wrong_wherever_it_stands(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(prepared: Any, x: Tensor, routing: Any) -> Tensor:
        y = reference.run(prepared, x, routing)
        y[1] = float("nan")
        return y

    monkeypatch.setattr(experts, "load", lambda _: backend_that(spoiled))
    assert "wrong: relative error inf" in str(measure(task_of("batched", tokens=300), session).problem)


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "out of memory"),
        (ImportError("No module named 'flash'"), "ImportError: No module named 'flash'"),
        (NotImplementedError("no kernel"), "NotImplementedError: no kernel"),
    ],
)
def test_a_backend_that_fails_is_a_point_with_the_reason(
    error: Exception, problem: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Tensor:
        raise error

    monkeypatch.setattr(experts, "load", lambda _: backend_that(fail))
    point = measure(task_of("batched"), session)
    assert point.spread is None
    assert problem in str(point.problem)


def test_what_does_not_fit_or_cannot_be_is_a_point_with_the_reason(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "is for float8_e4m3fn" in str(measure(task_of("torch.scaled_grouped_mm"), session).problem)
    assert "does not take tf32" in str(measure(task_of("torch.grouped_mm", dtype="tf32"), session).problem)
    assert "cannot touch exactly 9" in str(measure(task_of("loop", routing="distinct:9"), session).problem)
    monkeypatch.setattr(Session, "free_bytes", lambda _: 1000)
    assert "GiB are free" in str(measure(task_of("loop"), session).problem)


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("dtypes", [(), ("float16",), ("bfloat16", "float8_e4m3fn")])
def test_a_plan_has_no_case_twice_and_none_that_cannot_be(effort: Effort, kind: str, dtypes: tuple[str, ...]) -> None:
    device = device_of(kind, "9.0" if kind == "cuda" else None)
    tasks = list(plan(effort, builtin_shapes(effort, device), dtypes, device))
    assert len({(task.backend, task.dtype, tuple(sorted(task.case.items()))) for task in tasks}) == len(tasks)
    for task in tasks:
        shape, routing, tokens = shape_of(task.case), str(task.case["routing"]), int(task.case["tokens"] or 0)
        assert 1 <= tokens <= 16384
        if routing.startswith("distinct"):  # drawing the others takes time, and they always exist
            assert draw(routing, tokens, shape.num_experts, shape.experts_per_token, 0).distinct == int(
                routing[9:].split("/", maxsplit=1)[0]
            )
    # One at 64 tokens takes a fraction of a second; the whole of it stays below its share.
    limit = (
        {"quick": 6, "default": 60, "full": 180}[effort]
        if kind == "cuda"
        else {"quick": 10, "default": 60, "full": 180}[effort]
    )
    assert sum(task.expected_s for task in tasks) < limit


def test_a_plan_varies_each_of_tokens_distinct_experts_and_skew_alone() -> None:
    hopper = device_of("cuda", "9.0")
    cases = [task.case for task in plan("default", (MoeShape("m", 2048, 768, 128, 8),), ("bfloat16",), hopper)
             if task.backend == "torch.grouped_mm"]  # fmt: skip
    forced = {(case["tokens"], case["routing"]) for case in cases if str(case["routing"]).startswith("distinct")}
    assert {(64, "distinct:8"), (64, "distinct:32"), (64, "distinct:64"), (64, "distinct:128")} <= forced
    assert {(16, "distinct:64"), (256, "distinct:64"), (1024, "distinct:64")} <= forced
    assert {(64, "distinct:64/zipf:0.5"), (64, "distinct:64/zipf:1")} <= forced
    assert {case["tokens"] for case in cases} >= {1, 64, 4096, 16384}


def test_what_cannot_run_is_planned_once_to_say_so() -> None:
    turing = device_of("cuda", "7.5")
    tasks = list(plan("default", builtin_shapes("default", turing), ("bfloat16",), turing))
    assert [task.backend for task in tasks].count("torch.grouped_mm") == 1
    assert [task.backend for task in tasks].count("torch.scaled_grouped_mm") == 1


def test_large_shapes_are_planned_with_fewer_experts() -> None:
    small = device_of("cuda", "9.0")._replace(free_bytes=8 * 10**9)
    names = {str(task.case["shape"]) for task in plan("quick", builtin_shapes("quick", small), (), small)}
    # Mixtral's layer: 8 x 3 x 4096 x 14336 x 2 bytes = 2.8e9 fits in two fifths of 8e9, 3.2e9.
    assert names == {"mixtral-8x7b", "qwen3-30b-a3b"}
    tiny = small._replace(free_bytes=4 * 10**9)
    assert "mixtral-8x7b (4 of 8 experts)" in {
        str(task.case["shape"]) for task in plan("quick", builtin_shapes("quick", tiny), (), tiny)
    }


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["loop", "batched", "torch.grouped_mm", "torch.scaled_grouped_mm"])
def test_points_on_a_gpu(backend: str) -> None:
    session = open_session("cuda", 0)
    dtype = "float8_e4m3fn" if "scaled" in backend else "bfloat16"
    if (why := experts.load(backend).available(session.device, dtype)) is not None:
        pytest.skip(why)
    point = measure(task_of(backend, MoeShape("small", 512, 256, 16, 4), 33, dtype=dtype), session)
    assert point.problem is None
    assert ("eager" in point.values) is not experts.load(backend).captures(session.device, dtype)
