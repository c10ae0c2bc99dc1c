"""How fast a question's layout is under a workload: the `speed` block of an estimate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from moeplan.core.capacity import largest
from moeplan.core.deployment import Settings
from moeplan.core.errors import InputError, UnknownError
from moeplan.core.exchange import Way
from moeplan.core.expert_use import LIGHT, ExpertUse, GateSkew
from moeplan.core.layout import Layout
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.quant import Holding
from moeplan.core.serving_speed import Figure
from moeplan.core.step_time import StepModel, StepTime
from moeplan.core.units import duration, per_second
from moeplan.core.workload import RequestClass, Workload
from moeplan.estimate.judge import Answer
from moeplan.estimate.ledger import host_lines
from moeplan.estimate.question import Question, drafts_by
from moeplan.estimate.result import MEMORY_REASONS
from moeplan.estimate.speed_result import AtConcurrency, ClassSpeed, Meets, Rate, Rates, Skew, Speed, Step, Time
from moeplan.estimate.timed import Timed
from moeplan.sources.step_models import served_stages

if TYPE_CHECKING:  # only who speculates pays for it
    from moeplan.estimate.drafts import Asked

OFFLOADED = "host.offloaded"
"""The engines' line of weights that a flag moves to host memory."""
LIMIT_UNKNOWN = "limit-unknown"
"""The note on limits that could not be held against anything."""
MOST_IN_FLIGHT = 4096
"""Requests per data-parallel rank, beyond which nobody serves: the end of every search and table."""
MEASURED_ENGINES = ("vllm", "sglang", "trtllm")
"""Engines whose kernels were measured; those of others have nothing to do with them."""
STEP_TOKENS = {"vllm": "--max-num-batched-tokens", "trtllm": "--max_num_tokens"}
"""The flag that bounds the new tokens of one step; SGLang has a rule of its own."""
SKEW_WHY = (
    "a light skew of the gates, as routers were observed to have; a skew of one's own load is measured, not known"
)


def step_tokens(question: Question) -> int:
    """New tokens of one step at most, as the engine is set; InputError for an engine that has no such setting."""
    engine, settings = question.deployment.engine, question.engine.settle(question.serving)
    if engine == "sglang":
        from moeplan.engines.sglang.settings import step_tokens as of_sglang

        return of_sglang(question.serving, settings)
    if engine not in STEP_TOKENS:
        raise InputError(f"{engine} has no setting for the tokens of one step", hint="name another engine")
    return settings.count(STEP_TOKENS[engine])


def timed(
    question: Question,
    workload: Workload,
    notes: list[Remark],
    use: ExpertUse = LIGHT,
    drafts: Asked | None = None,
) -> tuple[Question, Timed | None]:
    """The question with the times of its operations, at the concurrency that an arrival rate makes where none was stated.

    None, with a note `speed-unknown`, where times are not known.
    """
    found: Timed | None = None
    try:
        found = times_of(question, drafts, notes)._replace(use=use)
        if workload.concurrency is None:
            question = _under_arrival(question, found, workload, notes)
    except (InputError, UnknownError) as error:
        notes += _unknown(f"{error.message}; {error.hint}", workload)
        if drafts is not None:
            from moeplan.estimate.drafts import left_open

            notes.append(left_open(drafts.drafts, question.held, with_card=question.serving.hardware is not None))
        return question, None
    return question, found


def speed_of(question: Question, known: Timed, workload: Workload, answer: Answer, notes: list[Remark]) -> Speed | None:
    """The block; limits that are missed are notes `limit-missed`. None, with a note, where it is not known."""
    refused = [reason for reason in answer.verdict.reasons if reason.code not in MEMORY_REASONS]
    if refused and answer.verdict.fits is False:
        notes += _unknown("the engine would not start", workload)
        return None
    try:
        return _speed(question, known, workload, answer, notes)
    except (InputError, UnknownError) as error:
        notes += _unknown(f"{error.message}; {error.hint}", workload)
        return None


def _unknown(why: str, workload: Workload) -> list[Remark]:
    notes = [Remark("speed-unknown", "warning", f"speed is not known: {why}")]
    asked = [limit for each in workload.classes for limit in (each.ttft_s, each.tpot_s)]
    if any(limit is not None for limit in (workload.ttft_s, workload.tpot_s, workload.arrival_per_s, *asked)):
        notes.append(
            Remark(LIMIT_UNKNOWN, "warning", "so it is not known whether the limits that were stated are kept")
        )
    return notes


def times_of(question: Question, drafts: Asked | None = None, notes: list[Remark] | None = None) -> Timed:
    """Raises UnknownError or InputError that says why times are not known; `notes` takes what is not known of the drafts."""
    serving, hardware = question.serving, question.serving.hardware
    engine, spec = question.deployment.engine, question.spec
    if hardware is None:
        raise UnknownError("no GPU was named", hint="name one with --gpu")
    if engine not in MEASURED_ENGINES:
        raise UnknownError(f"kernels of {engine} were not measured", hint=f"known are {', '.join(MEASURED_ENGINES)}")
    if spec.is_encoder_decoder:
        raise UnknownError("the time of an encoder is not modelled", hint="models of a decoder alone are")
    settings = question.engine.settle(serving)
    on_host = host_lines(question, settings)
    if any(entry.bytes and (entry.role is not None or entry.code == OFFLOADED) for entry in on_host):
        raise UnknownError(
            "weights stay in host memory, and their way to the GPU is not modelled", hint="keep all of them on GPUs"
        )
    layout, division = question.deployment.layout, question.engine.division(serving, settings)
    exchange = _exchange(question, settings)

    def served(spec: ModelSpec, held: tuple[Holding, ...], layout: Layout) -> tuple[StepModel, ...] | None:
        version = serving.constants.version
        return served_stages(
            spec, held, hardware, engine, division, layout, version=version, exchange=exchange, cache=question.rules
        )

    # Draft layers that are held run beside the model, not in it.
    held = tuple(each for each in question.held if each.part != "mtp") if question.drafts else question.held
    stages = served(spec, held, layout)
    if stages is None:
        raise UnknownError(
            f"no kernel of a device like {hardware.name} was measured", hint="`moeplan profile` measures this machine's"
        )
    found = Timed(stages, step_tokens(question), 1 if layout.dp_attention else layout.dp)
    if drafts is None:
        return found
    from moeplan.estimate.speculation import speculating

    return found._replace(speculating=speculating(question, drafts, served, [] if notes is None else notes))


def _exchange(question: Question, settings: Settings) -> Way | None:
    """How tokens reach experts of other ranks, where a backend was stated that sends each to its experts alone.

    DeepEP's kernels are the only ones of these that were measured.
    """
    layout = question.deployment.layout
    match question.deployment.engine:
        case "vllm":
            from moeplan.engines.vllm.layout import gathers_tokens

            gathers = not layout.dp_attention or gathers_tokens(layout, settings.text("--all2all-backend"))
        case "sglang":
            from moeplan.engines.sglang.layout import a2a_backend

            gathers = not layout.dp_attention or a2a_backend(question.deployment.stated) == "none"
        case _:
            gathers = True
    return None if gathers else "low_latency"


def _under_arrival(question: Question, known: Timed, workload: Workload, notes: list[Remark]) -> Question:
    """The question at the fewest requests in flight under which as many are answered as come in.

    Where they are answered as they come, Little's law holds: in flight = arrival rate x time in the system.
    """
    prompt, answer, arrival = workload.mean_input_tokens, workload.mean_output_tokens, workload.arrival_per_s
    assert arrival is not None

    def too_slow(concurrency: int) -> bool:
        return known.at(concurrency, prompt, answer).output_tokens_per_s.value / answer < arrival

    most = MOST_IN_FLIGHT * question.deployment.layout.dp
    concurrency = min(most, largest(too_slow, most) + 1)
    told = f"{per_second(arrival)} requests per second keep {concurrency:,} in flight; say --concurrency for another"
    if too_slow(concurrency):
        told = f"{per_second(arrival)} requests per second are too many even with {concurrency:,} in flight"
    notes.append(Remark("arrival-concurrency", "info", told))
    return question.at(question.deployment._replace(concurrency=concurrency))


def _speed(question: Question, known: Timed, workload: Workload, answer: Answer, notes: list[Remark]) -> Speed:
    prompt, length = workload.mean_input_tokens, workload.mean_output_tokens
    concurrency, gpus = question.deployment.concurrency, question.deployment.layout.num_gpus
    found = known.at(concurrency, prompt, length)
    total = found.output_tokens_per_s
    answered_per_s = total.value / length
    keeps_up = None if workload.arrival_per_s is None else answered_per_s >= workload.arrival_per_s * (1 - 1e-9)
    classes = tuple(_of_class(each, known, concurrency, workload) for each in workload.classes)
    meets = Meets(_all_of(each.meets.ttft for each in classes), _all_of(each.meets.tpot for each in classes), keeps_up)
    notes += _missed(workload, classes, answered_per_s, keeps_up)
    speculation = None
    if known.speculating is not None:
        from moeplan.estimate.speculation import speculation_of

        speculation = speculation_of(known.speculating, known, workload, answer, question)
    notes += _without_speculation(question, known)
    is_sparse = any(stage.experts for stage in known.stages)
    return Speed(
        load=workload.echo(),
        concurrency=concurrency,
        step_tokens=known.step_tokens,
        skew=_skew(known.use) if is_sparse else None,
        ttft=_time(found.ttft_s),
        tpot=_time(found.tpot_s),
        output_tokens_per_s=Rates(per_user=_per_user(found.tpot_s), per_gpu=_rate(total, gpus), total=_rate(total, 1)),
        over_concurrency=tuple(
            _at(each, known, workload, answer, question) for each in _counts(concurrency, answer, question)
        ),
        decode_step=_step(found.decode),
        prefill_step=_step(found.prefill),
        binding=found.binding,
        regime=found.regime,
        extrapolated=found.extrapolated,
        classes=classes if len(classes) > 1 else (),
        meets=meets,
        speculation=speculation,
    )


def _skew(use: ExpertUse) -> Skew:
    whys = {"assumed": SKEW_WHY, "stated": "as stated", "measured": "counts of the routing profile, layer by layer"}
    why = whys[use.basis]
    if isinstance(use, GateSkew) and use.growth_why:
        why += f"; {use.growth_why}"
    return Skew(use.exponent, use.growth, use.basis, why)


def _of_class(of: RequestClass, known: Timed, concurrency: int, workload: Workload) -> ClassSpeed:
    """As if all requests in flight were of this kind: the worst that it meets."""
    found = known.at(concurrency, of.input_tokens.mean, of.output_tokens.mean)
    ttft_s, tpot_s = workload.ttft_limit_s(of), workload.tpot_limit_s(of)
    meets = Meets(
        None if ttft_s is None else found.ttft_s.value <= ttft_s,
        None if tpot_s is None else found.tpot_s.value <= tpot_s,
        None,
    )
    return ClassSpeed(of.name, _time(found.ttft_s), _time(found.tpot_s), meets)


def _all_of(kept: Iterable[bool | None]) -> bool | None:
    known = [each for each in kept if each is not None]
    return all(known) if known else None


def _missed(
    workload: Workload, classes: tuple[ClassSpeed, ...], answered_per_s: float, keeps_up: bool | None
) -> list[Remark]:
    """A warning for each limit that is not kept."""
    told = []
    for asked, each in zip(workload.classes, classes, strict=True):
        lead = f"class {each.name}: " if len(classes) > 1 else ""
        for kept, what, time, limit_s in (
            (each.meets.ttft, "time to first token", each.ttft, workload.ttft_limit_s(asked)),
            (each.meets.tpot, "time per token", each.tpot, workload.tpot_limit_s(asked)),
        ):
            if kept is False and limit_s is not None:
                band = f"{duration(time.low_s)} to {duration(time.high_s)}"
                told.append(
                    f"{lead}{what} {duration(time.value_s)} ({band}) is beyond the limit of {duration(limit_s)}"
                )
    if keeps_up is False and workload.arrival_per_s is not None:
        asked_per_s = per_second(workload.arrival_per_s)
        told.append(f"{per_second(answered_per_s)} requests per second are answered, and {asked_per_s} come in")
    return [Remark("limit-missed", "warning", each) for each in told]


def _without_speculation(question: Question, known: Timed) -> list[Remark]:
    """A warning where the engine drafts tokens and times are those without: how many are taken depends on what is said."""
    if known.speculating is not None and known.speculating.counts:
        return []
    settings = question.engine.settle(question.serving)
    drafts = [each for each in settings.options if drafts_by(each.flag) and each.value not in (None, False, 0)]
    if not drafts and not question.drafts:
        return []
    told = "speed is without speculation: how many drafted tokens are taken depends on the text"
    if known.speculating is not None:
        stated = known.speculating.acceptance is not None
        what = "what the draft takes is not known" if stated else "--acceptance says how many drafted tokens are taken"
        told = f"times and rates are without speculation: {what}"
    return [Remark("speed-without-speculation", "warning", told)]


def _counts(concurrency: int, answer: Answer, question: Question) -> list[int]:
    """1, 2, 4, ... up to what the cache holds, and the one that was asked."""
    dp = question.deployment.layout.dp
    room = answer.capacity.max_concurrency
    most = concurrency if room is None else min(room, MOST_IN_FLIGHT) * dp
    doubled = [2**power for power in range(most.bit_length()) if 2**power <= most]
    return sorted({*doubled, concurrency})


def _at(concurrency: int, known: Timed, workload: Workload, answer: Answer, question: Question) -> AtConcurrency:
    found = known.at(concurrency, workload.mean_input_tokens, workload.mean_output_tokens)
    layout, room = question.deployment.layout, answer.capacity.max_concurrency
    return AtConcurrency(
        concurrency=concurrency,
        ttft_s=found.ttft_s.value,
        tpot_s=found.tpot_s.value,
        tokens_per_s_per_user=1 / found.tpot_s.value,
        tokens_per_s_per_gpu=found.output_tokens_per_s.value / layout.num_gpus,
        fits=None if room is None else -(-concurrency // layout.dp) <= room,
    )


def _time(figure: Figure) -> Time:
    return Time(figure.value, figure.low, figure.high, figure.basis)


def _rate(figure: Figure, gpus: int) -> Rate:
    return Rate(figure.value / gpus, figure.low / gpus, figure.high / gpus, figure.basis)


def _per_user(tpot: Figure) -> Rate:
    return Rate(1 / tpot.value, 1 / tpot.high, 1 / tpot.low, tpot.basis)


def _step(step: StepTime) -> Step:
    return Step(step.seconds, step.low_s, step.high_s, step.parts)
