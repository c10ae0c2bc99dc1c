"""The robust fit finds what made the data, shrugs at outliers, and stays where nothing speaks."""

from __future__ import annotations

import math

import pytest

from moeplan.core.robust_fit import fit

FREE = [math.inf] * 3
WIDE = [5.0] * 3
XS = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]


def line(constants: list[float]) -> list[float]:
    """A fixed cost, a cost per unit, and one of its square root."""
    fixed, slope, root = constants
    return [fixed + slope * x + root * math.sqrt(x) for x in XS]


def test_it_finds_the_constants_behind_exact_data() -> None:
    measured = [7.0 + 0.2 * x + 3.0 * math.sqrt(x) for x in XS]
    assert fit(line, measured, [1.0, 1.0, 1.0], WIDE, FREE) == pytest.approx([7.0, 0.2, 3.0], rel=0.02)


def test_one_measurement_that_is_ten_times_off_does_not_carry_the_rest_along() -> None:
    measured = [7.0 + 0.2 * x + 3.0 * math.sqrt(x) for x in XS]
    measured[3] *= 10
    found = line(fit(line, measured, [1.0, 1.0, 1.0], WIDE, FREE))
    off = sorted(abs(math.log(a / b)) for a, b in zip(found, measured, strict=True))
    assert off[-1] == pytest.approx(math.log(10), abs=0.3)
    assert off[-2] < 0.15


def test_without_measurements_the_start_comes_back() -> None:
    assert fit(lambda _: [], [], [2.0, 3.0], [0.1, 0.1], FREE[:2]) == pytest.approx([2.0, 3.0])


def test_one_point_between_start_and_measurement_by_the_spread() -> None:
    # e = x - ln 2 over a scale of 1: minimises 2 (sqrt(1 + e^2) - 1) + x^2 / s^2. For a wide spread x nears ln 2, for a
    # narrow one it nears 0, and at the minimum e / sqrt(1 + e^2) + x / s^2 = 0.
    for spread in (0.1, 0.5, 3.0):
        (found,) = fit(list, [2.0], [1.0], [spread], [math.inf], scale=1.0)
        x = math.log(found)
        error = x - math.log(2)
        assert error / math.sqrt(1 + error**2) + x / spread**2 == pytest.approx(0, abs=1e-4)


def test_a_ceiling_holds() -> None:
    found = fit(lambda constants: [constants[0] * x for x in XS], [5 * x for x in XS], [0.5], [3.0], [1.0])
    assert found == pytest.approx([1.0])


def test_a_constant_that_nothing_depends_on_stays() -> None:
    measured = [7.0 + 0.2 * x for x in XS]
    found = fit(lambda c: [c[0] + c[1] * x for x in XS], measured, [1.0, 1.0, 4.0], WIDE, FREE)
    assert found == pytest.approx([7.0, 0.2, 4.0], rel=0.02)
