"""Answers about large records, by which object was asked about: hashing a model costs more than most questions about it."""

from collections.abc import Callable
from typing import Any, TypeVar

MOST_KEPT = 1024

Answer = TypeVar("Answer")


class Kept:
    """Remembers answers about objects and a key; the oldest ones make room."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._found: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def of(self, things: tuple[Any, ...], key: tuple[Any, ...], make: Callable[[], Answer]) -> Answer:
        """The answer for these very objects and key; the objects are held, so that their numbers are no others'."""
        full = (*map(id, things), *key)
        found = self._found.get(full)
        if found is None:
            if len(self._found) >= self._most:
                del self._found[next(iter(self._found))]
            found = self._found[full] = things, make()
        answer: Answer = found[1]
        return answer
