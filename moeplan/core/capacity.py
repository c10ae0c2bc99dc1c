"""How much of something fits: searches over a cost that only grows, and what engines print of it."""

from collections.abc import Callable
from typing import NamedTuple


class EnginePrints(NamedTuple):
    """The figures that the engine prints at start; `engine_prints` in JSON."""

    kv_tokens: int | None
    concurrency: float | None
    rule: str | None
    """How the engine of that version gets from bytes to these figures."""


def largest(fits: Callable[[int], bool], most: int, near: int = 1) -> int:
    """The largest whole number up to `most` for which `fits` holds; 0 where not even 1 does.

    `fits` must not become true again once it is false: cost grows with tokens and with sequences. The search begins at
    `near`, and takes the longer the farther that is from the answer.
    """
    start, step = max(1, min(near, most)), 1
    if fits(start):
        low, high = start, most + 1
        while low < most:
            tried = min(low + step, most)
            if not fits(tried):
                high = tried
                break
            low, step = tried, step * 2
    else:
        low, high = 0, start
        while high > 1:
            tried = max(high - step, 1)
            if fits(tried):
                low = tried
                break
            high, step = tried, step * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
