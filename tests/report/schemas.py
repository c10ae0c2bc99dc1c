"""The JSON Schemas that ship with moeplan, and answers with one thing wrong in them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
from referencing import Registry
from referencing.jsonschema import DRAFT202012

import moeplan

FOLDER = Path(moeplan.__file__).parent / "report" / "schemas"


class Schema:
    """One schema by the name of its command."""

    def __init__(self, name: str) -> None:
        self.document: dict[str, Any] = json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator.check_schema(self.document)
        self.validator = jsonschema.Draft202012Validator(self.document, registry=_registry())

    def complaints(self, text: str) -> list[str]:
        """What is wrong with a command's output; nothing where it fits."""
        errors = self.validator.iter_errors(json.loads(text))
        return [f"{error.json_path}: {error.message}" for error in errors]

    def at(self, *steps: str) -> dict[str, Any]:
        """The object schema at a path of properties; `*` goes into the items of a list."""
        place = self.document
        for step in steps:
            place = place["items"] if step == "*" else self._object(place)["properties"][step]
        return self._object(place)

    def must_describe(self, path: tuple[str, ...], record: type[NamedTuple]) -> None:
        """The object at a path has the record's fields in their order, needs them all and takes no others."""
        described = self.at(*path)
        assert tuple(described["properties"]) == record._fields
        assert tuple(described["required"]) == record._fields
        assert described["additionalProperties"] is False

    def _object(self, place: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in place:
            found: dict[str, Any] = self.document["$defs"][place["$ref"].rpartition("/")[2]]
            return found
        options = [option for option in place.get("anyOf", []) if option != {"type": "null"}]
        return self._object(options[0]) if options else place


@cache
def _registry() -> Registry[Any]:
    """All of them by their names, for those that speak of another."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.schema.json"))]
    return Registry().with_resources([(each["$id"], DRAFT202012.create_resource(each)) for each in documents])


def changed(text: str, path: tuple[str | int, ...], value: Any) -> str:
    """The output with another value at one place, which may be a new name."""
    answer = json.loads(text)
    place = answer
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(answer)


def without(text: str, name: str) -> str:
    """The output without one of its uppermost names."""
    answer = json.loads(text)
    del answer[name]
    return json.dumps(answer)
