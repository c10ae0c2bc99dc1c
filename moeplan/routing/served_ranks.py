"""What ranks do under a load, with so many spare slots: asked of `estimate`, so that both say the same."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.routing.spare_result import Served, Worth

if TYPE_CHECKING:  # only who names a GPU asks for an estimate
    from moeplan.estimate.speed_result import Speed, Step

PAYS_FROM = 0.01
"""Share of a step below which a change is none: kernels are known to a few per cent, and differences between placements of the
same kernels to less."""

BALANCERS = {
    "vllm": ("--enable-eplb",),
    "sglang": ("--enable-eplb",),
    "trtllm": ("--moe_config.load_balancer", '{{"num_slots": {slots}}}'),
}
"""The words of an engine's own command line that place experts by load; with copies they are placed so anyway."""

REPORTED = (
    "context-default", "count-reading", "engine-default", "gpu-reading", "routing-few-tokens", "routing-layers-missing",
    "routing-profile", "speed-unknown", "tensor-parallel", "workload-default",
)  # fmt: skip
"""Codes of the estimate's notes that say what was asked; the others are about memory."""

UNTOLD = "speed is not known: "
"""How such a note of an estimate begins."""

BOUND = {"memory": "bandwidth-bound", "compute": "compute-bound", "fixed": "bound by fixed times of their kernels"}

Phase = Literal["decode", "prefill"]


class Asked(NamedTuple):
    """The question, but for the spare slots."""

    model: str
    gpu: str
    engine: str
    ranks: int
    tp: int
    nodes: int | None
    concurrency: int | str | None
    context: int | str | None
    input: int | str | None
    output: int | str | None
    quant: str | None
    skew: float | None
    routing: str | Path | None
    offline: bool
    profiles: tuple[Path, ...]


class Found(NamedTuple):
    """An answer."""

    speed: "Speed | None"
    unknown: str | None
    """Why there is no speed."""
    kv_tokens: int | None
    kv_tokens_per: str
    """What has its own cache: the engine, or each data-parallel rank."""
    fits: bool | None
    served: Served
    notes: tuple[Remark, ...]


def check_asked(asked: Asked) -> None:
    """Raise InputError for an engine or a layout that cannot be."""
    if asked.engine not in BALANCERS:
        raise InputError(
            f"--engine {asked.engine} places no experts by load", hint=f"engines that do: {', '.join(BALANCERS)}"
        )
    if asked.tp < 1 or asked.ranks % asked.tp:
        raise InputError(
            f"--tp {asked.tp} does not divide the {asked.ranks} ranks",
            hint="say how many of the ranks share attention, for instance --tp 1",
        )


def serve(asked: Asked, redundant: int, *, experts: int, by_load: bool, context: int | None = None) -> Found:
    """The load on these ranks with so many copies; without any, experts are in their order unless they are placed `by_load`.

    `context` is that of an earlier answer, so that all are asked the same. Raises the errors of `estimate`.
    """
    from moeplan.estimate import estimate
    from moeplan.estimate.result import MEMORY_REASONS

    degrees: dict[str, int | bool] = {"ep": asked.ranks}
    groups = asked.ranks // asked.tp
    if asked.engine == "vllm":
        degrees |= {"tp": asked.tp, "dp": groups}
    else:
        degrees |= {"tp": asked.ranks, "dp": groups, "dp_attention": True} if groups > 1 else {"tp": asked.ranks}
    words: tuple[str, ...] = ()
    if by_load and not redundant:
        words = tuple(word.format(slots=experts) for word in BALANCERS[asked.engine])
    found = estimate(
        asked.model,
        gpu=asked.gpu,
        engine=asked.engine,
        engine_args=words,
        redundant_experts=redundant or None,
        nodes=asked.nodes,
        context=asked.context if context is None else context,
        concurrency=asked.concurrency,
        input=asked.input,
        output=asked.output,
        quant=asked.quant,
        skew=asked.skew,
        curves=False,
        routing=asked.routing,
        speed=True,
        offline=asked.offline,
        profiles=asked.profiles,
        **degrees,  # type: ignore[arg-type]
    )
    untold = [note.message.removeprefix(UNTOLD) for note in found.notes if note.code == "speed-unknown"]
    load = found.speed.load if found.speed is not None else None
    unknown = None if load is not None else next(iter(untold), "the estimate has none")
    refused = [reason.message for reason in found.verdict.reasons if reason.code not in MEMORY_REASONS]
    if unknown is not None and refused:
        unknown = f"{unknown}: {refused[0]}"
    if asked.concurrency is None:
        unknown = "no load was stated; --concurrency says one"
    return Found(
        None if unknown is not None else found.speed,
        unknown,
        found.capacity.kv_tokens,
        found.capacity.per,
        found.verdict.fits,
        Served(
            asked.gpu,
            found.layout.engine,
            found.layout.tp,
            found.layout.dp,
            found.request.concurrency,
            load.input_tokens if load is not None else 0,
            load.output_tokens if load is not None else 0,
            found.request.context_tokens,
        ),
        tuple(note for note in found.notes if note.code in REPORTED),
    )


def worth(phase: Phase, before: Found, after: Found, *, slots: tuple[int, int], ranks: int) -> Worth:
    """What a step of a phase gains over another, and in one sentence why. `slots`: of a rank, before and after."""
    if before.speed is None or after.speed is None:
        return Worth("unknown", None, None, f"times are not known: {after.unknown or before.unknown}")
    first, second = step_of(phase, before.speed), step_of(phase, after.speed)
    saved = 1 - second.seconds / first.seconds
    verdict: Literal["pays", "worthless", "costs"] = (
        "pays" if saved >= PAYS_FROM else "costs" if saved <= -PAYS_FROM else "worthless"
    )
    return Worth(verdict, second.seconds, saved, _why(verdict, first, second, slots, ranks))


def step_of(phase: Phase, speed: "Speed") -> "Step":
    """A step of decode, or the one that reads prompts."""
    return speed.decode_step if phase == "decode" else speed.prefill_step


def _why(verdict: str, first: "Step", second: "Step", slots: tuple[int, int], ranks: int) -> str:
    before = next((part for part in first.parts if part.name == "experts"), None)
    after = next((part for part in second.parts if part.name == "experts"), None)
    if before is None or after is None:
        return "no experts take part"
    bound = BOUND.get(before.binding, "bound by moving rows")
    share = f"{100 * before.seconds / first.seconds:.0f} % of the step"
    read = f"each rank holds {slots[1]} experts in the place of {slots[0]}, of which a step touches more"
    if verdict == "pays":
        near = ", with computing close behind" if before.binding == "memory" else ""
        return f"the experts are {bound}{near} ({share}), and all wait for the busiest of {ranks} ranks"
    if verdict == "costs":
        more = read if slots[1] > slots[0] else "a rank that holds busy experts beside others touches more of them"
        return f"the experts are {BOUND.get(after.binding, bound)}, and {more}"
    if before.binding in ("memory", "fixed"):
        return f"the experts are {bound} ({share}): a rank reads what it holds, whoever is busy"
    if abs(1 - after.seconds / before.seconds) < PAYS_FROM:
        return f"the experts are {bound}, and the ranks are as even before"
    return f"the experts are {bound}, and no more than {share}"
