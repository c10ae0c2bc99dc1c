"""How much of something fits: searches over a cost that only grows, and what engines print of it."""

from collections.abc import Callable
from typing import NamedTuple


class EnginePrints(NamedTuple):
    """The figures that the engine prints at start; `engine_prints` in JSON."""

    kv_tokens: int | None
    concurrency: float | None
    rule: str | None
    """How the engine of that version gets from bytes to these figures."""


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest whole number up to `most` for which `fits` holds; 0 where not even 1 does.

    `fits` must not become true again once it is false: cost grows with tokens and with sequences.
    """
    if not fits(1):
        return 0
    low, high = 1, 2
    while high < most and fits(high):
        low, high = high, high * 2
    high = min(high, most)
    if fits(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
