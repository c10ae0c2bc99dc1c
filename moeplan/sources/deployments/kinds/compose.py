"""docker compose: services that run an engine. All services of a file share one machine.

Source: the Compose specification (services, deploy, extends, interpolation) and moby's daemon, which gives a service that
asks for `count: N` the cards 0 to N-1 (daemon/nvidia_linux.go, countToDevices).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moeplan.core.deployed import Deployed, FileRemark, Gang, PlainSecret, Quote
from moeplan.sources.deployments.compose_devices import Devices, devices_of
from moeplan.sources.deployments.containers import Run, engine_runs
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.plain_secrets import without_secret_values
from moeplan.sources.deployments.quoted_words import split_words
from moeplan.sources.deployments.record import moeplan_annotations, recorded, visible_devices
from moeplan.sources.deployments.stream import Found, Stream
from moeplan.sources.deployments.variables import expand_compose
from moeplan.sources.deployments.words import listed

KIND = "compose"

_MOST_BASES = 16
_SERVICE_KEYS = {"image", "build", "command", "entrypoint", "extends", "deploy", "environment", "ports", "volumes"}


class _Service(NamedTuple):
    """A service with what it extends merged into it."""

    name: str
    node: Node
    remarks: tuple[FileRemark, ...] = ()


def recognises(document: Node) -> bool:
    """A mapping of services, without `kind` and `apiVersion`."""
    services = document.at("services")
    if services.kind != "map" or document.at("kind").there or document.at("apiVersion").there:
        return False
    return any(_SERVICE_KEYS & set(service.entries) for service in services.entries.values())


def read(document: Node, stream: Stream) -> Found:
    """One deployment for each service that runs an engine; the others are passed over."""
    deployments: list[Deployed] = []
    secrets: list[PlainSecret] = []
    remarks: list[FileRemark] = []
    passed_over: list[str] = []
    services = document.at("services")
    host = document.at("name").word() or stream.path
    for name in services.entries:
        service = _service(name, services, stream)
        variables, found = _environment(service.node, stream)
        secrets += found
        devices = devices_of(service.node, variables, stream.variables)
        runs = _runs(service.node, variables, devices.num_gpus, stream)
        replicas = _replicas(service.node, stream)
        if not runs or (replicas is not None and replicas.text == "0"):
            passed_over.append(name)
            remarks += service.remarks
        else:
            deployments += _deployed(service, runs, devices, replicas, host, stream)
    return Found(tuple(_alternatives(deployments, services)), tuple(remarks), tuple(secrets), tuple(passed_over))


def _deployed(
    service: _Service, runs: Sequence[Run], devices: Devices, replicas: Quote | None, host: str, stream: Stream
) -> tuple[Deployed, ...]:
    """The engines of one service."""
    if len(runs) == 1:
        devices = devices_of(service.node, runs[0].variables, stream.variables)
    image = service.node.at("image").quote()
    base = Deployed(
        KIND,
        service.name,
        service.node.key,
        image=expand_compose(image, stream.variables) if image is not None else None,
        gang=Gang(devices.num_gpus, None, replicas),
        device_ids=devices.ids,
        host=host,
        annotations=moeplan_annotations(service.node.at("labels"), service.node.at("deploy", "labels")),
        remarks=service.remarks,
    )
    if len(runs) == 1:
        return recorded(base, runs)
    return tuple(_narrowed(each, devices) for each in recorded(base, runs))


def _narrowed(deployed: Deployed, devices: Devices) -> Deployed:
    """The cards of one of several engines of a service, by its own variables among those of the service."""
    picked = visible_devices({name: quote for name, quote in deployed.variables.items() if name.startswith("CUDA")})
    return deployed._replace(device_ids=devices.narrowed(picked).ids if picked else devices.ids)


def _alternatives(deployments: Sequence[Deployed], services: Node) -> Sequence[Deployed]:
    """Engines of different profiles are alternatives, where each has exactly one profile and no two have the same."""
    profiles = {each.name: tuple(quote.text for quote in _profiles(services, each.name)) for each in deployments}
    told = [names for names in profiles.values() if names]
    if len(told) < 2 or any(len(names) != 1 for names in told) or len(set(told)) < len(told):
        return deployments
    return [each._replace(not_at_once="profiles") if profiles[each.name] else each for each in deployments]


def _profiles(services: Node, name: str) -> tuple[Quote, ...]:
    return listed(services.at(name, "profiles"))


def _runs(service: Node, variables: Mapping[str, Quote], gpus: Quote | None, stream: Stream) -> tuple[Run, ...]:
    """The engines that entrypoint and command start. An empty entrypoint takes the image's own away."""
    entrypoint = _words(service.at("entrypoint"), stream)
    command = _words(service.at("command"), stream)
    image = service.at("image").quote()
    if image is not None:
        image = expand_compose(image, stream.variables)
    has_command = "entrypoint" in service and service.at("entrypoint").there
    return engine_runs((*entrypoint, *command), variables, image, gpus, has_command=has_command)


def _words(node: Node, stream: Stream) -> tuple[Quote, ...]:
    """A list as it stands, a text split as a shell would; variables of compose are replaced before."""
    expanded = [expand_compose(word, stream.variables) for word in listed(node)]
    if node.kind == "list":
        return tuple(expanded)
    return tuple(word for text in expanded for word in split_words(text))


def _replicas(service: Node, stream: Stream) -> Quote | None:
    deploy = service.at("deploy", "replicas").quote()
    stated = deploy if deploy is not None else service.at("scale").quote()
    return expand_compose(stated, stream.variables) if stated is not None else None


# Environment --------------------------------------------------------------------------------------------------


def _environment(service: Node, stream: Stream) -> tuple[dict[str, Quote], tuple[PlainSecret, ...]]:
    """Variables of a service: those of `env_file: .env` before its own, and its tokens in plain text."""
    found: dict[str, Quote] = {}
    files = service.at("env_file")
    named = [item.first("path").word() or item.word() for item in (files, *files.items)]
    if any(name.rpartition("/")[2] == ".env" for name in named):
        found.update(stream.variables)
    plain: dict[str, Quote] = {}
    for name, value in environment_entries(service.at("environment")).items():
        if value is not None and "$" not in value.text:
            plain[name] = value
        elif value is not None:
            found[name] = expand_compose(value, stream.variables)
        elif name in stream.variables:
            # `NAME` alone is passed on from where compose runs.
            found[name] = stream.variables[name]
    kept, secrets = without_secret_values(plain)
    # What comes from elsewhere is hidden too, and is no token of this file.
    hidden, _ = without_secret_values(found)
    return {**hidden, **kept}, secrets


def environment_entries(node: Node) -> dict[str, Quote | None]:
    """`environment` as a mapping or as a list of `NAME=value`; None for a name without a value."""
    found: dict[str, Quote | None] = {}
    for name, value in node.entries.items():
        found[name] = Quote(value.text, value.spot) if value.is_scalar else None
    for item in node.items:
        name, sign, text = item.word().partition("=")
        if name:
            found[name] = Quote(text, item.spot) if sign else None
    return found


# extends ------------------------------------------------------------------------------------------------------


def _service(name: str, services: Node, stream: Stream) -> _Service:
    """A service with the services that it extends beneath it; one of another file is told."""
    node = services.at(name)
    seen = {name}
    remarks: list[FileRemark] = []
    extends = node.at("extends")
    while extends.there and len(seen) <= _MOST_BASES:
        base = extends.at("service").word() or extends.word()
        file = extends.at("file").word()
        if file and file.removeprefix("./") != stream.path.rpartition("/")[2]:
            told = f"{name} extends {base} of {file}, which is another file: what stands there is left out"
            hint = "check the whole: docker compose config | moeplan check -"
            remarks.append(FileRemark("extends-elsewhere", told, extends.key, hint))
            break
        if base in seen or base not in services:
            break
        seen.add(base)
        node, extends = merged(node, services.at(base)), services.at(base, "extends")
    return _Service(name, node, tuple(remarks))


def merged(own: Node, base: Node) -> Node:
    """Mappings are merged key by key, variables name by name; everything else of its own counts."""
    if own.kind == "list" and base.kind in ("list", "map") and _is_environment(own):
        entries = {**environment_entries(base), **environment_entries(own)}
        scalars = {name: _scalar(value, own) for name, value in entries.items()}
        return Node("map", own.spot, entries=scalars, key=own.key)
    if own.kind != "map" or base.kind != "map":
        return own if own.there else base
    entries_of_both = {
        key: merged(own.at(key), value) if key in own.entries else value for key, value in base.entries.items()
    }
    return Node("map", own.spot, entries={**entries_of_both, **_only_own(own, base)}, key=own.key)


def _only_own(own: Node, base: Node) -> dict[str, Node]:
    return {key: value for key, value in own.entries.items() if key not in base.entries}


def _is_environment(node: Node) -> bool:
    return node.spot.path.endswith(".environment")


def _scalar(value: Quote | None, near: Node) -> Node:
    return Node("null", near.spot) if value is None else Node("text", value.spot, value.text)
