"""docker compose: services that run an engine. All services of a file share one machine.

Source: the Compose specification (services, deploy, extends, interpolation) and moby's daemon, which gives a service that
asks for `count: N` the cards 0 to N-1 (daemon/nvidia_linux.go, countToDevices).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from posixpath import normpath
from typing import NamedTuple

from moeplan.core.deployed import Deployed, FileRemark, Gang, PlainSecret, Quote, Spot
from moeplan.sources.deployments.compose_devices import Devices, devices_of
from moeplan.sources.deployments.config_maps import elsewhere
from moeplan.sources.deployments.containers import engine_runs, loose_words
from moeplan.sources.deployments.engine_run import Run
from moeplan.sources.deployments.files import ENV
from moeplan.sources.deployments.identity import NO_EVIDENCE
from moeplan.sources.deployments.nodes import Node, compose
from moeplan.sources.deployments.plain_secrets import without_secret_values
from moeplan.sources.deployments.pods import unnamed_engine
from moeplan.sources.deployments.quoted_words import split_words
from moeplan.sources.deployments.record import moeplan_annotations, recorded, visible_devices
from moeplan.sources.deployments.stream import Found, Stream
from moeplan.sources.deployments.templates import each_quote
from moeplan.sources.deployments.variables import expand_compose
from moeplan.sources.deployments.words import listed

KIND = "compose"

_MOST_BASES = 16
_EXTENDS = "extends-elsewhere"
_THERE = " > "
"""Between the path of a reference and one in the file that it refers to."""
_SERVICE_KEYS = {"image", "build", "command", "entrypoint", "extends", "deploy", "environment", "ports", "volumes"}


class _Service(NamedTuple):
    """A service with what it extends merged into it."""

    name: str
    node: Node
    remarks: tuple[FileRemark, ...] = ()
    others: tuple[_Other, ...] = ()


class _Other(NamedTuple):
    """A service of another file that is merged into one of this."""

    spot: Spot
    """Of the reference to it; its path begins those of all values from there."""
    why: str


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
        variables, found, missing = _environment(service.node, stream)
        service = service._replace(remarks=(*service.remarks, *missing))
        secrets += (each for each in found if not any(_is_of(other, each.spot) for other in service.others))
        devices = devices_of(service.node, variables, stream.variables)
        files = _files(service.node, document.at("configs"), stream)
        runs = _runs(service.node, variables, devices.num_gpus, stream, files)
        replicas = _replicas(service.node, stream)
        loose = () if runs else _loose_words(service.node, devices, stream)
        if not (runs or loose) or (replicas is not None and replicas.text == "0"):
            passed_over.append(name)
            remarks += (each for each in service.remarks if each.code == _EXTENDS)
        elif loose:
            deployments.append(unnamed_engine(_base(service, devices, replicas, host, stream), loose, NO_EVIDENCE))
        else:
            deployments += _deployed(service, runs, devices, replicas, host, stream)
    return Found(tuple(_alternatives(deployments, services)), tuple(remarks), tuple(secrets), tuple(passed_over))


def _deployed(
    service: _Service, runs: Sequence[Run], devices: Devices, replicas: Quote | None, host: str, stream: Stream
) -> tuple[Deployed, ...]:
    """The engines of one service."""
    if len(runs) == 1:
        devices = devices_of(service.node, runs[0].variables, stream.variables)
    base = _base(service, devices, replicas, host, stream)
    found = recorded(base, runs)
    if len(runs) > 1:
        found = tuple(_narrowed(each, devices) for each in found)
    for other in service.others:
        found = tuple(_referred(each, other) for each in found)
    return found


def _loose_words(service: Node, devices: Devices, stream: Stream) -> tuple[Quote, ...]:
    """The flags of an engine whose name is not to be known: of an image that is built here, or has a name of its own.

    A command that begins with a flag is for the image's program.
    """
    words = (*_words(service.at("entrypoint"), stream), *_words(service.at("command"), stream))
    has_program = bool(words) and not words[0].text.startswith("-")
    gpus = devices.num_gpus or (Quote("all", service.spot) if _asks_for_gpus(service) else None)
    return loose_words(words, has_program=has_program, gpus=gpus)


def _asks_for_gpus(service: Node) -> bool:
    reserved = service.at("deploy", "resources", "reservations", "devices")
    return any("gpu" in [each.word() for each in device.at("capabilities")] for device in reserved)


def _base(service: _Service, devices: Devices, replicas: Quote | None, host: str, stream: Stream) -> Deployed:
    """What is known of all engines of a service."""
    image = service.node.at("image").quote()
    return Deployed(
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


def _files(service: Node, configs: Node, stream: Stream) -> dict[str, Quote]:
    """Texts that the file itself lays into the container, by path: `configs` with `content`."""
    found = {}
    for each in service.at("configs"):
        name = each.at("source").word() or each.word()
        content = configs.at(name, "content")
        if content.is_scalar:
            path = each.at("target").word() or f"/{name}"
            found[normpath(path)] = expand_compose(Quote(content.text, content.spot), stream.variables)
    return found


def _runs(
    service: Node, variables: Mapping[str, Quote], gpus: Quote | None, stream: Stream, files: Mapping[str, Quote]
) -> tuple[Run, ...]:
    """The engines that entrypoint and command start. An empty entrypoint takes the image's own away."""
    entrypoint = _words(service.at("entrypoint"), stream)
    command = _words(service.at("command"), stream)
    image = service.at("image").quote()
    if image is not None:
        image = expand_compose(image, stream.variables)
    has_command = "entrypoint" in service and service.at("entrypoint").there
    return engine_runs((*entrypoint, *command), variables, image, gpus, has_command=has_command, files=files)


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


def _environment(
    service: Node, stream: Stream
) -> tuple[dict[str, Quote], tuple[PlainSecret, ...], tuple[FileRemark, ...]]:
    """Variables of a service: those of its `env_file` before its own; its tokens in plain text, and what is not read."""
    found: dict[str, Quote] = {}
    remarks: list[FileRemark] = []
    files = service.at("env_file")
    for item in (files, *files.items):
        path = item.at("path") if "path" in item else item
        name = expand_compose(Quote(path.word(), path.spot), stream.variables)
        if name.text:
            remarks += _of_file(name, found, stream, required=not item.at("required").off)
    plain: dict[str, Quote] = {}
    environment = service.at("environment")
    for name_of, value in environment_entries(environment).items():
        if value is not None and "$" not in value.text:
            plain[name_of] = value
        elif value is not None:
            found[name_of] = expand_compose(value, stream.variables)
        elif name_of in stream.variables:
            # `NAME` alone is passed on from where compose runs.
            found[name_of] = stream.variables[name_of]._replace(spot=environment.spot)
    kept, secrets = without_secret_values(plain)
    # What comes from elsewhere is hidden too, and is no token of this file.
    hidden, _ = without_secret_values(found)
    return {**hidden, **kept}, secrets, tuple(remarks)


def _of_file(name: Quote, found: dict[str, Quote], stream: Stream, *, required: bool) -> Iterator[FileRemark]:
    """Add what a file of variables sets, where it lies beside this one; else tell that it is not read."""
    held = stream.beside.variables(name.text) if name.known else None
    why = f"the file {name.text.removeprefix('./')}"
    for key, value in (held or {}).items():
        quote = elsewhere(value, name.spot, why)
        found[key] = expand_compose(quote, {**stream.variables, **found}) if "$" in value else quote
    if name.text.rpartition("/")[2] == ENV:
        found.update((key, value._replace(spot=name.spot)) for key, value in stream.variables.items())
    elif held is None and required:
        told = f"variables of the file {name.text} are left out: no such file lies beside this one"
        hint = "check the whole: docker compose config | moeplan check -"
        yield FileRemark("env-file-elsewhere", told, name.spot, hint)


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
    """A service with the services that it extends beneath it; one of a file that does not lie beside this one is told."""
    node = services.at(name)
    here = stream.path.rpartition("/")[2]
    seen = {(here, name)}
    others: list[_Other] = []
    remarks: list[FileRemark] = []
    extends = node.at("extends")
    while extends.there and len(seen) <= _MOST_BASES:
        base = extends.at("service").word() or extends.word()
        file = extends.at("file").word().removeprefix("./")
        other = _services_of(file, extends.key, stream) if file and file != here else services
        if other is None:
            told = f"{name} extends {base} of {file}, which is another file: what stands there is left out"
            hint = "check the whole: docker compose config | moeplan check -"
            remarks.append(FileRemark(_EXTENDS, told, extends.key, hint))
            break
        if other is not services:
            others.append(_Other(extends.key, f"service {base} of {file}"))
            services, here = other, file
        if (here, base) in seen or base not in services:
            break
        seen.add((here, base))
        node, extends = merged(node, services.at(base)), services.at(base, "extends")
    return _Service(name, node, tuple(remarks), tuple(others))


def _services_of(file: str, reference: Spot, stream: Stream) -> Node | None:
    """The services of a file beside this one, as if they stood at the reference; None for a file that is elsewhere."""
    text = stream.beside.text(file)
    documents = compose(text).documents if text is not None else []
    services = documents[0].at("services") if documents else None
    return _moved(services, reference) if services is not None and services.kind == "map" else None


def _moved(node: Node, reference: Spot) -> Node:
    spot = reference._replace(path=f"{reference.path}{_THERE}{node.spot.path}")
    entries = {key: _moved(value, reference) for key, value in node.entries.items()}
    return Node(node.kind, spot, node.text, entries, [_moved(item, reference) for item in node.items])


def _is_of(other: _Other, spot: Spot) -> bool:
    return spot.path.startswith(f"{other.spot.path}{_THERE}")


def _referred(deployed: Deployed, other: _Other) -> Deployed:
    """The record with what comes from another file said to, at the place of the reference."""

    def one(quote: Quote) -> Quote:
        if not _is_of(other, quote.spot):
            return quote
        return quote._replace(spot=other.spot, why=f"{other.why}, {quote.why}" if quote.why else other.why)

    remarks = (each._replace(spot=other.spot) if _is_of(other, each.spot) else each for each in deployed.remarks)
    return each_quote(deployed, one)._replace(remarks=tuple(remarks))


def merged(own: Node, base: Node) -> Node:
    """Mappings are merged key by key, variables name by name; everything else of its own counts."""
    kinds = (own.kind, base.kind)
    if "list" in kinds and set(kinds) <= {"list", "map"} and _is_environment(own):
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
