"""Objects of Kubernetes among the documents of one text: lists opened, found by kind and name, and what their metadata say."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.core.deployed import Quote
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.stream import Stream

_KEDA_MOST = "100"
"""`maxReplicaCount` where a ScaledObject states none (keda.sh, ScaledObject specification)."""


def objects(stream: Stream) -> Iterator[Node]:
    """All objects of the text; those of a `kind: List` one by one."""
    for document in stream.documents:
        yield from listed_objects(document)


def listed_objects(document: Node) -> Iterator[Node]:
    """The objects of a list, or the document itself."""
    if document.at("kind").word().endswith("List") and document.at("items").kind == "list":
        for item in document.at("items"):
            yield from listed_objects(item)
    else:
        yield document


def find_object(stream: Stream, kinds: tuple[str, ...], name: str) -> Node | None:
    """The object of one of these kinds with this name; None where the text has none."""
    return next(
        (each for each in objects(stream) if each.at("kind").word() in kinds and object_name(each) == name), None
    )


def object_name(document: Node) -> str:
    """`metadata.name`; empty where there is none."""
    return document.at("metadata").first("name", "generateName").word().rstrip("-")


def named(document: Node, stream: Stream) -> str:
    """`metadata.name`, else the file's name."""
    return object_name(document) or stream.stem


def most_replicas(stream: Stream, kind: str, name: str) -> Quote | None:
    """What an autoscaler of the same text may scale this object to: HPA, KEDA, AIBrix; None where none does."""
    for each in objects(stream):
        target = each.at("spec", "scaleTargetRef")
        if target.at("name").word() != name or (target.at("kind").word() or "Deployment") != kind:
            continue
        match each.at("kind").word():
            case "HorizontalPodAutoscaler" | "PodAutoscaler":
                return each.at("spec", "maxReplicas").quote()
            case "ScaledObject":
                stated = each.at("spec", "maxReplicaCount").quote()
                return stated or Quote(_KEDA_MOST, each.spot, "default", why="KEDA's maxReplicaCount")
            case _:
                continue
    return None
