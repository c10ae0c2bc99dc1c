"""Charts on the screen: every point is in the frame and where its figure says, at every width, whatever figures come."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moeplan.core.units import duration, per_second
from moeplan.report.page import blank_page, page_text
from moeplan.report.terminal_chart import (
    LEAST_COLUMNS,
    LEAST_POINTS,
    MOST_ASIDE,
    MOST_COLUMNS,
    ROWS,
    Axis,
    Chart,
    Guide,
    Mark,
    chart_lines,
    print_chart,
    worth_a_chart,
)

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
figures = st.floats(-1e12, 1e12) | st.floats(1e-9, 1e12) | st.integers(0, 10**6)
anything = figures | st.sampled_from([None, nan, inf, -inf])
points = st.lists(st.tuples(anything, anything), max_size=12)
widths = st.integers(40, 200)


def chart(found: Sequence[tuple[float | None, float | None]], signs: str = LETTERS, **other: object) -> Chart:
    marks = tuple(Mark(x, y, sign) for (x, y), sign in zip(found, signs, strict=False))
    return Chart(Axis("USD per hour", "{:,.6g}".format), Axis("speed", "{:,.6g}".format), marks)._replace(**other)  # type: ignore[arg-type]


def rows(of: Chart, width: int) -> list[str]:
    return [line.plain for line in chart_lines(of, width)]


def frame(found: list[str]) -> list[str]:
    """What stands right of the axis, row by row from above."""
    cut = [re.split("[│┤]", row, maxsplit=1) for row in found]
    return [parts[1] for parts in cut if len(parts) == 2]


def places(found: list[str], signs: str) -> dict[str, tuple[int, int]]:
    """Row from below and column of each sign."""
    plot = frame(found)
    return {
        sign: (len(plot) - 1 - number, row.index(sign))
        for number, row in enumerate(plot)
        for sign in signs
        if sign in row
    }


@settings(max_examples=40)
@given(points, widths, st.booleans())
def test_no_line_is_wider_than_the_page_and_every_point_is_drawn(
    found: list[tuple[float | None, float | None]], width: int, joined: bool
) -> None:
    known = [mark for mark in found if None not in mark and all(abs(value) < inf for value in mark)]  # type: ignore[arg-type]
    drawn = rows(chart(found, lines=(tuple(found),) if joined else ()), width)
    if not known:
        assert drawn == []
        return
    assert max(map(len, drawn)) <= width
    assert all(row == row.rstrip() for row in drawn)
    assert len(frame(drawn)) == ROWS
    signs = [sign for sign, mark in zip(LETTERS, found, strict=False) if mark in known]
    # Of marks that fall on one cell six have room beside each other, at the edge too.
    assert len(places(drawn, LETTERS)) >= min(len(signs), 6)
    if len(signs) <= 6:
        assert set(places(drawn, LETTERS)) == set(signs)


@settings(max_examples=40)
@given(st.lists(st.floats(1e-6, 1e9), min_size=2, max_size=6, unique=True), widths, st.booleans())
def test_more_is_further_up_and_further_right(values: list[float], width: int, falls: bool) -> None:
    """Marks that fall on one cell stand a few columns aside: only marks of different rows are compared."""
    along = sorted(values)
    up = along[::-1] if falls else along
    found = places(rows(chart(list(zip(along, up, strict=True))), width), LETTERS)
    for (row, column), (next_row, next_column) in pairwise(found[sign] for sign in LETTERS[: len(along)]):
        assert (next_row <= row) if falls else (next_row >= row)
        if row != next_row:
            assert next_column >= column - MOST_ASIDE
    ends = found["A"], found[LETTERS[len(along) - 1]]
    assert ends[0][1] < ends[1][1]
    assert ends[0][0] != ends[1][0]


@settings(max_examples=40)
@given(st.lists(st.floats(1e-6, 1e9), min_size=2, max_size=9), widths)
def test_a_line_that_never_falls_is_drawn_so(values: list[float], width: int) -> None:
    up = sorted(values)
    found = chart([], lines=(tuple((float(x), y) for x, y in enumerate(up)),))
    highest = []
    plot = frame(rows(found, width))
    for column in range(max(map(len, plot))):
        dots = [number for number, row in enumerate(plot) if column < len(row) and row[column] != " "]
        highest += [(ROWS - 1 - min(dots), ROWS - 1 - max(dots))] if dots else []
    assert highest
    for (top, bottom), (next_top, next_bottom) in pairwise(highest):
        assert next_top >= top
        assert next_bottom >= bottom
        # Joined: no gap between two columns.
        assert next_bottom <= top + 1


def test_a_logarithmic_axis_is_where_figures_span_far_and_says_so() -> None:
    near = rows(chart([(10, 1.0), (20, 2.0), (60, 7.9)]), 80)
    assert near[0] == "speed over USD per hour"
    one = rows(chart([(1, 1.0), (10, 2.0), (100, 4.0)]), 80)
    assert one[0] == "speed over USD per hour (logarithmic)"
    # 10 is the middle of 1 to 100 by logarithms.
    assert abs(places(one, "B")["B"][1] - places(one, "C")["C"][1] / 2) <= 1
    both = rows(chart([(1, 1.0), (10, 2.0), (100, 400.0)]), 80)
    assert both[0] == "speed over USD per hour (both logarithmic)"
    below = rows(chart([(0, -1.0), (10, 2.0), (100, 400.0)]), 80)
    assert below[0] == "speed over USD per hour"


def test_ticks_stand_at_their_figures_in_the_units_of_the_page() -> None:
    found = chart([(56.0, 0.010), (100.0, 0.020), (676.48, 0.030)])._replace(y=Axis("time per token", duration))
    drawn = rows(found, 80)
    ticked = {row.split("┤")[0].strip(): row for row in drawn if "┤" in row}
    assert set(ticked) == {"10 ms", "15 ms", "20 ms", "25 ms", "30 ms"}
    assert "A" in ticked["10 ms"]
    assert "B" in ticked["20 ms"]
    assert "C" in ticked["30 ms"]
    foot, words = drawn[-2:]
    assert words.split() == ["100", "200", "500"]
    assert foot.count("┬") == 3
    column = next(row for row in drawn if "B" in row).index("B")
    assert foot[column] == "┬"
    assert words[column - 1 : column + 2] == "100"


def test_own_ticks_are_named_as_far_as_there_is_room() -> None:
    doubled = tuple(2.0**power for power in range(15))
    found = chart([(count, count) for count in doubled], "●" * 15, x=Axis("in flight", "{:,.0f}".format, doubled))
    wide, narrow = (rows(found, width)[-1].split() for width in (160, 40))
    assert wide == [f"{count:,.0f}" for count in doubled]
    assert narrow in [[f"{count:,.0f}" for count in doubled[::every]] for every in (2, 3, 4)]


@pytest.mark.parametrize("same", [0.0, 5.0, -3.0, 1e-9, 1e12])
def test_points_without_a_span_get_an_axis_around_them(same: float) -> None:
    for found in ([(same, same)], [(same, same)] * 3, [(same, 1.0), (same, 2.0)]):
        drawn = rows(chart(found), 60)
        assert places(drawn, "A")
        assert drawn[0] == "speed over USD per hour"


def test_guides_are_drawn_where_they_lie_among_the_points_or_are_reached_for() -> None:
    found = [(1.0, 1.0), (2.0, 2.0), (4.0, 4.0)]
    limit, far = Guide(3.0, "limit of 3", upright=False), Guide(9.0, "room for 9")
    drawn = rows(chart(found, guides=(limit, far)), 80)
    assert drawn[-1] == "╌ limit of 3"
    assert sum("╌" in row for row in frame(drawn)) == 1
    assert not any("┊" in row for row in drawn)
    reached = rows(chart(found, guides=(limit, far._replace(reached=True))), 80)
    assert reached[-1] == "╌ limit of 3   ┊ room for 9"
    ends = {row.index("┊") for row in frame(reached)}
    assert len(ends) == 1
    assert ends.pop() > max(column for _, column in places(reached, "ABC").values())


def test_marks_on_one_place_stand_beside_each_other_and_the_first_keeps_it() -> None:
    found = [(1.0, 1.0), (5.0, 5.0), (5.0, 5.0), (5.0, 5.0), (9.0, 9.0)]
    drawn = places(rows(chart(found), 80), "ABCDE")
    alone = places(rows(chart([found[0], found[1], found[4]], "ABE"), 80), "ABE")
    assert drawn["B"] == alone["B"]
    assert {drawn[sign][1] - drawn["B"][1] for sign in "CD"} == {1, -1}
    same = frame(rows(chart(found, "●●●●●"), 80))
    assert sum(row.count("●") for row in same) == 3


@settings(max_examples=40)
@given(points, st.integers(LEAST_COLUMNS, 200))
def test_ascii_alone_where_that_is_asked_and_the_same_rows(
    found: list[tuple[float | None, float | None]], width: int
) -> None:
    drawn = chart(found, "●◆◇" * 4, lines=(tuple(found),), guides=(Guide(1.0, "one"), Guide(1.0, "one", upright=False)))
    plain, full = (blank_page(width, color=False) for _ in range(2))
    print_chart(plain, drawn)
    print_chart(full, drawn)
    in_ascii, in_full = page_text(plain, unicode=False), page_text(full, unicode=True)
    assert in_ascii.isascii()
    assert [len(row) for row in in_ascii.splitlines()] == [len(row) for row in in_full.splitlines()]
    assert max(map(len, in_full.splitlines())) <= min(width, MOST_COLUMNS)


def test_colour_repeats_the_signs() -> None:
    found = chart([(1, 1.0), (2, 2.0), (3, 3.0)])
    coloured = Chart(found.x, found.y, tuple(mark._replace(style="red") for mark in found.marks))
    pages = [blank_page(80, color=color) for color in (True, False)]
    for page in pages:
        print_chart(page, coloured)
    lit, plain = (page_text(page, unicode=True) for page in pages)
    assert "\x1b[" in lit
    assert re.sub(r"\x1b\[[0-9;]*m", "", lit) == plain


def test_narrow_pages_and_few_points_get_none() -> None:
    assert worth_a_chart(LEAST_POINTS, LEAST_COLUMNS)
    assert not worth_a_chart(LEAST_POINTS - 1, 200)
    assert not worth_a_chart(99, LEAST_COLUMNS - 1)
    # Words of ticks that leave no room for a plot.
    assert rows(chart([(1, 1.0), (2, 2.0)])._replace(y=Axis("y", lambda value: f"{value:>40}")), 50) == []


def test_the_figures_of_a_curve_by_hand() -> None:
    """100 to 1,000 tokens/s by logarithms over ten rows: 316 is the middle."""
    found = chart([(1, 100.0), (2, 316.23), (3, 1000.0)])._replace(y=Axis("tokens/s", per_second))
    drawn = rows(found, 60)
    assert [row.split("┤")[0].strip() for row in drawn if "┤" in row] == ["1,000", "500", "200", "100"]
    rows_of = {sign: row for sign, (row, _) in places(drawn, "ABC").items()}
    assert rows_of["A"] == 0
    assert rows_of["B"] in {4, 5}
    assert rows_of["C"] == ROWS - 1
