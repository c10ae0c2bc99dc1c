"""GPUs: asked for against needed, and engines that share a card."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from moeplan.check.estimates import Outcome
from moeplan.check.rules import FileSeen, Hit, Rule
from moeplan.core.deployed import REMARKS


def too_few(outcome: Outcome) -> Iterator[Hit]:
    """The layout needs more GPUs than the file asks for, or slices of cards that form no group.

    GPUs of one engine are those of a pod times the pods of a gang. vLLM needs tp x pp x dp of them; SGLang with attention
    data parallelism and TensorRT-LLM need tp x pp, because their dp lies inside of tp.
    """
    found = outcome.estimate
    for reason in found.verdict.reasons if found is not None else ():
        if reason.code in ("gpus-too-few", "slices-apart"):
            yield Hit(reason.message, outcome.subject.spot("gpus", "tp"), reason=reason.code)
    asked = outcome.subject.gpus_per_engine
    # Without a card's name nothing was held against the number that the file asks for.
    if found is not None and found.hardware is None and asked is not None and found.layout.num_gpus > asked:
        told = f"the layout needs {found.layout.num_gpus} GPUs, and the file asks for {asked}"
        yield Hit(told, outcome.subject.spot("gpus", "tp"), "ask for as many, or lower a degree", reason="gpus-too-few")


def idle(outcome: Outcome) -> Iterator[Hit]:
    """The file asks for more GPUs than the layout uses: the rest stands idle, and is paid for."""
    found, asked = outcome.estimate, outcome.subject.gpus_per_engine
    if found is None or asked is None or found.layout.num_gpus >= asked:
        return
    used = found.layout.num_gpus
    told = f"{asked - used} of {asked} GPUs stand idle: the layout uses {used}"
    yield Hit(told, outcome.subject.spot("gpus"), f"ask for {used}, or raise a degree")


def none_asked(outcome: Outcome) -> Iterator[Hit]:
    """The container asks for no GPU, so that it may be placed where there is none.

    Schedulers give a pod the devices that it asks for and no others.
    """
    deployed = outcome.subject.deployed
    lacking = any(REMARKS[remark.code].effect == "missing" for remark in deployed.remarks)
    if deployed.kind.startswith(("k8s.", "kserve.")) and deployed.gang.gpus_per_pod is None and not lacking:
        told = "the container asks for no GPU"
        yield Hit(told, deployed.spot, "state resources.limits, for instance nvidia.com/gpu: 1")


def refused_by_chart(outcome: Outcome) -> Iterator[Hit]:
    """Numbers of pods and ranks that the chart itself refuses to render: data parallel ranks that are no multiple of
    the workers, or of the ranks of a pod.
    """
    for remark in outcome.subject.deployed.remarks:
        if remark.code == "chart-refuses":
            yield Hit(remark.message, remark.spot, remark.hint, reason=remark.code)


def shared_card(seen: FileSeen) -> Iterator[Hit]:
    """Two engines that run at the same time use the same cards, and their shares of the memory add up to more than 1.

    Engines of one machine are those of a compose file, a pod or a script; cards are theirs by device ids or
    CUDA_VISIBLE_DEVICES. vLLM's share is of the whole card, and so counts even where the other engine is idle.
    """
    cards: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in seen.outcomes:
        deployed = outcome.subject.deployed
        for device in deployed.device_ids if deployed.host else ():
            cards[deployed.host, device].append(outcome)
    told: set[tuple[str, ...]] = set()
    for (_, device), sharing in cards.items():
        groups = {each.subject.deployed.not_at_once or str(place) for place, each in enumerate(sharing)}
        names = tuple(each.subject.deployed.name for each in sharing)
        shares = [_share(each) for each in sharing]
        known = [share for share in shares if share is not None]
        if len(groups) < 2 or names in told or len(known) < 2 or sum(known) <= 1:
            continue
        told.add(names)
        parts = " + ".join(f"{name} {share:g}" for name, share in zip(names, shares, strict=True) if share is not None)
        last = sharing[-1].subject
        yield Hit(
            f"{len(sharing)} engines share card {device}, and their shares of its memory are {parts} = {sum(known):g}",
            last.spot("utilization_fraction", "model"),
            "give each its own card, or lower the shares below 1 together",
            deployment=last.deployed.name,
        )


def _share(outcome: Outcome) -> float | None:
    """The engine's share of a card's whole memory; None for engines that state none."""
    found = outcome.estimate
    if found is None or found.layout.engine not in ("vllm", "sglang"):
        return None
    first = next(iter(found.layout.options), None)
    return float(first.value) if first is not None and isinstance(first.value, int | float) else None


RULES = (
    Rule("TOP001", "too few GPUs", "error", too_few),
    Rule("TOP002", "idle GPUs", "warning", idle),
    Rule("TOP003", "no GPU asked for", "warning", none_asked),
    Rule("TOP004", "engines share a card", "error", judge_file=shared_card),
    Rule("TOP005", "refused by its chart", "error", refused_by_chart),
)
