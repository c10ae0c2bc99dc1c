from __future__ import annotations

import pytest
import torch

from moeplan.core.measurement import Effort, Task
from moeplan.measure import matmul
from moeplan.measure.session import Session, open_session

EFFORTS: tuple[Effort, ...] = ("quick", "default", "full")


@pytest.fixture
def session() -> Session:
    session = open_session("cpu", 0)
    session.budget_s = 0.01  # what is timed here is not the point
    return session


def _task(dtype: str, m: int, n: int = 48, k: int = 64) -> Task:
    return Task("matmul", matmul.BACKENDS.get(dtype, "torch.matmul"), dtype, {"m": m, "n": n, "k": k})


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "float8_e4m3fn"])
@pytest.mark.parametrize("m", [1, 33])
def test_products_are_right_and_their_rate_is_that_of_the_rows_asked_for(session: Session, dtype: str, m: int) -> None:
    point = matmul.measure(_task(dtype, m), session)
    if dtype == "float8_e4m3fn" and point.problem and not point.problem.startswith("wrong"):
        pytest.skip(point.problem)  # older torch has no such product on the CPU
    assert point.problem is None
    assert point.spread is not None
    # A product of [m, k] and [k, n] multiplies and adds m * n * k times.
    assert point.values["flops_per_s"] * point.spread.median_s == pytest.approx(2 * m * 48 * 64)
    # Unit round-offs: 2**-24 float32, 2**-11 float16, 2**-8 bfloat16 (also what float8 products are stored as).
    rounding = {"float32": 2**-24, "float16": 2**-11, "int8": 0.0}.get(dtype, 2**-8)
    assert point.values["relative_error"] <= 16 * rounding
    assert point.values.get("rows_run") == (32 if dtype == "int8" and m == 1 else None)


def test_bytes_are_weight_input_and_output(session: Session) -> None:
    point = matmul.measure(_task("bfloat16", 4), session)
    assert point.spread is not None
    # 2 bytes each: weight 48 * 64, input 4 * 64, output 4 * 48.
    assert point.values["bytes_per_s"] * point.spread.median_s == pytest.approx(2 * (48 * 64 + 4 * 64 + 4 * 48))


def test_the_error_is_that_of_the_whole_product_where_all_of_it_is_compared() -> None:
    inputs, weight = torch.eye(2), torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    right = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    assert matmul.relative_error(right, inputs, weight) == 0.0
    # Off by 1 in one element of a product of norm sqrt(9 + 16) = 5.
    off = right + torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    assert matmul.relative_error(off, inputs, weight) == pytest.approx(0.2)


def test_a_wrong_product_is_reported_and_not_timed(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "_multiplier", lambda *_: lambda inputs, weight: inputs @ weight.t() * 1.1)
    point = matmul.measure(_task("float32", 4), session)
    assert point.spread is None
    assert point.problem is not None
    assert point.problem.startswith("wrong: relative error 0.1 ")


def test_what_the_device_lacks_is_a_problem(session: Session) -> None:
    assert "tf32" in (matmul.measure(_task("tf32", 4), session).problem or "")
    assert "float4" in (matmul.measure(_task("float4", 4), session).problem or "")
    assert "16" in (matmul.measure(_task("float8_e4m3fn", 4, n=40), session).problem or "")
    assert "GiB" in (matmul.measure(_task("float32", 2**20, 2**20, 2**20), session).problem or "")


def test_the_precision_of_torch_is_left_as_it_was(session: Session) -> None:
    before = torch.get_float32_matmul_precision()
    matmul.measure(_task("tf32", 4), session)
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize("effort", EFFORTS)
def test_plans_name_each_case_once(session: Session, effort: Effort) -> None:
    for device in (session.device, session.device._replace(kind="cuda")):
        tasks = list(matmul.plan(effort, (), (), device))
        assert len({(task.dtype, *task.case.values()) for task in tasks}) == len(tasks)
        only = list(matmul.plan(effort, (), ("float16",), device))
        assert {task.dtype for task in only} == {"float16"}
        assert {task.case["m"] for task in only} >= {1}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "tf32", "int8", "float8_e4m3fn"])
def test_products_on_a_gpu(dtype: str) -> None:
    session = open_session(None, 0)
    for m in (1, 64):
        point = matmul.measure(_task(dtype, m, 256, 512), session)
        unsupported = point.problem is not None and "compute capability" in point.problem
        assert unsupported or point.problem is None
