"""Tensors whose names say their role and their layer, but not which weight of the inventory they are (GGUF)."""

import re
from collections.abc import Collection, Mapping

from moeplan.core.checkpoint import Checkpoint
from moeplan.core.matching import Matched, Unmatched
from moeplan.core.model import Role, Weight
from moeplan.core.quant import Holding
from moeplan.core.weights import Owned, Part

_LAYER = re.compile(r"\.(\d+)\.")


def match_by_role(
    checkpoint: Checkpoint, owned: tuple[Owned, ...], roles: Mapping[str, Role | None], buffers: Collection[str]
) -> Matched:
    """Sort tensors by the role that their names tell; layers behind the last one of the text model are MTP.

    `roles` has every tensor's role, None where its name is not known; `buffers` the names that are no parameters.
    """
    homes: dict[tuple[Role, int | None], Owned] = {}
    last = max((layer for entry in owned if entry.part == "text" for layer in entry.layers), default=0)
    for entry in owned:
        if entry.part == "text" and not entry.weight.buffer:
            for layer in entry.layers or (None,):
                known = homes.get((entry.weight.role, layer))
                if known is None or (entry.weight.linear and not known.weight.linear):
                    homes[entry.weight.role, layer] = entry
    sums: dict[tuple[Weight, Part, str], int] = {}
    counted: dict[Owned, int] = {}
    unmatched: list[Unmatched] = []
    for tensor in checkpoint.tensors:
        numbered = _LAYER.search(tensor.name)
        layer = int(numbered[1]) if numbered else None
        role = roles.get(tensor.name)
        part: Part = "mtp" if layer is not None and layer > last else "tower" if role == "towers" else "text"
        home = homes.get((role, layer)) if role is not None and part == "text" else None
        if tensor.name in buffers or home is None:
            stand_in = Weight(f"({role or 'other'})", role or "other", (), buffer=tensor.name in buffers)
            home = Owned(stand_in, part, ())
        if role is None and part == "text":
            unmatched.append(Unmatched(tensor.name, tensor.num_bytes))
        key = (home.weight, part, tensor.dtype.lower())
        sums[key] = sums.get(key, 0) + tensor.num_bytes
        elements = 1
        for size in tensor.shape:
            elements *= size
        counted[home] = counted.get(home, 0) + elements
    holdings = tuple(Holding(weight, part, name, size) for (weight, part, name), size in sums.items())
    return Matched(holdings, tuple(counted.items()), tuple(unmatched), ())
