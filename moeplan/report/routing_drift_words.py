"""Drift of routing in words: the verdict, how far each layer moved, and how many tokens have the same experts."""

from collections.abc import Callable, Iterator

from moeplan.report.page import UNKNOWN, Column
from moeplan.report.routing_words import (
    counted,
    figure,
    known_columns,
    layers_words,
    percent,
    selection_words,
    source_words,
)
from moeplan.routing.result import Drift, LayerDrift

LEGEND = (
    ("distance", "Jensen-Shannon distance of the shares of experts, 0 the same, 1 none in common; ~ noise explains it"),
    ("by chance", "what two samples of one distribution have on average"),
    ("noise to", "what two samples of one distribution do not go beyond"),
    ("equal sets", "tokens of prompts that have the same experts in both"),
    ("shared", "experts of a token that it has in both"),
    ("spread A", "standard deviation of tokens by expert over their mean"),
)
NAMED_LAYERS = 3
MOVED = 3
"""Experts that are named of a layer."""
LEAST_MOVE = 0.005
"""Of a layer's load: an expert that moved less is not named."""


def head_words(drift: Drift) -> list[str]:
    """Both files, and the part of them."""
    first = drift.layers[0]
    layers = f"{counted(len(drift.layers), 'layer', 'layers')} · {selection_words(drift.selection, drift.a)}"
    return [
        f"A: {source_words(drift.a)} · {first.a_tokens:,} tokens",
        f"B: {source_words(drift.b)} · {first.b_tokens:,} tokens",
        layers if drift.bound is None else f"{layers} · bound {drift.bound:g}",
    ]


def verdict_words(drift: Drift) -> str:
    """Whether it moved, and beyond the bound, in one sentence that needs no colour."""
    than_noise = "" if _paired(drift) else " by more than noise"
    moved = f"{_of_all(len(drift.above_noise), drift)} moved{than_noise}"
    farthest = next(layer for layer in drift.layers if layer.layer == drift.farthest[0])
    there = f"farthest {figure(farthest.distance, 3)} in layer {farthest.layer}"
    if drift.passed is None:
        return f"NOT JUDGED: too few tokens were seen to tell {drift.bound:g} from noise in {layers_words(drift.untold)}; {there}"
    if not drift.passed:
        return (
            f"BEYOND THE BOUND: {_of_all(len(drift.beyond_bound), drift)} moved by more than {drift.bound:g}; {there}"
        )
    if not drift.above_noise:
        return f"SAME: no layer moved{than_noise}; {there}"
    if drift.bound is None and _paired(drift) and drift.agreement is not None:
        return f"SAME PROMPTS: {percent(drift.agreement.equal_fraction)} of their tokens have the same experts; {there}"
    if drift.bound is None:
        return f"MOVED: {moved}; {there}"
    return f"WITHIN THE BOUND: {moved}, none by more than {drift.bound:g}; {there}"


def _paired(drift: Drift) -> bool:
    """True where both files are of the same prompts: nothing of the distance is sampling."""
    return not any(layer.noise for layer in drift.layers)


def _of_all(number: int, drift: Drift) -> str:
    return "the layer" if len(drift.layers) == 1 else f"{number} of {len(drift.layers)} layers"


def told_words(drift: Drift) -> Iterator[str]:
    """Where it moved most, and whether the same tokens have the same experts."""
    by_number = {layer.layer: layer for layer in drift.layers}
    for number in drift.farthest[:NAMED_LAYERS]:
        layer = by_number[number]
        moved = [each for each in layer.moved[:MOVED] if abs(each.b_fraction - each.a_fraction) >= LEAST_MOVE]
        if layer.above_noise and moved:
            moves = ", ".join(
                f"expert {each.expert} {percent(each.a_fraction)} to {percent(each.b_fraction)}" for each in moved
            )
            yield f"layer {number}: {moves} of its load"
    both = drift.agreement
    if both is None:
        if all(source.file.lower().endswith(".jsonl") for source in (drift.a, drift.b)):
            yield f"same tokens, same experts: not known, {drift.agreement_unknown}"
        return
    left = f"; {counted(both.other_prompts, 'prompt is', 'prompts are')} not in both" if both.other_prompts else ""
    yield (
        f"same tokens, same experts: {percent(both.equal_fraction)} of {both.tokens:,} tokens of "
        f"{counted(both.prompts, 'prompt', 'prompts')} have equal sets, {percent(both.shared_fraction)} of experts are shared; "
        f"fewest in layer {both.worst_layer}{left}"
    )


def beyond_words(drift: Drift) -> str | None:
    """Which layers are beyond the bound."""
    return f"beyond {drift.bound:g}: {layers_words(drift.beyond_bound)}" if drift.beyond_bound else None


def layer_columns(drift: Drift) -> list[Column]:
    """A row per layer."""

    def column(title: str, cell: Callable[[LayerDrift], str], rank: int = 0) -> Column:
        return Column(title, tuple(map(cell, drift.layers)), rank)

    columns = [
        column("layer", lambda layer: str(layer.layer)),
        column("distance", lambda layer: f"{figure(layer.distance, 3)}{' ' if layer.above_noise else '~'}"),
        column("by chance", lambda layer: figure(layer.floor, 3) if layer.noise else UNKNOWN, 1),
        column("noise to", lambda layer: figure(layer.noise, 3) if layer.noise else UNKNOWN),
        column("equal sets", lambda layer: percent(layer.agreement and layer.agreement.equal_fraction)),
        column("shared", lambda layer: percent(layer.agreement and layer.agreement.shared_fraction), 1),
        column("spread A", lambda layer: figure(layer.a_load_cv), 2),
        column("spread B", lambda layer: figure(layer.b_load_cv), 2),
        column("moved most", _moved_cell, 3),
    ]
    return list(known_columns(columns))


def _moved_cell(layer: LayerDrift) -> str:
    most = layer.moved[0]
    if not layer.above_noise or abs(most.b_fraction - most.a_fraction) < LEAST_MOVE:
        return UNKNOWN
    return f"expert {most.expert}: {percent(most.a_fraction)} to {percent(most.b_fraction)}"
