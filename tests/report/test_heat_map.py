"""The map of loads: signs, how experts become columns, what it is without colour and without more than ASCII."""

from __future__ import annotations

import re

import pytest

from moeplan.report.heat_map import RANKS, HeatRow, grid, levels, map_words, print_heat_map
from moeplan.report.page import blank_page, page_text

UNEVEN = HeatRow("7", (0, 1, 6, 10, 19, 40, 4, 0), "4.00 x")  # mean 10


def drawn(rows: list[HeatRow], width: int, *, color: bool = False, unicode: bool = True) -> str:
    page = blank_page(width, color=color)
    print_heat_map(page, rows, grid(rows, width))
    return page_text(page, unicode=unicode)


def test_signs_follow_the_load_over_the_mean() -> None:
    shape = grid([UNEVEN], 80)
    # 0; 0.1 and 0.6 below 0.7; 1.0; 1.9; 4.0; 0.4; 0
    assert levels(UNEVEN.counts, shape) == [0, 1, 1, 2, 3, 4, 1, 0]
    assert levels((7.0, 15.0, 30.0, 0.0, 0.0, 8.0), shape) == [2, 3, 4, 0, 0, 2]  # a bound belongs to the darker sign
    assert levels((9.4, 10, 10.6, 10), shape._replace(bounds=RANKS)) == [2, 2, 2, 2]
    assert levels((8.9, 10, 11.1, 10), shape._replace(bounds=RANKS)) == [1, 2, 3, 2]


def test_several_experts_of_one_column_are_the_busiest_of_them() -> None:
    wide = HeatRow("0", tuple([10] * 62 + [100, 10]))
    shape = grid([wide], 3 + 32)
    assert (shape.together, shape.cell_columns) == (2, 1)
    assert levels(wide.counts, shape) == [2] * 31 + [4]
    assert "2 experts, the busiest of them" in map_words("expert", "experts", shape)


def test_few_experts_get_wide_columns() -> None:
    assert drawn([UNEVEN], 80) == "7  " + "".join(sign * 6 for sign in " ░░▒▓█░ ") + "  4.00 x\n"


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("experts", [8, 60, 64, 128, 256, 384])
def test_no_row_is_wider_than_the_page_and_all_are_as_long(width: int, experts: int) -> None:
    rows = [HeatRow(str(layer), tuple(range(1, experts + 1)), f"{layer}.00 x") for layer in (1, 22)]
    lines = drawn(rows, width).splitlines()
    assert max(map(len, lines)) <= width
    assert len({line.index(" x") for line in lines}) <= 2
    assert lines[0].endswith("1.00 x")


def test_it_says_the_same_without_colour_and_in_ascii() -> None:
    plain = drawn([UNEVEN], 80)
    coloured = drawn([UNEVEN], 80, color=True)
    assert "\x1b[31m" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain
    ascii_ = drawn([UNEVEN], 80, unicode=False)
    assert ascii_.isascii()
    assert len(set(ascii_[3 : 3 + 48])) == len(set(plain[3 : 3 + 48])) == 5


def test_layers_with_fewer_experts_end_earlier_and_tails_stand_below_each_other() -> None:
    lines = drawn([HeatRow("0", (1,) * 16, "a"), HeatRow("1", (1,) * 8, "b")], 80).splitlines()
    assert lines[0].index("a") == lines[1].index("b")
    assert lines[1].count("▒") * 2 == lines[0].count("▒")
