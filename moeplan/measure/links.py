"""Collectives between the processes that torchrun started, on NCCL or Gloo, over message sizes.

    torchrun --nproc-per-node 8 -m moeplan profile ...                                            one machine
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-endpoint HOST:PORT -m moeplan profile ...       several

Every process runs the same cases in the same order; what rank 0 returns counts. Seconds are those of the slowest rank.
"""

from __future__ import annotations

import atexit
import datetime as dt
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch  # noqa: TID253
import torch.distributed as dist  # noqa: TID253

from moeplan.core.measurement import CaseValue, Effort, MeasuredDevice, MoeShape, Point, Task
from moeplan.core.units import KIB, MIB
from moeplan.measure.session import NotMeasuredError, Session, reason
from moeplan.measure.timing import sample_count, spread_of

KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")

_SIZES: dict[Effort, tuple[int, ...]] = {
    "quick": (16 * KIB, MIB, 64 * MIB),
    "default": tuple(KIB * 4**power for power in range(1, 10)),  # 4 KiB to 256 MiB
    "full": tuple(KIB * 2**power for power in range(21)),  # 1 KiB to 1 GiB
}
_MOST_GLOO_BYTES = 64 * MIB
_GLOO_QUICK = (16 * KIB, MIB)
_TIMEOUT = dt.timedelta(seconds=120)
_BATCH_S = 1e-3  # calls between two readings of the clock
_MOST_CALLS = 64


def world_size() -> int:
    """Processes that torchrun started together with this one; 1 without it."""
    text = os.environ.get("WORLD_SIZE", "1")
    started = text.isdigit() and all(name in os.environ for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"))
    return int(text) if started else 1


def rank() -> int:
    """Number of this process among those that torchrun started; 0 without it."""
    return int(os.environ["RANK"]) if world_size() > 1 else 0


def plan(
    effort: Effort, shapes: tuple[MoeShape, ...], dtypes: tuple[str, ...], device: MeasuredDevice
) -> Iterator[Task]:
    """Each kind by bytes, the same on every rank; nothing where torchrun started no second process.

    Bytes are those of the larger side of one rank: what is reduced, gathered, scattered from or exchanged. Shapes and
    dtypes play no part: links move bytes.
    """
    world = world_size()
    if world == 1:
        return
    local = os.environ.get("LOCAL_WORLD_SIZE", "")
    nodes = world // int(local) if local.isdigit() and int(local) > 0 else 1
    backend, dtype = ("nccl", "bfloat16") if device.kind in ("cuda", "rocm") else ("gloo", "float32")
    sizes = _SIZES[effort] if backend == "nccl" else _GLOO_QUICK if effort == "quick" else _SIZES[effort]
    for size in sizes:
        for kind in KINDS:
            if backend == "nccl" or size <= _MOST_GLOO_BYTES:
                case: dict[str, CaseValue] = {
                    "what": kind,
                    "bytes": _shared(size, world),
                    "world_size": world,
                    "nodes": nodes,
                }
                yield Task("links", backend, dtype, case, 0.4)


def _shared(size: int, world: int) -> int:
    """The size in whole 16 bytes for each rank."""
    return max(1, size // (16 * world)) * 16 * world


def bus_factor(kind: str, world: int) -> float:
    """Bytes that the link of a rank carries each way for each byte of the message, on the best algorithm (nccl-tests)."""
    return (2 if kind == "all_reduce" else 1) * (world - 1) / world


def measure(task: Task, session: Session) -> Point:
    """`bytes_per_s` of the message and `bus_bytes_per_s` of one rank's link; called by every rank for the same task."""
    return session.attempt(task, lambda: _measure(task, session))


def _measure(task: Task, session: Session) -> Point:
    kind, size, world = str(task.case["what"]), int(task.case["bytes"] or 0), int(task.case["world_size"] or 0)
    _join(task.backend, session)
    # No rank may leave while others wait in a collective: before each step all agree that all can take it.
    prepared: tuple[Callable[[], object], Callable[[], bool]] | None = None
    problem = None
    try:
        session.need(3 * size)
        prepared = _prepare(kind, size // session.torch_dtype(task.dtype).itemsize, world, task.dtype, session)
    except Exception as error:  # noqa: BLE001 - told below, once the other ranks know
        problem = reason(error)
    if not _all(prepared is not None) or prepared is None:
        raise NotMeasuredError(problem or "another rank has no memory for it")
    call, is_right = prepared
    call()  # unsupported: fails on every rank
    session.synchronize()
    if not _all(is_right()):
        raise NotMeasuredError("wrong: the collective's result is not what the ranks put in")
    samples, clock = _samples(call, session)
    session.clock = clock
    spread = spread_of(samples)
    rate = size / spread.median_s
    return Point(
        *task[:4], spread=spread, values={"bytes_per_s": rate, "bus_bytes_per_s": rate * bus_factor(kind, world)}
    )


def _join(backend: str, session: Session) -> None:
    """Joins the group once; numbers for bookkeeping travel over Gloo in any case."""
    if dist.is_initialized():
        return
    both = "cpu:gloo,cuda:nccl" if backend == "nccl" else "gloo"
    dist.init_process_group(both, timeout=_TIMEOUT)
    atexit.register(leave)


def leave() -> None:
    """Leaves the group; to be called by every rank after its last case, and called at exit otherwise."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _all(flag: bool) -> bool:
    """Whether the flag is set on every rank."""
    return _most([0.0 if flag else 1.0]) == [0.0]


def _most(values: list[float]) -> list[float]:
    """The largest over the ranks, place by place."""
    numbers = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
    return [float(each) for each in numbers]


def _prepare(
    kind: str, numel: int, world: int, dtype: str, session: Session
) -> tuple[Callable[[], object], Callable[[], bool]]:
    """The collective over `numel` elements on this rank's device, and whether its first result is right.

    Small whole numbers that tell rank and part are put in, so that bfloat16 keeps them, and their sums to 256, exactly.
    Reduced in place again and again they grow until they are infinite, which takes a link no longer.
    """
    rank, share = dist.get_rank(), numel // world
    options = {"dtype": session.torch_dtype(dtype), "device": session.torch_device}
    ranks = torch.arange(world)
    codes_sum = int((ranks % 3).sum())

    def parts(codes: torch.Tensor) -> torch.Tensor:
        return codes.to(**options).repeat_interleave(share)

    if kind == "all_reduce":
        data = torch.full((numel,), rank % 3, **options)
        return lambda: dist.all_reduce(data), lambda: _is_filled(data, codes_sum)
    if kind == "all_gather":
        mine, gathered = torch.full((share,), rank % 251, **options), torch.empty(numel, **options)
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # renamed in torch 2.13
        return lambda: gather(gathered, mine), lambda: bool((gathered == parts(ranks % 251)).all())
    if kind == "reduce_scatter":
        whole, scattered = parts(ranks % 3 + rank % 3), torch.empty(share, **options)
        scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
        return lambda: scatter(scattered, whole), lambda: _is_filled(scattered, codes_sum + world * (rank % 3))
    # Not symmetric in sender and receiver, so that data that stayed where it was would show.
    sent, received = parts((3 * rank + 5 * ranks) % 251), torch.empty(numel, **options)
    expected = (3 * ranks + 5 * rank) % 251
    return lambda: dist.all_to_all_single(received, sent), lambda: bool((received == parts(expected)).all())


def _is_filled(data: torch.Tensor, want: int) -> bool:
    # Beyond 256 bfloat16 rounds a sum at each step on its way.
    return bool(((data - want).abs() <= (0 if want <= 256 else want / 16)).all())


def _samples(call: Callable[[], object], session: Session) -> tuple[list[float], Any]:
    """Seconds of one call on the slowest rank, sample by sample, and the clock; all ranks take equally many."""
    for _ in range(3):
        call()
    once_s = max(*_most([_batch_seconds(call, 1, session)]), 1e-7)
    several = max(1, min(_MOST_CALLS, int(_BATCH_S / once_s)))
    graph = _graph(call, several, session) if session.has_graphs else None
    count = sample_count(once_s * several, 20, session.budget_s)
    run, calls = (call, several) if graph is None else (graph.replay, 1)
    run()
    mine = []
    for _ in range(count):
        _all(True)  # ranks start together, and none runs ahead by a sample
        mine.append(_batch_seconds(run, calls, session) / (several if graph is not None else 1))
    return _most(mine), "host" if not session.has_graphs else "graph" if graph is not None else "events"


def _batch_seconds(run: Callable[[], object], calls: int, session: Session) -> float:
    """Seconds of one of `calls` runs that follow each other."""
    if session.has_graphs:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            run()
        end.record()
        session.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / calls
    started = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - started) / calls


def _graph(call: Callable[[], object], calls: int, session: Session) -> Any:
    """A CUDA graph of several calls, or None where any rank could not capture it. Not yet run on several GPUs."""
    graph = torch.cuda.CUDAGraph()
    problem = None
    try:
        session.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(session.stream):
            call()
            session.synchronize()
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                for _ in range(calls):
                    call()
            finally:
                graph.capture_end()
        torch.cuda.current_stream().wait_stream(session.stream)
    except RuntimeError as error:
        problem = reason(error)
    if _all(problem is None):
        return graph
    session.remark(f"collectives are timed with their launches: {problem or 'another rank could not capture them'}")
    return None
