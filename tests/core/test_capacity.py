from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.capacity import largest


@given(limit=st.integers(0, 5000), most=st.integers(1, 4000), near=st.integers(-5, 6000))
def test_the_largest_that_fits_is_found_from_anywhere(limit: int, most: int, near: int) -> None:
    asked: list[int] = []

    def fits(count: int) -> bool:
        assert 1 <= count <= most
        asked.append(count)
        return count <= limit

    assert largest(fits, most, near) == min(limit, most)
    assert len(asked) <= 2 * most.bit_length() + 3


@given(limit=st.integers(1, 10**6), off=st.integers(-20, 20))
def test_a_good_guess_asks_seldom(limit: int, off: int) -> None:
    asked: list[int] = []

    def fits(count: int) -> bool:
        asked.append(count)
        return count <= limit

    assert largest(fits, 2 * 10**6, limit + off) == limit
    assert len(asked) <= 14
