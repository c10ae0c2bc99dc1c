"""Constants of plain operations from measured points: where they start, how firmly, and the formula each belongs to."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from moeplan.core.attention_latency import DecodeConstants, PrefillConstants, decode_s, prefill_s
from moeplan.core.collective_latency import (
    CollectiveConstants,
    ExchangeConstants,
    OneShotConstants,
    collective_s,
    exchange_s,
    one_shot_s,
)
from moeplan.core.matmul_latency import MatmulConstants, matmul_s
from moeplan.core.op_device import OpDevice
from moeplan.core.robust_fit import fit

Constants = (
    MatmulConstants | DecodeConstants | PrefillConstants | CollectiveConstants | OneShotConstants | ExchangeConstants
)
"""Of any operation."""


class Formula(NamedTuple):
    """A formula and what is known of its constants before any measurement."""

    seconds: Callable[..., float]
    """Constants, device and the arguments of a call to seconds."""
    start: Any
    """Middle of what kernels of the field do: of the public rows (facts on kernels, section 1), as a first guess."""
    spread: Any
    """How firmly each is held there, as a natural logarithm; see `robust_fit`."""
    most_one: tuple[str, ...] = ()
    """Constants that are shares and do not exceed the specification."""
    stated: tuple[str, ...] = ()
    """Constants that are read off the rows and not fitted."""


MATMUL = Formula(
    matmul_s,
    MatmulConstants(6e-6, 0.8, 1e6, 3.0, 0.8, 0.7, 128.0, 0.7, 30.0, 1.0),
    MatmulConstants(0.4, 0.15, 0.8, 0.3, 0.3, 0.3, 0.4, 0.4, 0.7, 0.6),
    ("memory_fraction", "compute_fraction"),
)
DECODE = Formula(
    decode_s,
    DecodeConstants(8e-6, 0.8, 3.0, 0.8, 0.3, 4e-9, 300.0, 1.0, 4.0, 16.0, 5e-9, 48.0, 0.5),
    DecodeConstants(0.4, 0.15, 0.3, 0.3, 0.6, 0.6, 0.6, 0.4, 0.6, 0.6, 1.0, 0.8, 1.5),
    ("memory_fraction", "compute_fraction"),
)
PREFILL = Formula(
    prefill_s,
    PrefillConstants(12e-6, 0.5, 50.0, 96.0, 2.0, 3.0, 0.8, 1.5, 1e-10, 2e-9),
    PrefillConstants(0.4, 0.3, 0.8, 0.5, 0.5, 0.4, 0.4, 0.4, 1.0, 1.0),
    ("compute_fraction",),
)
COLLECTIVE = Formula(
    collective_s,
    CollectiveConstants(6e-6, 1.5e-6, 0.7, 1.07, 4e6, 1.0),
    CollectiveConstants(0.8, 1.2, 0.8, 1.0, 2.0, 1.5),
)
ONE_SHOT = Formula(
    one_shot_s,
    OneShotConstants(4e-6, 0.2e-6, 0.5, 0.6, 4e-6, 1.0, math.inf),
    OneShotConstants(0.5, 0.8, 0.5, 0.4, 0.8, 0.35, 1.0),
    stated=("most_bytes",),
)
EXCHANGE = Formula(
    exchange_s,
    ExchangeConstants(14e-6, 12e-6, 2e-8, 1e-6, 0.55, 48e9, 0.3),
    ExchangeConstants(0.4, 0.5, 0.8, 1.5, 0.3, 0.2, 0.6),
    ("link_fraction",),
)
"""The network starts at what InfiniBand of 400 Gbit/s carries, 50 GB/s less its headers."""

FORMULAS = {
    "matmul": MATMUL,
    "attention_decode": DECODE,
    "attention_prefill": PREFILL,
    "all_reduce": COLLECTIVE,
    "all_gather": COLLECTIVE,
    "reduce_scatter": COLLECTIVE,
    "all_to_all": COLLECTIVE,
    "engine_all_reduce": ONE_SHOT,
    "expert_dispatch": EXCHANGE,
    "expert_combine": EXCHANGE,
}
"""By operation."""


class OpPoint(NamedTuple):
    """One measurement."""

    device: OpDevice
    call: tuple[Any, ...]
    """Arguments behind constants and device."""
    seconds: float


def predicted_s(operation: str, constants: Any, point: OpPoint) -> float:
    """Seconds of a point by the formula of its operation; an all-reduce moves its bytes twice."""
    found = FORMULAS[operation].seconds
    if operation == "all_reduce":
        return float(found(constants, point.device, *point.call, passes=2))
    return float(found(constants, point.device, *point.call))


def fit_operation(operation: str, points: Sequence[OpPoint], **stated: float) -> Any:
    """The constants of an operation that fit some points; `robust_fit` says what is minimised.

    `stated` are those that are read off the rows. Without points they are where they start.
    """
    formula = FORMULAS[operation]
    start = formula.start._replace(**stated)
    names = [name for name in start._fields if name not in formula.stated]
    chosen = [start._fields.index(name) for name in names]
    values = list(start)
    kind = type(start)

    def predict(trial: list[float]) -> list[float]:
        for index, value in zip(chosen, trial, strict=True):
            values[index] = value
        constants = kind(*values)
        return [predicted_s(operation, constants, point) for point in points]

    ceiling = [1.0 if name in formula.most_one else math.inf for name in names]
    begin, spread = ([each[i] for i in chosen] for each in (start, formula.spread))
    found = fit(predict, [point.seconds for point in points], begin, spread, ceiling)
    return start._replace(**dict(zip(names, found, strict=True)))
