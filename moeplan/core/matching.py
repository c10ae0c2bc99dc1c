"""Tensors of a checkpoint held against the inventory: which weight each one stores, and what is left over.

A tensor belongs to the inventory entry that has its name with numbers filled in; what a quantiser puts beside a
matrix (scales, zero points, packed data) belongs to that matrix. Checkpoints that fuse or stack what the inventory
lists apart (all experts of a layer in one tensor, queries with keys and values) are matched by the part of the name
that both have: a module that holds weights of one role alone gives its role to whatever is stored below it.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from moeplan.core.checkpoint import Checkpoint, StoredTensor
from moeplan.core.model import Role, Weight
from moeplan.core.quant import Holding, plain_name
from moeplan.core.weights import Owned, Part

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.)")
_BESIDE = re.compile(
    r"[._](?:weight_scale_inv|weight_scale_2|weight_scale|weight_zero_point|weight_shape|weight_g_idx|scale_inv|scales?|"
    r"qzeros|g_idx|input_scale|output_scale|input_global_scale|weight_global_scale|[kvq]_scale|absmax|quant_map|"
    r"nested_absmax|nested_quant_map|quant_state\.\w+|SCB|zeros?)$"
)
"""Endings of tensors that a quantiser stores beside a matrix; they hold no parameters."""
_PACKED = re.compile(r"(?:\.weight_packed|\.qweight|_blocks|\.weight)$")
_TOWER = re.compile(
    r"(?:^|\.)(?:visual|vision\w*|audio\w*|mm_projector|multi_modal_projector|image_\w+|patch_\w+)(?:\.|$)"
)
_MTP = re.compile(r"(?:^|\.)(?:mtp\w*|nextn\w*|mtp_layers|model_mtp)(?:\.|$)")

PLAIN_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8}
"""Dtypes whose elements are parameters one by one; all others may be packed."""


class Unmatched(NamedTuple):
    """A tensor that no entry of the inventory explains."""

    name: str
    num_bytes: int


class Matched(NamedTuple):
    """A checkpoint sorted by the inventory."""

    holdings: tuple[Holding, ...]
    params_by_role: dict[str, int]
    """Parameters of text, encoder and towers, counted as parameters and not as packed elements."""
    routed_params: dict[tuple[int, int], int]
    """Parameters of routed experts by (experts per token, entrants), for the fold to `active`."""
    buffer_elements: int
    mtp_params: int
    unmatched: tuple[Unmatched, ...]
    missing: tuple[str, ...]
    """Entries of the inventory of which the checkpoint has no tensor."""


class _Home(NamedTuple):
    """Where a tensor may belong: an entry and the layers that own it."""

    entry: Owned
    layers: frozenset[int]


class _Index:
    """The inventory by name: whole names, modules, and modules above them."""

    def __init__(self, owned: Iterable[Owned]) -> None:
        self.names: dict[str, list[_Home]] = {}
        self.modules: dict[str, list[_Home]] = {}
        self.above: dict[str, list[_Home]] = {}
        for entry in owned:
            home = _Home(entry, frozenset(entry.layers))
            name = _template(entry.weight.name.replace("{layer}", "0").replace("{expert}", "0"))
            self.names.setdefault(name, []).append(home)
            module = name.rpartition(".")[0] if name.endswith((".weight", ".bias")) else name
            self.modules.setdefault(module, []).append(home)
            while "." in module:
                module = module.rpartition(".")[0]
                self.above.setdefault(module, []).append(home)

    def find(self, template: str, layer: int | None) -> tuple[_Home, bool] | None:
        """The home of a tensor, and whether the match is to its own entry (else to a module above it)."""
        stem = _BESIDE.sub("", template)
        for name in dict.fromkeys(
            (template, stem, f"{stem}.weight", _PACKED.sub("", stem), f"{_PACKED.sub('', stem)}.weight")
        ):
            for homes in (self.names.get(name), self.modules.get(name)):
                if homes and (home := _of_layer(homes, layer)) is not None:
                    return home, True
        module = stem
        while "." in module:
            module = module.rpartition(".")[0]
            homes = [home for home in self.above.get(module, ()) if not home.layers or layer in home.layers]
            roles = {home.entry.weight.role for home in homes}
            if homes and len(roles) == 1:
                return _nearest(homes, template), False
            if homes:
                return None
        return None


def match(checkpoint: Checkpoint, owned: tuple[Owned, ...], *, tied_embedding: bool) -> Matched:
    """Sort the checkpoint's tensors by the inventory. What is not recognised is listed and kept, role `other`."""
    index = _Index(owned)
    sums: dict[tuple[Weight, Part, str], int] = {}
    params: dict[str, int] = {}
    routed: dict[tuple[int, int], int] = {}
    buffers = mtp = 0
    unmatched: list[Unmatched] = []
    seen: set[str] = set()
    for tensor in checkpoint.tensors:
        numbers = [int(found) for found in _NUMBER.findall(tensor.name)]
        template = _template(tensor.name)
        found = index.find(template, numbers[0] if numbers else None)
        if found is None:
            weight, part = _stranger(tensor, tied_embedding=tied_embedding)
            if part == "text":
                unmatched.append(Unmatched(tensor.name, tensor.num_bytes))
            own, entry = False, None
        else:
            home, own = found
            entry = home.entry
            weight, part = entry.weight, entry.part
            seen.add(weight.name)
        key = (weight, part, tensor.dtype)
        sums[key] = sums.get(key, 0) + tensor.num_bytes
        count = _params(tensor, template, entry, own=own)
        if weight.buffer:
            buffers += count if part != "mtp" else 0
        elif part == "mtp":
            mtp += count
        elif part != "mtp_duplicate":
            params[weight.role] = params.get(weight.role, 0) + count
            if entry is not None and entry.visits is not None:
                routed[entry.visits] = routed.get(entry.visits, 0) + count
    holdings = tuple(Holding(weight, part, dtype.lower(), size) for (weight, part, dtype), size in sums.items())
    missing = sorted({entry.weight.name for entry in owned if entry.part != "mtp_duplicate"} - seen)
    return Matched(holdings, params, routed, buffers, mtp, tuple(unmatched), tuple(_without_fused(missing, seen)))


def _template(name: str) -> str:
    return _NUMBER.sub("{}", plain_name(name))


def _of_layer(homes: list[_Home], layer: int | None) -> _Home | None:
    for home in homes:
        if not home.layers or layer in home.layers:
            return home
    return None


def _nearest(homes: list[_Home], template: str) -> _Home:
    """Of several entries of one role the one whose last name shares the most with the tensor's (`down` with `down`)."""
    words = set(re.split(r"[._]", template))
    return max(homes, key=lambda home: len(words & set(re.split(r"[._]", home.entry.weight.name))))


def _stranger(tensor: StoredTensor, *, tied_embedding: bool) -> tuple[Weight, Part]:
    """A weight for a tensor that the inventory does not have: told by the words in its name, else `other`."""
    role: Role = "other"
    part: Part = "text"
    if tied_embedding and tensor.name.endswith("lm_head.weight"):
        role, part = "lm_head", "mtp_duplicate"
    elif _TOWER.search(tensor.name):
        role, part = "towers", "tower"
    elif _MTP.search(tensor.name):
        part = "mtp"
    return Weight(f"({role})", role, ()), part


def _params(tensor: StoredTensor, template: str, entry: Owned | None, *, own: bool) -> int:
    """Parameters that a tensor stores: none beside a matrix, the matrix's own where data is packed."""
    if _BESIDE.search(template):
        return 0
    elements = 1
    for size in tensor.shape:
        elements *= size
    if tensor.dtype in PLAIN_BITS or entry is None:
        return elements
    if own:
        expected = 1
        for size in entry.weight.shape:
            expected *= size
        if expected % max(1, elements) == 0 and expected // max(1, elements) in (1, 2, 4, 8):
            return expected
    # Stacked and packed: two 4-bit values in a byte, eight in a 32-bit word.
    return elements * {"I32": 8, "U8": 2, "I8": 1, "F4": 1}.get(tensor.dtype, 1)


def _without_fused(missing: list[str], seen: set[str]) -> Iterable[str]:
    """Entries of whose module some other entry was seen are stored fused with it (`gate_up_proj`), not missing."""
    modules = {name.rsplit(".", 2)[0] for name in seen}
    return (name for name in missing if name.rsplit(".", 2)[0] not in modules)
