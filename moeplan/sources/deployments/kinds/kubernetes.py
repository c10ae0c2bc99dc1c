"""Kubernetes' own workloads: Deployment, StatefulSet, ReplicaSet, DaemonSet, Job, CronJob, Pod, and lists of objects.

A patch of kustomize is read as far as it goes: what it lacks stands in its base.
"""

from __future__ import annotations

from importlib import import_module

from moeplan.core.deployed import Deployed, FileRemark, Gang, Lines, PlainSecret, Quote
from moeplan.sources.deployments.gangs import follows, spread
from moeplan.sources.deployments.kinds import DOCUMENT_READERS
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.object_lists import listed_objects
from moeplan.sources.deployments.objects import most_replicas, named
from moeplan.sources.deployments.pods import read_pod
from moeplan.sources.deployments.record import moeplan_annotations
from moeplan.sources.deployments.roles import role_of_labels
from moeplan.sources.deployments.stream import Found, Stream

_GROUPS = {
    "Deployment": ("apps/",), "StatefulSet": ("apps/", "apps.kruise.io/"), "ReplicaSet": ("apps/",),
    "DaemonSet": ("apps/", "apps.kruise.io/"), "ReplicationController": ("v1",), "Job": ("batch/",),
    "CronJob": ("batch/",), "Pod": ("v1",), "Rollout": ("argoproj.io/",), "CloneSet": ("apps.kruise.io/",),
    "Service": ("serving.knative.dev/",),
}  # fmt: skip
"""API groups by kind: other programs have a Job of their own; some have workloads that are written like Kubernetes' own."""


def recognises(document: Node) -> bool:
    """By kind and API group; lists too, whatever they hold."""
    kind, version = document.at("kind").word(), document.at("apiVersion").word()
    if kind.endswith("List") and document.at("items").kind == "list":
        return version == "v1" or kind.removesuffix("List") in _GROUPS
    group = _GROUPS.get(kind)
    return group is not None and version.startswith((*group, "extensions/"))


def read(document: Node, stream: Stream) -> Found:
    """The engines of an object, or of all objects of a list."""
    if document.at("items").kind == "list":
        return _read_list(document, stream)
    kind = document.at("kind").word()
    name = named(document, stream)
    template = _template(document, kind)
    base = Deployed(
        f"k8s.{kind.lower()}",
        name,
        document.key,
        gang=Gang(replicas=_replicas(document, kind), max_replicas=most_replicas(stream, kind, name)),
        role=role_of_labels(document.at("metadata", "labels"), template.at("metadata", "labels")) or "aggregate",
        annotations=moeplan_annotations(document.at("metadata", "annotations"), template.at("metadata", "annotations")),
    )
    found = read_pod(template.at("spec"), base, stream, _built_in(document, kind))
    engines = tuple(spread(each) for each in found.deployments if not follows(each.command))
    followers = tuple(each.name for each in found.deployments if follows(each.command))
    return found._replace(deployments=engines, passed_over=(*followers, *found.passed_over))


def _template(document: Node, kind: str) -> Node:
    """What holds `metadata` and `spec` of the pods."""
    match kind:
        case "Pod":
            return document
        case "CronJob":
            return document.at("spec", "jobTemplate", "spec", "template")
        case _:
            return document.at("spec", "template")


def _replicas(document: Node, kind: str) -> Quote | None:
    spec = document.at("spec")
    match kind:
        case "Pod":
            return None
        case "DaemonSet":
            return Quote("one for each node", document.spot, "unresolved", ("number of nodes",))
        case "Job":
            return spec.at("parallelism").quote()
        case "CronJob":
            return spec.at("jobTemplate", "spec", "parallelism").quote()
        case _:
            return spec.at("replicas").quote()


def _built_in(document: Node, kind: str) -> dict[str, Quote]:
    """The variable of an indexed Job; the first pod leads."""
    if kind == "Job" and document.at("spec", "completionMode").word() == "Indexed":
        return {"JOB_COMPLETION_INDEX": Quote("0", document.spot, "inferred", why="the first pod")}
    return {}


def _read_list(document: Node, stream: Stream) -> Found:
    """Each object by the first reader that knows it."""
    deployments: list[Deployed] = []
    remarks: list[FileRemark] = []
    secrets: list[PlainSecret] = []
    passed_over: list[str] = []
    items = list(listed_objects(document))
    for place, item in enumerate(items):
        behind = items[place + 1].key.line if place + 1 < len(items) else 0
        lines = Lines(item.key.line, behind - 1) if behind > item.key.line else Lines(item.key.line)
        for name in DOCUMENT_READERS if item is not document else ():
            reader = import_module(f"{__package__}.{name}")
            if reader.recognises(item):
                found: Found = reader.read(item, stream)
                deployments += (each._replace(within=lines) for each in found.deployments)
                remarks += found.remarks
                secrets += found.secrets
                passed_over += found.passed_over
                break
    return Found(tuple(deployments), tuple(remarks), tuple(secrets), tuple(passed_over))
