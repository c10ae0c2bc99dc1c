"""Go templates in an object's texts, as far as values of the same object fill them.

Source: the templates of KServe's config/llmisvcconfig; only their forms are known: `{{ .Spec.Model.Name }}`,
`{{ or .Spec.Parallelism.Data 1 }}`, `{{ if .X }}A{{ else }}B{{ end }}`, calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from moeplan.sources.deployments.nodes import Node

Lookup = Callable[[str], str | None]
"""The value of a path (`.Spec.Model.Name`) or call: empty where it is known to be unset, None where it is not known."""

_TAG = re.compile(r"\{\{-?\s*((?:(?!\}\}).)*?)\s*-?\}\}", re.DOTALL)
_BRANCH = re.compile(r"\0if ([^\s\0]+)\0([^\0]*)\0(?:else\0([^\0]*)\0)?end\0")
_BRANCHING = ("if ", "else", "end", "range ", "with ")
_OR = re.compile(r"or (\.[A-Za-z][\w.]*) (\S+)")
_MOST_ROUNDS = 20
_FALSE = ("", "false", "0")


def filled(node: Node, lookup: Lookup) -> Node:
    """The node with the templates of all its texts filled in."""
    if node.kind == "text" and "{{" in node.text:
        return Node("text", node.spot, filled_text(node.text, lookup), key=node.key)
    if node.kind == "map":
        entries = {key: filled(value, lookup) for key, value in node.entries.items()}
        return Node("map", node.spot, entries=entries, key=node.key)
    if node.kind == "list":
        return Node("list", node.spot, items=[filled(item, lookup) for item in node.items], key=node.key)
    return node


def filled_text(text: str, lookup: Lookup) -> str:
    """The text with what is known; the rest stays as one word (`{{call_.X}}`), whatever splits the text later.

    White space that a template takes away (`{{-`) is kept, so that lines stay where they are.
    """
    marked = _TAG.sub(lambda found: _marked(found.group(1), lookup), text.replace("\0", ""))
    for _ in range(_MOST_ROUNDS):
        chosen = _BRANCH.sub(lambda found: _chosen(found, lookup), marked)
        if chosen == marked:
            break
        marked = chosen
    return re.sub(r"\0([^\0]*)\0", lambda found: f"{{{{{'_'.join(found.group(1).split())}}}}}", marked)


def _marked(inside: str, lookup: Lookup) -> str:
    """A value, or the sign of a branch or of what is not known."""
    either = _OR.fullmatch(inside)
    value: str | None = None
    if either:
        value = lookup(either.group(1))
        value = either.group(2) if value in _FALSE else value
    elif not inside.startswith(_BRANCHING):
        value = lookup(inside)
    return f"\0{inside}\0" if value is None else value


def _chosen(found: re.Match[str], lookup: Lookup) -> str:
    condition, then, otherwise = found.groups()
    value = lookup(condition)
    if value is None:
        return found.group()
    return otherwise or "" if value in _FALSE else then
