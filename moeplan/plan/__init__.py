"""`moeplan plan`: which hardware and layout for a workload, what is second best, and what to fall back on.

cards        the devices to look at, and those left out
formats      what the checkpoint stores, and smaller formats that a card runs
layouts      every layout of an engine
folds        the memory of a layout, once for all cards
search       comparing, and working out what may be worth it
cells        one engine, format and card in full, as `estimate` does
pools        prefill and decode apart
failures     the conditions of each failure
rejections   why cards are not among the plans
between_nodes  plans over several nodes, and what joins these
assembly     candidates as the result shows them
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from typing import Any, get_args

from moeplan.core.deployment import Origin
from moeplan.core.errors import InputError
from moeplan.core.expert_use import ExpertUse
from moeplan.core.model import MoeFfn, Remark
from moeplan.core.units import per_second
from moeplan.core.weights import parameters
from moeplan.core.workload import Workload
from moeplan.engines import ALSO_CALLED, ENGINES
from moeplan.estimate.question import read_kv_dtype
from moeplan.estimate.workload import make_workload
from moeplan.plan.assembly import Assembly, stored_format
from moeplan.plan.between_nodes import network_notes
from moeplan.plan.cards import Card, LeftOut, check_priced, find_cards
from moeplan.plan.failures import FAILURES, Failure
from moeplan.plan.questions import Questions
from moeplan.plan.result import SCHEMA, Fallback, Plan, PlannedModel, PlanRequest, PlanResult, Pools, RankBy, Searched
from moeplan.plan.run import Run
from moeplan.sources.deployments.written import KINDS
from moeplan.sources.expert_uses import read_use
from moeplan.sources.loaded import Asked, LoadedModel
from moeplan.sources.models import find_model

__all__ = ["PlanResult", "plan"]

MOST_GPUS = 64
MOST_ASKED_GPUS = 4096
PLANNED = ("vllm", "sglang", "trtllm", "llamacpp")
"""Engines that are searched unless others are asked for: transformers serves nobody."""


def plan(
    model: str | Path,
    *,
    gpus: Sequence[str] = (),
    max_gpus: int = MOST_GPUS,
    engines: Sequence[str] = (),
    quants: Sequence[str] = (),
    kv_dtype: str | None = None,
    rank: str = "cost",
    pools: str = "both",
    routing: str | Path | None = None,
    skew: float | None = None,
    fallback: Sequence[str] = (),
    dense: str | Path | None = None,
    emit: str | None = None,
    context: int | str | None = None,
    concurrency: int | str | None = None,
    input: int | str | None = None,  # noqa: A002 - the option's name
    output: int | str | None = None,
    ttft: float | str | None = None,
    tpot: float | str | None = None,
    arrival: float | str | None = None,
    workload: str | Path | None = None,
    revision: str | None = None,
    offline: bool = False,
    headers: bool = False,
    file: str | None = None,
    profiles: str | Path | Sequence[str | Path] = (),
    find: Callable[[str, Asked], LoadedModel] = find_model,
) -> PlanResult:
    """Plan how to serve `model`: hardware, number, layout, format and engine, ranked, with what breaks first.

    `gpus` are names (`h100`, `8xh100` for at most eight), all profiles where empty; `engines` and `quants` likewise (`stored`
    is the checkpoint's own format). The workload is stated as in `estimate`. `fallback` names failures (`rank-lost`,
    `skew-doubled`, `context-p99`, or `all`), `dense` a model to go to instead; `emit` asks for the best plan as a deployment
    file (`k8s`, `compose`, `vllm-yaml`). Raises the errors of `moeplan.core.errors`.
    """
    ranked_by = _one_of(rank, get_args(RankBy), "ranking")
    pooled = _one_of(pools, get_args(Pools), "pools")
    if not 1 <= max_gpus <= MOST_ASKED_GPUS:
        raise InputError(
            f"--max-gpus {max_gpus} must be from 1 to {MOST_ASKED_GPUS:,}", hint="for instance --max-gpus 16"
        )
    if emit is not None and emit not in KINDS:
        raise InputError(f"unknown kind of deployment {emit!r}", hint=f"--emit takes {', '.join(KINDS)}")
    named = _engines(engines)
    failures = _failures(fallback)
    folders = tuple(Path(folder) for folder in ([profiles] if isinstance(profiles, str | Path) else profiles))
    loaded = find(str(model), Asked(revision, offline, headers, file, folders, None))
    notes = list(loaded.remarks)
    asked = make_workload(
        loaded.spec, notes, context=context, concurrency=concurrency, input=input, output=output, ttft=ttft, tpot=tpot,
        arrival=arrival, file=workload,
    )  # fmt: skip
    held = _in_flight(asked, notes)
    cards, left = find_cards(gpus, max_gpus, folders, priced=ranked_by == "cost")
    check_priced(gpus, left)
    use = read_use(loaded.spec, routing, skew, notes, model=loaded.id, folders=folders)
    run = Run(
        Questions(loaded, held, read_kv_dtype(kv_dtype)),
        cards, left, named, tuple(quants) or None, max_gpus, ranked_by, pooled, held, use,
        _most_skew(use, failures),
    )  # fmt: skip
    outcome = run.outcome()
    assembly = Assembly(loaded, held.context_tokens, run.questions.kv_dtype)
    frontier = _ranked([assembly.joined(found) for found in outcome.stored], ranked_by)
    smaller = _ranked([assembly.joined(found) for found in outcome.smaller], ranked_by)
    unmeasured = tuple(assembly.unmeasured(option, cell) for option, cell in outcome.unmeasured)
    known = (*frontier, *smaller)
    if not known and asked.ttft_s is None and asked.tpot_s is None:
        known = unmeasured
    best = known[0] if known else None
    question = _asked_words(loaded, held)
    deployment = assembly.deployment(emit, best, run.card(best), question) if emit and best else None
    nearest, missing = (None, None) if best is not None else run.nearest(assembly)
    fallbacks = [run.fallback(failure, best, assembly) for failure in failures] if best is not None else []
    if dense is not None:
        other = plan(
            dense, gpus=gpus, max_gpus=max_gpus, engines=engines, kv_dtype=kv_dtype, rank=rank, pools=pools, skew=skew,
            context=context, concurrency=concurrency, input=input, output=output, ttft=ttft, tpot=tpot, arrival=arrival,
            workload=workload, offline=offline, profiles=profiles, find=find,
        )  # fmt: skip
        fallbacks.append(_dense(other))
    others = [each.plan for each in fallbacks if each.plan is not None and each.failure != "dense"]
    shown = (*frontier, *smaller, *others, *([nearest] if nearest is not None else []))
    notes += network_notes(shown, {card.hardware.profile: card.hardware for card in cards})
    origins: dict[str, Origin] = {
        "gpus": "stated" if gpus else "default",
        "engines": "stated" if engines else "default",
        "formats": "stated" if quants else "default",
        "skew": "default" if skew is None and routing is None else "stated",
    }
    return PlanResult(
        schema=SCHEMA,
        request=PlanRequest(
            _named(cards, left) if gpus else None,
            named, tuple(quants) or None, max_gpus, ranked_by, pooled, use.exponent, use.basis, origins,
        ),
        workload=held.echo(),
        model=_model(loaded, run.questions),
        searched=Searched(
            len(cards), run.num_layouts, run.num_formats, len(named), run.num_plans, run.search.evaluated
        ),
        best=best,
        frontier=frontier,
        smaller_formats=smaller,
        unmeasured=unmeasured,
        nearest=nearest,
        missing=missing,
        rejected=run.rejected(),
        fallback=tuple(fallbacks),
        deployment=deployment,
        notes=tuple(dict.fromkeys((*notes, *run.notes()))),
    )  # fmt: skip


def _most_skew(use: ExpertUse, failures: Sequence[Failure]) -> float:
    """The largest exponent of all searches: bytes that it leaves bound those of all others from below."""
    uses = (use, use.doubled()) if "skew-doubled" in failures else (use,)
    return max(each.exponent_below() for each in uses)


def _one_of(value: str, known: tuple[str, ...], what: str) -> Any:
    if value not in known:
        raise InputError(f"unknown {what} {value!r}", hint=f"known are {', '.join(known)}")
    return value


def _named(cards: Sequence[Card], left: Sequence[LeftOut]) -> tuple[str, ...]:
    """All cards that were asked for, also those that are not planned with."""
    return (*(card.hardware.profile for card in cards), *(each.profile for each in left))


def _asked_words(loaded: LoadedModel, workload: Workload) -> str:
    """What was asked, for the comment of a file."""
    told = f"{loaded.id}, {workload.concurrency:,} requests in flight, context {workload.context_tokens:,}"
    return f"{told}, {workload.mean_input_tokens:,.0f} tokens in and {workload.mean_output_tokens:,.0f} out"


def _engines(asked: Sequence[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(ALSO_CALLED.get(name.lower(), name.lower()) for name in asked)) or PLANNED
    unknown = [name for name in names if name not in ENGINES]
    if unknown:
        raise InputError(f"unknown engine {unknown[0]!r}", hint=f"known engines: {', '.join(PLANNED)}")
    if "transformers" in names:
        raise InputError(
            "transformers is no server, so nothing is planned with it", hint=f"engines: {', '.join(PLANNED)}"
        )
    return names


def _failures(asked: Sequence[str]) -> tuple[Failure, ...]:
    found: list[Failure] = []
    for name in asked:
        known = [failure for failure in FAILURES if name in (failure, "all")]
        if not known:
            raise InputError(
                f"unknown failure {name!r}", hint=f"failures: {', '.join(FAILURES)}, all; --dense MODEL too"
            )
        found += known
    return tuple(dict.fromkeys(found))


def _in_flight(workload: Workload, notes: list[Remark]) -> Workload:
    """The workload with a concurrency: where a rate alone was stated, what is in flight where the limits are just kept.

    Little's law: arrival rate x time in the system. Whoever is faster has fewer in flight.
    """
    if workload.concurrency is not None:
        return workload
    assert workload.arrival_per_s is not None
    if workload.tpot_s is None:
        raise InputError(
            "an arrival rate needs a limit on the time per token: it says how many requests are in flight",
            hint="say --tpot 50ms, or --concurrency",
        )
    time_s = (workload.ttft_s or 0.0) + workload.mean_output_tokens * workload.tpot_s
    count = max(1, ceil(workload.arrival_per_s * time_s))
    told = (
        f"{per_second(workload.arrival_per_s)} requests per second that each take {time_s:.3g} s, as the limits allow, are "
        f"{count:,} in flight"
    )
    notes.append(Remark("arrival-concurrency", "info", told))
    return workload._replace(concurrency=count, origins={**workload.origins, "concurrency": "inferred"})


def _ranked(plans: list[Plan], rank: RankBy) -> tuple[Plan, ...]:
    def key(each: Plan) -> tuple[float, float]:
        tpot_s = each.speed.tpot.value_s if each.speed else float("inf")
        match rank:
            case "cost":
                return each.cost.usd_per_hour if each.cost else float("inf"), tpot_s
            case "gpus":
                return each.num_gpus, tpot_s
            case "latency":
                return tpot_s, each.num_gpus
            case "throughput":
                return -(each.speed.tokens_per_s_per_gpu if each.speed else 0), tpot_s

    return tuple(sorted(plans, key=key))


def _dense(other: PlanResult) -> Fallback:
    told = f"the mixture of experts is given up for {other.model.id}"
    best = other.best
    why = (
        "the same workload, planned for that model"
        if best is not None
        else other.missing or "nothing does all that is asked"
    )
    return Fallback("dense", told, None, why, best)


def _model(loaded: LoadedModel, questions: Questions) -> PlannedModel:
    spec = loaded.spec
    counts = parameters(spec, questions.owned(spec))
    sparse = next((ffn for layer in spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)), None)
    return PlannedModel(
        loaded.id,
        loaded.revision,
        loaded.source,
        loaded.source_kind,
        counts.total,
        counts.active,
        stored_format(loaded),
        sparse.num_experts if sparse else None,
        sparse.experts_per_token if sparse else None,
    )
