"""Memory beside weights and cache: fresh processes, workspaces on the CPU, and what is planned where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moeplan.core.measurement import MoeShape, Point, Task
from moeplan.measure import experts, memory
from moeplan.measure.session import Session, open_session
from moeplan.measure.shapes import shape_case

SHAPE = MoeShape("small", 32, 16, 4, 2)
CONTEXT = Task("memory", "torch", "any", {"what": "context"})


@pytest.fixture
def session() -> Session:
    return open_session("cpu", 0)


def workspace_of(backend: str, session: Session, tokens: int = 8, dtype: str = "bfloat16") -> Point:
    case = {**shape_case(SHAPE), "what": "workspace", "tokens": tokens, "routing": "balanced"}
    return memory.measure(Task("memory", backend, dtype, case), session)


def test_a_fresh_process_by_its_steps(session: Session) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc here")
    values = memory.measure(CONTEXT, session).values
    assert values["context_bytes"] == values["import_bytes"] + values["first_matmul_bytes"]
    # torch is a library of hundreds of megabytes; a bare interpreter is not.
    assert values["interpreter_bytes"] < 100e6 < values["import_bytes"] + values["interpreter_bytes"]


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("raise SystemExit('first line\\nno driver')", "a fresh process failed: no driver"),
        ("print('not what was asked for')", "a fresh process failed: exit code 0"),
        ("import os; os._exit(9)", "a fresh process failed: exit code 9"),
    ],
)
def test_a_fresh_process_that_fails_is_a_problem(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, told: str
) -> None:
    child = tmp_path / "child.py"
    child.write_text(program, encoding="utf-8")
    monkeypatch.setattr(memory, "CHILD", child)
    point = memory.measure(CONTEXT, session)
    assert (point.problem, dict(point.values)) == (told, {})


def test_the_context_is_measured_once_in_a_process(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Task] = []

    def measured(task: Task, _: Session) -> Point:
        asked.append(task)
        told = "others freed memory of the device in the same seconds" if len(asked) == 1 else None
        return Point(*task[:4], values={"context_bytes": len(asked)}, problem=told)

    monkeypatch.setattr(memory, "measure", measured)
    monkeypatch.setattr(memory, "_CONTEXTS", {})
    # A case without a figure is no answer; the first that has one is.
    assert [memory.context_once(session).values["context_bytes"] for _ in range(4)] == [1, 2, 2, 2]
    assert asked == [CONTEXT, CONTEXT]
    # Another device has a context of its own.
    other = open_session("cpu", 0)
    other.device = other.device._replace(name="another")
    assert memory.context_once(other).values["context_bytes"] == 3


def test_a_process_that_hangs_is_a_problem(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child.py"
    child.write_text("import time; time.sleep(60)", encoding="utf-8")
    monkeypatch.setattr(memory, "CHILD", child)
    monkeypatch.setattr(memory, "CHILD_TIMEOUT_S", 0.2)
    assert memory.measure(CONTEXT, session).problem == "a fresh process did not run: TimeoutExpired"


def test_a_matmul_makes_nothing_but_its_result(session: Session) -> None:
    task = Task("memory", "torch.matmul", "float32", {"what": "workspace", "m": 16, "n": 24, "k": 32})
    assert memory.measure(task, session).values == {"workspace_bytes": 0}


def test_rows_of_the_grouped_matmul_by_hand(session: Session) -> None:
    tokens, rows = 64, 64 * 2
    workspace = workspace_of("torch.grouped_mm", session, tokens, "float32").values["workspace_bytes"]
    # Alive with the product of gate and up [rows, 16]: the matrix of both, 2 x 16 wide, and the activated gate.
    least = rows * 4 * (2 * 16 + 16 + 16)
    assert least <= workspace < least + rows * 64  # and whole numbers that say where rows go


@pytest.mark.parametrize("backend", ["loop", "batched", "torch.grouped_mm"])
def test_workspaces_stay_within_what_backends_say_of_themselves(session: Session, backend: str) -> None:
    for tokens in (1, 8, 64):
        point = workspace_of(backend, session, tokens)
        assert point.problem is None
        told = experts.load(backend).workspace_bytes(SHAPE, 2, tokens, tokens)
        assert 0 < point.values["workspace_bytes"] <= told + 4096


def test_a_backend_that_cannot_run_says_why(session: Session) -> None:
    point = workspace_of("torch.scaled_grouped_mm", session)
    assert "float8_e4m3fn" in (point.problem or "")
    assert not point.values


def test_the_allocator_is_asked_on_gpus_alone(session: Session) -> None:
    case = {**shape_case(SHAPE), "what": "allocator", "pattern": "plain", "most_bytes": 2**30}
    point = memory.measure(Task("memory", "torch", "bfloat16", case), session)
    assert point.problem == "torch keeps no figures of its allocator on cpu"


def test_weights_of_a_layer_by_hand() -> None:
    # Norm, q, k, v, o, norm, router, gate with up, down.
    sizes = [32, 32 * 32, 32 * 8, 32 * 8, 32 * 32, 32, 4 * 32, 2 * 4 * 32 * 16, 4 * 32 * 16]
    assert memory.weight_sizes(SHAPE) == sizes
    assert memory.weight_sizes(SHAPE._replace(gated=False))[-2] == 4 * 32 * 16


def test_what_is_planned_where(session: Session) -> None:
    def plan(effort: Any, kind: Any, *dtypes: str) -> list[Task]:
        device = session.device._replace(kind=kind, free_bytes=2**34, compute_capability="9.0")
        return list(memory.plan(effort, (SHAPE, SHAPE._replace(name="other")), dtypes, device))

    on_host, on_gpu = plan("quick", "cpu"), plan("quick", "cuda")
    assert [task.case["what"] for task in on_host[:2]] == ["context", "workspace"]
    assert not [task for task in on_host if task.case["what"] == "allocator"]
    assert [task.case["pattern"] for task in on_gpu if task.case["what"] == "allocator"] == ["plain", "loading"]
    assert {task.case["shape"] for task in on_gpu if "shape" in task.case} == {"small"}
    assert not [task for task in plan("default", "mps") if task.case["what"] == "context"]
    for tasks in (plan("default", "cpu"), plan("full", "cuda", "bfloat16", "float8_e4m3fn", "int8")):
        keys = [(task.backend, task.dtype, tuple(sorted(task.case.items()))) for task in tasks]
        assert len(keys) == len(set(keys))
    # A backend that cannot run is told once for each dtype, not for each shape and number of tokens.
    missing = [task for task in plan("full", "cuda") if task.backend == "torch.scaled_grouped_mm"]
    assert len(missing) == 1
    planned = [memory.measure(task, session) for task in on_host if task.case["what"] != "context"]
    assert [point.problem for point in planned if point.backend in ("loop", "torch.matmul")] == [None, None]


@pytest.mark.gpu
def test_a_context_and_the_allocator_on_an_accelerator() -> None:
    session = open_session(None, 0)
    values = memory.measure(CONTEXT, session).values
    assert 100e6 < values["context_bytes"] < 3e9
    for pattern in ("plain", "loading"):
        shape = MoeShape("medium", 1024, 512, 16, 4)
        case = {**shape_case(shape), "what": "allocator", "pattern": pattern, "most_bytes": 2**30}
        point = memory.measure(Task("memory", "torch", "bfloat16", case), session)
        assert point.problem is None
        assert point.values["requested_bytes"] <= point.values["allocated_bytes"] <= point.values["reserved_bytes"]
        assert 0 <= point.values["waste_fraction"] < 0.5
    matmul = Task("memory", "torch.matmul", "bfloat16", {"what": "workspace", "m": 1024, "n": 1024, "k": 1024})
    values = memory.measure(matmul, session).values
    assert 0 <= values["kept_bytes"] <= values["workspace_bytes"] < 2**28
