"""Seconds of a call: replays of a CUDA graph where there are such, else the host's clock; the median and its spread."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Sequence

import torch  # noqa: TID253

from moeplan.core.measurement import Spread
from moeplan.core.units import MIB
from moeplan.measure.session import Session, reason

Call = Callable[[], object]

COLD_FACTOR = 4
"""Rotated weights fill the cache this many times over: with no strict order of eviction, twice is not enough."""
MOST_COPIES = 64
_ASSUMED_CACHE_BYTES = 64 * MIB
_GRAPH_S = 1e-3  # long beside the few microseconds between one replay and the next
_MOST_CALLS = 512  # of one graph: capturing takes host time
_MOST_SAMPLES = 100
_FEWEST_SAMPLES = 3
_PATIENCE = 10  # budgets; slower calls get fewer samples than asked for
_HOST_SAMPLE_S = 1e-4  # long beside the reading of the host's clock


def time_calls(
    calls: Sequence[Call],
    session: Session,
    *,
    least_samples: int = 20,
    budget_s: float | None = None,
    graph: bool = True,
) -> Spread:
    """Seconds of one call, from rounds over `calls`, which do the same work on other data (see `rotations`).

    On CUDA one sample is one replay of a graph that holds all calls at least once, divided by their number. A call that
    synchronises with the host (or `graph=False`) is timed eagerly between events, launch included. Elsewhere the host's
    clock is read around each call, or around several that are too short for it. Calls warm up first; they must not draw
    random numbers, and what they return is dropped.

    Takes `least_samples` at least, more as far as `budget_s` (else the session's) reaches; calls so slow that this would
    take ten budgets get fewer, three at least, as `Spread.samples` tells. `session.clock` says which clock it was. Raises
    what the calls raise.
    """
    if not calls:
        raise ValueError("nothing to time")
    budget_s = session.budget_s if budget_s is None else budget_s
    with torch.no_grad():
        if not session.has_graphs:
            session.clock = "host"
            return time_on_host(calls, least_samples=least_samples, budget_s=budget_s, wait=session.synchronize)
        _warm_up(calls, session)
        refusal = _why_no_graph(calls[0], session) if graph else "its host steps cannot be captured"
        if refusal is None:
            try:
                return _time_graph(calls, session, least_samples, budget_s)
            except RuntimeError as error:
                if "out of memory" in str(error).lower():
                    raise
                session.synchronize()  # raises where the device itself has failed
                session.remark(f"a CUDA graph could not be captured, timed with its launches instead: {reason(error)}")
        return _time_events(calls, session, least_samples, budget_s)


def time_on_host(
    calls: Sequence[Call], *, least_samples: int = 20, budget_s: float = 0.3, wait: Callable[[], None] | None = None
) -> Spread:
    """As `time_calls`, by the host's clock; `wait` is called before the clock is read."""
    position = 0

    def sample(count: int) -> float:
        nonlocal position
        begin = time.perf_counter()
        for _ in range(count):
            calls[position % len(calls)]()
            position += 1
        if wait is not None:
            wait()
        return (time.perf_counter() - begin) / count

    sample(1)
    once_s = max(min(sample(1), sample(1)), 1e-7)
    several = max(1, min(_MOST_CALLS, int(_HOST_SAMPLE_S / once_s)))
    samples: list[float] = []
    begin = time.perf_counter()
    while len(samples) < _MOST_SAMPLES:
        spent_s = time.perf_counter() - begin
        enough = spent_s >= budget_s and len(samples) >= least_samples
        if enough or (spent_s >= _PATIENCE * budget_s and len(samples) >= _FEWEST_SAMPLES):
            break
        samples.append(sample(several))
    return spread_of(samples)


def rotations(num_bytes: int, session: Session) -> int:
    """How many copies of a weight of `num_bytes` have to take turns so that each is read from memory and not from L2.

    As a decode step finds it, which has gone through all other layers in between. 1 where the weight alone is much larger
    than the cache; at most what half of the free memory holds, and at most 64: weights below a sixteenth of the cache
    stay warm, which is worth less than a microsecond.
    """
    cache = session.device.l2_bytes or _ASSUMED_CACHE_BYTES
    wanted = -(-COLD_FACTOR * cache // max(1, num_bytes))
    fitting = session.free_bytes() // 2 // max(1, num_bytes)
    return max(1, min(wanted, fitting, MOST_COPIES))


def spread_of(samples: Sequence[float]) -> Spread:
    """Median, tenth and ninetieth percentile (with linear interpolation) of some seconds."""
    ordered = sorted(samples)
    return Spread(statistics.median(ordered), _percentile(ordered, 0.1), _percentile(ordered, 0.9), len(ordered))


def sample_count(once_s: float, least_samples: int, budget_s: float) -> int:
    """How many samples of `once_s` seconds are taken."""
    most = max(_FEWEST_SAMPLES, int(_PATIENCE * budget_s / once_s))
    return min(max(least_samples, min(_MOST_SAMPLES, int(budget_s / once_s))), most)


def _percentile(ordered: Sequence[float], fraction: float) -> float:
    place = fraction * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _warm_up(calls: Sequence[Call], session: Session) -> None:
    """Runs on the stream of capture, so that libraries allocate what they keep for it, and tune, outside of the graph."""
    session.stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(session.stream):
        for call in (calls[0], calls[0], *calls):
            call()
    torch.cuda.current_stream().wait_stream(session.stream)
    session.synchronize()


def _why_no_graph(call: Call, session: Session) -> str | None:
    """Whether a call waits for the device, asked beforehand: a capture that fails leaves torch's allocator in disorder."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        return reason(error)
    finally:
        torch.cuda.set_sync_debug_mode(before)
        session.synchronize()
    return None


def _time_graph(calls: Sequence[Call], session: Session, least_samples: int, budget_s: float) -> Spread:
    session.clock = "graph"
    graph = _captured(calls, session)
    once_s = max(statistics.median(_replay_seconds(graph, 3, session)), 1e-6)
    rounds = max(1, min(int(_GRAPH_S / once_s), _MOST_CALLS // len(calls)))
    if rounds > 1:
        graph.reset()  # its memory goes first
        graph = _captured(list(calls) * rounds, session)
        once_s = max(statistics.median(_replay_seconds(graph, 3, session)), 1e-6)
    seconds = _replay_seconds(graph, sample_count(once_s, least_samples, budget_s), session)
    graph.reset()
    return spread_of([each / (rounds * len(calls)) for each in seconds])


def _captured(calls: Sequence[Call], session: Session) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    session.stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(session.stream):
        # Only this thread is held to what a capture allows: NCCL's watchdog and a progress bar may run beside it.
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            for call in calls:
                call()
        except BaseException:
            with contextlib.suppress(RuntimeError):
                graph.capture_end()
            raise
        graph.capture_end()
    torch.cuda.current_stream().wait_stream(session.stream)
    return graph


def _replay_seconds(graph: torch.cuda.CUDAGraph, count: int, session: Session) -> list[float]:
    """Back to back, so that the device never waits for the host: from the end of one replay to the end of the next."""
    graph.replay()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    events[0].record()
    for event in events[1:]:
        graph.replay()
        event.record()
    session.synchronize()
    return [begin.elapsed_time(end) / 1e3 for begin, end in itertools.pairwise(events)]


def _time_events(calls: Sequence[Call], session: Session, least_samples: int, budget_s: float) -> Spread:
    session.clock = "events"

    def sample() -> float:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for call in calls:
            call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    sample()
    once_s = max(sample(), 1e-6)
    count = sample_count(once_s, least_samples, budget_s)
    return spread_of([sample() / len(calls) for _ in range(count)])
