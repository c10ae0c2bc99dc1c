"""Users who each ask again as soon as they are answered: time to the first token, time per output token, tokens per second.

Symbols: c users, prompts of i tokens, answers of o; g data-parallel ranks; a step reads at most `room` new tokens on a rank.

    chunks     m = ceil(i / room) steps for a prompt, of i / m tokens
    decode     in the o steps of an answer every other user's prompt is read once: (c - 1) m / o chunks for each step; beyond
               one for each step they share steps
    TPOT       (1 - f) step + f (step with chunks beside it), f = min(1, chunks for each step)
    first      all users come at once: (S + m) / 2 steps full of prompts, S = c m / prompts that fit into one
    later      rest of a running step + own chunks + the others' prompts that wait or are read at the same time:
               x = A + (c - 1) E (x - E / 2) / (x + Z), E time of a prompt in full steps, Z = (o - 1) TPOT
    TTFT       one `first` and nine `later` of ten
    tokens/s   c o / (TTFT + (o - 1) TPOT)

`later` is mean value analysis of one server and c users (Reiser and Lavenberg 1980, with Schweitzer's proportional estimate of
what a user finds), reading taken as a constant time, so that a prompt which is being read is found half done. It is exact
for one user. Against a simulation of the loop (tests/core/test_serving_simulated.py) TTFT is 17 % low to 20 % high while prompts
take less than half of the time, and up to 51 % high beyond: users who wait for each other come more evenly than at random.
TPOT is 0 to 7 % high, tokens per second 10 % low to 3 % high.
"""

from math import ceil, sqrt
from typing import NamedTuple

REQUESTS_OF_A_USER = 10
"""How often a user asks: public runs send ten prompts for each of their users, as fast as these take them, so all users begin at
once (InferenceMAX, README.md: `--num-prompts $(( $CONC * 10 )) --max-concurrency $CONC --request-rate inf`)."""


class Loop(NamedTuple):
    """What is asked for."""

    users: float
    input_tokens: float
    output_tokens: float
    room_tokens: float
    """Most new tokens of prompts in a step of one rank."""
    data_ranks: int = 1


class Reading(NamedTuple):
    """What a step reads of prompts."""

    tokens: float
    """On each rank that reads."""
    past: float
    """Of each prompt, read before."""
    prompts: float
    """On each rank that reads."""
    ranks: float
    """That read."""


class Readings(NamedTuple):
    """The kinds of steps with prompts."""

    chunks: int
    """Steps of one prompt."""
    alone: Reading
    """One prompt, or chunk of one."""
    mixed: Reading
    """The steps beside which an answer is decoded."""
    mixed_share: float
    """Of all steps."""
    full: Reading
    """As many prompts as fit, and as there are users."""


class Passing(NamedTuple):
    """Seconds of a step: through all stages of a pipeline, and in the slowest of them; both the same without one."""

    latency_s: float
    slowest_s: float

    def later(self, delay: "Passing") -> "Passing":
        """With a delay in every stage."""
        return Passing(self.latency_s + delay.latency_s, self.slowest_s + delay.slowest_s)


class Served(NamedTuple):
    """Means over all requests."""

    ttft_s: float
    tpot_s: float
    output_tokens_per_s: float


def readings(loop: Loop) -> Readings:
    """What steps read of prompts under this load."""
    users, prompt, answer, room, ranks = loop
    chunks = max(1, ceil(prompt / room))
    each = prompt / chunks
    past = each * (chunks - 1) / 2
    fits = room / each
    per_step = (users - 1) * chunks / answer
    together = min(users, ranks * fits)
    return Readings(
        chunks,
        Reading(each, past, 1, 1),
        _reading(per_step, ranks, fits, each, past),
        min(1.0, per_step),
        _reading(together, ranks, fits, each, past),
    )


def _reading(prompts: float, ranks: int, fits: float, each: float, past: float) -> Reading:
    reading = min(float(ranks), max(1.0, prompts))
    on_rank = min(fits, max(1.0, prompts / reading))
    return Reading(on_rank * each, past, on_rank, reading)


def served(
    loop: Loop, decode: Passing, alone: Passing, mixed: Passing, full: Passing, *, delay: Passing, parts: float = 1
) -> Served:
    """The formulas above; `alone`, `mixed` and `full` are seconds of such steps of `readings`.

    `delay` is what a step that reads keeps the first token waiting beyond that, and `parts` how many parts of the batch are
    in the stages of a pipeline at once.
    """
    users, answer = loop.users, loop.output_tokens
    found = readings(loop)
    step_s = max(decode.latency_s, parts * decode.slowest_s)
    tpot_s = step_s + found.mixed_share * max(0.0, mixed.slowest_s - decode.slowest_s)
    one, some = alone.later(delay), full.later(delay)
    at_once = found.full.prompts * found.full.ranks
    steps = users * found.chunks / at_once
    first_s = some.latency_s + ((steps + found.chunks) / 2 - 1) * some.slowest_s
    own_s = min(1.0, users - 1) * _rest(found.mixed_share, decode.slowest_s, mixed.slowest_s)
    own_s += one.latency_s + (found.chunks - 1) * one.slowest_s
    each_s = found.chunks / at_once * some.slowest_s
    queued_s = (users - 1) * each_s
    answer_s = max(0.0, answer - 1) * tpot_s
    half = (answer_s - own_s - queued_s) / 2
    later_s = sqrt(half * half + own_s * answer_s - queued_s * each_s / 2) - half
    ttft_s = (first_s + (REQUESTS_OF_A_USER - 1) * later_s) / REQUESTS_OF_A_USER
    return Served(ttft_s, tpot_s, users * answer / (ttft_s + answer_s))


def _rest(share: float, step_s: float, mixed_s: float) -> float:
    """Mean rest of a step without prompts at any one moment: half its time, in its share of all time."""
    mean = (1 - share) * step_s + share * mixed_s
    return (1 - share) * step_s**2 / (2 * mean) if mean else 0.0
