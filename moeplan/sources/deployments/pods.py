"""A pod of Kubernetes: the engines that its containers start, with their GPUs and their model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from moeplan.core.deployed import Deployed, FileRemark, PlainSecret, Quote
from moeplan.sources.deployments.containers import (
    Environment,
    container_runs,
    engine_runs,
    environment,
    gpus_of,
    loose_words,
    slice_of,
    words_of,
)
from moeplan.sources.deployments.device_claims import claimed_gpus
from moeplan.sources.deployments.engine_files import with_engine_files
from moeplan.sources.deployments.engine_run import Run
from moeplan.sources.deployments.gangs import leading
from moeplan.sources.deployments.gpu_names import gpu_of_pod
from moeplan.sources.deployments.identity import NO_EVIDENCE, Evidence, Weights, identify
from moeplan.sources.deployments.mounted_files import mounted_file
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.record import recorded, with_slice
from moeplan.sources.deployments.roles import role_of_command
from moeplan.sources.deployments.shell import unwrapped
from moeplan.sources.deployments.stream import Found, Stream
from moeplan.sources.deployments.words import value_of

PATCH = "patch-incomplete"
_MOST_BEFORE_SCRIPT = 4
"""A shell and its options."""
_DOWNLOADERS = ("hf", "huggingface-cli")


class _Container(NamedTuple):
    node: Node
    runs: tuple[Run, ...]
    loose: tuple[Quote, ...]
    """Words of an engine whose name is not to be known."""
    remarks: tuple[FileRemark, ...]


def read_pod(
    pod: Node,
    base: Deployed,
    stream: Stream,
    built_in: Mapping[str, Quote] | None = None,
    evidence: Evidence = NO_EVIDENCE,
) -> Found:
    """The engines of a pod's `spec`. `base` is what is known of them all: kind, name, place, gang, role, annotations.

    Containers without an engine are passed over by name; a pod without one by the name of its object. Several engines of
    one pod share its machine. `built_in` are variables that the kind of object sets.
    """
    found: list[_Container] = []
    secrets: list[PlainSecret] = []
    remarks: list[FileRemark] = []
    beside: list[str] = []
    for node in pod.at("containers"):
        runs, around = container_runs(node, stream, built_in)
        secrets += around.secrets
        if not runs:
            runs, missing = _mounted_runs(node, pod, around, stream)
            remarks += missing
        container = _Container(node, runs, () if runs else _loose_words(node, around), around.remarks)
        if container.runs or container.loose:
            found.append(container)
        else:
            beside.append(node.at("name").word())
    for node in pod.at("initContainers"):
        secrets += environment(node, stream, built_in).secrets
        beside.append(node.at("name").word())
    if not found:
        return Found((), tuple(remarks), tuple(secrets), (base.name,))
    evidence = evidence._replace(weights=(*evidence.weights, *_downloads(pod, stream)))
    deployments: list[Deployed] = []
    for place, container in enumerate(found):
        own = base
        if len(found) > 1:
            name = f"{base.name}-{container.node.at('name').word() or place + 1}"
            spot = container.node.key if place else base.spot
            own = base._replace(name=name, host=base.host or base.name, spot=spot)
        deployments += _deployed(container, pod, own, stream, evidence)
    return Found(tuple(deployments), tuple(remarks), tuple(secrets), tuple(name for name in beside if name))


def _deployed(
    container: _Container, pod: Node, base: Deployed, stream: Stream, evidence: Evidence
) -> tuple[Deployed, ...]:
    node = container.node
    resources = node.at("resources")
    gpus: Quote | FileRemark | None = base.gang.gpus_per_pod or gpus_of(resources) or claimed_gpus(node, pod, stream)
    remarks = [*base.remarks, *container.remarks]
    if isinstance(gpus, FileRemark):
        remarks.append(gpus)
        gpus = None
    image = node.at("image").quote()
    kind = base.kind
    if image is None and kind.startswith("k8s."):
        kind = f"{kind}-patch"
        remarks.append(_patch(node))
    base = base._replace(
        kind=kind,
        image=base.image or image,
        gpu=base.gpu or with_slice(gpu_of_pod(pod), slice_of(resources)),
        gang=base.gang._replace(gpus_per_pod=gpus),
    )
    if container.loose:
        return (unnamed_engine(base._replace(remarks=tuple(remarks)), container.loose, evidence),)
    runs: list[Run] = []
    for run in leading(container.runs):
        whole, missing = with_engine_files(run, node, pod, stream)
        runs.append(whole)
        remarks += missing
    filled = recorded(base._replace(remarks=tuple(remarks)), runs, evidence)
    return tuple(_in_turn([with_role(each) for each in filled], base.name))


def with_role(deployed: Deployed) -> Deployed:
    """The role that the command states, else the one that is known of the object."""
    return deployed._replace(role=role_of_command(deployed.command) or deployed.role)


def _in_turn(deployments: Sequence[Deployed], name: str) -> Iterator[Deployed]:
    """Engines that would listen at the same port are branches of one script: they never run at the same time."""
    ports = [(each.engine, value_of(each.command, "--port")) for each in deployments]
    texts = [(engine, "" if port is None else port.text) for engine, port in ports]
    for each, port in zip(deployments, texts, strict=True):
        yield each._replace(not_at_once=f"{name}:{port[1]}") if texts.count(port) > 1 else each


def _mounted_runs(
    container: Node, pod: Node, around: Environment, stream: Stream
) -> tuple[tuple[Run, ...], tuple[FileRemark, ...]]:
    """The engines of a script that a ConfigMap of the same text holds: `bash /scripts/start.sh`.

    A remark where the ConfigMap is not there, and the container asks for GPUs.
    """
    gpus = gpus_of(container.at("resources"))
    for command in unwrapped(argv_of(container, around), around.variables, gpus):
        for place, word in enumerate(command.words[:_MOST_BEFORE_SCRIPT]):
            found = mounted_file(word, container, pod, stream) if word.text.startswith("/") else None
            if isinstance(found, FileRemark):
                return (), (found,) if gpus is not None else ()
            if found is not None:
                shell = (Quote("bash", word.spot), Quote("-c", word.spot), found)
                argv = (*shell, *command.words[place:])
                return engine_runs(argv, command.variables, container.at("image").quote(), gpus), ()
    return (), ()


def argv_of(container: Node, around: Environment) -> tuple[Quote, ...]:
    """`command` and `args`, with `$(VAR)` expanded."""
    return (
        *words_of(container.at("command"), around.variables),
        *words_of(container.at("args"), around.variables),
    )


def _loose_words(container: Node, around: Environment) -> tuple[Quote, ...]:
    """The container's words where a flag among them says that they are an engine's; else none."""
    has_program = container.at("command").there
    return loose_words(argv_of(container, around), has_program=has_program, gpus=gpus_of(container.at("resources")))


def unnamed_engine(base: Deployed, words: tuple[Quote, ...], evidence: Evidence) -> Deployed:
    """An engine whose flags are known, and whose name is not."""
    identity = identify(words, evidence)
    return base._replace(
        command=words,
        model=identity.model,
        revision=identity.revision,
        served_names=identity.served_names,
        role=role_of_command(words) or base.role,
        remarks=(*base.remarks, *identity.remarks),
    )


def _downloads(pod: Node, stream: Stream) -> Iterator[Weights]:
    """Weights that init containers fetch with the Hub's own client: `hf download ORG/NAME --local-dir /models/x`."""
    for container in pod.at("initContainers"):
        around = environment(container, stream)
        words = argv_of(container, around)
        for command in unwrapped(words, around.variables) if words else ():
            texts = [word.text for word in command.words]
            if len(texts) < 3 or texts[0].rpartition("/")[2] not in _DOWNLOADERS or texts[1] != "download":
                continue
            folder = value_of(command.words, "--local-dir")
            source = next((word for word in command.words[2:] if not word.text.startswith("-")), None)
            if folder is not None and source is not None and folder.known and source.known:
                yield Weights(folder.text, source, value_of(command.words, "--revision"))


def _patch(container: Node) -> FileRemark:
    told = "the container has no image: this is a patch, and what its base says is not in this text"
    return FileRemark(PATCH, told, container.key, "check the rendered stream: kustomize build DIR | moeplan check -")
