"""Routing profiles in YAML: folded figures with their provenance, short enough to be shipped and read by people.

YAML that is cut short at the end of a line is YAML still, so the last key says how many layers stand before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moeplan.core.errors import InputError
from moeplan.core.routing_profile import Curve, LayerRouting, RoutingProfile
from moeplan.sources.file_writing import replace_file
from moeplan.sources.routing_files.facts import (
    PAGE,
    check_schema,
    profile_of,
    provenance_words,
    read_bytes,
    too_large,
    unwritable,
)
from moeplan.sources.strict_yaml import Block, load

SCHEMA, OLDER = "moeplan.routing-profile/2", "moeplan.routing-profile/1"
CLOSING = "layers_in_file"
"""Lists of counts over all phases and classes, the last key of a file; version 1 had none."""
UNKNOWN_LENGTH = f"the profile is of {OLDER}, which does not tell how long it is: whether it is whole is not known"

MOST_BYTES = 16 << 20
"""60 layers of 384 experts, three phases and ten classes make 2 MiB."""


def read_profile(path: Path) -> RoutingProfile:
    """The profile of a YAML file. InputError where it is none, names the file, the line and the key."""
    read_bytes(path, MOST_BYTES)  # an ordinary file of bounded size, or an error
    block = load(path, PAGE, lines=True, most_bytes=MOST_BYTES)
    older = check_schema(block, SCHEMA, OLDER) == OLDER
    if not older:
        _check_whole(block)
    found = profile_of(block)
    return found._replace(notes=(*found.notes, UNKNOWN_LENGTH)) if older else found


def _check_whole(block: Block) -> None:
    """InputError for a file that lost its end, before anything else of it is judged."""
    said = block.integer(CLOSING)
    if said is None:
        raise InputError(
            f"{block.where}: it does not end with `{CLOSING}`, so its end is missing",
            hint="copy it again, or make it again",
        )
    parts = (block.values.get(key) for key in ("phases", "classes"))
    lists = [those for part in parts if isinstance(part, Mapping) for those in part.values()]
    held = sum(len(those) if isinstance(those, list) else 1 for those in lists)
    if held != said:
        raise block.wrong(
            CLOSING,
            f"is {said}, and the phases and classes have {held} layers together",
            "copy it again, or make it again",
        )


def write_profile(path: Path, profile: RoutingProfile) -> None:
    """Write a profile as YAML, in one piece; windows are left out. InputError where it cannot be written.

    Values of curves are rounded to six digits.
    """
    import yaml

    words = {
        "schema": SCHEMA,
        "model": profile.model,
        **({} if profile.revision is None else {"revision": profile.revision}),
        "provenance": provenance_words(profile.provenance),
        **({"notes": list(profile.notes)} if profile.notes else {}),
        "phases": {phase: _words(layers) for phase, layers in profile.layers.items()},
        **({"classes": {name: _words(those) for name, those in profile.classes.items()}} if profile.classes else {}),
        CLOSING: sum(map(len, (*profile.layers.values(), *profile.classes.values()))),
    }
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    data = yaml.dump(words, Dumper=dumper, sort_keys=False, width=140, allow_unicode=True).encode()
    if len(data) > MOST_BYTES:
        raise too_large(path, MOST_BYTES)
    try:
        replace_file(path, data)
    except OSError as error:
        raise unwritable(path, error) from error


def _words(layers: Sequence[LayerRouting]) -> list[dict[str, Any]]:
    found = []
    for layer in layers:
        words: dict[str, Any] = {
            "layer": layer.layer,
            "num_experts": layer.num_experts,
            "experts_per_token": layer.experts_per_token,
            "tokens": layer.tokens,
            "counts": " ".join(map(str, layer.counts)),
        }
        curves: dict[str, Curve] = {"in_sequence": layer.in_sequence, "across": layer.across, "overlap": layer.overlap}
        for key, curve in curves.items():
            if curve:
                words[key] = " ".join(f"{tokens:.10g}:{value:.6g}" for tokens, value in curve)
        if layer.near_ties is not None:
            words["near_ties"] = layer.near_ties
        if layer.dropped:
            words["dropped"] = layer.dropped
        found.append(words)
    return found
