"""Where the order of two models turns: over the batch of a step, over the length of the sequences.

Bytes of an MoE rise steeply and then flatten while its cache goes on with the batch, so two models may change places more
than once: a grid is looked at, and each change on it is narrowed down by bisection.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

GROWTH = 1.05
"""Of one point of the grid to the next; the whole numbers first, where this is less than one."""


class Change(NamedTuple):
    """The smallest number from which on `second` is the smaller one, or is not any more."""

    at: int
    second_is_less: bool


def changes(first: Callable[[int], float], second: Callable[[int], float], most: int) -> Iterator[Change]:
    """Where `second` begins and ceases to be below `first`, over whole numbers from 1 to `most`.

    Two changes nearer than a point of the grid to the next are not seen.
    """

    def below(number: int) -> bool:
        return second(number) < first(number)

    now, before = below(1), 1
    for number in _grid(most):
        if below(number) != now:
            low, high = before, number
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if below(middle) != now else (middle, high)
            now = not now
            yield Change(high, now)
        before = number


def _grid(most: int) -> Iterable[int]:
    number = 1
    while number < most:
        number = min(most, max(number + 1, int(number * GROWTH)))
        yield number
