"""Closed forms of serving against draws and an event simulation that share no code with them."""

from __future__ import annotations

import heapq
import random
from statistics import fmean
from typing import NamedTuple

import pytest

from moeplan.core.closed_loop import REQUESTS_OF_A_USER, Loop, Passing, Reading, Served, readings, served
from moeplan.core.coverage import busiest_rows, distinct_on_rank, zipf
from moeplan.core.exchange import ranks_touched

DRAWS = 200


def route(weights: list[float], chosen: int, rng: random.Random) -> list[int]:
    """The experts of one token: drawn one after the other by weight, none twice (the exponential race)."""
    race = [(rng.expovariate(weight), expert) for expert, weight in enumerate(weights)]
    return [expert for _, expert in heapq.nsmallest(chosen, race)]


def drawn(experts: int, chosen: int, tokens: int, ranks: int, skew: float) -> tuple[float, float, float]:
    """Means over steps: distinct experts of the layer, most of them on one rank, most rows on one rank."""
    rng = random.Random(experts * tokens + ranks)  # noqa: S311 - draws of a test
    on_rank = experts // ranks
    distinct, most_distinct, most_rows = [], [], []
    for _ in range(DRAWS):
        weights = zipf(experts, skew)
        rng.shuffle(weights)
        touched: set[int] = set()
        rows = [0] * ranks
        for _ in range(tokens):
            mine = route(weights, chosen, rng)
            touched.update(mine)
            for expert in mine:
                rows[expert // on_rank] += 1
        distinct.append(len(touched))
        most_distinct.append(max(sum(expert // on_rank == rank for expert in touched) for rank in range(ranks)))
        most_rows.append(max(rows))
    return fmean(distinct), fmean(most_distinct), fmean(most_rows)


@pytest.mark.parametrize(("experts", "chosen"), [(8, 2), (64, 8), (128, 4)])
@pytest.mark.parametrize("tokens", [4, 32])
@pytest.mark.parametrize("skew", [0.0, 0.3, 0.6])
def test_experts_and_rows_are_those_of_draws(experts: int, chosen: int, tokens: int, skew: float) -> None:
    ranks = 4
    distinct, most_distinct, most_rows = drawn(experts, chosen, tokens, ranks, skew)
    # Eight experts are few: weights do not tell inclusions apart so well, and a token's choices shut each other out.
    few = experts == 8
    assert distinct_on_rank(experts, chosen, experts, tokens, 1, skew) == pytest.approx(distinct, rel=0.02)
    found = distinct_on_rank(experts, chosen, experts // ranks, tokens, ranks, skew)
    assert found == pytest.approx(most_distinct, rel=0.04 if few else 0.02)
    assert busiest_rows(experts, chosen, tokens, ranks, skew) == pytest.approx(most_rows, rel=0.06 if few else 0.03)


def test_ranks_that_a_token_goes_to_are_those_of_draws() -> None:
    rng = random.Random(7)  # noqa: S311 - draws of a test
    for experts, chosen, ranks in ((256, 8, 8), (128, 4, 4), (64, 6, 16)):
        seen = fmean(
            len({expert * ranks // experts for expert in rng.sample(range(experts), chosen)}) for _ in range(4000)
        )
        assert ranks_touched(experts, chosen, ranks) == pytest.approx(seen, rel=0.01)
    assert ranks_touched(256, 8, 8) == pytest.approx(5.29, abs=0.005)  # facts on routing, section 5


# The closed loop -------------------------------------------------------------------------------------------


class Machine(NamedTuple):
    """Seconds of a step: a fixed time, and times for each decoding sequence and for each new token."""

    fixed_s: float
    sequence_s: float
    token_s: float

    def step_s(self, decoding: float, new: float) -> float:
        return self.fixed_s + self.sequence_s * decoding + self.token_s * new


MACHINES = {
    "quick decode": Machine(0.004, 5e-5, 1e-5),
    "slow decode": Machine(0.02, 3e-4, 1.2e-5),
    "slow prompts": Machine(0.006, 1e-4, 6e-5),
}


def simulate(machine: Machine, users: int, prompt: int, answer: int, step_tokens: int, seed: int = 1) -> Served:
    """One rank, first come first served, tokens of decode before those of prompts; lengths within a tenth of their mean.

    Users begin together and ask again within some milliseconds of their answer; each asks `REQUESTS_OF_A_USER` times on average.
    """
    rng = random.Random(seed)  # noqa: S311 - draws of a test
    coming = [(0.0, number) for number in range(users)]
    left = users * (REQUESTS_OF_A_USER - 1)
    waiting: list[list[float]] = []  # arrival, tokens left to read
    running: list[list[float]] = []  # first token, tokens left to write, tokens of the answer
    now, first, each, written = 0.0, [], [], 0
    while coming or waiting or running:
        if not waiting and not running:
            now = max(now, coming[0][0])
        while coming and coming[0][0] <= now:
            waiting.append([heapq.heappop(coming)[0], prompt * rng.uniform(0.9, 1.1)])
        room, new, done = float(step_tokens - len(running)), 0.0, []
        while waiting and room > 0:
            read = min(room, waiting[0][1])
            waiting[0][1] -= read
            room, new = room - read, new + read
            if waiting[0][1] > 0:
                break
            done.append(waiting.pop(0)[0])
        now += machine.step_s(len(running), new)
        for sequence in running:
            sequence[1] -= 1
            written += 1
        for sequence in [sequence for sequence in running if sequence[1] <= 0]:
            running.remove(sequence)
            each.append((now - sequence[0]) / (sequence[2] - 1))
            if left:
                left -= 1
                heapq.heappush(coming, (now + rng.uniform(0, 0.01), left))
        for arrival in done:
            first.append(now - arrival)
            length = round(answer * rng.uniform(0.9, 1.1))
            running.append([now, length - 1, length])
            written += 1
    return Served(fmean(first), fmean(each), written / now)


def in_closed_form(machine: Machine, users: int, prompt: int, answer: int, step_tokens: int) -> Served:
    loop = Loop(users, prompt, answer, step_tokens - (users - 1))
    found = readings(loop)

    def passing(reading: Reading) -> Passing:
        seconds = machine.step_s(users - 1, reading.tokens)
        return Passing(seconds, seconds)

    decode = Passing(machine.step_s(users, 0), machine.step_s(users, 0))
    return served(
        loop, decode, passing(found.alone), passing(found.mixed), passing(found.full), delay=Passing(0.0, 0.0)
    )


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())
@pytest.mark.parametrize("users", [1, 4, 16, 64])
@pytest.mark.parametrize(("prompt", "answer"), [(1024, 1024), (8000, 500), (300, 300), (20_000, 400)])
def test_the_closed_loop_is_that_of_a_simulation(machine: Machine, users: int, prompt: int, answer: int) -> None:
    events = simulate(machine, users, prompt, answer, 8192)
    formed = in_closed_form(machine, users, prompt, answer, 8192)
    # Time of a prompt's own tokens for all users, of all time between two answers.
    reading = users * prompt * machine.token_s / (events.ttft_s + (answer - 1) * events.tpot_s)
    assert -0.18 < formed.ttft_s / events.ttft_s - 1 < (0.21 if reading < 0.5 else 0.55)
    assert -0.02 < formed.tpot_s / events.tpot_s - 1 < 0.08
    assert -0.11 < formed.output_tokens_per_s / events.output_tokens_per_s - 1 < 0.04


def test_one_user_waits_for_nobody() -> None:
    machine = MACHINES["slow decode"]
    alone = in_closed_form(machine, 1, 500, 100, 8192)
    assert alone.ttft_s == pytest.approx(machine.step_s(0, 500))
    assert alone.tpot_s == pytest.approx(machine.step_s(1, 0))
    assert alone.output_tokens_per_s == pytest.approx(100 / (alone.ttft_s + 99 * alone.tpot_s))


def test_prompts_beyond_a_step_take_several() -> None:
    found = readings(Loop(1, 20_000, 100, 8192))
    assert found.chunks == 3
    assert found.alone.tokens == pytest.approx(20_000 / 3)
    assert found.alone.past == pytest.approx(20_000 / 3)  # none, one chunk, two chunks before
    machine = MACHINES["slow prompts"]
    assert in_closed_form(machine, 1, 20_000, 100, 8192).ttft_s == pytest.approx(
        3 * machine.fixed_s + machine.token_s * 20_000
    )


def test_data_parallel_ranks_read_side_by_side() -> None:
    one, eight = readings(Loop(64, 8192, 64, 8192)), readings(Loop(64, 8192, 64, 8192, 8))
    assert (one.full.prompts, one.full.ranks) == (1, 1)
    assert (eight.full.prompts, eight.full.ranks) == (1, 8)
    few = readings(Loop(3, 1024, 64, 8192, 8))
    assert (few.full.prompts, few.full.ranks) == (1, 3)
