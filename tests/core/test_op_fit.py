"""Constants of plain operations: found again where they made the points."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from moeplan.core.attention_latency import grouped
from moeplan.core.op_device import OpDevice
from moeplan.core.op_fit import FORMULAS, OpPoint, fit_operation, predicted_s
from moeplan.core.op_set import OPERATIONS, SIZES

DEVICE = OpDevice(2e12, 500e12, 0.0, 450e9)

CASES: dict[str, tuple[dict[str, float], list[tuple[Any, ...]]]] = {
    "matmul": (
        {"fixed_s": 11e-6, "memory_fraction": 0.62, "compute_fraction": 0.45},
        [(2, 2, m, n, k) for m, n, k in product((1, 64, 1024, 8192), (512, 4096, 16384), (1024, 8192))],
    ),
    "attention_decode": (
        {"fixed_s": 14e-6, "memory_fraction": 0.6},
        [
            (2, batch, past, grouped(heads, 4, 128))
            for batch, past, heads in product((1, 16, 256), (127, 2047, 16383), (8, 32, 64))
        ],
    ),
    "attention_prefill": (
        {"fixed_s": 20e-6, "compute_fraction": 0.3},
        [
            (2, batch, new, 0, grouped(heads, 4, 128))
            for batch, new, heads in product((1, 8, 64), (64, 1024, 8192), (8, 32))
        ],
    ),
    "all_reduce": (
        {"fixed_s": 9e-6, "step_s": 3e-6, "link_fraction": 0.5},
        [(gpus, 2**power) for gpus, power in product((2, 4, 8), range(9, 30, 2))],
    ),
    "engine_all_reduce": (
        {"fixed_s": 7e-6, "two_shot_fraction": 0.4},
        [(gpus, 2**power) for gpus, power in product((2, 4, 8), range(9, 24))],
    ),
    "expert_dispatch": (
        {"fixed_s": 22e-6, "link_fraction": 0.3},
        [
            (1.03, 8, tokens, hidden, experts, 8)
            for tokens, hidden, experts in product((1, 16, 128, 1024), (2048, 7168), (64, 256))
        ],
    ),
}


@pytest.mark.parametrize("operation", CASES)
def test_constants_are_found_again(operation: str) -> None:
    moved, calls = CASES[operation]
    true = FORMULAS[operation].start._replace(**moved)
    points = [OpPoint(DEVICE, call, predicted_s(operation, true, OpPoint(DEVICE, call, 1))) for call in calls]
    found = fit_operation(operation, points)
    for name, value in moved.items():
        assert getattr(found, name) == pytest.approx(value, rel=0.1), name
    for point in points:
        assert predicted_s(operation, found, point) == pytest.approx(point.seconds, rel=0.05)


def test_without_points_constants_are_where_they_start() -> None:
    for operation, formula in FORMULAS.items():
        for name, value in fit_operation(operation, [])._asdict().items():
            assert value == pytest.approx(getattr(formula.start, name)), (operation, name)


def test_what_is_read_off_the_rows_is_not_fitted() -> None:
    points = [OpPoint(DEVICE, (8, 2**power), 1e-5) for power in range(10, 20)]
    assert fit_operation("engine_all_reduce", points, most_bytes=2**21).most_bytes == 2**21


def test_shares_do_not_exceed_the_specification() -> None:
    points = [OpPoint(DEVICE, (2, 2, 8192, 8192, 8192), 1e-6)] * 5
    found = fit_operation("matmul", points)
    assert found.compute_fraction <= 1
    assert found.memory_fraction <= 1


def test_every_operation_has_a_formula_and_sizes() -> None:
    assert set(OPERATIONS) == set(FORMULAS) == set(SIZES)
    for formula in FORMULAS.values():
        assert set(formula.most_one) <= set(formula.start._fields)
        assert all(value > 0 for value in (*formula.start, *formula.spread))
