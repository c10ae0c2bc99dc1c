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
from moeplan.core.model import Weight
from moeplan.core.quant import Holding, Quantisation, plain_name
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

PLAIN = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16"}
"""Dtypes of unquantised weights, by the names of `core.quant`."""
UNPACKED = (*PLAIN, "F8_E4M3", "F8_E5M2")
"""Dtypes whose elements are parameters one by one; others may hold several."""


class Unmatched(NamedTuple):
    """A tensor that no entry of the inventory explains."""

    name: str
    num_bytes: int


class Matched(NamedTuple):
    """A checkpoint sorted by the inventory."""

    holdings: tuple[Holding, ...]
    counted: tuple[tuple[Owned, int], ...]
    """Entries with the parameters that the checkpoint stores for them: as parameters, not as packed elements."""
    unmatched: tuple[Unmatched, ...]
    missing: tuple[str, ...]
    """Entries of the inventory of which the checkpoint has no tensor; MTP layers may always be missing."""


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
            name = _entry_template(entry)
            self.names.setdefault(name, []).append(home)
            module = name.rpartition(".")[0] if name.endswith((".weight", ".bias")) else name
            self.modules.setdefault(module, []).append(home)
            while "." in module:
                module = module.rpartition(".")[0]
                self.above.setdefault(module, []).append(home)

    def find(self, template: str, layer: int | None) -> "_Found | None":
        """Where a tensor belongs; None where no entry explains it."""
        home = _of_layer(self.names.get(template, ()), layer)
        if home is not None:
            return _Found(home.entry, own=True, beside=False)
        beside = _BESIDE.search(template) is not None
        stem = _PACKED.sub("", _BESIDE.sub("", template))
        for homes in (self.names.get(stem), self.names.get(f"{stem}.weight"), self.modules.get(stem)):
            home = _of_layer(homes or (), layer)
            if home is not None:
                return _Found(home.entry, own=True, beside=beside)
        while "." in stem:
            stem = stem.rpartition(".")[0]
            homes = [home for home in self.above.get(stem, ()) if not home.layers or layer in home.layers]
            if homes:
                alike = len({home.entry.weight.role for home in homes}) == 1
                return _Found(_nearest(homes, template).entry, own=False, beside=beside) if alike else None
        return None


class _Found(NamedTuple):
    """The entry that a tensor belongs to."""

    entry: Owned
    own: bool
    """False where it was found by a module above: several entries may be stored in one tensor."""
    beside: bool
    """True for scales and their like, which hold no parameters."""


def match(
    checkpoint: Checkpoint, owned: tuple[Owned, ...], quantisation: Quantisation, *, tied_embedding: bool
) -> Matched:
    """Sort the checkpoint's tensors by the inventory. What is not recognised is listed and kept, role `other`.

    `quantisation` gives formats their names: packed data and what stands beside it are called as the config calls
    them; plain tensors by their own dtype.
    """
    index = _Index(owned)
    formats: dict[tuple[str, int | None], str] = {}
    sums: dict[tuple[Weight, Part, str], int] = {}
    counted: dict[Owned, int] = {}
    unmatched: list[Unmatched] = []
    seen: set[str] = set()
    for tensor in checkpoint.tensors:
        numbers = _NUMBER.findall(tensor.name)
        layer = int(numbers[0]) if numbers else None
        template = _template(tensor.name)
        found = index.find(template, layer)
        if found is None:
            entry = _stranger(tensor, tied_embedding=tied_embedding)
            if entry.part == "text":
                unmatched.append(Unmatched(tensor.name, tensor.num_bytes))
            name = PLAIN.get(tensor.dtype) or tensor.dtype.lower()
        else:
            entry = found.entry
            seen.add(_entry_template(entry))
            name = _format(tensor, found, quantisation, layer, formats)
        key = (entry.weight, entry.part, name)
        sums[key] = sums.get(key, 0) + tensor.num_bytes
        counted[entry] = counted.get(entry, 0) + _params(tensor, found)
    holdings = tuple(Holding(weight, part, name, size) for (weight, part, name), size in sums.items())
    expected = {
        _entry_template(entry): entry.weight.name for entry in owned if entry.part not in ("mtp", "mtp_duplicate")
    }
    # Where some entry of a module was seen, its neighbours are stored fused with it (`gate_up_proj`), not missing.
    modules = {name.rsplit(".", 2)[0] for name in seen}
    missing = sorted(
        name
        for template, name in expected.items()
        if template not in seen and template.rsplit(".", 2)[0] not in modules
    )
    return Matched(holdings, tuple(counted.items()), tuple(unmatched), tuple(missing))


def _entry_template(entry: Owned) -> str:
    return _template(entry.weight.name.replace("{layer}", "0").replace("{expert}", "0"))


def _template(name: str) -> str:
    return _NUMBER.sub("{}", plain_name(name))


def _of_layer(homes: Iterable[_Home], layer: int | None) -> _Home | None:
    for home in homes:
        if not home.layers or layer in home.layers:
            return home
    return None


def _nearest(homes: list[_Home], template: str) -> _Home:
    """Of several entries of one role the one whose last name shares the most with the tensor's (`down` with `down`)."""
    words = set(re.split(r"[._]", template))
    return max(homes, key=lambda home: len(words & set(re.split(r"[._]", home.entry.weight.name))))


def _stranger(tensor: StoredTensor, *, tied_embedding: bool) -> Owned:
    """A stand-in for a tensor that the inventory does not have: told by the words in its name, else role `other`."""
    if tied_embedding and tensor.name.endswith("lm_head.weight"):
        return Owned(Weight("(a second table)", "lm_head", ()), "mtp_duplicate", ())
    if _TOWER.search(tensor.name):
        return Owned(Weight("(tower)", "towers", ()), "tower", ())
    part: Part = "mtp" if _MTP.search(tensor.name) else "text"
    return Owned(Weight("(other)", "other", ()), part, ())


def _format(
    tensor: StoredTensor,
    found: _Found,
    quantisation: Quantisation,
    layer: int | None,
    known: dict[tuple[str, int | None], str],
) -> str:
    plain = PLAIN.get(tensor.dtype)
    if plain is not None and not found.beside:
        return plain
    weight = found.entry.weight
    if (weight.name, layer) not in known:
        name = weight.name.replace("{layer}", str(layer)).replace("{expert}", "0")
        told = quantisation.format_of(name, weight.role, linear=weight.linear, buffer=weight.buffer).name
        known[weight.name, layer] = told if told not in PLAIN.values() else tensor.dtype.lower()
    return known[weight.name, layer]


def _params(tensor: StoredTensor, found: _Found | None) -> int:
    """Parameters that a tensor stores: none beside a matrix, the matrix's own where data is packed."""
    if found is not None and found.beside:
        return 0
    elements = 1
    for size in tensor.shape:
        elements *= size
    if tensor.dtype in UNPACKED or found is None:
        return elements
    if found.own:
        expected = 1
        for size in found.entry.weight.shape:
            expected *= size
        if expected % max(1, elements) == 0 and expected // max(1, elements) in (1, 2, 4, 8):
            return expected
    # Stacked and packed: two 4-bit values in a byte, eight in a 32-bit word.
    return elements * {"I32": 8, "U8": 2}.get(tensor.dtype, 1)
