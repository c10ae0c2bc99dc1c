"""Reads a text with one reader, as files are read: its documents know each other's ConfigMaps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from moeplan.core.deployed import Deployed, Quote, Spot
from moeplan.sources.deployments.nodes import compose
from moeplan.sources.deployments.stream import Found, Stream


def read(kind: str, text: str, path: str = "deploy.yaml", **variables: str) -> Found:
    """All that the reader finds in the documents that it recognises."""
    composed = compose(text)
    assert not composed.remarks, composed.remarks
    outer = {name: Quote(value, Spot(99)) for name, value in variables.items()}
    stream = Stream(path, composed.documents, outer)
    reader = import_module(f"moeplan.sources.deployments.kinds.{kind}")
    found = [reader.read(document, stream) for document in composed.documents if reader.recognises(document)]
    return Found(*(tuple(each for part in found for each in part[place]) for place in range(4)))


def recognised(kind: str, text: str) -> bool:
    reader = import_module(f"moeplan.sources.deployments.kinds.{kind}")
    return any(reader.recognises(document) for document in compose(text).documents)


def only(found: Found) -> Deployed:
    (deployed,) = found.deployments
    return deployed


def named(found: Found) -> Mapping[str, Deployed]:
    return {each.name: each for each in found.deployments}


def line(command: Sequence[Quote]) -> str:
    """The words with spaces between."""
    return " ".join(word.text for word in command)


def lines_of(command: Iterable[Quote], *words: str) -> list[int]:
    """Where words stand, in the order in which they are asked about."""
    places = {word.text: word.spot.line for word in command}
    return [places[word] for word in words]


def says(command: Sequence[Quote], *phrases: str) -> bool:
    """True where each phrase is among the words: `--tp 8`, or `--flag=value`."""
    whole = f" {line(command)} "
    return all(f" {phrase} " in whole for phrase in phrases)


def example(shared: Path, name: str) -> tuple[str, Mapping[str, Any]]:
    """The text of an example, and what the manifest says a correct reader extracts from it."""
    folder = shared / "data" / "deployments"
    entries = yaml.safe_load((folder / "manifest.yaml").read_text())["entries"]
    facts = next(entry["facts"] for entry in entries if entry["file"] == name)
    return (folder / name).read_text(), facts


def model_of(deployed: Deployed) -> str:
    """The model as it is known from the record: named beside the command, or a word of it."""
    if deployed.model is not None:
        return deployed.model.text
    words = [word.text for word in deployed.command]
    return next(word for word in words if word.count("/") == 1 and not word.startswith(("/", "-")))
