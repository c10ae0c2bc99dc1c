"""One engine, one format, one card: where a layout's speed and memory are worked out in full, as `estimate` does."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from moeplan.core.deployment import Value
from moeplan.core.errors import MoeplanError
from moeplan.core.expert_use import ExpertUse
from moeplan.core.hardware import Hardware
from moeplan.core.layout import AskedLayout, Layout
from moeplan.core.op_times import OpTimes
from moeplan.core.serving_speed import ServedLoad, ServingSpeed, decode_step
from moeplan.core.step_time import Floor, StepModel, floor_of
from moeplan.core.workload import Workload
from moeplan.engines.command_line.writing import sequence_limit
from moeplan.estimate.judge import Answer, judge, verdict
from moeplan.estimate.ledger import ledger
from moeplan.estimate.question import Question
from moeplan.estimate.result import Verdict
from moeplan.estimate.speed import step_tokens, times_of
from moeplan.estimate.timed import Timed
from moeplan.plan.cards import Card
from moeplan.plan.folds import Fold
from moeplan.plan.formats import Format
from moeplan.sources.step_models import served_stages

BACKENDS: dict[str, tuple[str, Value]] = {
    "vllm": ("--all2all-backend", "deepep_low_latency"),
    "sglang": ("--moe-a2a-backend", "deepep"),
}
"""The flag of each engine for DeepEP's kernels, the only ones that were measured beyond one link."""


class Speeds(NamedTuple):
    """Of one replica under its share of the load."""

    speed: ServingSpeed
    misses: tuple[str, ...]
    """Limits that are not kept, in words that end with `ttft` or `tpot`."""
    over: float
    """How many times over a limit it is, at the worst; 1 and below keeps all."""


class Cell:
    """A card under an engine with the model in a format."""

    def __init__(self, card: Card, engine: str, form: Format, question: Question) -> None:
        self.card = card
        self.engine = engine
        self.format = form
        self._question = question
        self._served: dict[AskedLayout, tuple[StepModel, ...]] = {}
        self._floors: dict[tuple[int, int, int], Floor | MoeplanError] = {}

    @property
    def hardware(self) -> Hardware:
        """The device."""
        return self.card.hardware

    @property
    def engine_version(self) -> str:
        """The engine's release that the arithmetic follows."""
        return self._question.serving.constants.version

    def question(self, fold: Fold, sequences: int) -> Question:
        """The question of one replica that serves so many sequences, its engine limited to them."""
        stated = sequence_limit(self.engine, fold.layout, sequences) | self.settings(fold)
        deployment = self._question.deployment._replace(concurrency=sequences, stated=stated)
        return self._question.at(deployment).on(fold.layout.num_gpus, fold.asked)

    def settings(self, fold: Fold) -> dict[str, Value]:
        """What the engine has to be told so that it runs as it is timed: the backend whose kernels reach beyond one link."""
        backend = BACKENDS.get(self.engine)
        if backend is None or fold.groups == 1 or fold.division.expert_ep == 1:
            return {}
        try:
            beyond = self._stages(fold)[0].exchange == "low_latency"
        except MoeplanError:  # no times are known, so none are promised
            return {}
        return dict([backend]) if beyond else {}

    def verdict(self, fold: Fold, sequences: int) -> Verdict:
        """Whether a replica fits, by the ledger of `estimate`."""
        question = self.question(fold, sequences)
        return verdict(question, self.card.memory, ledger(question, self.card.memory))

    def answer(self, fold: Fold, sequences: int) -> Answer:
        """The same with the capacity, for those that are shown."""
        return judge(self.question(fold, sequences))

    def timed(self, fold: Fold, sequences: int) -> Timed:
        """The times of a replica's operations. Raises UnknownError or InputError that says why they are not known."""
        return Timed(self._stages(fold), step_tokens(self.question(fold, sequences)), 1)

    def times(self, fold: Fold) -> OpTimes:
        """Times of a layout's operations on the card; raises what `timed` raises."""
        return next(iter(self._stages(fold)[0].by_format.values()))

    def floor(self, fold: Fold) -> Floor | MoeplanError:
        """The least that a token takes with as many ranks, groups, and ranks of experts; the error that says why that is not known."""
        key = placement(fold)
        if key not in self._floors:
            try:
                # Stages have the model's layers together: as one they call for no more kernels.
                (whole,) = self._made(fold, fold.layout._replace(pp_layers=()))
                self._floors[key] = floor_of(whole)
            except MoeplanError as error:
                self._floors[key] = error
        return self._floors[key]

    def decode_s(self, fold: Fold, sequences: int, workload: Workload, use: ExpertUse) -> float:
        """Seconds of a step of decode alone, the least that a token takes; raises what `timed` raises."""
        load = ServedLoad(sequences, workload.mean_input_tokens, workload.mean_output_tokens, 1)
        return decode_step(self._stages(fold), load, use).seconds

    def _stages(self, fold: Fold) -> tuple[StepModel, ...]:
        """The stages of a layout, made once."""
        if fold.asked not in self._served:
            self._served[fold.asked] = self._made(fold, fold.layout)
        return self._served[fold.asked]

    def _made(self, fold: Fold, layout: Layout) -> tuple[StepModel, ...]:
        question = self._question
        if self._unknown is not None:
            raise self._unknown
        found = served_stages(
            question.spec, question.held, self.hardware, self.engine, fold.division, layout,
            version=self.engine_version, cache=question.rules,
        )  # fmt: skip
        assert found is not None
        return found

    @cached_property
    def _unknown(self) -> MoeplanError | None:
        """Why nothing of this card, engine and model is known."""
        try:
            times_of(self._question)
        except MoeplanError as error:
            return error
        return None

    def speeds(self, fold: Fold, sequences: int, workload: Workload, use: ExpertUse) -> Speeds:
        """How fast a replica is under its share of the workload; raises what `timed` raises."""
        return speeds_of(self.timed(fold, sequences)._replace(use=use), sequences, workload)


def placement(fold: Fold) -> tuple[int, int, int]:
    """What the least that a token takes depends on: ranks of a group, groups, ranks of experts."""
    return fold.division.attention, fold.groups, fold.division.expert_ep


def speeds_of(known: Timed, sequences: int, workload: Workload) -> Speeds:
    """The mean load, and every class that has limits as if all requests were of its kind."""
    speed = known.at(sequences, workload.mean_input_tokens, workload.mean_output_tokens)
    misses: list[str] = []
    over = 0.0
    alone = len(workload.classes) == 1
    for each in workload.classes:
        limits = (("ttft", workload.ttft_limit_s(each)), ("tpot", workload.tpot_limit_s(each)))
        if all(limit_s is None for _, limit_s in limits):
            continue
        mine = speed if alone else known.at(sequences, each.input_tokens.mean, each.output_tokens.mean)
        for (name, limit_s), figure in zip(limits, (mine.ttft_s, mine.tpot_s), strict=True):
            if limit_s is None:
                continue
            over = max(over, figure.value / limit_s)
            if figure.value > limit_s:
                misses.append(name if alone else f"{each.name}: {name}")
    return Speeds(speed, tuple(misses), over)


def keeping_up(speeds: Speeds, replicas: int, workload: Workload) -> Speeds:
    """The same with the miss `rate` where so many replicas answer fewer requests than come in."""
    if workload.arrival_per_s is None:
        return speeds
    answered = speeds.speed.output_tokens_per_s.value * replicas / workload.mean_output_tokens
    if answered >= workload.arrival_per_s * (1 - 1e-9):
        return speeds
    return speeds._replace(misses=(*speeds.misses, "rate"), over=max(speeds.over, workload.arrival_per_s / answered))


def written_alone(speeds: Speeds) -> Speeds:
    """Of a replica that reads no prompts: a token takes a step of decode, and limits are judged with both pools."""
    speed = speeds.speed
    factor = speed.decode.seconds / speed.tpot_s.value
    tpot = speed.tpot_s._replace(
        value=speed.tpot_s.value * factor, low=speed.tpot_s.low * factor, high=speed.tpot_s.high * factor
    )
    return Speeds(speed._replace(tpot_s=tpot), (), 0.0)
