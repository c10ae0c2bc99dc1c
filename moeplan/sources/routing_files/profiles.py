"""Routing profiles in YAML: folded figures with their provenance, short enough to be shipped and read by people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from moeplan.sources.strict_yaml import load

SCHEMA = "moeplan.routing-profile/1"

MOST_BYTES = 16 << 20
"""60 layers of 384 experts, three phases and ten classes make 2 MiB."""


def read_profile(path: Path) -> RoutingProfile:
    """The profile of a YAML file. InputError where it is none, names the file, the line and the key."""
    read_bytes(path, MOST_BYTES)  # an ordinary file of bounded size, or an error
    block = load(path, PAGE, lines=True, most_bytes=MOST_BYTES)
    check_schema(block, SCHEMA)
    return profile_of(block)


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
