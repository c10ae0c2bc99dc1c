"""Tensors whose names say their role and their layer, and most of them also which weight of the inventory they are (GGUF)."""

import re
from collections.abc import Collection, Iterator, Mapping

from moeplan.core.checkpoint import Checkpoint
from moeplan.core.gguf_names import gguf_stems, holds
from moeplan.core.matching import Matched, Unmatched
from moeplan.core.model import Role, Weight
from moeplan.core.quant import by_layer
from moeplan.core.weights import Owned, Part

_LAYER = re.compile(r"\.(\d{1,9})\.")


def match_by_role(
    checkpoint: Checkpoint, owned: tuple[Owned, ...], roles: Mapping[str, Role | None], buffers: Collection[str]
) -> Matched:
    """Sort tensors by the role that their names tell.

    `roles` has every tensor's role, None where its name is not known; `buffers` the names that are no parameters. The
    bytes of a tensor go to the weight that its name tells (`core.gguf_names`); where it tells none they are spread over
    the weights that the inventory has of that role in the layer, by their elements. Draft layers are those that the
    inventory has, or that name themselves so; other layers that the model should not have are listed as unmatched.
    """
    homes: dict[tuple[Role, int | None], list[Owned]] = {}
    drafts = {layer for entry in owned if entry.part == "mtp" for layer in entry.layers}
    drafts |= {_layer(name) or -1 for name in roles if ".nextn." in name}
    for entry in owned:
        if entry.part == "text" and not entry.weight.buffer:
            for layer in entry.layers or (None,):
                homes.setdefault((entry.weight.role, layer), []).append(entry)
    sums: dict[tuple[Weight, Part, str], dict[int | None, int]] = {}
    counted: dict[Owned, int] = {}
    unmatched: list[Unmatched] = []
    for tensor in checkpoint.tensors:
        layer, role = _layer(tensor.name), roles.get(tensor.name)
        part: Part = "mtp" if layer in drafts else "tower" if role == "towers" else "text"
        mine = homes.get((role, layer), []) if role is not None and part == "text" else []
        if len(mine) > 1 and tensor.name not in buffers:
            mine = _named(mine, tensor.name)
        if tensor.name in buffers or not mine:
            mine = [Owned(Weight(f"({role or 'other'})", role or "other", (), buffer=tensor.name in buffers), part, ())]
            if part == "text" and tensor.name not in buffers:
                unmatched.append(Unmatched(tensor.name, tensor.num_bytes))
        elements = 1
        for size in tensor.shape:
            elements *= size
        for entry, num_bytes, share in _spread(mine, tensor.num_bytes, elements):
            key = (entry.weight, part, f"gguf {tensor.dtype.lower()}")
            layers = sums.setdefault(key, {})
            layers[layer] = layers.get(layer, 0) + num_bytes
            counted[entry] = counted.get(entry, 0) + share
    return Matched(by_layer(sums), tuple(counted.items()), tuple(unmatched), ())


def _named(entries: list[Owned], tensor_name: str) -> list[Owned]:
    """The weights of a role that the tensor stores by its name; those without a known name, where it is none of these."""
    return (
        [entry for entry in entries if holds(tensor_name, entry.weight)]
        or [entry for entry in entries if not gguf_stems(entry.weight)]
        or entries
    )


def _layer(name: str) -> int | None:
    numbered = _LAYER.search(name)
    return int(numbered[1]) if numbered else None


def _spread(entries: list[Owned], num_bytes: int, elements: int) -> Iterator[tuple[Owned, int, int]]:
    """Bytes and elements shared out by the entries' own sizes; the last takes what rounding leaves."""
    whole = sum(entry.weight.num_elements for entry in entries)
    left_bytes, left = num_bytes, elements
    for entry in entries[:-1]:
        share_bytes = num_bytes * entry.weight.num_elements // whole
        share = elements * entry.weight.num_elements // whole
        yield entry, share_bytes, share
        left_bytes, left = left_bytes - share_bytes, left - share
    yield entries[-1], left_bytes, left
