"""A file of routing and the part of it that is asked for: a phase, a class of prompts, some of the layers."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.core.routing_profile import PHASES, LayerRouting, Phase, RoutingProfile
from moeplan.routing.result import RoutingSource, Selection
from moeplan.sources.routing_files import read_routing

LISTED_CLASSES = 12

_LAYERS = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")


class Part(NamedTuple):
    """The part of a file that is looked at."""

    source: RoutingSource
    selection: Selection
    layers: tuple[LayerRouting, ...]
    notes: tuple[Remark, ...]
    """What the file itself says of what is missing in it."""


def read_part(
    file: str | Path, *, phase: str = "all", prompt_class: str | None = None, layers: Sequence[str | int] = ()
) -> Part:
    """Read a file and take the part of it.

    `layers` are numbers and ranges such as `10-20`, all of them where there are none. Raises InputError for a file that is none of
    routing, and for a phase, a class or layers that it does not have.
    """
    path = Path(file).expanduser()
    profile = read_routing(path)
    source = RoutingSource(
        str(file),
        profile.model,
        profile.revision,
        profile.provenance,
        tuple(name for name in PHASES if name in profile.layers),
        tuple(sorted(profile.classes)),
    )
    taken = _phase(phase)
    found = (
        _of_class(profile, source, prompt_class, taken)
        if prompt_class is not None
        else _of_phase(source, profile, taken)
    )
    wanted = _only(found, layers, source)
    found = tuple(layer for layer in wanted if any(layer.counts))
    if not found:
        raise InputError(
            f"{source.file}: no token was counted in it", hint="capture or count again, with a longer load"
        )
    notes = [Remark("routing-file", "warning", f"{source.file}: {note}") for note in profile.notes]
    if len(found) < len(wanted):
        empty = ", ".join(str(layer.layer) for layer in wanted if not any(layer.counts))
        told = f"{source.file}: {len(wanted) - len(found)} of {len(wanted)} layers chose no expert and are left out: {empty}"
        notes.append(Remark("routing-layers-empty", "warning", told))
    numbers = tuple(layer.layer for layer in found)
    return Part(source, Selection(taken, prompt_class, numbers), found, tuple(notes))


def check_same_layers(first: Part, second: Part) -> None:
    """InputError where two files cannot be of one model: other layers, or layers of other experts."""
    mine = {layer.layer: layer.num_experts for layer in first.layers}
    theirs = {layer.layer: layer.num_experts for layer in second.layers}
    a, b = first.source, second.source
    way_out = "compare files of one model; --layer takes the layers that both have"
    if set(mine) != set(theirs):
        only = sorted(set(mine) ^ set(theirs))
        raise InputError(
            f"{a.file} has {len(mine)} layers and {b.file} {len(theirs)}: layer {only[0]} is in one of them alone",
            hint=way_out,
        )
    for layer, experts in mine.items():
        if experts != theirs[layer]:
            raise InputError(
                f"layer {layer} has {experts} experts in {a.file} ({a.model}) and {theirs[layer]} in {b.file} ({b.model})",
                hint="compare files of one model",
            )


def _phase(phase: str) -> Phase:
    for known in PHASES:
        if phase == known:
            return known
    raise InputError(f"unknown phase {phase!r}", hint=f"phases: {', '.join(PHASES)}")


def _of_phase(source: RoutingSource, profile: RoutingProfile, phase: Phase) -> tuple[LayerRouting, ...]:
    if phase not in profile.layers:
        raise InputError(
            f"{source.file} does not tell the phase {phase} apart",
            hint=f"leave --phase out; it has: {', '.join(source.phases)}",
        )
    return profile.layers[phase]


def _of_class(profile: RoutingProfile, source: RoutingSource, name: str, phase: Phase) -> tuple[LayerRouting, ...]:
    if name not in profile.classes:
        listed = ", ".join(source.classes[:LISTED_CLASSES])
        raise InputError(
            f"{source.file} has no class {name!r} of prompts",
            hint=f"classes: {listed}" if listed else "leave --class out: it does not tell classes apart",
        )
    if phase != "all":
        raise InputError(
            f"--class {name} and --phase {phase}: classes are counted over both phases together",
            hint="leave one of them out",
        )
    return profile.classes[name]


def _only(
    layers: tuple[LayerRouting, ...], wanted: Sequence[str | int], source: RoutingSource
) -> tuple[LayerRouting, ...]:
    if not wanted:
        return layers
    there = [layer.layer for layer in layers]
    taken: set[int] = set()
    for word in (word for text in wanted for word in str(text).split(",")):
        found = _LAYERS.fullmatch(word.strip())
        if found is None:
            raise InputError(f"--layer {word!r} is no layer", hint="write --layer as 3, 10-20 or 3,5,7")
        first, last = int(found[1]), int(found[2] or found[1])
        numbers = {layer for layer in there if first <= layer <= last}
        if not numbers:
            raise InputError(
                f"{source.file} has no layer {word.strip()} with experts",
                hint=f"its layers with experts are {there[0]} to {there[-1]}, {len(there)} of them",
            )
        taken |= numbers
    return tuple(layer for layer in layers if layer.layer in taken)
