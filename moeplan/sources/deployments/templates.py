"""Templates of Helm, Go and Jinja in texts that are meant to be YAML: what is not rendered is not known."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moeplan.core.deployed import Deployed, Gang, Quote, Spot
from moeplan.sources.deployments.nodes import Node

TEMPLATE = re.compile(r"\{\{|\{%")
"""Where a template begins."""
_HOLE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_FILLED_BY_SERVERS = ("serving.kserve.io/",)
"""API groups whose objects may hold templates that their controller fills in."""


def template_of(document: Node, lines: Sequence[str]) -> Spot | None:
    """Where a template stands in the place of a value, which YAML takes for a mapping: `replicas: {{ .Values.x }}`.

    `lines` are those of the text.
    """
    waiting = [document]
    while waiting:
        node = waiting.pop()
        if "?" in node.entries:
            line = lines[node.spot.line - 1] if node.spot.line <= len(lines) else ""
            if line.startswith("{{", node.spot.column - 1):
                return node.spot
        waiting += [*reversed(list(node.entries.values())), *reversed(node.items)]
    return None


def is_rendered(document: Node) -> bool:
    """True for a file of settings, whose texts may hold templates; an object of Kubernetes is applied as it stands."""
    version = document.at("apiVersion").word()
    return not version or not document.at("kind").there or version.startswith(_FILLED_BY_SERVERS)


def first_in_scalars(document: Node) -> Spot | None:
    """Where the first value of one line with a template in it stands; longer texts may be templates of their own."""
    waiting = [document]
    while waiting:
        node = waiting.pop()
        if node.kind == "text" and "\n" not in node.text.strip() and _HOLE.search(node.text):
            return node.spot
        waiting += [*reversed(node.items), *reversed(list(node.entries.values()))]
    return None


def without_open_templates(deployed: Deployed) -> Deployed:
    """With every template that is left in a value named as unknown."""
    return each_quote(deployed, _opened)


def each_quote(deployed: Deployed, change: Callable[[Quote], Quote]) -> Deployed:
    """The record with each of its quotes changed; those of the command in their order."""

    def one(value: Any) -> Any:
        if isinstance(value, Quote):
            return change(value)
        if isinstance(value, Mapping):
            return {key: one(item) for key, item in value.items()}
        if isinstance(value, Gang):
            return Gang(*map(one, value))
        return tuple(map(one, value)) if type(value) is tuple else value

    return Deployed(*map(one, deployed))


def _opened(quote: Quote) -> Quote:
    if "{{" not in quote.text and "{%" not in quote.text:
        return quote
    holes = tuple(dict.fromkeys(_HOLE.findall(quote.text)))
    return (
        quote._replace(origin="unresolved", unknown=tuple(dict.fromkeys((*quote.unknown, *holes)))) if holes else quote
    )
