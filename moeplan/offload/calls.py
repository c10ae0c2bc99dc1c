"""What calling kernels costs on the cards, whatever they read: the fixed times of `core/step_time.floor_of`.

Kernels of llama.cpp are not measured. Those of engines that were, of the nearest card, stand in for them: a factor says how much
longer llama.cpp's own calls take (`device_call_factor` of `profiles/host/offload.yaml`).
"""

from __future__ import annotations

from collections.abc import Iterable

from moeplan.core.errors import MoeplanError
from moeplan.core.hardware import Hardware
from moeplan.core.kept import Kept
from moeplan.core.quant import Holding
from moeplan.core.step_time import StepModel, floor_of
from moeplan.estimate.question import Question
from moeplan.sources.step_models import served_stages

BLOCKS = "gguf "
NEAREST_FORMAT = "mxfp4"
"""Of formats whose kernels were measured the one most like GGUF's: blocks of a row with a scale, unpacked to 16 bits."""
ANY_RATE = 10**14
"""Operations per second of a card whose profile does not tell them: no fixed time depends on it."""

_held, _cards = Kept(), Kept()


def measured_stages(question: Question) -> tuple[StepModel, ...] | None:
    """The question's stages with measured kernels, GGUF's formats by the nearest; None where no such kernel was measured."""
    held, hardware = question.held, question.serving.hardware
    assert hardware is not None
    known = _held.of((held,), (), lambda: tuple(_nearest(held)))
    card = _cards.of((hardware,), (), lambda: _with_rate(hardware))
    try:
        return served_stages(
            question.spec, known, card, question.deployment.engine,
            question.engine.division(question.serving, question.engine.settle(question.serving)), question.deployment.layout,
            version=question.serving.constants.version, cache=question.rules,
        )  # fmt: skip
    except MoeplanError:
        return None


def call_seconds(stages: Iterable[StepModel], experts_fraction: float) -> float:
    """Of one step's calls in all stages, those of experts in that share of the layers that have them."""
    found = 0.0
    for stage in stages:
        every = floor_of(stage).calls_s
        others = floor_of(stage._replace(experts=(), kernel=None)).calls_s
        found += others + experts_fraction * (every - others)
    return found


def _nearest(held: Iterable[Holding]) -> Iterable[Holding]:
    return (each._replace(format=NEAREST_FORMAT) if each.format.startswith(BLOCKS) else each for each in held)


def _with_rate(hardware: Hardware) -> Hardware:
    rates = hardware.dense_flops_per_s
    return hardware if rates.bf16 else hardware._replace(dense_flops_per_s=rates._replace(bf16=rates.fp16 or ANY_RATE))
