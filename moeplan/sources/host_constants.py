"""Constants of weights in host memory, from `profiles/host/offload.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from moeplan.core.deployment import Constant
from moeplan.sources.engine_constants import constant_of
from moeplan.sources.profile_folders import builtin_folder
from moeplan.sources.strict_yaml import load

SCHEMA = 1
NAMES = (
    "host_bandwidth_fraction",
    "second_socket_fraction",
    "host_layer_s",
    "device_bandwidth_fraction",
    "device_call_factor",
    "pinned_copy_fraction",
    "pageable_copy_bytes_per_s",
    "device_matrix_fraction",
    "system_bytes",
)


def host_constants(path: Path | None = None) -> Mapping[str, Constant]:
    """All of them by name. InputError for a file that is not as it should be."""
    top = load(path or builtin_folder("host") / "offload.yaml", "docs/offload.md")
    if (schema := top.integer("schema")) != SCHEMA:
        raise top.wrong("schema", f"is {schema}, and this moeplan reads {SCHEMA}", "update moeplan")
    entries = top.block("constants")
    top.done()
    if entries is None:
        raise top.wrong("constants", "is missing")
    found = {}
    for name in NAMES:
        block = entries.block(name)
        if block is None:
            raise entries.wrong(name, "is missing")
        found[name] = constant_of(block)
    entries.done()
    return found
