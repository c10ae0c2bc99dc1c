"""llm-d: values of its modelservice Helm chart; scenarios of its benchmark are read by `llm_d_scenario`.

The chart makes a Deployment for each of `decode` and `prefill`, or with `multinode` a LeaderWorkerSet; GPUs of a pod follow
from the layout unless the container's resources say them. Source: llm-d-incubation/llm-d-modelservice
charts/llm-d-modelservice/templates/_helpers.tpl.
"""

from __future__ import annotations

from typing import NamedTuple

from moeplan.core.deployed import Deployed, FileRemark, Gang, PlainSecret, Quote, Role
from moeplan.sources.deployments.containers import (
    Environment,
    container_runs,
    engine_runs,
    environment,
    gpus_of,
    slice_of,
)
from moeplan.sources.deployments.engine_run import Run
from moeplan.sources.deployments.helm_values import left_open, resolved, resolved_node
from moeplan.sources.deployments.identity import Evidence
from moeplan.sources.deployments.kinds.llm_d_scenario import is_scenario, read_scenario
from moeplan.sources.deployments.llm_d_layout import Spread, built_in, gpu_of_role, spread_of
from moeplan.sources.deployments.model_names import Traced, trace_model
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.record import moeplan_annotations, recorded, with_slice
from moeplan.sources.deployments.stream import Found, Stream
from moeplan.sources.deployments.words import listed

KIND = "helm.llm-d-modelservice"

_MOUNT_PATH = "/model-cache"
"""The chart's default of `modelArtifacts.mountPath`."""
_DEFAULT_REPLICAS = {"decode": "1", "prefill": "0"}
"""The chart's values.yaml."""


class Artifacts(NamedTuple):
    """The model as `modelArtifacts` names it."""

    word: Quote | None
    """What the chart writes into the command."""
    traced: Traced | None
    name: Quote | None
    """The served name."""


def recognises(document: Node) -> bool:
    """Values with `modelArtifacts` beside `decode` or `prefill`, on top or below a subchart's name; and scenarios."""
    return not document.at("kind").there and (is_scenario(document) or bool(_charts(document)))


def read(document: Node, stream: Stream) -> Found:
    """One deployment for each role that is created."""
    if is_scenario(document):
        return read_scenario(document, stream)
    found = [_values(name, values, stream) for name, values in _charts(document)]
    return Found(
        tuple(each for part in found for each in part.deployments),
        secrets=tuple(each for part in found for each in part.secrets),
        passed_over=tuple(each for part in found for each in part.passed_over),
    )


def _charts(document: Node) -> list[tuple[str, Node]]:
    """Values of this chart with the prefix of their names: the document's own, else those of subcharts."""
    if _is_values(document):
        return [("", document)]
    return [(f"{name}-", node) for name, node in document.entries.items() if _is_values(node)]


def _is_values(node: Node) -> bool:
    return node.at("modelArtifacts").kind == "map" and ("decode" in node or "prefill" in node)


def _values(prefix: str, values: Node, stream: Stream) -> Found:
    """The roles of one chart's values."""
    deployments: list[Deployed] = []
    secrets: list[PlainSecret] = []
    passed_over = [f"{prefix}encode"] if values.at("encode").there else []
    split = _runs(values, "decode") and _runs(values, "prefill")
    roles: tuple[Role, ...] = ("decode", "prefill")
    for role in roles:
        if role in values and (not _runs(values, role) or values.at("enabled").off):
            passed_over.append(f"{prefix}{role}")
        elif role in values:
            found = _role(values, role, role if split else "aggregate", stream)
            deployments += (each._replace(name=f"{prefix}{each.name}") for each in found.deployments)
            secrets += found.secrets
    return Found(tuple(deployments), secrets=tuple(secrets), passed_over=tuple(passed_over))


def _runs(document: Node, role: str) -> bool:
    node = document.at(role)
    if role not in document or node.at("create").off or document.at("enabled").off:
        return False
    replicas = node.at("replicas").word() or _DEFAULT_REPLICAS[role]
    return replicas != "0" or node.at("autoscaling", "enabled").on


def _role(document: Node, name: str, role: Role, stream: Stream) -> Found:
    """The engines of one role."""
    node = document.at(name)
    artifacts, spread = artifacts_of(document), spread_of(node.at("parallelism"))
    deployments: list[Deployed] = []
    secrets: list[PlainSecret] = []
    for container in node.at("containers"):
        resources = container.at("resources")
        gang = Gang(
            gpus_of(resources) or spread.gpus_per_pod,
            spread.workers if document.at("multinode").on else None,
            node.at("replicas").quote(),
        )
        if node.at("autoscaling", "enabled").on:
            low, high = node.at("autoscaling", "minReplicas").quote(), node.at("autoscaling", "maxReplicas").quote()
            gang = gang._replace(replicas=low or gang.replicas, max_replicas=high)
        runs, around = _container_runs(document, container, artifacts, spread, gang, stream)
        secrets += around.secrets
        base = Deployed(
            KIND,
            name,
            node.key,
            image=container.at("image").quote(),
            gpu=with_slice(gpu_of_role(node), slice_of(resources)),
            gang=gang,
            role=role,
            annotations=moeplan_annotations(node.at("annotations"), node.at("podAnnotations")),
            remarks=(*_refusal(spread, node.at("parallelism")), *around.remarks),
        )
        if runs:
            evidence = Evidence(named=artifacts.traced, served_as=artifacts.name)
            deployments += recorded(base, [_opened(run) for run in runs], evidence)
    return Found(tuple(deployments), secrets=tuple(secrets))


def artifacts_of(document: Node) -> Artifacts:
    """The model of `modelArtifacts.uri`: `hf://`, `pvc://CLAIM/PATH`, `pvc+hf://CLAIM/.../ORG/NAME`."""
    node = document.at("modelArtifacts")
    name, uri = node.at("name").quote(), node.at("uri").quote()
    name = resolved(name, document) if name is not None else None
    if uri is None:
        # The chart's default is `hf://{{ .Values.modelArtifacts.name }}`.
        return Artifacts(name._replace(origin="default") if name is not None and name.known else name, None, name)
    uri = resolved(uri, document)
    uri = uri._replace(text=uri.text.replace('"', ""))
    protocol, _, rest = uri.text.partition("://")
    folder = node.at("mountPath").word() or _MOUNT_PATH
    match protocol:
        case "hf":
            word = uri._replace(text=rest)
            return Artifacts(word, trace_model(uri) if uri.known else None, name)
        case "pvc+hf":
            word = uri._replace(text="/".join(rest.split("/")[-2:]))
            return Artifacts(word, trace_model(word) if word.known else None, name)
        case "pvc":
            return Artifacts(uri._replace(text=f"{folder}/{rest.partition('/')[2]}"), None, name)
        case _:
            return Artifacts(uri, None, name)


def _refusal(spread: Spread, node: Node) -> tuple[FileRemark, ...]:
    if not spread.refused:
        return ()
    told = f"{spread.refused}: the chart refuses to render"
    return (FileRemark("chart-refuses", told, node.key, "state a multiple"),)


def _container_runs(
    document: Node, container: Node, artifacts: Artifacts, spread: Spread, gang: Gang, stream: Stream
) -> tuple[tuple[Run, ...], Environment]:
    """The engines of a container, whose command the chart writes unless it is `custom`."""
    rendered = resolved_node(container, document)
    variables = built_in(spread, gang)
    command = container.at("modelCommand")
    if command.word() not in ("vllmServe", "imageDefault"):
        return container_runs(rendered, stream, variables)
    around = environment(rendered, stream, variables)
    served = command.word() == "vllmServe"
    program = (
        (Quote("vllm", command.spot), Quote("serve", command.spot)) if served else (Quote("--model", command.spot),)
    )
    name = artifacts.name
    argv = (
        *program,
        artifacts.word or Quote("modelArtifacts.uri", command.spot, "unresolved", ("modelArtifacts.uri",)),
        *_degree("--tensor-parallel-size", spread.tensor),
        *_degree("--data-parallel-size", spread.data),
        *_degree("--data-parallel-size-local", spread.data_local),
        *((Quote("--served-model-name", name.spot), name) if name is not None else ()),
        *listed(rendered.at("args")),
    )
    image = container.at("image").quote()
    return engine_runs(argv, around.variables, image, gang.gpus_per_pod, has_command=served), around


def _degree(flag: str, degree: Quote) -> tuple[Quote, ...]:
    """The chart leaves out what is 1."""
    return () if degree.whole_number() in (0, 1) else (Quote(flag, degree.spot), degree)


def _opened(run: Run) -> Run:
    return run._replace(command=tuple(left_open(word) for word in run.command))
