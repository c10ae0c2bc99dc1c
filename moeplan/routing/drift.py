"""`moeplan routing drift`: how far the use of experts is apart in two files, and whether the same tokens have the same experts."""

from collections.abc import Sequence
from pathlib import Path

from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.core.routing_agreement import CaptureAgreement, agreement
from moeplan.core.routing_drift import drift as distances
from moeplan.core.routing_drift import verdict
from moeplan.core.routing_metrics import load_cv
from moeplan.core.routing_profile import LayerRouting
from moeplan.routing.reading import Part, check_same_layers, read_part
from moeplan.routing.result import DRIFT_SCHEMA, Agreement, AgreementAt, Drift, LayerDrift, Moved
from moeplan.sources.routing_files import read_prompts

CAPTURE = ".jsonl"
MOVED_EXPERTS = 8
"""Experts that are told of each layer."""


def drift(
    a: str | Path,
    b: str | Path,
    *,
    bound: float | None = None,
    phase: str = "all",
    prompt_class: str | None = None,
    layers: Sequence[str | int] = (),
) -> Drift:
    """Hold two files of one model against each other, layer by layer, with the noise that their sizes leave.

    `bound` is the largest Jensen-Shannon distance that passes, 0 to 1. Two captures of the same prompts are also compared
    token by token. Raises the errors of `moeplan.core.errors`.
    """
    if bound is not None and not 0 < bound < 1:
        raise InputError(
            f"--bound {bound:g} must be above 0 and below 1", hint="a Jensen-Shannon distance, for instance 0.1"
        )
    first = read_part(a, phase=phase, prompt_class=prompt_class, layers=layers)
    second = read_part(b, phase=phase, prompt_class=prompt_class, layers=layers)
    check_same_layers(first, second)
    found = distances(first.layers, second.layers)
    both, unknown = _agreement(first, second, prompt_class)
    notes = [*first.notes, *second.notes]
    if both is not None and both.others == 0 and _prompts_alone(first) and _prompts_alone(second):
        # No token is drawn anew, so nothing of the distance is sampling: what moved, moved. Answers are drawn.
        found = tuple(each._replace(floor=0.0, noise=0.0) for each in found)
        told_of_pair = (
            f"both captures have the same {both.prompts:,} prompts: there is no noise of sampling between them"
        )
        notes.append(Remark("drift-same-prompts", "info", told_of_pair))
    judged = verdict(found, bound)
    by_layer = {} if both is None else {each.layer: each for each in both.layers}
    told = []
    for mine, theirs, each in zip(first.layers, second.layers, found, strict=True):
        same = by_layer.get(mine.layer)
        told.append(
            LayerDrift(
                layer=mine.layer,
                num_experts=mine.num_experts,
                a_tokens=mine.tokens,
                b_tokens=theirs.tokens,
                distance=each.distance,
                floor=each.floor,
                noise=each.noise,
                above_noise=each.above_noise,
                beyond_bound=None if bound is None else each.beyond(bound),
                a_load_cv=load_cv(mine.counts),
                b_load_cv=load_cv(theirs.counts),
                moved=_moved(mine, theirs),
                agreement=AgreementAt(same.tokens, same.equal_fraction, same.shared_fraction) if same else None,
            )
        )
    if first.source.model != second.source.model:
        message = f"A is of {first.source.model} and B of {second.source.model}: taken for one model, as their layers are alike"
        notes.append(Remark("drift-models-differ", "warning", message))
    return Drift(
        schema=DRIFT_SCHEMA,
        a=first.source,
        b=second.source,
        selection=first.selection,
        bound=bound,
        passed=judged.passed,
        above_noise=judged.above_noise,
        beyond_bound=judged.beyond,
        untold=judged.untold,
        farthest=tuple(each.layer for each in sorted(found, key=lambda each: (-each.distance, each.layer))),
        layers=tuple(told),
        agreement=None if both is None else _over_layers(both, first.selection.layers),
        agreement_unknown=unknown,
        notes=tuple(notes),
    )


def _prompts_alone(part: Part) -> bool:
    return part.selection.phase == "prefill" or "decode" not in part.source.phases


def _moved(a: LayerRouting, b: LayerRouting) -> tuple[Moved, ...]:
    a_total, b_total = sum(a.counts), sum(b.counts)
    shares = [
        Moved(expert, mine / a_total, theirs / b_total)
        for expert, (mine, theirs) in enumerate(zip(a.counts, b.counts, strict=True))
    ]
    shares.sort(key=lambda each: (-abs(each.b_fraction - each.a_fraction), each.expert))
    return tuple(shares[:MOVED_EXPERTS])


def _agreement(a: Part, b: Part, prompt_class: str | None) -> tuple[CaptureAgreement | None, str | None]:
    """Both captures token by token; None with the reason where they are not two captures of some same prompts."""
    paths = [Path(part.source.file).expanduser() for part in (a, b)]
    if any(path.suffix.lower() != CAPTURE for path in paths):
        return None, "only two captures tell it"
    if a.selection.phase == "decode":
        return None, "answers may be other texts; prompts tell it"
    (header, mine), (other, theirs) = (read_prompts(path) for path in paths)
    if header.layers != other.layers:
        return None, "the captures have other layers, or other numbers of experts per token"
    of_class = [
        (prompt for _, prompt in prompts if prompt_class is None or prompt.prompt_class == prompt_class)
        for prompts in (mine, theirs)
    ]
    found = agreement(header, *of_class)
    if not any(layer.layer in a.selection.layers for layer in found.layers):
        return None, "the captures have no prompt in common"
    return found, None


def _over_layers(both: CaptureAgreement, layers: Sequence[int]) -> Agreement:
    kept = [each for each in both.layers if each.layer in layers]
    worst = min(kept, key=lambda each: (each.equal_fraction, each.layer))
    return Agreement(
        prompts=both.prompts,
        other_prompts=both.others,
        tokens=max(each.tokens for each in kept),
        equal_fraction=sum(each.equal_fraction for each in kept) / len(kept),
        shared_fraction=sum(each.shared_fraction for each in kept) / len(kept),
        worst_layer=worst.layer,
    )
