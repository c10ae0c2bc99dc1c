"""What the kinds of routing files have in common: provenance, layers, the bounds of each, and JSON read strictly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from moeplan.core.errors import InputError
from moeplan.core.routing_capture import MOST_EXPERTS, MOST_LAYERS
from moeplan.core.routing_profile import PHASES, Curve, LayerRouting, Phase, Provenance, RoutingProfile
from moeplan.sources.strict_json import beyond, read_ordinary
from moeplan.sources.strict_json import json_object as strict_object
from moeplan.sources.strict_yaml import Block, shown

PAGE = "docs/routing.md"
LARGE = "name another file, or keep fewer windows"

MOST_CLASSES = 64
MOST_NOTES = 100
MOST_NOTE_LETTERS = 2000
MOST_TOKENS = 10**15

COUNTS_DIFFER = 0.01
"""Counts may differ from tokens x experts per token by this share: samplers of engines round."""


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """All of an ordinary file. InputError where it cannot be read, or is larger than `most_bytes`."""
    return read_ordinary(path, most_bytes, hint="name a file of routing", large_hint=LARGE)


def too_large(path: Path, most_bytes: int) -> InputError:
    """The error for a file beyond its bound."""
    return beyond(path, most_bytes, LARGE)


def unwritable(path: Path, error: OSError) -> InputError:
    """The error for a file that the system does not take."""
    return InputError(f"{path}: cannot be written ({error.strerror or error})", hint="name a file that you can write")


def json_object(text: bytes, where: str) -> Block:
    """One JSON object. InputError for anything else: broken JSON, NaN, keys given twice, text that is not UTF-8."""
    return strict_object(text, where, PAGE)


def check_schema(block: Block, schema: str, *older: str) -> str:
    """What schema the file says that it is of; InputError unless it is this one, or an older one that is read too."""
    said = block.text("schema")
    if said is not None and said in (schema, *older):
        return said
    what = "has no `schema`" if said is None else f"is of the schema {shown(said)}"
    raise InputError(
        f"{block.where}: it {what}, and {schema} is read from such a file",
        hint="captures end in .jsonl, counts in .json, profiles in .yaml; a later schema needs a later moeplan",
    )


def required_text(block: Block, key: str) -> str:
    """A text that must be there."""
    value = block.text(key)
    if value is None:
        raise block.wrong(key, "is missing", f"add it; {PAGE} has the keys")
    return value


def required_integer(block: Block, key: str, minimum: int, maximum: int) -> int:
    """A whole number that must be there."""
    value = block.integer(key, minimum, maximum)
    if value is None:
        raise block.wrong(key, "is missing", f"add it; {PAGE} has the keys")
    return value


def provenance_of(block: Block | None) -> Provenance:
    """Provenance as it stands in a file; what is absent is unknown."""
    if block is None:
        return Provenance()
    words = {key: block.text(key) for key in Provenance._fields if key != "seed"}
    found = Provenance(**words, seed=block.integer("seed"))
    block.done()
    return found


def provenance_words(provenance: Provenance) -> dict[str, Any]:
    """What a file keeps of it: all that is known."""
    return {key: value for key, value in provenance._asdict().items() if value is not None}


def profile_of(block: Block) -> RoutingProfile:
    """Model, provenance, phases, classes and notes, checked against each other."""
    model = required_text(block, "model")
    revision = block.text("revision")
    provenance = provenance_of(block.block("provenance"))
    notes = block.texts("notes")
    if len(notes) > MOST_NOTES or any(len(note) > MOST_NOTE_LETTERS for note in notes):
        raise block.wrong(
            "notes", f"hold more than {MOST_NOTES} entries, or one of more than {MOST_NOTE_LETTERS} letters"
        )
    phases = block.block("phases")
    if phases is None:
        raise block.wrong("phases", "is missing", f"give the layers under `phases: all:`; see {PAGE}")
    layers: dict[Phase, tuple[LayerRouting, ...]] = {}
    for phase in PHASES:
        found = _layers(phases, phase)
        if found:
            layers[phase] = found
    phases.done()
    if "all" not in layers:
        raise phases.wrong("all", "is missing", "give the layers of both phases together as `all`")
    experts = {layer.layer: layer.num_experts for layer in layers["all"]}
    for phase, those in layers.items():
        _same_layers(phases, phase, those, experts)
    classes: dict[str, tuple[LayerRouting, ...]] = {}
    below = block.block("classes")
    if below is not None:
        if len(below.values) > MOST_CLASSES:
            raise block.wrong("classes", f"are {len(below.values)}; no more than {MOST_CLASSES} are read")
        for name in below.values:
            if not isinstance(name, str):
                raise below.wrong(str(name), "is not text", "put the name of the class in quotes")
            classes[name] = _layers(below, name)
            _same_layers(below, name, classes[name], experts)
    block.done()
    return RoutingProfile(model, revision, provenance, layers, classes, notes)


def _same_layers(block: Block, key: str, layers: Sequence[LayerRouting], experts: Mapping[int, int]) -> None:
    for layer in layers:
        if layer.layer not in experts:
            raise block.wrong(key, f"has layer {layer.layer}, which `phases.all` does not have", "add it there")
        if layer.num_experts != experts[layer.layer]:
            raise block.wrong(
                key,
                f"says that layer {layer.layer} has {layer.num_experts} experts, and `phases.all` says {experts[layer.layer]}",
                "correct one of them",
            )


def _layers(block: Block, key: str) -> tuple[LayerRouting, ...]:
    blocks = block.blocks(key)
    if len(blocks) > MOST_LAYERS:
        raise block.wrong(key, f"has {len(blocks)} layers; no more than {MOST_LAYERS} are read")
    found: list[LayerRouting] = []
    for below in blocks:
        layer = _layer(below)
        if found and layer.layer <= found[-1].layer:
            raise below.wrong("layer", f"is {layer.layer} behind {found[-1].layer}; layers must ascend")
        found.append(layer)
    return tuple(found)


def _layer(block: Block) -> LayerRouting:
    layer = required_integer(block, "layer", 0, 10**6)
    num_experts = required_integer(block, "num_experts", 1, MOST_EXPERTS)
    chosen = block.number("experts_per_token")
    if chosen is None or not 0 < chosen <= num_experts:
        said = "is missing" if chosen is None else f"is {chosen:g}; it must be above 0, and at most {num_experts}"
        raise block.wrong("experts_per_token", said)
    counts = _counts(block, "counts", block.raw("counts"), num_experts)
    total = sum(counts)
    if total == 0:
        raise block.wrong(
            "counts", "are all zero: nothing was counted", "leave the layer out, or count while the model runs"
        )
    tokens = block.integer("tokens", 1, MOST_TOKENS)
    if tokens is None:
        tokens = max(1, round(total / chosen))
    elif abs(total - tokens * chosen) > 1 + COUNTS_DIFFER * total:
        raise block.wrong(
            "counts",
            f"sum to {total}, and {tokens} tokens of {chosen:g} experts make {tokens * chosen:.0f}",
            "correct one of them",
        )
    most = max(counts)
    if most > tokens * (1 + COUNTS_DIFFER) + 1:  # a token chooses an expert once
        raise block.wrong(
            "counts",
            f"say that expert {counts.index(most)} was chosen {most} times by {tokens} tokens",
            "correct `tokens` and `experts_per_token`, or the counts",
        )
    in_sequence = _curve(block, "in_sequence", num_experts)
    across = _curve(block, "across", num_experts)
    overlap = _curve(block, "overlap", 1)
    near_ties = block.number("near_ties")
    if near_ties is not None and near_ties > 1:
        raise block.wrong("near_ties", f"is {near_ties:g}; a share is at most 1")
    dropped = block.integer("dropped", 0, total) or 0
    windows = _windows(block, num_experts)
    if windows and tuple(map(sum, zip(*windows, strict=True))) != counts:
        raise block.wrong("windows", "do not sum to `counts`", "correct one of them, or leave the windows out")
    block.done()
    return LayerRouting(
        layer, num_experts, chosen, tokens, counts, in_sequence, across, overlap, near_ties, dropped, windows
    )


def _counts(block: Block, key: str, value: Any, num_experts: int) -> tuple[int, ...]:
    """Counts per expert: a list of numbers, or text of them with spaces between, as profiles keep them."""
    if value is None:
        raise block.wrong(key, "is missing", "give one number per expert")
    if isinstance(value, str):
        items: Sequence[Any] = [_whole(word) for word in value.split(maxsplit=num_experts)[: num_experts + 1]]
    else:
        items = value if isinstance(value, list) else [value]
    if len(items) != num_experts:
        many = f"more than {num_experts}" if len(items) > num_experts else str(len(items))
        raise block.wrong(key, f"has {many} numbers for {num_experts} experts", "is it a file of another model?")
    for item in items:
        whole = isinstance(item, int) or (isinstance(item, float) and item.is_integer())
        if isinstance(item, bool) or not whole or not 0 <= item <= MOST_TOKENS:
            raise block.wrong(key, f"holds {shown(item)}, not only whole numbers of 0 or more")
    return tuple(int(item) for item in items)


def _whole(word: str) -> Any:
    return int(word) if word.isascii() and word.isdigit() and len(word) < 17 else word


def _windows(block: Block, num_experts: int) -> tuple[tuple[int, ...], ...]:
    value = block.raw("windows")
    if value is None:
        return ()
    if not isinstance(value, list):
        raise block.wrong("windows", f"is {shown(value)}, not a list")
    return tuple(_counts(block, "windows", window, num_experts) for window in value)


def _curve(block: Block, key: str, most: float) -> Curve:
    """Pairs "tokens:value" with spaces between, as profiles keep them, or a list of pairs; ascending, values up to `most`."""
    value = block.raw(key)
    if value is None:
        return ()
    pairs: list[Any]
    if isinstance(value, str):
        pairs = [[_number(part) for part in word.split(":")] for word in value.split()]
    else:
        pairs = value if isinstance(value, list) else [value]
    before = 0.0
    for pair in pairs:
        right = isinstance(pair, list) and len(pair) == 2 and all(_is_number(part) for part in pair)
        if not right or not before < pair[0] <= MOST_TOKENS or not 0 <= pair[1] <= most * (1 + 1e-6):
            raise block.wrong(
                key, f"holds {shown(pair)}; it needs pairs of ascending tokens and a value of 0 to {most:g}"
            )
        before = pair[0]
    return tuple((float(first), float(second)) for first, second in pairs)


def _number(word: str) -> Any:
    try:
        return float(word[:40])
    except ValueError:
        return word


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(cast("float", value))
