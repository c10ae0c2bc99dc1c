"""Objects of Kubernetes in a document: those of a `kind: List` one by one."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.sources.deployments.nodes import Node


def listed_objects(document: Node) -> Iterator[Node]:
    """The objects of a list, or the document itself."""
    if document.at("kind").word().endswith("List") and document.at("items").kind == "list":
        for item in document.at("items"):
            yield from listed_objects(item)
    else:
        yield document


def object_name(document: Node) -> str:
    """`metadata.name`; empty where there is none."""
    return document.at("metadata").first("name", "generateName").word().rstrip("-")
