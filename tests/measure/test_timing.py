from __future__ import annotations

import time

import pytest
import torch

from moeplan.measure.session import Session, open_session
from moeplan.measure.timing import MOST_COPIES, rotations, sample_count, spread_of, time_calls, time_on_host

HAS_CUDA = torch.cuda.is_available() and not torch.version.hip


@pytest.fixture
def session() -> Session:
    return open_session("cpu", 0)


def test_median_and_tenths_interpolate() -> None:
    # 11 values 0..10: the tenth percentile is the value at place 0.1 * 10 = 1, the ninetieth that at 9.
    assert spread_of([float(each) for each in (3, 1, 2, 0, 4, 5, 6, 7, 10, 9, 8)]) == (5.0, 1.0, 9.0, 11)
    # 2 values: places 0.1 and 0.9 between them.
    assert spread_of([1.0, 2.0]) == pytest.approx((1.5, 1.1, 1.9, 2))
    assert spread_of([4.0]) == (4.0, 4.0, 4.0, 1)


@pytest.mark.parametrize(
    ("once_s", "count"),
    [
        (1e-6, 100),  # as many as make sense
        (0.01, 30),  # 0.3 s of budget
        (0.1, 20),  # the least
        (0.5, 6),  # ten budgets are 3 s
        (60.0, 3),
    ],
)
def test_samples_follow_the_budget_within_bounds(once_s: float, count: int) -> None:
    assert sample_count(once_s, 20, 0.3) == count


def test_seconds_are_those_of_one_call_and_calls_take_turns(session: Session) -> None:
    ran: list[int] = []

    def sleeper(number: int) -> None:
        ran.append(number)
        time.sleep(0.002)

    spread = time_calls([lambda: sleeper(0), lambda: sleeper(1), lambda: sleeper(2)], session, budget_s=0.1)
    assert spread.median_s >= 0.002
    assert spread.low_s <= spread.median_s <= spread.high_s
    assert spread.samples >= 20
    assert ran == [number % 3 for number in range(len(ran))]
    assert session.clock == "host"


def test_calls_too_short_for_the_clock_are_timed_together() -> None:
    count = 0

    def short() -> None:
        nonlocal count
        count += 1

    spread = time_on_host([short], budget_s=0.001)
    assert count > 10 * spread.samples


def test_calls_run_without_gradients_and_their_errors_come_through(session: Session) -> None:
    weight = torch.ones(2, requires_grad=True)

    def call() -> None:
        assert not (weight * 2).requires_grad

    time_calls([call], session, budget_s=0.001)
    with pytest.raises(ZeroDivisionError):
        time_calls([lambda: 1 // 0], session)
    with pytest.raises(ValueError, match="nothing"):
        time_calls([], session)


def test_copies_fill_the_cache_several_times(session: Session) -> None:
    cache = 32 * 2**20
    session.device = session.device._replace(l2_bytes=cache)
    # Four times 32 MiB is 128 MiB: 8 copies of 16 MiB, 13 of 10 MiB (130 MiB), one of 128 MiB.
    assert rotations(16 * 2**20, session) == 8
    assert rotations(10 * 2**20, session) == 13
    assert rotations(128 * 2**20, session) == 1
    assert rotations(1, session) == MOST_COPIES
    assert rotations(2**50, session) == 1  # it does not fit, which is for `Session.need` to say


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="no CUDA device")
def test_calls_are_replayed_from_a_graph_and_those_that_wait_are_not() -> None:
    session = open_session("cuda", 0)
    data = session.random((1024, 1024), "bfloat16", "x", scale=1 / 32)
    total = torch.zeros((), device="cuda")
    spread = time_calls([lambda: total.add_(1.0)] * 4, session)
    assert _clock(session) == "graph"
    assert spread.samples >= 20
    assert float(total) > 4 * 20  # replays ran
    # An eager addition takes the host microseconds to launch; in a graph it takes the device about one.
    assert spread.median_s < time_calls([lambda: total.add_(1.0)], session, graph=False).median_s

    time_calls([lambda: float(data.sum())], session)
    assert _clock(session) == "events"
    torch.rand(4, device="cuda")  # a capture that failed would have left the generator in disorder
    time_calls([lambda: data @ data], session)
    assert _clock(session) == "graph"


def _clock(session: Session) -> str | None:
    return session.clock  # read anew: a type checker believes that it stays what it was
