"""A pod that runs one engine, as `pods` reads it: image, command, GPUs, shared memory, probes, and nothing that it does not
need.

The keys are those of Kubernetes' own API; resources, labels and variables are the ones that the readers look for.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware
from moeplan.core.launch import Command, Launch
from moeplan.sources.deployments.containers import BUILT_IN, GPU_RESOURCES, SLICE_RESOURCE
from moeplan.sources.deployments.gpu_names import product_label
from moeplan.sources.deployments.images import own_image
from moeplan.sources.deployments.record import ANNOTATIONS

PORT = 8000
"""Where every engine listens in the files that are written."""
LISTENING = ("--host", "0.0.0.0", "--port", str(PORT))  # noqa: S104 - inside a container, behind its service
"""All engines spell it so; SGLang, TensorRT-LLM and llama.cpp would listen inside of their container alone."""
HEALTH = "/health"
"""Of all four engines: 200 once the model is loaded."""
TOKEN = "HF_TOKEN"
SECRET_NAME, SECRET_KEY = "hf-token", "token"
CACHE = "/cache"
"""Where weights and compiled kernels are kept; the engines' own users need no other place to write."""
SHARED_MEMORY = "16Gi"
"""Most that ranks may exchange in memory; they stop where the 64 MiB of a container are all there is."""
OPTIONS_NAME = "engine-options.yaml"
OPTIONS_PATH = f"/etc/engine/{OPTIONS_NAME}"
_USER = 1000
_PERIOD_S, _PATIENCE_S = 10, 3600
"""A probe every so often, and how long a model may take until it is loaded."""
_SLICE = re.compile(r" MIG (\S+)$")


class Machine(NamedTuple):
    """The GPUs of one pod or service, in the words of deployment files."""

    gpu: Hardware
    vendor: str
    num_gpus: int
    image: str


def machine_of(launch: Launch, gpu: Hardware) -> Machine:
    """The GPUs of one node, and the image with the engine. Raises InputError where a file could not say one of them."""
    vendor = gpu.vendor or ""
    if vendor not in GPU_RESOURCES:
        known = " or ".join(GPU_RESOURCES)
        raise InputError(
            f"a deployment file asks for GPUs of {known}, not for {gpu.name}",
            hint="leave --emit out: the command that is printed starts the engine",
        )
    if launch.engine_version is None:
        raise InputError(
            f"which version of {launch.engine} the image shall have is not known",
            hint="say --engine-version, so that it is pinned",
        )
    image = own_image(launch.engine, launch.engine_version, vendor)
    if image is None:
        raise InputError(
            f"{launch.engine} publishes no image for {gpu.name} that is named by its version alone",
            hint="say another --engine, or leave --emit out",
        )
    return Machine(gpu, vendor, launch.layout.num_gpus // launch.layout.num_nodes, image)


def name_of(launch: Launch) -> str:
    """A name that Kubernetes allows, from the last part of the model's."""
    last = launch.model.rstrip("/").rpartition("/")[2].partition(":")[0]
    name = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")[:50].rstrip("-")
    return name if name[:1].isalpha() else f"llm-{name}".rstrip("-")


def in_pod(word: str) -> str:
    """A word as the kubelet hands it on: it would expand `$(NAME)`."""
    return word.replace("$", "$$")


def told(launch: Launch) -> dict[str, str]:
    """The load that the replica was planned for, as comments and annotations state it: `check` holds it against the cache."""
    load = {"context": str(launch.context_tokens)}
    return load if launch.sequences is None else load | {"concurrency": str(launch.sequences)}


def annotations_of(launch: Launch, machine: Machine) -> dict[str, str]:
    """Annotations that speak to moeplan: the load, and the card where no label of nodes names it."""
    says = told(launch)
    if product_label(machine.gpu.profile) is None:
        says["gpu"] = machine.gpu.profile
    return {f"{ANNOTATIONS}{name}": value for name, value in says.items()}


def template_of(
    labels: dict[str, str], machine: Machine, launch: Launch, command: Command, *, serves: bool = True
) -> dict[str, Any]:
    """`metadata` and `spec` of a pod. `serves` is False for one that only helps another: it answers no requests."""
    return {"metadata": {"labels": labels}, "spec": _pod(machine, launch, command, serves=serves)}


def options_map(launch: Launch, command: Command) -> dict[str, Any] | None:
    """The ConfigMap with the engine's file of options; None where it needs none."""
    if not command.options:
        return None
    name = f"{name_of(launch)}-options"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {OPTIONS_NAME: options_text(command)},
    }


def options_text(command: Command) -> str:
    """The engine's file of options."""
    import yaml

    text: str = yaml.safe_dump(dict(command.options), sort_keys=True, default_flow_style=False, width=10**6)
    return text


def _pod(machine: Machine, launch: Launch, command: Command, *, serves: bool) -> dict[str, Any]:
    label = product_label(machine.gpu.profile)
    volumes: list[dict[str, Any]] = [
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED_MEMORY}},
        {"name": "cache", "emptyDir": {}},
    ]
    if command.options:
        volumes.append({"name": "options", "configMap": {"name": f"{name_of(launch)}-options"}})
    spec: dict[str, Any] = {}
    if label is not None:
        spec["nodeSelector"] = dict([label])
    return {
        **spec,
        "tolerations": [{"key": GPU_RESOURCES[machine.vendor], "operator": "Exists", "effect": "NoSchedule"}],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # else a service called vllm would set VLLM_PORT
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(machine, launch, command, serves=serves)],
        "volumes": volumes,
    }


def _container(machine: Machine, launch: Launch, command: Command, *, serves: bool) -> dict[str, Any]:
    mounts = [{"name": "shared-memory", "mountPath": "/dev/shm"}, {"name": "cache", "mountPath": CACHE}]  # noqa: S108
    if command.options:
        mounts.append({"name": "options", "mountPath": OPTIONS_PATH.rpartition("/")[0]})
    built_in = BUILT_IN.get(launch.engine) == command.program
    words = (*command.words, *LISTENING) if serves else command.words
    asked = {resource_of(machine): str(machine.num_gpus)}
    container: dict[str, Any] = {"name": launch.engine, "image": machine.image}
    if not built_in:
        container["command"] = list(command.program)
    container |= {
        "args": [in_pod(word) for word in words],
        "env": _environment(command),
        "resources": {"requests": asked, "limits": dict(asked)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": mounts,
    }
    return container | _served() if serves else container


def resource_of(machine: Machine) -> str:
    """The resource that stands for one device: a card, or a slice of one."""
    found = _SLICE.search(machine.gpu.name) if machine.gpu.slice else None
    return GPU_RESOURCES[machine.vendor] if found is None else f"{SLICE_RESOURCE}{found.group(1)}"


def homes(command: Command) -> dict[str, str]:
    """Variables of every engine: places that its user may write to (llama.cpp keeps its files below HOME, too), a name for
    that user, and what the command itself needs."""
    return {
        "HOME": CACHE,
        "HF_HOME": f"{CACHE}/huggingface",
        "USER": "engine",
        **dict(command.variables),
    }


def _environment(command: Command) -> list[dict[str, Any]]:
    reference = {"secretKeyRef": {"name": SECRET_NAME, "key": SECRET_KEY, "optional": True}}
    named = [{"name": name, "value": in_pod(value)} for name, value in homes(command).items()]
    return [{"name": TOKEN, "valueFrom": reference}, *named]


def _served() -> dict[str, Any]:
    """The port, and probes that wait for the weights before they judge."""
    probe = {"httpGet": {"path": HEALTH, "port": "http"}, "periodSeconds": _PERIOD_S}
    return {
        "ports": [{"name": "http", "containerPort": PORT}],
        "startupProbe": {**_copied(probe), "failureThreshold": _PATIENCE_S // _PERIOD_S},
        "readinessProbe": _copied(probe),
        "livenessProbe": {**_copied(probe), "timeoutSeconds": _PERIOD_S, "failureThreshold": 6},
    }


def _copied(probe: dict[str, Any]) -> dict[str, Any]:
    """A probe of its own: YAML would write equal objects as references to the first."""
    return {key: dict(value) if isinstance(value, dict) else value for key, value in probe.items()}
