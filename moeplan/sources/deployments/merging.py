"""One tree laid over another, as Kubernetes merges a patch into its base (strategic merge)."""

from __future__ import annotations

from moeplan.sources.deployments.nodes import Node

_KEYS = ("name", "mountPath", "containerPort", "key")
"""What the members of a list are known by; lists of plain values are replaced as a whole."""


def merged(base: Node, patch: Node) -> Node:
    """`patch` over `base`: mappings key by key, lists of named members by name, all else replaced.

    Every value keeps the place where it stands. A null of the patch takes the base's value away.
    """
    if not base.there:
        return patch
    if patch.kind == "map" and base.kind == "map":
        entries = dict(base.entries)
        for key, value in patch.entries.items():
            entries[key] = merged(entries[key], value) if key in entries else value
        return Node("map", patch.spot, entries=entries, key=patch.key)
    if patch.kind == "list" and base.kind == "list":
        return _merged_list(base, patch)
    return patch


def _merged_list(base: Node, patch: Node) -> Node:
    key = next((key for key in _KEYS if all(key in item for item in (*base.items, *patch.items))), None)
    if key is None or not base.items:
        return patch
    members = {item.at(key).word(): item for item in base.items}
    for item in patch.items:
        name = item.at(key).word()
        members[name] = merged(members[name], item) if name in members else item
    return Node("list", patch.spot, items=list(members.values()), key=patch.key)
