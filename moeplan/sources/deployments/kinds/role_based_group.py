"""Groups of roles: RoleBasedGroup and its set (sgl-project/rbg, v1alpha1 and v1alpha2), AIBrix's StormService.

Each role is a workload of its own: single pods, or groups of a leader and workers that are one engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from moeplan.core.deployed import Deployed, FileRemark, Gang, PlainSecret, Quote
from moeplan.sources.deployments.gangs import follows, spread, times
from moeplan.sources.deployments.kinds.leader_worker_set import group_variables
from moeplan.sources.deployments.merging import merged
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.objects import most_replicas, named
from moeplan.sources.deployments.pods import read_pod
from moeplan.sources.deployments.record import moeplan_annotations
from moeplan.sources.deployments.roles import role_of_labels, role_of_word
from moeplan.sources.deployments.stream import Found, Stream

_GROUPS = ("RoleBasedGroup", "RoleBasedGroupSet", "StormService")
_KINDS = {
    "RoleBasedGroup": "rbg.rolebasedgroup",
    "RoleBasedGroupSet": "rbg.rolebasedgroupset",
    "StormService": "aibrix.stormservice",
}
_APIS = ("workloads.x-k8s.io/", "orchestration.aibrix.ai/")


class _Part(NamedTuple):
    """The pods of a role that run an engine."""

    name: str
    template: Node
    size: Quote | None = None
    """Pods of one engine, where they are a group."""
    times: Quote | None = None
    """So many of these pods in each replica of the role, where they are no group."""


def recognises(document: Node) -> bool:
    """By kind and API group."""
    return document.at("kind").word() in _GROUPS and document.at("apiVersion").word().startswith(_APIS)


def read(document: Node, stream: Stream) -> Found:
    """One deployment for each role that runs an engine."""
    spec = _group_spec(document)
    groups = document.at("spec", "replicas").quote() if spec is not document.at("spec") else None
    deployments: list[Deployed] = []
    remarks: list[FileRemark] = []
    secrets: list[PlainSecret] = []
    passed_over: list[str] = []
    for role in spec.at("roles"):
        found = _read_role(document, role, spec, groups, stream)
        deployments += found.deployments
        remarks += found.remarks
        secrets += found.secrets
        passed_over += found.passed_over
    return Found(tuple(deployments), tuple(remarks), tuple(secrets), tuple(passed_over))


def _group_spec(document: Node) -> Node:
    """What holds the roles."""
    spec = document.at("spec")
    if "roles" in spec:
        return spec
    for path in (("groupTemplate", "spec"), ("template", "spec"), ("template",), ("groupTemplate",)):
        if "roles" in spec.at(*path):
            return spec.at(*path)
    return spec


def _read_role(document: Node, role: Node, spec: Node, groups: Quote | None, stream: Stream) -> Found:
    kind = document.at("kind").word()
    role_name = role.at("name").word()
    name = f"{named(document, stream)}-{role_name}"
    deployments: list[Deployed] = []
    remarks: list[FileRemark] = []
    secrets: list[PlainSecret] = []
    passed_over: list[str] = []
    for part in _parts(role, spec, remarks):
        replicas = times(times(role.at("replicas").quote(), groups), part.times)
        labels = (part.template.at("metadata", "labels"), role.at("labels"))
        base = Deployed(
            _KINDS[kind],
            f"{name}-{part.name}" if part.name else name,
            role.key,
            gang=Gang(None, part.size, replicas, most_replicas(stream, "RoleBasedGroupScalingAdapter", name)),
            role=role_of_word(role_name) or role_of_labels(*labels) or "aggregate",
            annotations=moeplan_annotations(
                document.at("metadata", "annotations"),
                role.at("annotations"),
                part.template.at("metadata", "annotations"),
            ),
        )
        found = read_pod(part.template.at("spec"), base, stream, _built_in(document, role, part.size))
        engines = [each for each in found.deployments if not follows(each.command)]
        deployments += engines if part.size is not None else [spread(each) for each in engines]
        secrets += found.secrets
        passed_over += found.passed_over
    return Found(tuple(deployments), tuple(remarks), tuple(secrets), tuple(passed_over))


def _parts(role: Node, spec: Node, remarks: list[FileRemark]) -> Iterator[_Part]:
    """The pods of a role, whatever its pattern and version."""
    components = role.at("customComponentsPattern", "components").items or role.at("components").items
    for component in components:
        template = _template(component, spec, remarks)
        yield _Part(component.at("name").word(), template, times=component.at("size").quote())
    if components:
        return
    group = role.at("leaderWorkerPattern")
    if group.there:
        leader = merged(_template(group, spec, remarks), group.at("leaderTemplatePatch"))
        yield _Part("", leader, group.at("size").quote() or Quote("1", group.spot, "default", why="size"))
        return
    single = role.at("standalonePattern")
    template = _template(single if single.there else role, spec, remarks)
    group = role.at("leaderWorkerSet")
    if group.there:
        leader = merged(template, group.at("patchLeaderTemplate"))
        yield _Part("", leader, group.at("size").quote() or Quote("1", group.spot, "default", why="size"))
    else:
        yield _Part("", template, role.at("podGroupSize").quote())


def _template(holder: Node, spec: Node, remarks: list[FileRemark]) -> Node:
    """The pod template, or the shared one that is named, with its patch laid over it."""
    reference = holder.at("templateRef")
    name = reference.at("name").quote()
    if name is None:
        return holder.at("template")
    shared = next((each for each in spec.at("roleTemplates") if each.at("name").word() == name.text), None)
    if shared is None:
        told = f"the role template {name.text} is not in this text"
        remarks.append(FileRemark("base-missing", told, name.spot, "state it under `roleTemplates`"))
    patch = reference.first("patch") if reference.at("patch").there else holder.at("templatePatch")
    base = shared.at("template") if shared is not None else Node("null", holder.spot)
    return merged(base, patch) if patch.there else base


def _built_in(document: Node, role: Node, size: Quote | None) -> dict[str, Quote]:
    found = {
        "GROUP_NAME": Quote(document.at("metadata", "name").word(), document.spot),
        "ROLE_NAME": Quote(role.at("name").word(), role.spot),
        "ROLE_INDEX": Quote("0", role.spot, "inferred", why="the first of its role"),
        "POD_GROUP_INDEX": Quote("0", role.spot, "inferred", why="the leader"),
        "STORM_SERVICE_NAME": Quote(document.at("metadata", "name").word(), document.spot),
    }
    if size is not None:
        names = ("LEADER_ADDRESS", "GROUP_SIZE", "WORKER_INDEX")
        found |= group_variables(document, size, "LWS_", *names) | group_variables(document, size, "RBG_LWP_", *names)
    return found
