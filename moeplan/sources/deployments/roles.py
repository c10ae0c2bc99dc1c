"""Whether an engine prefills, decodes or does both: by labels and flags. A name alone says nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence

from moeplan.core.deployed import Quote, Role
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.words import has_flag, value_of

_LABELS = ("llm-d.ai/role", "role-name", "role", "app.kubernetes.io/component")
_KV_ROLES: dict[object, Role] = {"kv_producer": "prefill", "kv_consumer": "decode"}
_SERVER_ROLES: dict[str, Role] = {"context": "prefill", "generation": "decode"}


def role_of_word(word: str) -> Role | None:
    """`prefill` and `decode` as roles; None for every other word."""
    match word.lower():
        case "prefill":
            return "prefill"
        case "decode":
            return "decode"
        case _:
            return None


def role_of_labels(*labels: Node) -> Role | None:
    """The role that labels of an object or its pods state."""
    words = (node.at(key).word() for key in _LABELS for node in labels)
    return next((role for role in map(role_of_word, words) if role is not None), None)


def role_of_command(command: Sequence[Quote]) -> Role | None:
    """The role that flags state: SGLang's and Dynamo's `--disaggregation-mode`, vLLM's `kv_role`, TensorRT-LLM's server role."""
    mode = value_of(command, "--disaggregation-mode")
    if mode is not None:
        return role_of_word(mode.text)
    if has_flag(command, "--is-prefill-worker"):
        return "prefill"
    server = value_of(command, "--server-role")
    if server is not None:
        return _SERVER_ROLES.get(server.text.lower())
    return _KV_ROLES.get(_kv_role(command))


def _kv_role(command: Sequence[Quote]) -> object:
    stated = value_of(command, "--kv-transfer-config.kv_role")
    if stated is not None:
        return stated.text
    config = value_of(command, "--kv-transfer-config")
    try:
        found = json.loads(config.text) if config is not None else None
    except (ValueError, RecursionError):
        return None
    role = found.get("kv_role") if isinstance(found, dict) else None
    return role if isinstance(role, str) else None
