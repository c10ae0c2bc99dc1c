from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed

from moeplan.core.measurement import Task
from moeplan.measure import links
from moeplan.measure.session import open_session

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN_NAMES = {
    "RANK": "0",
    "WORLD_SIZE": "16",
    "LOCAL_WORLD_SIZE": "8",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
}


def test_a_process_alone_has_no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN_NAMES:
        monkeypatch.delenv(name, raising=False)
    session = open_session("cpu", 0)
    assert not list(links.plan("full", (), (), session.device))
    monkeypatch.setenv("WORLD_SIZE", "8")  # some job schedulers set this alone
    assert not list(links.plan("full", (), (), session.device))


def test_every_rank_plans_the_same_sizes_in_whole_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**TORCHRUN_NAMES, "WORLD_SIZE": "24"}.items():
        monkeypatch.setenv(name, value)
    device = open_session("cpu", 0).device
    for kind, backend in (("cpu", "gloo"), ("cuda", "nccl")):
        mine = device._replace(kind="cuda" if kind == "cuda" else "cpu")
        tasks = list(links.plan("default", (), (), mine))
        assert tasks == list(links.plan("default", (), (), mine._replace(free_bytes=1)))
        assert {task.backend for task in tasks} == {backend}
        assert {task.case["nodes"] for task in tasks} == {3}
        assert all(int(task.case["bytes"] or 0) % (24 * 16) == 0 for task in tasks)


@pytest.mark.parametrize(
    ("kind", "factor"), [("all_reduce", 1.75), ("all_gather", 0.875), ("reduce_scatter", 0.875), ("all_to_all", 0.875)]
)
def test_bus_factors_of_eight_ranks(kind: str, factor: float) -> None:
    # nccl-tests, doc/PERFORMANCE.md: all-reduce 2(n - 1)/n; all-gather, reduce-scatter and all-to-all (n - 1)/n.
    assert links.bus_factor(kind, 8) == factor


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Points by name of what `links_process` did, and how long it took."""
    if not torch.distributed.is_gloo_available():
        pytest.skip("torch was built without Gloo")
    out = tmp_path_factory.mktemp("links") / "points.json"
    # torchrun finds a free port itself (port 0), and nothing leaves this machine.
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2", "--rdzv-backend=c10d",
        "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1", str(Path(__file__).with_name("links_process.py")), str(out),
    ]  # fmt: skip
    environment = {
        **{name: value for name, value in os.environ.items() if name not in TORCHRUN_NAMES},
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    if sys.platform == "linux":
        environment["GLOO_SOCKET_IFNAME"] = "lo"  # the host's own name may not resolve
    begin = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return {**found, "seconds": time.monotonic() - begin}


def test_two_processes_on_one_machine(two_processes: dict[str, Any]) -> None:
    assert [point["case"]["what"] for point in two_processes["plan"]] == list(links.KINDS)
    for point in (*two_processes["plan"], *two_processes["after"]):
        assert point["problem"] is None
        assert point["backend"] == "gloo"
        seconds, size, kind = point["spread"]["median_s"], point["case"]["bytes"], point["case"]["what"]
        assert point["spread"]["samples"] >= 3
        assert point["values"]["bytes_per_s"] * seconds == pytest.approx(size)
        # n = 2: an all-reduce moves its message once over a link, the others half of it.
        moved = size if kind == "all_reduce" else size / 2
        assert point["values"]["bus_bytes_per_s"] * seconds == pytest.approx(moved)


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("too large", ["rank 1: needs 49152.00 GiB, "]),
        ("no memory", ["rank 1: out of memory: "] * 2 if sys.platform == "linux" else []),
        ("refused", [f"rank 1: RuntimeError: call {place} is refused" for place in (0, 2, 10)]),
        ("lost", ["rank 1: the device failed in an earlier case"]),
    ],
)
def test_what_one_rank_meets_ends_the_case_on_all(two_processes: dict[str, Any], name: str, reasons: list[str]) -> None:
    """Told by rank 0, to which nothing happened; that the next case works is seen by `after`."""
    points = two_processes.get(name, [])
    assert len(points) == len(reasons)
    for point, reason in zip(points, reasons, strict=True):
        assert point["spread"] is None
        assert point["problem"].startswith(reason)


def test_no_rank_waits_for_one_that_has_failed(two_processes: dict[str, Any]) -> None:
    # A single wait for a rank that does not come takes the group's timeout.
    assert len(two_processes["after"]) >= 5
    assert two_processes["seconds"] < links._TIMEOUT.total_seconds() / 2


@pytest.fixture
def no_group() -> Iterator[None]:
    """What a process remembers of its group is forgotten after the test."""
    yield
    links.leave()


def test_a_group_that_cannot_be_joined_is_a_problem_of_every_case(
    monkeypatch: pytest.MonkeyPatch, no_group: None
) -> None:
    for name, value in {**TORCHRUN_NAMES, "MASTER_PORT": "no port"}.items():
        monkeypatch.setenv(name, value)
    case: dict[str, str | int | float | bool | None] = {
        "what": "all_reduce",
        "bytes": 1024,
        "world_size": 16,
        "nodes": 2,
    }
    task, session = Task("links", "gloo", "float32", case), open_session("cpu", 0)
    problem = links.measure(task, session).problem
    assert problem is not None
    assert "no port" in problem
    # With a port it would wait for fifteen others, who have given up.
    monkeypatch.setenv("MASTER_PORT", "1")
    assert links.measure(task, session).problem == problem
