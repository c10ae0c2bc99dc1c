from __future__ import annotations

import pytest
import torch

from moeplan.core.measurement import Task
from moeplan.measure import layer
from moeplan.measure.session import Session, open_session


@pytest.fixture
def session() -> Session:
    session = open_session("cpu", 0)
    session.budget_s = 0.01  # what is timed here is not the point
    return session


@pytest.mark.parametrize("kind", layer.KINDS)
@pytest.mark.parametrize("tokens", [1, 3])
def test_each_kind_runs_and_its_seconds_are_shared_out(session: Session, kind: str, tokens: int) -> None:
    task = Task("layer", "torch.eager", "bfloat16", {"what": kind, "tokens": tokens})
    point = layer.measure(task, session)
    assert point.problem is None
    assert point.spread is not None
    operations = point.values["operations"]
    assert operations == 1 if kind == "kernel" else operations > 10
    assert point.values["seconds_per_operation"] * operations == pytest.approx(point.spread.median_s)
    built = layer.build_layer(kind, tokens, "bfloat16", session)
    assert built().shape == (tokens, layer.HIDDEN)
    assert bool(built().isfinite().all())


def test_a_router_and_experts_take_more_kernels_than_a_dense_feed_forward(session: Session) -> None:
    dense, moe = (
        layer.count_operations(layer.build_layer(kind, 1, "bfloat16", session)) for kind in ("dense_layer", "moe_layer")
    )
    assert moe > dense


def test_views_are_no_operations_and_writes_are() -> None:
    data, target = torch.ones(4, 4), torch.zeros(4, 4)

    def run() -> torch.Tensor:
        target.copy_(data.t())  # a view, and a write
        return data.view(16)[2:] + 1  # two views, and a sum

    assert layer.count_operations(run) == 2


def test_without_graphs_nothing_is_planned_for_them(session: Session) -> None:
    assert {task.backend for task in layer.plan("default", (), (), session.device)} == {"torch.eager"}
    on_gpu = {task.backend for task in layer.plan("default", (), (), session.device._replace(kind="cuda"))}
    assert on_gpu == {"torch.eager", "torch.graph"}
    assert not list(layer.plan("default", (), ("int8",), session.device))


def test_a_graph_that_the_device_lacks_is_a_problem(session: Session) -> None:
    point = layer.measure(Task("layer", "torch.graph", "bfloat16", {"what": "kernel", "tokens": 1}), session)
    assert "graph" in (point.problem or "")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_layers_are_captured_on_a_gpu() -> None:
    session = open_session(None, 0)
    for task in layer.plan("quick", (), (), session.device):
        assert layer.measure(task, session).problem is None
