"""Constants from few points: found again where they made the points, and judged on points that were not used."""

from __future__ import annotations

import pytest

from moeplan.core.latency import VALUE_BYTES, Device, ExpertShape, Load, seconds, work
from moeplan.core.latency_fit import CEILING, REFIT_SPREAD, REFITTED, SPREAD, START, Point, fit_constants, refit

DEVICE = Device(bandwidth_bytes_per_s=3e12, flops_per_s=900e12)
BF16 = VALUE_BYTES["bfloat16"]
SHAPES = (
    ExpertShape(2048, 768, 128, 128, 8, BF16),
    ExpertShape(4096, 14336, 8, 8, 2, BF16),
    ExpertShape(4096, 1536, 128, 128, 8, BF16),
)
TRUE = START._replace(fixed_s=35e-6, expert_s=0.02e-6, memory_fraction=0.62, compute_fraction=0.33, traffic_factor=3.5)


def points() -> list[Point]:
    """Thirty points of a machine that is `TRUE`."""
    found = []
    for tokens in (1, 4, 16, 64, 256, 512, 1024, 2048, 4096, 16384):
        for shape in SHAPES:
            distinct = min(shape.experts, tokens * shape.experts_per_token)
            asked = work(shape, Load(tokens, distinct, tokens * shape.experts_per_token))
            found.append(Point(DEVICE, asked, seconds(TRUE, DEVICE, asked)))
    return found


def test_a_machine_is_found_again_from_thirty_points() -> None:
    found = refit(points())
    assert found.num_points == 30
    assert found.names == REFITTED
    assert found.median_error < 0.03
    assert found.mean_error < 0.05
    for name in ("fixed_s", "memory_fraction", "compute_fraction"):
        assert getattr(found.constants, name) == pytest.approx(getattr(TRUE, name), rel=0.15), name


def test_only_the_named_constants_move() -> None:
    found = fit_constants(points(), START, ("fixed_s",))
    assert found._replace(fixed_s=START.fixed_s) == START
    assert found.fixed_s != START.fixed_s


def test_errors_are_those_of_points_that_the_fit_did_not_see() -> None:
    some = points()
    spoiled = list(some)
    spoiled[5] = some[5]._replace(seconds=some[5].seconds * 3)
    # The spoiled point lies in fold 1 of 4. A fit of the other folds never saw it, so its error is that of a fit to
    # good points: predicted / (3 x measured) - 1, two thirds too low.
    found = refit(spoiled)
    unseen = fit_constants([point for i, point in enumerate(some) if i % 4 != 1], START, REFITTED, REFIT_SPREAD)
    expected = seconds(unseen, DEVICE, some[5].work)
    assert found.errors[5] == pytest.approx(expected / spoiled[5].seconds - 1)
    assert found.errors[5] == pytest.approx(-2 / 3, abs=0.05)
    assert found.worst_error == abs(found.errors[5])


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="5 points do not determine 7 constants: 8 are needed"):
        refit(points()[:5])


def test_a_fraction_of_the_specification_stays_below_one() -> None:
    quick = [point._replace(seconds=point.seconds / 3) for point in points()]
    found = fit_constants(quick)
    assert found.memory_fraction <= 1
    assert found.compute_fraction <= 1
    assert all(each > 0 for each in (*START, *SPREAD, *CEILING))
