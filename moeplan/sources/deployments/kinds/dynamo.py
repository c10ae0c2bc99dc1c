"""NVIDIA Dynamo's DynamoGraphDeployment and DynamoComponentDeployment, v1alpha1 and v1beta1.

A graph has components: workers that run an engine each, beside frontends, planners and endpoint pickers, which run none.
v1alpha1 spreads a pod over the component (`resources`, `envs`, `extraPodSpec.mainContainer`); v1beta1 has a pod template
whose container `main` is the engine's. Source: ai-dynamo/dynamo deploy/operator/api/{v1alpha1,v1beta1}.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from moeplan.core.deployed import Deployed, FileRemark, Gang, PlainSecret, Quote, Role
from moeplan.sources.deployments.containers import container_runs, gpus_of, slice_of
from moeplan.sources.deployments.dynamo_flags import engines_own
from moeplan.sources.deployments.engine_files import with_engine_files
from moeplan.sources.deployments.engine_run import Run
from moeplan.sources.deployments.gpu_names import gpu_of_pod
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.record import moeplan_annotations, recorded, with_slice
from moeplan.sources.deployments.roles import role_of_command, role_of_word
from moeplan.sources.deployments.stream import Found, Stream
from moeplan.sources.deployments.words import has_flag, value_of

_KINDS = ("DynamoGraphDeployment", "DynamoComponentDeployment")
_NO_ENGINE = ("frontend", "planner", "epp", "router", "profiler")
_MAIN = "main"

_ENCODERS = ("--multimodal-encode-worker", "--multimodal-processor")


class _Component(NamedTuple):
    """One component in the shape of both versions."""

    name: str
    node: Node
    container: Node
    """As a pod of Kubernetes has it: with its environment and resources."""
    pod: Node
    kind: str
    """`worker`, `prefill`, `frontend`, ..."""


def recognises(document: Node) -> bool:
    """By kind and API group."""
    return document.at("kind").word() in _KINDS and document.at("apiVersion").word().startswith("nvidia.com/")


def read(document: Node, stream: Stream) -> Found:
    """One deployment for each component that runs an engine."""
    deployments: list[Deployed] = []
    remarks: list[FileRemark] = []
    secrets: list[PlainSecret] = []
    passed_over: list[str] = []
    for component in _components(document):
        if component.kind in _NO_ENGINE or component.node.at("replicas").word() == "0":
            passed_over.append(component.name)
            continue
        runs, environment = container_runs(component.container, stream)
        secrets += environment.secrets
        served = [run for run in runs if not _only_encodes(run)]
        if not served:
            passed_over.append(component.name)
            if not runs and gpus_of(component.container.at("resources")) is not None:
                remarks.append(_unknown_engine(component))
            continue
        deployments += _deployed(document, component, served, environment.remarks, stream)
    return Found(tuple(_paired(deployments)), tuple(remarks), tuple(secrets), tuple(passed_over))


def _components(document: Node) -> Iterator[_Component]:
    spec = document.at("spec")
    if document.at("kind").word() == "DynamoComponentDeployment":
        name = spec.first("name", "serviceName").word() or document.at("metadata", "name").word()
        yield _component(name, spec, Node("null", spec.spot))
        return
    for name, node in spec.at("services").entries.items():
        yield _component(name, node, spec.at("envs"))
    for node in spec.at("components"):
        yield _component(node.at("name").word(), node, spec.at("env"))


def _component(name: str, node: Node, graph_environment: Node) -> _Component:
    """A component of either version; the graph's environment stands before its own."""
    kind = node.first("type", "componentType").word().lower()
    if "podTemplate" in node:
        pod = node.at("podTemplate", "spec")
        main = next((each for each in pod.at("containers") if each.at("name").word() == _MAIN), pod.at("containers", 0))
        return _Component(name, node, _with(main, graph_environment), pod, kind)
    pod = node.at("extraPodSpec")
    main = pod.at("mainContainer")
    whole = _with(main, graph_environment, node.at("envs"))
    if gpus_of(main.at("resources")) is None:
        whole = Node("map", whole.spot, entries={**whole.entries, "resources": _flat(node.at("resources"))})
    return _Component(name, node, whole, pod, node.at("subComponentType").word().lower() or kind)


def _with(container: Node, *environments: Node) -> Node:
    """The container with more variables before its own."""
    own = container.at("env")
    items = [item for environment in environments for item in environment.items]
    env = Node("list", own.spot, items=[*items, *own.items])
    return Node("map", container.spot, entries={**container.entries, "env": env})


def _flat(resources: Node) -> Node:
    """Resources of v1alpha1 with what it keeps under `custom` beside the rest."""
    entries = {
        part: Node("map", node.spot, entries={**node.entries, **node.at("custom").entries})
        for part, node in resources.entries.items()
        if node.kind == "map"
    }
    return Node("map", resources.spot, entries=entries)


def _deployed(
    document: Node, component: _Component, runs: Sequence[Run], remarks: Sequence[FileRemark], stream: Stream
) -> tuple[Deployed, ...]:
    node, pod = component.node, component.pod
    resources = component.container.at("resources")
    nodes = node.at("multinode", "nodeCount").quote()
    if nodes is None and node.at("multinode").there:
        nodes = Quote("2", node.at("multinode").spot, "default", why="nodeCount")
    read = [with_engine_files(_without_own_flags(run), component.container, pod, stream) for run in runs]
    base = Deployed(
        f"dynamo.{document.at('apiVersion').word().rpartition('/')[2]}",
        component.name,
        node.key,
        image=component.container.at("image").quote(),
        gpu=with_slice(gpu_of_pod(pod), slice_of(resources)),
        gang=Gang(gpus_of(resources), nodes, node.at("replicas").quote()),
        role=_role(component, runs),
        annotations=moeplan_annotations(
            document.at("metadata", "annotations"),
            node.at("annotations"),
            node.at("extraPodMetadata", "annotations"),
            node.at("podTemplate", "metadata", "annotations"),
        ),
        remarks=(*remarks, *(remark for _, found in read for remark in found)),
    )
    return recorded(base, [run for run, _ in read])


def _role(component: _Component, runs: Sequence[Run]) -> Role:
    """By the component's type, else by the words of its engine."""
    return role_of_word(component.kind) or role_of_command(runs[0].command) or "aggregate"


def _only_encodes(run: Run) -> bool:
    """True for the encoder of a multimodal model: it holds no language model."""
    mode = value_of(run.command, "--disaggregation-mode")
    return (mode is not None and mode.text.lower() == "encode") or has_flag(run.command, *_ENCODERS)


def _paired(deployments: Sequence[Deployed]) -> Iterator[Deployed]:
    """Beside workers that only prefill, the others decode, whether or not they say so."""
    split = any(each.role == "prefill" for each in deployments)
    for each in deployments:
        yield each._replace(role="decode") if split and each.role == "aggregate" else each


def _unknown_engine(component: _Component) -> FileRemark:
    told = f"{component.name} asks for GPUs, and runs no engine that moeplan can tell from its command"
    return FileRemark("engine-unknown", told, component.node.key, "write the engine's command in the file")


def _without_own_flags(run: Run) -> Run:
    return run._replace(command=engines_own(run.engine, run.command))
