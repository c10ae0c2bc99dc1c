"""Bandwidth of the device's own memory: reading, copying and writing buffers much larger than its cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch  # noqa: TID253

from moeplan.core.measurement import Effort, MeasuredDevice, MoeShape, Point, Task
from moeplan.core.units import GIB, MIB
from moeplan.measure.session import Session
from moeplan.measure.timing import COLD_FACTOR, Call, time_calls

WAYS = (("read", "torch.mv"), ("read", "torch.sum"), ("copy", "torch.copy_"), ("write", "torch.fill_"))
"""What moves, and what moves it. Two ways to read: a sum is bound by arithmetic on some CPUs."""

_SIZES: dict[Effort, tuple[int, ...]] = {
    "quick": (GIB,),
    "default": (4 * GIB,),
    "full": (64 * MIB, 256 * MIB, GIB, 4 * GIB),
}
_HOST_SIZES: dict[Effort, tuple[int, ...]] = {"quick": (128 * MIB,), "default": (256 * MIB,), "full": (GIB,)}
_ROW_BYTES = 32 * 1024  # of the matrix that `torch.mv` reads: its vector stays in the first cache
_CHUNK_BYTES = 16 * MIB


def plan(
    effort: Effort, shapes: tuple[MoeShape, ...], dtypes: tuple[str, ...], device: MeasuredDevice
) -> Iterator[Task]:
    """One case for each way and size; `bytes` is the size of one buffer. Shapes and dtypes play no part.

    The largest buffer is at least four times the cache, and at most a quarter of what is free.
    """
    sizes = (_SIZES if device.kind in ("cuda", "rocm") else _HOST_SIZES)[effort]
    least = COLD_FACTOR * (device.l2_bytes or 0)
    most = (device.free_bytes or device.total_bytes or 4 * GIB) // 4
    fitting = {min(max(size, least if size == sizes[-1] else 0), most) // _ROW_BYTES * _ROW_BYTES for size in sizes}
    for size in sorted(fitting):
        for what, backend in WAYS:
            if size and (effort != "quick" or backend != "torch.sum" or device.kind != "cpu"):
                yield Task("bandwidth", backend, "float32", {"what": what, "bytes": size}, 0.6)


def measure(task: Task, session: Session) -> Point:
    """`bytes_per_s` of one case; a copy counts the bytes read and the bytes written."""
    return session.attempt(task, lambda: _measure(task, session))


def _measure(task: Task, session: Session) -> Point:
    size, what = int(task.case["bytes"] or 0), task.case["what"]
    session.need(size * (2 if what == "copy" else 1))
    if size < COLD_FACTOR * (session.device.l2_bytes or 0):
        session.remark(f"bandwidth over {size // MIB} MiB is partly that of the cache")
    spread = time_calls([_call(task.backend, random_bytes(size, session))], session)
    moved = size * (2 if what == "copy" else 1)
    return Point(*task[:4], spread=spread, values={"bytes_per_s": moved / spread.median_s})


def _call(backend: str, source: torch.Tensor) -> Call:
    """The call that moves `source` [numel], float32."""
    if backend == "torch.mv":
        matrix = source.view(-1, _ROW_BYTES // 4)
        vector, out = matrix[0].clone(), torch.empty_like(matrix[:, 0])
        return lambda: torch.mv(matrix, vector, out=out)
    if backend == "torch.sum":
        return lambda: torch.sum(source)
    if backend == "torch.copy_":
        target = torch.empty_like(source)
        return lambda: target.copy_(source)
    return lambda: source.fill_(7.0)


def random_bytes(num_bytes: int, session: Session, *, host: bool = False) -> torch.Tensor:
    """Float32 data of `num_bytes`: one random chunk over and over, since drawing gigabytes takes longer than moving them.

    No device compresses plain allocations, so repeats do no harm.
    """
    where = torch.device("cpu") if host else session.torch_device
    chunk = torch.empty(min(num_bytes, _CHUNK_BYTES) // 4, device=where)
    chunk.normal_(generator=session.generator("bytes", host=host))
    filled = torch.empty(num_bytes // 4, device=where)
    for begin in range(0, filled.numel(), chunk.numel()):
        part = filled[begin : begin + chunk.numel()]
        part.copy_(chunk[: part.numel()])
    return filled
