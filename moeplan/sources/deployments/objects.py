"""Objects of Kubernetes among the documents of one text: found by kind and name, and what autoscalers say of them."""

from __future__ import annotations

from moeplan.core.deployed import Quote
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.object_lists import object_name
from moeplan.sources.deployments.stream import Stream

_KEDA_MOST = "100"
"""`maxReplicaCount` where a ScaledObject states none (keda.sh, ScaledObject specification)."""


def find_object(stream: Stream, kinds: tuple[str, ...], name: str) -> Node | None:
    """The object of one of these kinds with this name; None where the text has none."""
    return next((stream.named_objects[kind, name] for kind in kinds if (kind, name) in stream.named_objects), None)


def named(document: Node, stream: Stream) -> str:
    """`metadata.name`, else the file's name."""
    return object_name(document) or stream.stem


def most_replicas(stream: Stream, kind: str, name: str) -> Quote | None:
    """What an autoscaler of the same text may scale this object to: HPA, KEDA, AIBrix; None where none does."""
    scaler = stream.scalers.get((kind, name))
    if scaler is None:
        return None
    if scaler.at("kind").word() != "ScaledObject":
        return scaler.at("spec", "maxReplicas").quote()
    stated = scaler.at("spec", "maxReplicaCount").quote()
    return stated or Quote(_KEDA_MOST, scaler.key, "default", why="KEDA's maxReplicaCount")
