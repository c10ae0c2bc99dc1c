"""A Deployment and its Service, as `kubernetes` reads them; over several nodes a LeaderWorkerSet, as `leader_worker_set` does."""

from __future__ import annotations

from typing import Any

from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware
from moeplan.core.launch import CommandOf, Launch, Place
from moeplan.sources.deployments.kinds.leader_worker_set import API_VERSION, KIND, VARIABLES
from moeplan.sources.deployments.pods_written import (
    OPTIONS_PATH,
    PORT,
    annotations_of,
    in_pod,
    machine_of,
    name_of,
    options_map,
    template_of,
)

_NAME_LABEL = "app.kubernetes.io/name"
_INDEX_LABEL = "leaderworkerset.sigs.k8s.io/worker-index"
"""On every pod of a LeaderWorkerSet (kubernetes-sigs/lws: api/leaderworkerset/v1)."""
_LEADER, _, _INDEX = VARIABLES


def documents(launch: Launch, command_of: CommandOf, gpu: Hardware, replicas: int) -> list[dict[str, Any]]:
    """The objects, the one that runs the engine first. Raises InputError for what no file of this kind can say."""
    machine = machine_of(launch, gpu)
    if launch.engine == "trtllm" and launch.layout.num_nodes > 1:
        raise InputError(
            "TensorRT-LLM starts its ranks on several nodes by MPI, which a set of pods does not bring along",
            hint="say a layout of one node or another --engine, or leave --emit out and start the command by srun",
        )
    name = name_of(launch)
    metadata = {"name": name, "labels": {_NAME_LABEL: name}, "annotations": annotations_of(launch, machine)}
    if launch.layout.num_nodes == 1:
        command = command_of(launch, Place(options_path=OPTIONS_PATH))
        workload: dict[str, Any] = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {_NAME_LABEL: name}},
                # A new pod takes the GPUs of an old one: few clusters have as many again.
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
                "template": template_of({_NAME_LABEL: name}, machine, launch, command),
            },
        }
        service = _service(name, {_NAME_LABEL: name})
    else:
        command = command_of(launch, _place(follows=False))
        helping = command_of(launch, _place(follows=True))
        template = template_of({_NAME_LABEL: name}, machine, launch, command)
        workers = template_of({_NAME_LABEL: name}, machine, launch, helping, serves=False)
        workload = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": metadata,
            "spec": {
                "replicas": replicas,
                "startupPolicy": "LeaderCreated",
                "leaderWorkerTemplate": {
                    "size": launch.layout.num_nodes,
                    "restartPolicy": "RecreateGroupOnPodRestart",
                    "leaderTemplate": _expanding(template),
                    "workerTemplate": _expanding(workers),
                },
            },
        }
        service = _service(name, {_NAME_LABEL: name, _INDEX_LABEL: "0"})
    settings = options_map(launch, command)
    return [workload, service, *([settings] if settings is not None else [])]


def _place(*, follows: bool) -> Place:
    return Place(
        rank=f"$({_INDEX})" if follows else "0", leader=f"$({_LEADER})", follows=follows, options_path=OPTIONS_PATH
    )


def _expanding(template: dict[str, Any]) -> dict[str, Any]:
    """The pod whose arguments name the leader and the pod's number: these two are to be expanded."""
    for container in template["spec"]["containers"]:
        container["args"] = [_expanded(word) for word in container["args"]]
    return template


def _expanded(word: str) -> str:
    for name in (_LEADER, _INDEX):
        word = word.replace(in_pod(f"$({name})"), f"$({name})")
    return word


def _service(name: str, selector: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{name}-http", "labels": {_NAME_LABEL: name}},
        "spec": {"selector": selector, "ports": [{"name": "http", "port": PORT, "targetPort": "http"}]},
    }
