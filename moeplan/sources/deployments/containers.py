"""A container: its environment, its GPUs, and the engines that its command starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moeplan.core.deployed import PlainSecret, Quote
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.stream import Stream


class Run(NamedTuple):
    """An engine that a container starts."""

    engine: str
    command: tuple[Quote, ...]
    """Program, model and flags."""
    variables: Mapping[str, Quote]


class Environment(NamedTuple):
    """Variables of a container."""

    variables: Mapping[str, Quote]
    """Those that the file does not tell (secretKeyRef, fieldRef) are absent."""
    secrets: tuple[PlainSecret, ...]
    """Tokens in plain text."""


def environment(container: Node, stream: Stream, built_in: Mapping[str, Quote] | None = None) -> Environment:
    """`env` and `envFrom` of a Kubernetes container: values, ConfigMap references; `$(VAR)` in values expanded.

    `built_in` are variables that the kind of object sets itself (`LWS_GROUP_SIZE`).
    """
    raise NotImplementedError


def gpus_of(resources: Node) -> Quote | None:
    """The GPUs of `resources` (limits before requests): `nvidia.com/gpu`, `amd.com/gpu`, `nvidia.com/mig-...`, plain `gpu`."""
    raise NotImplementedError


def slice_of(resources: Node) -> Quote | None:
    """The MIG slice that `resources` asks for (`nvidia.com/mig-1g.10gb: 1` gives `1g.10gb`); None for whole cards."""
    raise NotImplementedError


def engine_runs(
    argv: Sequence[Quote],
    variables: Mapping[str, Quote],
    image: Quote | None,
    gpus: Quote | None = None,
    *,
    has_command: bool = True,
) -> tuple[Run, ...]:
    """The engines that a container's words start; empty for a container that serves no model.

    Shells and wrappers are looked through. With `has_command` False the words are arguments of the image's entrypoint, so
    an engine's own image decides (`vllm/vllm-openai` runs `vllm serve`). Routers, frontends, side cars are no engines.
    """
    raise NotImplementedError


def container_runs(
    container: Node, stream: Stream, built_in: Mapping[str, Quote] | None = None
) -> tuple[tuple[Run, ...], Environment]:
    """`engine_runs` of a Kubernetes container node, with `$(VAR)` expanded, and its environment."""
    raise NotImplementedError
