from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without Gloo")
def test_two_processes_on_one_machine(tmp_path: Path) -> None:
    out = tmp_path / "points.json"
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
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    *points, too_large, after = json.loads(out.read_text(encoding="utf-8"))
    assert [point["case"]["what"] for point in points] == list(links.KINDS)
    for point in (*points, after):
        assert point["problem"] is None
        assert point["backend"] == "gloo"
        seconds, size, kind = point["spread"]["median_s"], point["case"]["bytes"], point["case"]["what"]
        assert point["spread"]["samples"] >= 3
        assert point["values"]["bytes_per_s"] * seconds == pytest.approx(size)
        # n = 2: an all-reduce moves its message once over a link, the others half of it.
        moved = size if kind == "all_reduce" else size / 2
        assert point["values"]["bus_bytes_per_s"] * seconds == pytest.approx(moved)
    assert too_large["spread"] is None
    assert "another rank" in too_large["problem"]


def test_a_group_that_cannot_be_joined_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**TORCHRUN_NAMES, "MASTER_PORT": "no port"}.items():
        monkeypatch.setenv(name, value)
    case: dict[str, str | int | float | bool | None] = {
        "what": "all_reduce",
        "bytes": 1024,
        "world_size": 16,
        "nodes": 2,
    }
    assert links.measure(Task("links", "gloo", "float32", case), open_session("cpu", 0)).problem is not None
