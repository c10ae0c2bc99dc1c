"""What drafts cost and give: the `speculation` block of an estimate's speed.

Steps of decode are compared alone, and the load that was asked for with its prompts: these take their time whatever is drafted, and
steps that read them carry more tokens of others. Whether drafts pay is a question of the load.

Acceptance is nobody's setting: without it there is no speed-up, and the acceptance from which it pays is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from moeplan.core.errors import UnknownError
from moeplan.core.expert_use import ExpertUse, StepTokens
from moeplan.core.layout import Layout
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.quant import Holding
from moeplan.core.serving_speed import PARTS, TERMS, ServedLoad, ServingSpeed, decode_step, sequences_at_once
from moeplan.core.speculation import (
    Drafting,
    DraftKind,
    Speculating,
    acceptance_of,
    least_tokens,
    tokens_per_step,
)
from moeplan.core.step_time import StepModel, StepPart, StepTime
from moeplan.core.workload import Workload
from moeplan.estimate.drafts import Asked
from moeplan.estimate.judge import Answer
from moeplan.estimate.question import Question
from moeplan.estimate.speed_result import (
    DecodeStep,
    Gain,
    LoadFigures,
    LoadGain,
    Needed,
    Rate,
    Rates,
    Speculation,
    SpeculationAt,
    Time,
)

if TYPE_CHECKING:
    from moeplan.estimate.timed import Timed

CONCURRENCIES = (1, 4, 16, 64, 256, 1024)
"""Rows of the table, beside what was asked for."""
GROWTH = "how many more experts neighbouring tokens touch, no errors of kernels"
DENSE = "nothing: a dense model reads the same weights for any number of tokens"
PUBLISHED: dict[DraftKind, str] = {
    "own_layers": "the one published run with draft layers and a known length took steps 2 % longer than is said",
    "lookup": "no published run of such drafts is known",
    "other_model": "steps of published runs took up to 1.6 times as long as is said, with the draft's own time",
}
"""How far off steps were (`benchmarks/speculation.py`, whose rows the tests hold against these words)."""
Served = Callable[[ModelSpec, tuple[Holding, ...], Layout], tuple[StepModel, ...] | None]
"""A model under the question's layout, with the times of its operations."""


# The draft's own time ----------------------------------------------------------------------------------------------


def speculating(question: Question, asked: Asked, served: Served, notes: list[Remark]) -> Speculating:
    """With the times of one draft layer; where no kernel like its was measured, a note says so."""
    drafts, acceptance = asked
    if drafts.kind != "own_layers":
        return Speculating(drafts, acceptance, None, drafts.kind == "lookup")
    spec, held = draft_layer(question.spec, question.held)
    try:
        stages = served(spec, held, question.deployment.layout._replace(pp=1, pp_layers=()))
    except UnknownError as error:
        stages = None
        told = f"what the draft layers take is not known: {error.message}"
        notes.append(Remark("draft-not-modelled", "warning", told))
    layers = stages[0] if stages else None
    return Speculating(drafts, acceptance, layers, layers is not None)


def draft_layer(spec: ModelSpec, held: Sequence[Holding]) -> tuple[ModelSpec, tuple[Holding, ...]]:
    """One draft layer with what stands around it and the model's head, as a model of one layer.

    Draft layers of one model are alike, and each pass runs one. Their projection of token and hidden state has no role of its
    own in the inventory: it is a matrix that every token goes through.
    """
    mtp = spec.mtp
    assert mtp is not None
    modules = len(mtp.layers)
    first = min((number for each in held if each.part == "mtp" for number in each.layers), default=0)
    found: list[Holding] = []
    extras: dict[tuple[object, ...], list[Holding]] = {}
    for each in held:
        weight = each.weight
        if each.part == "mtp" and first in each.layers:
            found.append(each._replace(part="text", layers=(0,), num_bytes=each.num_bytes // len(each.layers)))
        elif each.part == "mtp" and not each.layers:
            role = "attention" if weight.role == "other" else weight.role
            shaped = each._replace(part="text", weight=weight._replace(role=role))
            extras.setdefault((role, weight.shape), []).append(shaped)
        elif each.part == "text" and (weight.role == "lm_head" or (spec.tied_embedding and weight.role == "embedding")):
            found.append(each)
    for alike in extras.values():
        found += alike[: -(-len(alike) // modules)]
    return spec._replace(layers=mtp.layers[:1], mtp=None), tuple(found)


# What it costs and gives -------------------------------------------------------------------------------------------


class _Steps(NamedTuple):
    """Steps of the same sequences."""

    plain: StepTime
    verify: StepTime
    draft: StepPart | None

    @property
    def ratio(self) -> float:
        """Of verifying and drafting over a plain step."""
        return (self.verify.seconds + (self.draft.seconds if self.draft else 0.0)) / self.plain.seconds


def speculation_of(
    mine: Speculating, known: Timed, workload: Workload, answer: Answer, question: Question
) -> Speculation:
    """The block. Raises UnknownError beyond what was measured."""
    drafts, acceptance, taken = mine.drafts, mine.acceptance, mine.tokens_per_step
    concurrency, use = question.deployment.concurrency, known.use
    now = _steps(mine, known, workload, concurrency, use)
    # Fewer new experts make a lighter step: the band's low growth has the higher speed-up.
    light, heavy = (
        _steps(mine, known, workload, concurrency, use.growing(growth)) for growth in (use.growth_low, use.growth_high)
    )
    is_sparse = any(stage.experts for stage in known.stages)
    speed_up = None if taken is None else Gain(taken / now.ratio, taken / heavy.ratio, taken / light.ratio)
    asked, lighter, heavier = (
        _Load(known._replace(use=each), mine.drafting, workload, concurrency)
        for each in (use, use.growing(use.growth_low), use.growing(use.growth_high))
    )
    gain = None if taken is None else _under_load(asked.gains(taken), lighter.gains(taken), heavier.gains(taken))
    needed = Needed(*(each.needed(drafts.tokens) for each in (asked, lighter, heavier)))
    verify = drafts.verify_tokens
    draft = Time(0.0, 0.0, 0.0, "assumed") if drafts.kind == "lookup" else None
    if now.draft is not None:
        draft = Time(now.draft.seconds, now.draft.low_s, now.draft.high_s, now.draft.basis)
    pays = _pays(gain, cost_known=mine.cost_known)
    plain_experts = _experts(known, concurrency, 1, use)
    verify_experts = _experts(known, concurrency, verify, use)
    return Speculation(
        draft_tokens=drafts.tokens,
        verify_tokens=verify,
        draft_kind=drafts.kind,
        draft_model=drafts.model,
        acceptance=acceptance,
        tokens_per_step=taken,
        growth=use.growth if is_sparse else None,
        growth_low=use.growth_low if is_sparse else None,
        growth_high=use.growth_high if is_sparse else None,
        plain=DecodeStep(_time(now.plain), plain_experts, plain_experts, plain_experts),
        verify=DecodeStep(
            _time(now.verify),
            verify_experts,
            _experts(known, concurrency, verify, use.growing(use.growth_low)),
            _experts(known, concurrency, verify, use.growing(use.growth_high)),
        ),
        draft=draft,
        speed_up=speed_up,
        without=asked.without(question.deployment.layout.num_gpus),
        under_load=gain,
        band_covers=f"{GROWTH if is_sparse else DENSE}; {PUBLISHED[drafts.kind]}",
        break_even_acceptance=needed,
        draft_budget_s=None if taken is None else taken * now.plain.seconds - now.verify.seconds,
        over_concurrency=tuple(
            _at(each, mine, known, workload, answer, question) for each in sorted({*CONCURRENCIES, concurrency})
        ),
        pays=pays,
        why=_why(mine, now, gain, speed_up, needed.value, (plain_experts, verify_experts), _pool(known), concurrency),
        in_figures=mine.counts,
    )


class _Load(NamedTuple):
    """The load that was asked for, with drafts and without."""

    known: Timed
    drafting: Drafting
    workload: Workload
    concurrency: int

    def served(self, drafting: Drafting | None) -> ServingSpeed:
        """With these drafts, or with none."""
        return self.known.with_drafts(
            drafting, self.concurrency, self.workload.mean_input_tokens, self.workload.mean_output_tokens
        )

    def without(self, gpus: int) -> LoadFigures:
        """Its figures without drafts."""
        found = self.served(None)
        total = found.output_tokens_per_s
        tpot = Time(*found.tpot_s)
        each = Rate(total.value / gpus, total.low / gpus, total.high / gpus, total.basis)
        user = Rate(1 / tpot.value_s, 1 / tpot.high_s, 1 / tpot.low_s, tpot.basis)
        return LoadFigures(Time(*found.ttft_s), tpot, Rates(user, each, Rate(*total)))

    def gains(self, tokens: float) -> tuple[float, float, float]:
        """Tokens per second, time per token and to the first one, with so many tokens a step over those without drafts."""
        plain, drafted = self.served(None), self.served(self.drafting._replace(tokens_per_step=tokens))
        return (
            drafted.output_tokens_per_s.value / plain.output_tokens_per_s.value,
            drafted.tpot_s.value / plain.tpot_s.value,
            drafted.ttft_s.value / plain.ttft_s.value,
        )

    def needed(self, drafted: int) -> float | None:
        """The acceptance from which on tokens per second rise."""
        plain = self.served(None).output_tokens_per_s.value

        def gain(tokens: float) -> float:
            return self.served(self.drafting._replace(tokens_per_step=tokens)).output_tokens_per_s.value / plain

        tokens = least_tokens(gain, drafted + 1)
        return None if tokens is None else acceptance_of(tokens, drafted)


def _under_load(
    now: tuple[float, float, float], light: tuple[float, float, float], heavy: tuple[float, float, float]
) -> LoadGain:
    """Each figure with its band."""
    return LoadGain(*(Gain(each[0], min(each), max(each)) for each in zip(now, light, heavy, strict=True)))


def _steps(mine: Speculating, known: Timed, workload: Workload, concurrency: int, use: ExpertUse) -> _Steps:
    each = -(-concurrency // known.copies)
    load = ServedLoad(each, workload.mean_input_tokens, workload.mean_output_tokens, known.step_tokens)
    plain = decode_step(known.stages, load, use)
    both = decode_step(known.stages, load, use, mine.drafting)
    draft = next((part for part in both.parts if part.name == "draft"), None)
    return _Steps(plain, StepTime(tuple(part for part in both.parts if part.name != "draft")), draft)


def _at(
    concurrency: int, mine: Speculating, known: Timed, workload: Workload, answer: Answer, question: Question
) -> SpeculationAt:
    steps = _steps(mine, known, workload, concurrency, known.use)
    taken, room = mine.tokens_per_step, answer.capacity.max_concurrency
    load = _Load(known, mine.drafting, workload, concurrency)
    return SpeculationAt(
        concurrency=concurrency,
        plain_experts=_experts(known, concurrency, 1, known.use),
        verify_experts=_experts(known, concurrency, mine.drafts.verify_tokens, known.use),
        step_ratio=steps.ratio,
        speed_up=None if taken is None else taken / steps.ratio,
        tokens_gain=None if taken is None else load.gains(taken)[0],
        break_even_acceptance=load.needed(mine.drafts.tokens),
        fits=None if room is None else -(-concurrency // question.deployment.layout.dp) <= room,
    )


def _experts(known: Timed, concurrency: int, verify_tokens: int, use: ExpertUse) -> float | None:
    """Distinct experts of a layer that a step touches, the mean of all MoE layers; None in a dense model."""
    sequences = sequences_at_once(known.stages, -(-concurrency // known.copies))
    tokens = StepTokens(sequences, each=verify_tokens)
    works = [work for stage in known.stages for work in stage.experts]
    layers = sum(work.count for work in works)
    touched = sum(
        # A copy is no other expert.
        work.count * use.distinct(own, work.experts_per_token, own, tokens)
        for work in works
        for own in (work.experts - work.copies,)
    )
    return touched / layers if layers else None


def _pool(known: Timed) -> int:
    """Experts of a layer, without copies."""
    return max((work.experts - work.copies for stage in known.stages for work in stage.experts), default=0)


def _pays(gain: LoadGain | None, *, cost_known: bool) -> bool | None:
    """What the band of tokens per second says; of a bound only that it does not pay."""
    if gain is None:
        return None
    if gain.output_tokens_per_s.high < 1:
        return False
    return True if gain.output_tokens_per_s.low > 1 and cost_known else None


LITTLE_LESS = 0.95
"""Of what steps of decode gain: less than that is told a reason."""
HARDLY = 1.05
"""Of a plain step: what a step that verifies takes then hangs on nothing."""
NEARLY_ALL = 0.9
"""Of the experts of a layer."""


def _why(
    mine: Speculating,
    steps: _Steps,
    gain: LoadGain | None,
    speed_up: Gain | None,
    needed: float | None,
    experts: tuple[float | None, float | None],
    pool: int,
    concurrency: int,
) -> str:
    """One sentence: whether it pays under this load, what it gives there and in steps alone, and what makes it so."""
    at = f"at {concurrency:,} in flight"
    free = " (drafts by lookup taken as free)" if mine.drafts.kind == "lookup" else ""
    left_out = free if mine.cost_known else " (the draft's own time left out)"
    longer = f"a step of decode takes {steps.ratio:.2f} times as long{left_out}: {_reason(steps, experts, pool)}"
    taken = mine.tokens_per_step
    if gain is None or speed_up is None or taken is None:
        if needed is None:
            return f"does not pay {at} under this load, whatever is accepted: {longer}"
        least = tokens_per_step(needed, mine.drafts.tokens)
        if not mine.cost_known:  # a draft that takes time needs more
            return f"does not pay {at} under this load below an acceptance of {needed:.2f}, {least:.2f} tokens a step: {longer}"
        if least < HARDLY:
            return f"pays {at} under this load with hardly any drafts taken: {longer}"
        return f"pays {at} under this load from an acceptance of {needed:.2f} on, {least:.2f} tokens a step: {longer}"
    pays = {True: "pays", False: "does not pay", None: "may pay"}[_pays(gain, cost_known=mine.cost_known)]
    most = "" if mine.cost_known else "at most "
    told = f"{most}{gain.output_tokens_per_s.value:.2f} times the tokens per second, {_first_token(gain.ttft.value)}"
    alone = f"steps of decode alone are {most}{speed_up.value:.2f} times as fast"
    return (
        f"{pays} {at}: under this load {told}{_prompts(mine, gain, speed_up)}; {alone}, each brings {taken:.2f} tokens and "
        f"takes {longer.removeprefix('a step of decode takes ')}"
    )


def _prompts(mine: Speculating, gain: LoadGain, speed_up: Gain) -> str:
    """Why a load gains less than its steps of decode, where it does."""
    if gain.output_tokens_per_s.value > LITTLE_LESS * speed_up.value:
        return ""
    also = ", and the draft layers read them too" if mine.layers is not None else ""
    return f", since no draft shortens the reading of prompts{also}"


def _first_token(ratio: float) -> str:
    """`the first token 10 % later`."""
    share = round(abs(ratio - 1) * 100)
    if not share:
        return "the first token as soon"
    return f"the first token {share} % {'later' if ratio > 1 else 'sooner'}"


def _reason(steps: _Steps, experts: tuple[float | None, float | None], pool: int) -> str:
    """The part of the step that grows most."""
    if steps.ratio < HARDLY:
        return "its tokens share the weights that one token reads anyway"
    before = {part.name: part.seconds for part in steps.plain.parts}
    grown = [part._replace(seconds=part.seconds - before.get(part.name, 0.0)) for part in steps.verify.parts]
    most = max([*grown, *([steps.draft] if steps.draft else [])], key=lambda part: part.seconds)
    plain, verify = experts
    if most.name == "draft":
        return "the draft's own passes take the largest part of that"
    if most.name == "experts" and most.binding in ("memory", "fixed") and plain and verify:
        if plain > NEARLY_ALL * pool:
            return f"{plain:.0f} of {pool} experts of a layer are read anyway, hardly any are left to be new"
        return f"{verify:.0f} of {pool} experts of a layer are read, not {plain:.0f}"
    told = f"what grows most is {PARTS.get(most.name, most.name)}, bound by {TERMS[most.binding]}"
    if most.binding == "compute":
        return f"{told}: a token that is verified costs as much there as one that is decoded"
    return told


def _time(step: StepTime) -> Time:
    return Time(step.seconds, step.low_s, step.high_s, step.basis)
