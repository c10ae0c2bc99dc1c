"""Helm's `{{ .Values.x }}` in a values file, resolved from the same file.

A chart may render its values once more (`tpl`): `uri: "hf://{{ .Values.modelArtifacts.name }}"`. What such a template says
beyond a plain path of values is left open.
"""

from __future__ import annotations

import re

from moeplan.core.deployed import Quote
from moeplan.sources.deployments.nodes import Node

_TEMPLATE = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_PATH = re.compile(r"\$?\.Values((?:\.[A-Za-z_][\w-]*)+)(?:\s*\|\s*quote)?")
_MOST_ROUNDS = 4
"""Values that hold templates themselves."""


def resolved(quote: Quote, values: Node) -> Quote:
    """The text with what the values tell; a template that they do not tell is named in `unknown`."""
    if "{{" not in quote.text:
        return quote
    text, why = quote.text, quote.why
    for _ in range(_MOST_ROUNDS):
        told = _TEMPLATE.sub(lambda found: _told(found, values), text)
        if told == text:
            break
        text, why = told, "values of this file"
    left = tuple(found.group() for found in _TEMPLATE.finditer(text))
    unknown = tuple(dict.fromkeys((*quote.unknown, *left)))
    return Quote(text, quote.spot, "unresolved" if unknown else quote.origin, unknown, why)


def resolved_node(node: Node, values: Node) -> Node:
    """The node with all its texts resolved; a template that is not told stays as it stands."""
    if node.kind == "text" and "{{" in node.text:
        return Node("text", node.spot, resolved(Quote(node.text, node.spot), values).text, key=node.key)
    if node.kind == "map":
        entries = {key: resolved_node(value, values) for key, value in node.entries.items()}
        return Node("map", node.spot, entries=entries, key=node.key)
    if node.kind == "list":
        return Node("list", node.spot, items=[resolved_node(item, values) for item in node.items], key=node.key)
    return node


def left_open(quote: Quote) -> Quote:
    """A word that still holds a template: what it stands for is not known."""
    left = tuple(found.group() for found in _TEMPLATE.finditer(quote.text))
    if not left:
        return quote
    return quote._replace(origin="unresolved", unknown=tuple(dict.fromkeys((*quote.unknown, *left))))


def _told(found: re.Match[str], values: Node) -> str:
    path = _PATH.fullmatch(found.group(1))
    if path is None:
        return found.group()
    value = values.at(*path.group(1).lstrip(".").split("."))
    return value.text if value.is_scalar else found.group()
