"""Where the order of two turns, against looking at every number."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from moeplan.compare.turning import Change, changes


def looked_at(first: Callable[[int], float], second: Callable[[int], float], most: int) -> list[Change]:
    found, now = [], second(1) < first(1)
    for number in range(2, most + 1):
        if (second(number) < first(number)) != now:
            now = not now
            found.append(Change(number, now))
    return found


@given(
    dense=st.floats(0.1, 200),
    experts=st.floats(0, 500),
    share=st.floats(0.01, 0.5),
    cache=st.floats(0, 3),
    other=st.floats(0.1, 200),
    others_cache=st.floats(0, 3),
)
def test_turns_of_a_step_are_those_of_every_batch(
    dense: float, experts: float, share: float, cache: float, other: float, others_cache: float
) -> None:
    """An MoE beside a dense model: concave less straight, so at most two turns."""

    def moe(batch: int) -> float:
        return dense + experts * (1 - (1 - share) ** batch) + batch * cache

    def plain(batch: int) -> float:
        return other + batch * others_cache

    found, wanted = list(changes(plain, moe, 2000)), looked_at(plain, moe, 2000)
    # Two turns that lie closer than a step of the grid may be missed together, and no other.
    if found != wanted:
        assert len(wanted) == len(found) + 2
        missing = [change for change in wanted if change not in found]
        assert missing[1].at - missing[0].at <= max(1, 0.05 * missing[1].at)


def test_no_turn_and_a_turn_at_the_very_end() -> None:
    def flat(value: float) -> Callable[[int], float]:
        return lambda batch: value + 0 * batch

    assert list(changes(flat(1), flat(2), 4096)) == []
    assert list(changes(flat(5), flat(5), 4096)) == []
    assert list(changes(float, flat(4095.5), 4096)) == [Change(4096, second_is_less=True)]
    assert list(changes(float, flat(1.5), 4096)) == [Change(2, second_is_less=True)]
