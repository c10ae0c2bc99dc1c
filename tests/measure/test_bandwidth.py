from __future__ import annotations

import pytest
import torch

from moeplan.core.measurement import Effort, Task
from moeplan.measure import bandwidth, host
from moeplan.measure.session import Session, open_session

MIB = 2**20
EFFORTS: tuple[Effort, ...] = ("quick", "default", "full")


@pytest.fixture
def session() -> Session:
    session = open_session("cpu", 0)
    session.budget_s = 0.01  # what is timed here is not the point
    return session


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_buffers_are_larger_than_the_cache_and_fit(session: Session, effort: Effort, kind: str) -> None:
    device = session.device._replace(
        kind="cuda" if kind == "cuda" else "cpu", l2_bytes=512 * MIB, free_bytes=32 * 2**30, total_bytes=40 * 2**30
    )
    tasks = list(bandwidth.plan(effort, (), (), device))
    keys = [(task.backend, *task.case.values()) for task in tasks]
    assert len(set(keys)) == len(keys)
    sizes = [int(task.case["bytes"] or 0) for task in tasks]
    assert max(sizes) >= 4 * 512 * MIB
    assert max(sizes) <= 8 * 2**30
    assert {task.case["what"] for task in tasks} == {"read", "copy", "write"}


def test_a_device_with_little_free_memory_gets_smaller_buffers(session: Session) -> None:
    device = session.device._replace(kind="cuda", l2_bytes=50 * MIB, free_bytes=100 * MIB)
    sizes = {task.case["bytes"] for task in bandwidth.plan("full", (), (), device)}
    assert sizes == {25 * MIB}


@pytest.mark.parametrize(("what", "backend"), bandwidth.WAYS)
def test_bytes_per_second_count_what_was_moved(session: Session, what: str, backend: str) -> None:
    size = 2 * MIB
    point = bandwidth.measure(Task("bandwidth", backend, "float32", {"what": what, "bytes": size}), session)
    assert point.problem is None
    assert point.spread is not None
    # A copy reads and writes every byte.
    moved = {"read": size, "copy": 2 * size, "write": size}[what]
    assert point.values["bytes_per_s"] * point.spread.median_s == pytest.approx(moved)


def test_a_buffer_within_the_cache_is_remarked(session: Session) -> None:
    session.device = session.device._replace(l2_bytes=64 * MIB)
    bandwidth.measure(Task("bandwidth", "torch.fill_", "float32", {"what": "write", "bytes": MIB}), session)
    assert any("cache" in remark for remark in session.remarks)


def test_a_buffer_that_does_not_fit_is_a_problem(session: Session) -> None:
    point = bandwidth.measure(Task("bandwidth", "torch.copy_", "float32", {"what": "copy", "bytes": 2**50}), session)
    assert point.problem is not None
    assert point.problem.startswith("needs")
    assert point.spread is None


def test_filled_buffers_are_random_and_whole() -> None:
    session = open_session("cpu", 0)
    data = bandwidth.random_bytes(20 * MIB, session)
    assert data.numel() * 4 == 20 * MIB
    assert float(data.std()) == pytest.approx(1.0, abs=0.01)
    assert torch.equal(data, bandwidth.random_bytes(20 * MIB, open_session("cpu", 0)))


def test_the_cpu_has_host_memory_alone(session: Session) -> None:
    tasks = list(host.plan("quick", (), (), session.device))
    assert [task.case["what"] for task in tasks] == ["host_read", "host_copy"]


def test_a_gpu_has_copies_both_ways_pinned_and_pageable(session: Session) -> None:
    tasks = list(host.plan("quick", (), (), session.device._replace(kind="cuda")))
    ways = {(task.case["what"], task.case["pinned"]) for task in tasks if "pinned" in task.case}
    assert ways == {(what, pin) for what in ("host_to_device", "device_to_host") for pin in (True, False)}


@pytest.mark.parametrize(
    ("case", "backend", "moved"),
    [
        ({"what": "host_read", "bytes": 2 * MIB}, "torch.mv", 2 * MIB),
        ({"what": "host_copy", "bytes": 2 * MIB}, "torch.copy_", 4 * MIB),
        ({"what": "host_to_device", "bytes": MIB, "pinned": False}, "torch.copy_", MIB),
    ],
)
def test_host_memory_counts_what_was_moved(
    session: Session, case: dict[str, str | int], backend: str, moved: int
) -> None:
    point = host.measure(Task("host", backend, "float32", case), session)
    assert point.problem is None
    assert point.spread is not None
    assert point.values["bytes_per_s"] * point.spread.median_s == pytest.approx(moved)


def test_the_product_that_reads_takes_every_element() -> None:
    # Four rows of 8,192 (32 KiB of float32) by the first of them: ones give 8,192 each, and 5 in the last place 4 more.
    source = torch.ones(4 * 8192)
    call = bandwidth._call("torch.mv", source)
    source[-1] = 5.0
    product = call()
    assert isinstance(product, torch.Tensor)
    assert product.tolist() == [8192.0, 8192.0, 8192.0, 8196.0]
