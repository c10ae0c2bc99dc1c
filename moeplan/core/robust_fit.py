"""A small robust fit of positive constants: damped Gauss-Newton steps on their logarithms, standard library only.

It minimises, over the logarithms x of the constants,

    sum 2 (sqrt(1 + (e / scale)^2) - 1)  +  sum ((x - start) / spread)^2,   e = ln(predicted / measured)

The first sum is the soft-L1 loss: squares for small errors, absolute values for large ones, so that kernels which fall
off a cliff do not drag the others along. The second keeps each constant within reach of where it starts, which decides
only where the measurements do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import mul

SCALE = 0.1
"""Errors up to about 10 % count by their square."""

STEP = 1e-4
MOST_STEPS = 60
ENOUGH = 1e-7
"""A step that improves the loss by less than this share is the last."""


def fit(
    predict: Callable[[list[float]], list[float]],
    measured: Sequence[float],
    start: Sequence[float],
    spread: Sequence[float],
    ceiling: Sequence[float],
    *,
    scale: float = SCALE,
) -> list[float]:
    """The constants that bring `predict(constants)` nearest to `measured`.

    `start` are positive values, `spread` their expected deviations as natural logarithms, `ceiling` what they may not
    exceed. Predictions and measurements are positive and in the same order; without measurements the start comes back.
    """
    centre = [math.log(value) for value in start]
    top = [math.log(value) for value in ceiling]
    targets = [math.log(value) for value in measured]
    pull = [1 / each**2 for each in spread]

    def errors(point: list[float]) -> list[float]:
        found = predict([math.exp(x) for x in point])
        return [(math.log(value) - target) / scale for value, target in zip(found, targets, strict=True)]

    def loss(point: list[float], off: list[float]) -> float:
        far = sum(weight * (x - home) ** 2 for weight, x, home in zip(pull, point, centre, strict=True))
        return 2 * sum(math.sqrt(1 + e * e) - 1 for e in off) + far

    point, damping = list(centre), 1e-2
    off = errors(point)
    best = loss(point, off)
    for _ in range(MOST_STEPS):
        normal, slope = _normal_equations(errors, point, off, pull, centre)
        before = best
        while damping < 1e8:
            damped = [row[:] for row in normal]
            for i, row in enumerate(damped):
                row[i] *= 1 + damping
            step = _solve(damped, slope)
            tried = [min(most, x + max(-1.0, min(1.0, move))) for x, move, most in zip(point, step, top, strict=True)]
            tried_off = errors(tried)
            if (value := loss(tried, tried_off)) < best:
                point, off, best = tried, tried_off, value
                damping = max(damping / 5, 1e-6)
                break
            damping *= 4
        if before - best <= ENOUGH * before:
            break
    return [math.exp(x) for x in point]


def _normal_equations(
    errors: Callable[[list[float]], list[float]],
    point: list[float],
    off: list[float],
    pull: list[float],
    centre: list[float],
) -> tuple[list[list[float]], list[float]]:
    """Matrix and right side of one step, each error weighted as the soft-L1 loss has it."""
    size = len(point)
    columns = []
    for i in range(size):
        moved = list(point)
        moved[i] += STEP
        columns.append([(b - a) / STEP for a, b in zip(off, errors(moved), strict=True)])
    weights = [1 / math.sqrt(1 + e * e) for e in off]
    weighted = [list(map(mul, weights, column)) for column in columns]
    normal = [[0.0] * size for _ in range(size)]
    slope = []
    for i in range(size):
        for j in range(i, size):
            normal[i][j] = normal[j][i] = sum(map(mul, weighted[i], columns[j]))
        normal[i][i] += pull[i]
        slope.append(-sum(map(mul, weighted[i], off)) - pull[i] * (point[i] - centre[i]))
    return normal, slope


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Solution of a small symmetric positive definite system, by Cholesky's decomposition."""
    size = len(right)
    lower = [[0.0] * size for _ in range(size)]
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[i][j] - sum(map(mul, lower[i][:j], lower[j][:j]))
            lower[i][j] = math.sqrt(max(rest, 1e-12)) if i == j else rest / lower[j][j]
    half: list[float] = []
    for i in range(size):
        half.append((right[i] - sum(map(mul, lower[i][:i], half))) / lower[i][i])
    found = [0.0] * size
    for i in reversed(range(size)):
        rest = half[i] - sum(lower[j][i] * found[j] for j in range(i + 1, size))
        found[i] = rest / lower[i][i]
    return found
