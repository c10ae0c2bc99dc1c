"""Copies between host and device, from pinned and from pageable memory, and the bandwidth of host memory itself."""

from __future__ import annotations

from collections.abc import Iterator

import torch  # noqa: TID253

from moeplan.core.measurement import Effort, MeasuredDevice, MoeShape, Point, Task
from moeplan.core.units import GIB, KIB, MIB
from moeplan.measure.bandwidth import random_bytes
from moeplan.measure.device_facts import host_free_bytes, last_level_cache_bytes
from moeplan.measure.session import NotMeasuredError, Session
from moeplan.measure.timing import COLD_FACTOR, time_calls, time_on_host

_COPY_SIZES: dict[Effort, tuple[int, ...]] = {
    "quick": (256 * MIB,),
    "default": (MIB, 16 * MIB, 512 * MIB),
    "full": (64 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, GIB),
}
"""Small ones are what experts in host memory are fetched by."""
_HOST_SIZES: dict[Effort, int] = {"quick": 128 * MIB, "default": 256 * MIB, "full": GIB}
_ROW_BYTES = 32 * KIB
_ROW_OF_COPIES_BYTES = 64 * MIB


def plan(
    effort: Effort, shapes: tuple[MoeShape, ...], dtypes: tuple[str, ...], device: MeasuredDevice
) -> Iterator[Task]:
    """Copies in both directions by size and kind of host memory, then reading and copying in host memory.

    On the CPU only the latter; on Apple silicon the former go through one memory. Shapes and dtypes play no part.
    """
    if device.kind != "cpu":
        pins = (True, False) if device.kind in ("cuda", "rocm") else (False,)
        for size in _COPY_SIZES[effort]:
            for what in ("host_to_device", "device_to_host"):
                for pinned in pins:
                    if pinned or size == _COPY_SIZES[effort][-1]:
                        case = {"what": what, "pinned": pinned, "bytes": size}
                        yield Task("host", "torch.copy_", "float32", case, 0.5)
    size = max(_HOST_SIZES[effort], COLD_FACTOR * (last_level_cache_bytes() or 0))
    size = min(size, (host_free_bytes() or GIB) // 4) // _ROW_BYTES * _ROW_BYTES
    for what, backend in (("host_read", "torch.mv"), ("host_copy", "torch.copy_")):
        yield Task("host", backend, "float32", {"what": what, "bytes": size, "threads": device.num_threads}, 0.6)


def measure(task: Task, session: Session) -> Point:
    """`bytes_per_s` of one case; a copy within host memory counts the bytes read and the bytes written."""
    memory = task.case["what"] in ("host_read", "host_copy")
    return session.attempt(task, lambda: _host_memory(task, session) if memory else _copy(task, session))


def _copy(task: Task, session: Session) -> Point:
    size = int(task.case["bytes"] or 0)
    session.need(size)
    _need_host(size)
    host = random_bytes(size, session, host=True)
    if task.case["pinned"]:
        host = host.pin_memory()
    device = torch.empty(size // 4, device=session.torch_device)
    up = task.case["what"] == "host_to_device"
    source, target = (host, device) if up else (device, host)
    # Several copies in a row, so that pinned ones are launched while the one before is on its way.
    several = max(1, min(16, _ROW_OF_COPIES_BYTES // size))
    spread = time_calls([lambda: target.copy_(source, non_blocking=True)] * several, session, graph=False)
    return Point(*task[:4], spread=spread, values={"bytes_per_s": size / spread.median_s})


def _host_memory(task: Task, session: Session) -> Point:
    size, reads = int(task.case["bytes"] or 0), task.case["what"] == "host_read"
    _need_host(size * (1 if reads else 2))
    source = random_bytes(size, session, host=True)
    if reads:
        matrix = source.view(-1, _ROW_BYTES // 4)
        vector, out = matrix[0].clone(), torch.empty_like(matrix[:, 0])
        spread = time_on_host([lambda: torch.mv(matrix, vector, out=out)], budget_s=session.budget_s)
    else:
        target = torch.empty_like(source)
        spread = time_on_host([lambda: target.copy_(source)], budget_s=session.budget_s)
    session.clock = "host"
    return Point(*task[:4], spread=spread, values={"bytes_per_s": size * (1 if reads else 2) / spread.median_s})


def _need_host(num_bytes: int) -> None:
    free = (host_free_bytes() or 2 * GIB) // 2
    if num_bytes > free:
        raise NotMeasuredError(f"needs {num_bytes / GIB:.2f} GiB of host memory, {free / GIB:.2f} GiB may be taken")
