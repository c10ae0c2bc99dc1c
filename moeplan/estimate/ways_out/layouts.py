"""Other layouts on the same GPUs: a degree that was refused put right, stages, experts as wholes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from moeplan.core.model import MoeFfn
from moeplan.core.own_words import switched
from moeplan.core.remedies import nearest
from moeplan.estimate.question import Question
from moeplan.estimate.ways_out.change import Change, least_gpus

SPREADING = ("vllm", "sglang", "trtllm")
"""Engines with degrees to choose between."""
FEW_STAGES = 4
"""More stages leave more room, but each wants a batch of its own to have work: only where these do not help."""


def repairs(question: Question) -> Iterator[Iterable[Change]]:
    """Sorts of changes to a single degree, nearest first: redundant experts, context parallel, expert parallel, groups,
    and ranks or stages where these want more GPUs than were named."""
    if question.deployment.engine not in SPREADING:
        return
    layout, experts = question.deployment.layout, _experts(question)
    if experts and layout.redundant_experts and layout.ep > 1:
        rest = (experts + layout.redundant_experts) % layout.ep
        copies = layout.redundant_experts + (layout.ep - rest if rest else 0)
        yield [stating(question, redundant_experts=copies)] if rest else []
    if layout.dcp > 1 and question.deployment.engine != "trtllm":
        yield [stating(question, dcp=count) for count in nearest(layout.dcp, layout.tp) if layout.tp % count == 0]
    if experts or layout.ep > 1:
        yield [stating(question, ep=count) for count in _expert_ranks(question)]
    if layout.dp > 1:
        yield _groups(question)
    if question.num_devices is not None and question.num_devices < layout.num_gpus:
        yield from _fewer(question, question.num_devices)


def spreads(
    question: Question, num_gpus: int | None = None
) -> tuple[Iterable[Change], Iterable[Change], Iterable[Change]]:
    """Whole layouts: experts as wholes over data-parallel groups, few stages, many stages (fewest first).

    `num_gpus` is another number of GPUs to spread over.
    """
    deployment = question.deployment
    count = num_gpus or question.num_devices or deployment.layout.num_gpus
    if deployment.engine not in SPREADING or count == 1 or count < least_gpus(question):
        return (), (), ()
    few, many = range(1, FEW_STAGES + 1), range(FEW_STAGES + 1, len(question.spec.layers) + 1)
    sorts = (_groups_of_wholes(question, count), _stages(question, count, few), _stages(question, count, many))
    wholes, shallow, deep = ((change._replace(num_gpus=num_gpus) for change in sort) for sort in sorts)
    return wholes, shallow, deep


def plain(question: Question) -> Change:
    """The layout without what other layouts need not have: context parallel ranks, further copies of experts, groups."""
    layout, wanted = question.deployment.layout, {"dcp": 1, "redundant_experts": 0}
    if question.deployment.engine == "trtllm":
        return stating(question, redundant_experts=0)
    if layout.dp > 1:
        wanted |= {"tp": layout.tp, "dp": 1, "ep": kept_ranks(question, layout.tp, 1)}
    return stating(question, **wanted)


def stating(question: Question, **wanted: int | bool) -> Change:
    """The change that gets these degrees: what is so already, and nobody stated otherwise, need not be said."""
    asked, now = question.asked_layout, question.deployment.layout
    told: dict[str, int | bool] = {
        name: value
        for name, value in wanted.items()
        if value != getattr(now, name) or getattr(asked, name) not in (None, value)
    }
    if question.deployment.engine == "trtllm" and asked.dp is None and (now.dp_attention or wanted.get("dp_attention")):
        told.pop("dp", None)  # its groups are as many as its ranks
    inside = question.deployment.engine != "vllm" and wanted.get("dp_attention")
    if "tp" in wanted and ("pp" in told or ("dp" in told and not inside)):
        told = {"tp": wanted["tp"]} | told  # else other degrees would follow from the number of GPUs
    degrees: Mapping[str, int | bool] = switched(question.deployment.flags, told, spread=now.ep > 1)  # type: ignore[assignment]
    return Change(layout=degrees)


def whole_ranks(question: Question, tp: int, dp: int) -> int:
    """Ranks that experts are spread over as wholes: all of a stage."""
    layout = question.deployment.layout
    return {"vllm": tp * dp, "trtllm": tp * layout.dcp}.get(question.deployment.engine, tp)


def kept_ranks(question: Question, tp: int, dp: int) -> int:
    """Expert-parallel ranks in another layout, as they were asked for: none, all of a stage, or as many where that divides."""
    layout = question.deployment.layout
    every, before = whole_ranks(question, tp, dp), whole_ranks(question, layout.tp, layout.dp)
    if layout.ep == 1 or question.deployment.engine == "vllm":
        return every if layout.ep > 1 else 1
    return every if layout.ep >= before or every % layout.ep else layout.ep


def _experts(question: Question) -> int:
    layers = dict.fromkeys(question.spec.layers)
    return max((ffn.num_experts for layer in layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)), default=0)


def _expert_ranks(question: Question) -> list[int]:
    """Other expert-parallel degrees: all ranks of a stage where there is one, else the nearest that divide them."""
    layout = question.deployment.layout
    every = whole_ranks(question, layout.tp, layout.dp)
    if not _experts(question):
        return [1]
    if layout.ep == 1 or question.deployment.engine == "vllm":
        return [every if layout.ep == 1 else 1] if every > 1 else []
    return [count for count in nearest(layout.ep, every) if every % count == 0]


def _groups(question: Question) -> Iterator[Change]:
    """Other numbers of data-parallel groups, on no more GPUs: fewer, or what divides the ranks that they lie in."""
    deployment, layout = question.deployment, question.deployment.layout
    if deployment.engine == "sglang" and layout.dp_attention:
        for dp in nearest(layout.dp, layout.tp):
            if layout.tp % dp == 0:
                yield stating(question, tp=layout.tp, dp=dp, dp_attention=True)
    elif deployment.engine != "trtllm":
        for dp in range(layout.dp - 1, 0, -1):
            yield stating(question, tp=layout.tp, dp=dp, ep=kept_ranks(question, layout.tp, dp))


def _fewer(question: Question, count: int) -> Iterator[list[Change]]:
    """As many tensor-parallel ranks as the GPUs have room for, and as many stages."""
    layout = question.deployment.layout
    for name, degree in (("tp", layout.tp), ("pp", layout.pp)):
        others = layout.num_gpus // degree
        if degree > 1 and count % others == 0:
            tp = count // others if name == "tp" else layout.tp
            dp = tp if question.deployment.engine == "trtllm" and layout.dp_attention else layout.dp
            ep = kept_ranks(question, tp, dp)
            yield [stating(question, dp=dp, ep=ep, **{"tp": tp, name: count // others})]


def _stages(question: Question, count: int, stages: range) -> Iterator[Change]:
    """All ways to share out the GPUs as tensor-parallel ranks and so many stages."""
    deployment, layout = question.deployment, question.deployment.layout
    inside = layout.dp_attention and deployment.engine != "vllm"
    copies = layout.dcp if deployment.engine == "trtllm" else 1 if inside else layout.dp
    for pp in _divisors(count // copies) if count % copies == 0 else ():
        tp = count // copies // pp
        dp = tp if inside and deployment.engine == "trtllm" else layout.dp
        if pp in stages and (tp, pp, count) != (layout.tp, layout.pp, layout.num_gpus):
            yield stating(question, tp=tp, pp=pp, dp=dp, ep=kept_ranks(question, tp, dp))


def _groups_of_wholes(question: Question, count: int) -> Iterator[Change]:
    """Attention in data-parallel groups, experts as wholes over all ranks of a stage."""
    deployment, layout = question.deployment, question.deployment.layout
    ranks = count // layout.pp
    if not _experts(question) or count % layout.pp:
        return
    if deployment.engine == "trtllm":
        if ranks % layout.dcp == 0 and not (layout.dp_attention and count == layout.num_gpus):
            tp = ranks // layout.dcp
            yield stating(question, tp=tp, dp=tp, dp_attention=True, ep=ranks)
        return
    if deployment.engine == "sglang" and layout.dp_attention and count == layout.num_gpus:
        return  # other numbers of groups are tried as such
    for dp in _divisors(ranks)[1:]:
        if deployment.engine == "sglang":
            yield stating(question, tp=ranks, dp=dp, dp_attention=True, ep=ranks)
        elif dp != layout.dp or layout.ep != ranks:
            yield stating(question, tp=ranks // dp, dp=dp, ep=ranks)


def _divisors(number: int) -> list[int]:
    return [count for count in range(1, number + 1) if number % count == 0]
