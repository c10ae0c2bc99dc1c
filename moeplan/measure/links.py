"""Collectives between the processes that torchrun started, on NCCL or Gloo, over message sizes.

    torchrun --nproc-per-node 8 -m moeplan profile ...                                            one machine
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-endpoint HOST:PORT -m moeplan profile ...       several

Every process runs the same cases in the same order; what rank 0 returns counts. Seconds are those of the slowest rank.
A case that fails on one rank is left by all of them together: `Ranks` says how.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime as dt
import gc
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
_FAILED, _ALL_WELL = 1.0, 0.0
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


class FailedElsewhereError(Exception):
    """Another rank has failed in this case: nothing of it counts, and the rank that failed has told why."""


class Ranks:
    """The processes that measure together, and how they stay in step.

    They agree over one group and measure over another. Every agreement carries whether a rank has failed; a rank that
    fails takes part in the next one, whichever that is for the others, and all of them leave the case there. It closes
    its measuring group before that, which ends what others are waiting for it in. That group is then made anew.
    """

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._store, rank, world = next(dist.rendezvous("env://", timeout=_TIMEOUT))
        dist.init_process_group("gloo", store=self._store, rank=rank, world_size=world, timeout=_TIMEOUT)
        self.group: Any = None
        """What is measured goes over it. To be read at every call, and kept nowhere: it closes once nothing refers to it."""
        self._used = False
        self._num_failed = 0
        self.broken: str | None = None
        """Why the ranks can agree on nothing any more."""

    def begin(self) -> None:
        """To be called by every rank before a case. NotMeasuredError where the ranks lost each other earlier."""
        self._used = False
        if self.broken is None and self.group is None:
            try:
                self.group = dist.new_group(timeout=_TIMEOUT, backend=self._backend)
            except Exception as error:  # noqa: BLE001 - the others wait in vain, once and not in every case
                self.broken = f"the ranks could not join: {reason(error)}"
        if self.broken is not None:
            raise NotMeasuredError(self.broken)

    def agree(self, value: float = 0.0) -> float:
        """The largest of the ranks' values, once all of them are here. FailedElsewhereError where one has failed."""
        failed, most = self._largest(_ALL_WELL, value)
        if failed != _ALL_WELL:
            raise FailedElsewhereError
        return most

    def use(self) -> None:
        """From here on the measuring group is in use, on every rank; between two agreements."""
        self._used = True

    def fail(self, problem: str | None) -> str:
        """Leaves the case: because of a `problem` of this rank, or of another's where it is None. The first one's reason."""
        if self.broken is not None:
            return self.broken
        key = f"moeplan-links-{self._num_failed}"
        self._num_failed += 1
        if problem is not None:
            # An answer of the store is the first one's reason: what others run into as it leaves comes later.
            told = self._store.compare_set(key, "", f"rank {dist.get_rank()}: {problem}")
            self._close()
            self._largest(_FAILED, 0.0)
        else:
            told = self._store.get(key)
            self._close()
        return bytes(told).decode()

    def _close(self) -> None:
        if not self._used:
            return
        with contextlib.suppress(Exception):
            if self._backend == "nccl":  # kernels that wait for a rank that has left
                self.group.abort()
            dist.destroy_process_group(self.group)
        self.group = None
        gc.collect()

    def _largest(self, *values: float) -> list[float]:
        """Place by place; always of two numbers, since ranks may be at different agreements."""
        numbers = torch.tensor(values, dtype=torch.float64)
        try:
            dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        except Exception as error:
            self.broken = f"the ranks lost each other: {reason(error)}"
            raise
        return [float(each) for each in numbers]


_ranks: Ranks | str | None = None
"""Joined once; a text says why that failed."""


def _joined(backend: str) -> Ranks:
    global _ranks  # noqa: PLW0603 - one process is in one group, as torch itself has it
    if _ranks is None:
        try:
            _ranks = Ranks(backend)
        except Exception as error:  # noqa: BLE001 - who waits for others does so once and not in every case
            _ranks = reason(error)
        atexit.register(leave)
    if isinstance(_ranks, str):
        raise NotMeasuredError(_ranks)
    return _ranks


def leave() -> None:
    """Leaves the group; to be called by every rank after its last case, and called at exit otherwise."""
    global _ranks  # noqa: PLW0603 - as above
    _ranks = None
    if dist.is_initialized():
        dist.destroy_process_group()


def measure(task: Task, session: Session) -> Point:
    """`bytes_per_s` of the message and `bus_bytes_per_s` of one rank's link; called by every rank for the same task.

    A problem on any rank is the problem of all, and names the rank that met it first.
    """
    lost, session.lost = session.lost, None
    try:
        return session.attempt(task, lambda: _together(task, session, lost))
    finally:
        session.lost = lost or session.lost


def _together(task: Task, session: Session, lost: str | None) -> Point:
    """The case on all ranks or on none."""
    ranks = _joined(task.backend)
    ranks.begin()
    problem = lost
    if lost is None:
        try:
            point = _measure(task, session, ranks)
            ranks.agree()  # behind this nothing fails
        except FailedElsewhereError:
            pass
        except Exception as error:  # noqa: BLE001 - told below: the error holds the group, which has to close
            problem = reason(error)
        else:
            return point
    told = ranks.fail(problem)
    if lost is None:
        session.release()
    raise NotMeasuredError(told)


def _measure(task: Task, session: Session, ranks: Ranks) -> Point:
    kind, size, world = str(task.case["what"]), int(task.case["bytes"] or 0), int(task.case["world_size"] or 0)
    session.need(3 * size)
    call, is_right = _prepare(kind, size // session.torch_dtype(task.dtype).itemsize, world, task.dtype, session, ranks)
    ranks.agree()
    ranks.use()
    call()
    ranks.agree()  # a kernel of NCCL that waits for a rank that has none is not waited for
    session.synchronize()
    if not is_right():
        raise NotMeasuredError("wrong: the collective's result is not what the ranks put in")
    samples, clock = _samples(call, session, ranks)
    session.clock = clock
    spread = spread_of(samples)
    rate = size / spread.median_s
    return Point(
        *task[:4], spread=spread, values={"bytes_per_s": rate, "bus_bytes_per_s": rate * bus_factor(kind, world)}
    )


def _prepare(
    kind: str, numel: int, world: int, dtype: str, session: Session, ranks: Ranks
) -> tuple[Callable[[], object], Callable[[], bool]]:
    """The collective over `numel` elements on this rank's device, and whether its first result is right.

    Small whole numbers that tell rank and part are put in, so that bfloat16 keeps them, and their sums to 256, exactly.
    Reduced in place again and again they grow until they are infinite, which takes a link no longer.
    """
    rank, share = dist.get_rank(), numel // world
    options = {"dtype": session.torch_dtype(dtype), "device": session.torch_device}
    numbers = torch.arange(world)
    codes_sum = int((numbers % 3).sum())

    def parts(codes: torch.Tensor) -> torch.Tensor:
        return codes.to(**options).repeat_interleave(share)

    if kind == "all_reduce":
        data = torch.full((numel,), rank % 3, **options)
        return lambda: dist.all_reduce(data, group=ranks.group), lambda: _is_filled(data, codes_sum)
    if kind == "all_gather":
        mine, gathered = torch.full((share,), rank % 251, **options), torch.empty(numel, **options)
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # renamed in torch 2.13
        return lambda: gather(gathered, mine, group=ranks.group), lambda: bool((gathered == parts(numbers % 251)).all())
    if kind == "reduce_scatter":
        whole, scattered = parts(numbers % 3 + rank % 3), torch.empty(share, **options)
        scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
        return lambda: scatter(scattered, whole, group=ranks.group), lambda: _is_filled(
            scattered, codes_sum + world * (rank % 3)
        )
    # Not symmetric in sender and receiver, so that data that stayed where it was would show.
    sent, received = parts((3 * rank + 5 * numbers) % 251), torch.empty(numel, **options)
    expected = (3 * numbers + 5 * rank) % 251
    return lambda: dist.all_to_all_single(received, sent, group=ranks.group), lambda: bool(
        (received == parts(expected)).all()
    )


def _is_filled(data: torch.Tensor, want: int) -> bool:
    # Beyond 256 bfloat16 rounds a sum at each step on its way.
    return bool(((data - want).abs() <= (0 if want <= 256 else want / 16)).all())


def _samples(call: Callable[[], object], session: Session, ranks: Ranks) -> tuple[list[float], Any]:
    """Seconds of one call on the slowest rank, sample by sample, and the clock; all ranks take equally many."""
    for _ in range(3):
        call()
    once_s = max(ranks.agree(_batch_seconds(call, 1, session, ranks)), 1e-7)
    several = max(1, min(_MOST_CALLS, int(_BATCH_S / once_s)))
    graph = _graph(call, several, session, ranks) if session.has_graphs else None
    count = sample_count(once_s * several, 20, session.budget_s)
    run, calls = (call, several) if graph is None else (graph.replay, 1)
    run()
    mine = []
    for _ in range(count):
        ranks.agree()  # ranks start together, and none runs ahead by a sample
        mine.append(_batch_seconds(run, calls, session, ranks) / (several if graph is not None else 1))
    slowest = [ranks.agree(each) for each in mine]
    return slowest, "host" if not session.has_graphs else "graph" if graph is not None else "events"


def _batch_seconds(run: Callable[[], object], calls: int, session: Session, ranks: Ranks) -> float:
    """Seconds of one of `calls` runs that follow each other."""
    if session.has_graphs:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            run()
        end.record()
        ranks.agree()  # all have begun: now each can wait for the others
        session.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / calls
    started = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - started) / calls


def _graph(call: Callable[[], object], calls: int, session: Session, ranks: Ranks) -> Any:
    """A CUDA graph of several calls, or None where any rank could not capture it. Not yet run on several GPUs."""
    graph = torch.cuda.CUDAGraph()
    problem = None
    session.stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(session.stream):
        call()
        ranks.agree()
        session.synchronize()
        try:
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                for _ in range(calls):
                    call()
            finally:
                graph.capture_end()
        except RuntimeError as error:
            problem = reason(error)
    torch.cuda.current_stream().wait_stream(session.stream)
    if ranks.agree(float(problem is not None)) == 0:
        return graph
    session.remark(f"collectives are timed with their launches: {problem or 'another rank could not capture them'}")
    return None
