"""Tensors of a checkpoint held against the inventory: which weight each one stores, and what is left over.

A tensor belongs to the inventory entry that has its name with numbers filled in; what a quantiser puts beside a
matrix (scales, zero points) belongs to that matrix. Checkpoints that fuse or stack what the inventory lists apart
(all experts of a layer in one tensor, queries with keys and values) are matched by the part of the name that both
have: a module that holds weights of one role alone gives its role to whatever is stored below it. Checkpoints that
name modules as another code base does are matched by a table of equal words (`_WORDS`).

Tensors are grouped by name without numbers, layer, dtype and shape first, and each group is judged once: a model of
90,000 tensors has a few thousand groups.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from moeplan.core.checkpoint import Checkpoint, StoredTensor
from moeplan.core.model import Role, Weight
from moeplan.core.quant import GGUF, Holding, Quantisation, WeightFormat, by_layer, plain_name
from moeplan.core.weights import Owned, Part

_NUMBER = re.compile(r"\.(\d{1,9})(?![^.])")  # begins with a letter of its own: searched fastest
_EXPERT = re.compile(r"(?<=expert_)\d+(?![^.])")
_LAYER = re.compile(r"^[^{}]*\{\}$")
_BESIDE = re.compile(
    r"[._](?:weight_scale_inv|weight_scale_2|weight_scale|weight_zero_point|weight_shape|weight_g_idx|scale_inv|"
    r"[kvq]_scale|[kvq]_zero_point|(?:input|output|weight)_global_scale|(?:input|output|activation)_(?:scale|zero_point)|"
    r"input_scale_ub|pre_quant_scale|qscale_weight|qscale_act|scales?|zeros?|qzeros|g_idx|"
    r"absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.\w+|SCB|weight_format)$"
)
"""Endings of tensors that a quantiser stores beside a matrix; they hold no parameters."""
_PACKED = re.compile(r"(?:\.weight_packed|\.qweight|_blocks|_packed|\.weight)$")
_COMPUTED = re.compile(
    r"(?:^|\.)(?:inv_freq|original_inv_freq|cos_cached|sin_cached|masked_bias|position_ids|"
    r"slope_rate|query_decay|key_decay|diagonal_decay)$"
)
"""Tables that models compute from their config; some libraries save them all the same. No parameters."""
_TOWER = re.compile(
    r"(?:^|\.)(?:visual|vision\w*|audio\w*|talker|code2wav|\w*mm_projector\w*|multi_modal_projector|image_\w+|patch_\w+|"
    r"embed_vision|embed_audio)(?:\.|$)"
)
_MTP = re.compile(r"(?:^|\.)(?:\w*mtp\w*|nextn\w*|eh_proj|enorm|hnorm|shared_head)(?:\.|$)")
_TABLE = re.compile(r"(?:^|\.)(?:embed_tokens|shared|wte|lm_head)(?:\.weight)?$")

_WORDS = {
    # Word of another code base: that of transformers, "" for modules that only some of them have. Sources: mistral-inference
    # (`consolidated.safetensors`), DeepSeek's inference code, GPT-2, transformers' own renamings of Kimi-K2.5 and Kimi-Linear.
    "self_attn": "",
    "attention": "",
    "attn": "",
    "mlp": "",
    "feed_forward": "",
    "block_sparse_moe": "",
    "ffn": "",
    "tok_embeddings": "embed_tokens",
    "embed": "embed_tokens",
    "wte": "embed_tokens",
    "word_embeddings": "embed_tokens",
    "blocks": "layers",
    "h": "layers",
    "wq": "q_proj",
    "wk": "k_proj",
    "wv": "v_proj",
    "wo": "o_proj",
    "wq_a": "q_a_proj",
    "wq_b": "q_b_proj",
    "wkv_a": "kv_a_proj_with_mqa",
    "wkv_a_with_mqa": "kv_a_proj_with_mqa",
    "wkv_b": "kv_b_proj",
    "q_a_norm": "q_a_layernorm",
    "kv_a_norm": "kv_a_layernorm",
    "w1": "gate_proj",
    "w2": "down_proj",
    "w3": "up_proj",
    "attention_norm": "input_layernorm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "norm_f": "norm",
    "ln_f": "norm",
    "hc_head_base": "hc_head.hc_base",
    "hc_head_fn": "hc_head.hc_fn",
    "hc_head_scale": "hc_head.hc_scale",
}
_ROOT_WORDS = {"output": "lm_head", "head": "lm_head", "embed_out": "lm_head"}
"""As `_WORDS`, for the first module of a name."""

PLAIN = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16"}
"""Dtypes of unquantised weights, by the names of `core.quant`."""
_PACKING = {"U8": 4, "I32": 4, "U32": 4}
"""Dtypes that may hold several weights in an element, with the bits of a weight where the config does not say."""
_EIGHT_BITS = ("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8")


class Unmatched(NamedTuple):
    """A tensor that no entry of the inventory explains."""

    name: str
    num_bytes: int


Kind = Literal["tower", "mtp", "second_table", "computed", "surplus", "other_names"]


class Recognised(NamedTuple):
    """Tensors that are not in the inventory under their names, but known for what they are."""

    kind: Kind
    """`surplus`: stored in a module whose role is known, which holds more than the inventory explains. `other_names`: in
    the inventory, under the names of another code base."""
    num_tensors: int
    num_bytes: int
    first: str
    """Name of the first of them."""


class Matched(NamedTuple):
    """A checkpoint sorted by the inventory."""

    holdings: tuple[Holding, ...]
    counted: tuple[tuple[Owned, int], ...]
    """Entries with the parameters that the checkpoint stores for them: as parameters, not as packed elements."""
    unmatched: tuple[Unmatched, ...]
    missing: tuple[str, ...]
    """What the inventory has and the checkpoint lacks: names, with layers or counts where only some of them are
    missing. MTP layers may always be missing."""
    recognised: tuple[Recognised, ...] = ()


class _Home(NamedTuple):
    """An entry of the inventory as a place for tensors."""

    number: int
    """Position in the inventory."""
    entry: Owned
    layers: frozenset[int]
    per_tensor: int
    """Parameters of one stored tensor of this entry."""


class _Found(NamedTuple):
    """Where tensors of one name belong."""

    homes: tuple[_Home, ...]
    """Several where they are told apart by size, or are stored in one tensor."""
    own: bool
    """False where a module above decided: the tensor may hold several entries."""
    beside: bool
    """True for scales and their like, which hold no parameters."""
    renamed: bool
    """True where only the table of equal words led here."""


class _Names:
    """The inventory under one way of naming: whole names, modules, and modules above them."""

    def __init__(self, named: Iterable[tuple[str, _Home]]) -> None:
        self.names: dict[str, list[_Home]] = {}
        self.modules: dict[str, list[_Home]] = {}
        self.inside: dict[str, list[_Home]] = {}
        """Module to what it holds itself."""
        self.above: dict[str, list[_Home]] = {}
        """Module to what it and the modules in it hold."""
        for name, home in named:
            self.names.setdefault(name, []).append(home)
            module = _module(name)
            self.modules.setdefault(module, []).append(home)
            self.inside.setdefault(module.rpartition(".")[0], []).append(home)
            while "." in module:
                module = module.rpartition(".")[0]
                self.above.setdefault(module, []).append(home)

    def whole(self, name: str, stem: str, layer: int | None) -> tuple[_Home, ...]:
        """Entries of that name, or of the matrix that the tensor stands beside."""
        for homes in (self.names.get(name), self.names.get(stem), self.names.get(f"{stem}.weight")):
            if homes and (mine := _of_layer(homes, layer)):
                return mine
        return _of_layer(self.modules.get(stem, ()), layer)[:1]

    def around(self, stem: str, layer: int | None, num_dims: int) -> tuple[_Home, ...]:
        """The entry that is most alike, in the nearest module that holds weights of one role."""
        words = set(re.split(r"[._]", stem))
        while "." in stem:
            stem = stem.rpartition(".")[0]
            if _LAYER.search(stem):  # a layer holds too many kinds of things to tell
                return ()
            for held in (self.inside.get(stem, ()), self.above.get(stem, ())):
                homes = _of_layer(held, layer)
                # Vectors among matrices (norms beside projections) do not decide about matrices, nor the reverse.
                alike = [home for home in homes if (len(home.entry.weight.shape) > 1) == (num_dims > 1)]
                if not alike and num_dims < 2:
                    alike = list(homes)
                if alike and len({(home.entry.weight.role, home.entry.part) for home in alike}) == 1:
                    return (max(alike, key=lambda home: len(words & set(re.split(r"[._]", home.entry.weight.name)))),)
            if self.above.get(stem) and _of_layer(self.above[stem], layer):
                return ()
        return ()


class _Index:
    """The inventory by the names that it has, and by those of the table of equal words."""

    def __init__(self, owned: tuple[Owned, ...]) -> None:
        self.homes = tuple(
            _Home(number, entry, frozenset(entry.layers), _per_tensor(entry)) for number, entry in enumerate(owned)
        )
        named = [(_entry_template(home.entry), home) for home in self.homes]
        self.plain = _Names(named)
        self.renamed = _Names((_in_equal_words(name), home) for name, home in named)

    def find(self, template: str, layer: int | None, num_dims: int) -> _Found | None:
        """Where a tensor belongs; None where no entry explains it."""
        other = _in_equal_words(template)
        if homes := _of_layer(self.plain.names.get(template, ()), layer):
            return _Found(homes, own=True, beside=False, renamed=False)
        if homes := _of_layer(self.renamed.names.get(other, ()), layer):
            return _Found(homes, own=True, beside=False, renamed=True)
        if _COMPUTED.search(template):
            return None
        bare = _BESIDE.sub("", template)
        beside = bare != template
        stem = _PACKED.sub("", bare)
        other_stem = _in_equal_words(stem)
        if homes := self.plain.whole(template, stem, layer):
            return _Found(homes, own=True, beside=beside, renamed=False)
        if homes := self.renamed.whole(other, other_stem, layer):
            return _Found(homes, own=True, beside=beside, renamed=True)
        # Scales are as 2-D as matrices or smaller; they stand beside matrices.
        num_dims = 2 if beside else num_dims
        if homes := self.plain.around(stem, layer, num_dims):
            return _Found(homes, own=False, beside=beside, renamed=False)
        if homes := self.renamed.around(other_stem, layer, num_dims):
            return _Found(homes, own=False, beside=beside, renamed=True)
        return None


class _Group(NamedTuple):
    """Tensors that differ in their numbers alone, but for the layer, which they share."""

    template: str
    layer: int | None
    dtype: str
    shape: tuple[int, ...]
    tensors: list[StoredTensor]

    @property
    def num_bytes(self) -> int:
        """Of all of them."""
        return self.tensors[0].num_bytes * len(self.tensors)


class _Tally:
    """What is found for the inventory and beyond, summed up."""

    def __init__(self) -> None:
        self.sums: dict[tuple[Weight, Part, str], dict[int | None, int]] = {}
        """Bytes by weight, part and format, of each layer."""
        self.counted: dict[Owned, int] = {}
        self.params: dict[tuple[int, int | None], int] = {}
        """By entry and layer."""
        self.tensors: dict[tuple[int, int | None], int] = {}
        """Matrices and vectors under the entry's own name, nothing beside them; by entry and layer."""
        self.around: list[tuple[_Home, _Group]] = []
        """Tensors for which a module decided."""
        self.recognised: dict[Kind, Recognised] = {}
        self.tower_params = 0
        """Of towers that the inventory does not have."""

    def add(self, entry: Owned, layer: int | None, name: str, num_bytes: int, params: int) -> None:
        """Bytes of one format in one layer, and parameters."""
        layers = self.sums.setdefault((entry.weight, entry.part, name), {})
        layers[layer] = layers.get(layer, 0) + num_bytes
        self.counted[entry] = self.counted.get(entry, 0) + params

    def note(self, kind: Kind, group: _Group) -> None:
        """One more group of a kind that the notes tell of."""
        before = self.recognised.get(kind, Recognised(kind, 0, 0, group.tensors[0].name))
        self.recognised[kind] = before._replace(
            num_tensors=before.num_tensors + len(group.tensors), num_bytes=before.num_bytes + group.num_bytes
        )


def match(
    checkpoint: Checkpoint, owned: tuple[Owned, ...], quantisation: Quantisation, *, tied_embedding: bool
) -> Matched:
    """Sort the checkpoint's tensors by the inventory. What is not recognised is listed and kept, role `other`.

    `quantisation` gives formats their names: packed data and what stands beside it are called as the config calls
    them; plain tensors by their own dtype.
    """
    index, tally = _Index(owned), _Tally()
    strangers: list[_Group] = []
    placed: list[tuple[_Group, _Found]] = []
    for group in _groups(checkpoint.tensors):
        found = index.find(group.template, group.layer, len(group.shape))
        if found is None:
            strangers.append(group)
        else:
            placed.append((group, found))
            if found.renamed:
                tally.note("other_names", group)
    placed.sort(key=lambda each: each[1].beside)  # a matrix before its scales, which share its format
    formats: dict[tuple[int, int | None], str] = {}
    for group, found in placed:
        _place(group, found, quantisation, formats, tally)
    unmatched = _add_strangers(strangers, index, tally, tied_embedding=tied_embedding)
    modules = _modules(index.homes)
    _note_surplus(modules, tally)
    return Matched(
        by_layer(tally.sums),
        tuple(tally.counted.items()),
        tuple(unmatched),
        tuple(_missing(index.homes, modules, tally)),
        tuple(tally.recognised.values()),
    )


# Names -----------------------------------------------------------------------------------------------------


def _groups(tensors: Iterable[StoredTensor]) -> list[_Group]:
    split = _NUMBER.split
    groups: dict[tuple[str, str, str, tuple[int, ...]], list[StoredTensor]] = {}
    for tensor in tensors:
        name, dtype, shape, _, _ = tensor
        parts = split(name)
        key = (".{}".join(parts[::2]), parts[1] if len(parts) > 1 else "", dtype, shape)
        if key in groups:
            groups[key].append(tensor)
        else:
            groups[key] = [tensor]
    return [
        _Group(_EXPERT.sub("{}", plain_name(template)), int(number) if number else None, dtype, shape, members)
        for (template, number, dtype, shape), members in groups.items()
    ]


def _entry_template(entry: Owned) -> str:
    filled = entry.weight.name.replace("{layer}", "0").replace("{expert}", "0")
    return _EXPERT.sub("{}", plain_name(_NUMBER.sub(".{}", filled)))


def _module(template: str) -> str:
    return template.rpartition(".")[0] if template.endswith((".weight", ".bias")) else template


def _in_equal_words(template: str) -> str:
    words = [_WORDS.get(word, word) for word in template.split(".")]
    words[0] = _ROOT_WORDS.get(words[0], words[0])
    return ".".join(word for word in words if word)


def _of_layer(homes: Iterable[_Home], layer: int | None) -> tuple[_Home, ...]:
    return tuple(home for home in homes if not home.layers or layer in home.layers)


def _per_tensor(entry: Owned) -> int:
    weight = entry.weight
    several = "{expert}" in weight.name or (entry.part == "tower" and "{layer}" in weight.name)
    return weight.num_elements // weight.count if several else weight.num_elements


# What a tensor holds ---------------------------------------------------------------------------------------


def _place(
    group: _Group,
    found: _Found,
    quantisation: Quantisation,
    formats: dict[tuple[int, int | None], str],
    tally: _Tally,
) -> None:
    first = found.homes[0]
    known = _format(group, found, quantisation)
    params = 0 if found.beside else _params(group, found, known)
    homes = _stored_homes(found, params, group.shape)
    name = known.name if known is not None else _by_dtype(group.dtype)
    if found.beside:
        matrix = formats.get((first.number, group.layer))
        if matrix is None and known is None:
            name = _by_dtype(group.dtype)
        elif matrix is not None:  # a scale of a cache stands beside matrices that are not quantised
            name = _by_dtype(group.dtype) if matrix in PLAIN.values() else matrix
    else:
        formats.setdefault((first.number, group.layer), name)
    whole = sum(home.per_tensor for home in homes)
    num_bytes, elements = group.num_bytes, params * len(group.tensors)
    for position, home in enumerate(homes):
        last = position == len(homes) - 1
        my_bytes = num_bytes if last else group.num_bytes * home.per_tensor // whole
        mine = elements if last else params * len(group.tensors) * home.per_tensor // whole
        num_bytes, elements = num_bytes - my_bytes, elements - mine
        tally.add(home.entry, group.layer if home.layers else None, name, my_bytes, mine)
        if found.beside:
            continue
        place = (home.number, group.layer if home.layers else None)
        tally.params[place] = tally.params.get(place, 0) + mine
        if found.own:
            tally.tensors[place] = tally.tensors.get(place, 0) + len(group.tensors)
        else:
            tally.around.append((home, group))


def _stored_homes(found: _Found, params: int, shape: tuple[int, ...]) -> tuple[_Home, ...]:
    """Of several entries of one name the one of that size; all of them where one tensor stores them together."""
    homes = found.homes
    if len(homes) == 1:
        return homes
    for home in homes:
        if home.entry.weight.shape == shape and home.per_tensor == params:
            return (home,)
    for home in homes:
        if home.per_tensor == params:
            return (home,)
    return homes


def _format(group: _Group, found: _Found, quantisation: Quantisation) -> WeightFormat | None:
    """The quantised format by the config's name for it; None where the tensor is plain or the config tells nothing."""
    if not found.beside and (group.dtype in PLAIN or group.dtype.lower() in GGUF or group.dtype == "I64"):
        return None
    weight = found.homes[0].entry.weight
    name = weight.name.replace("{layer}", str(group.layer or 0)).replace("{expert}", "0")
    told = [quantisation.format_of(name, weight.role, linear=weight.linear, buffer=weight.buffer)]
    # Where the config leaves this name alone and the headers do not, a rule for its role is the likely one.
    told += [rule.format for rule in quantisation.rules if weight.role in rule.roles]
    for known in told:
        if known.name not in PLAIN.values() and (found.beside or _fits(group.dtype, known)):
            return known
    return None


def _fits(dtype: str, known: WeightFormat) -> bool:
    if dtype in _EIGHT_BITS:
        return known.element_bits == 8
    return dtype in _PACKING or known.element_bits < 8


def _by_dtype(dtype: str) -> str:
    if dtype in PLAIN:
        return PLAIN[dtype]
    if dtype.lower() in GGUF:
        return GGUF[dtype.lower()].name
    return {"F8_E4M3": "fp8 e4m3", "F8_E5M2": "fp8 e5m2", "I64": "int64"}.get(dtype, dtype.lower())


def _params(group: _Group, found: _Found, known: WeightFormat | None) -> int:
    """Parameters that one tensor stores: its elements, or what is packed in them."""
    elements = 1
    for size in group.shape:
        elements *= size
    bits = _PACKING.get(group.dtype)
    if bits is None or found.homes[0].entry.weight.buffer:
        return elements
    if known is not None:
        bits = known.element_bits
    stored = group.tensors[0].num_bytes * 8 // bits
    expected = sum(home.per_tensor for home in found.homes) if found.own else 0
    # The last word of a row (or column) is filled up.
    filled_up = elements // max(1, min(group.shape, default=1)) * (stored // max(1, elements))
    return expected if expected <= stored < expected + filled_up else stored


# What the inventory does not have --------------------------------------------------------------------------


def _add_strangers(strangers: list[_Group], index: _Index, tally: _Tally, *, tied_embedding: bool) -> list[Unmatched]:
    """Stand-ins for tensors that no entry explains: told by the words in their names, else role `other`."""
    tables = {home.entry.weight.shape for home in index.homes if home.entry.weight.role == "embedding"}
    drafts = {
        (group.template.partition("{}")[0], group.layer)
        for group in strangers
        if group.layer is not None and _MTP.search(group.template)
    }
    unmatched: list[Unmatched] = []
    for group in strangers:
        kind: Kind | None = None
        role: Role = "other"
        part: Part = "text"
        if _COMPUTED.search(group.template):
            kind, label = "computed", "(computed tables)"
        elif _TOWER.search(group.template):
            kind, label, role, part = "tower", "(tower)", "towers", "tower"
        elif _is_table(group, tables, tied_embedding=tied_embedding):
            kind, label, role, part = "second_table", "(a second table)", "lm_head", "mtp_duplicate"
        elif _MTP.search(group.template) or (group.template.partition("{}")[0], group.layer) in drafts:
            kind, label, part = "mtp", "(draft layers)", "mtp"
        else:
            label = "(other)"
            unmatched += [Unmatched(tensor.name, tensor.num_bytes) for tensor in group.tensors]
        params = 0
        if kind != "computed" and not _BESIDE.search(group.template):
            params = len(group.tensors)
            for size in group.shape:
                params *= size
        if kind == "tower":
            tally.tower_params += params
        if kind is not None:
            tally.note(kind, group)
        layer = group.layer if part == "text" else None
        tally.add(Owned(Weight(label, role, ()), part, ()), layer, _by_dtype(group.dtype), group.num_bytes, params)
    return unmatched


def _is_table(group: _Group, tables: set[tuple[int, ...]], *, tied_embedding: bool) -> bool:
    """Whether it is the head that the config ties to the embedding, or the embedding once more."""
    name = _in_equal_words(group.template)
    if tied_embedding and name.endswith("lm_head.weight"):
        return True
    return _TABLE.search(name) is not None and group.shape in tables


# What the checkpoint does not have -------------------------------------------------------------------------


_Place = tuple[Part, str, int | None]
"""A module of one part, in one layer."""


def _modules(homes: tuple[_Home, ...]) -> dict[_Place, list[_Home]]:
    """What the inventory has in each module: fused tensors are stored with their neighbours there."""
    modules: dict[_Place, list[_Home]] = {}
    for home in homes:
        for layer in home.entry.layers or (None,):
            modules.setdefault(_place_of(home, layer), []).append(home)
    return modules


def _place_of(home: _Home, layer: int | None) -> _Place:
    if home.entry.part == "tower":
        return "tower", "", None  # their publishers rename modules; towers count as a whole
    name = _entry_template(home.entry)
    module = name.removesuffix(".weight").removesuffix(".bias").rpartition(".")[0]
    return home.entry.part, module.removesuffix(".{}"), layer


def _lack(members: list[_Home], layer: int | None, tally: _Tally) -> int:
    """Parameters that a module has in the inventory but not in the checkpoint; negative where it has more."""
    expected = sum(home.entry.weight.num_elements for home in members)
    return expected - sum(tally.params.get((home.number, layer), 0) for home in members)


def _note_surplus(modules: dict[_Place, list[_Home]], tally: _Tally) -> None:
    for home, group in tally.around:
        layer = group.layer if home.layers else None
        if home.entry.part != "tower" and _lack(modules[_place_of(home, layer)], layer, tally) < 0:
            tally.note("surplus", group)


def _missing(homes: tuple[_Home, ...], modules: dict[_Place, list[_Home]], tally: _Tally) -> Iterator[str]:
    """Names of what the inventory has and the checkpoint lacks.

    An entry of which nothing was found is not missing where its neighbours hold as many parameters more: then it is
    stored with them (`gate_up_proj`).
    """
    owners: dict[str, set[int]] = {}
    numbers: dict[str, set[int]] = {}
    for home in homes:
        if home.layers and home.entry.part not in ("mtp", "mtp_duplicate"):
            owners.setdefault(_stack(home), set()).update(home.layers)
            numbers.setdefault(home.entry.weight.name, set()).update(home.layers)
    found: dict[str, set[int]] = {stack: set() for stack in owners}
    for number, layer in tally.params:
        if layer is not None and _stack(homes[number]) in found:
            found[_stack(homes[number])].add(layer)
    absent = {stack: layers - found[stack] for stack, layers in owners.items()}
    for stack, gone in absent.items():
        if gone:
            yield f"{stack}{{{_ranges(gone)}}} (whole layers)"
    lacking: dict[tuple[str, str], set[int]] = {}
    for (part, _, layer), members in modules.items():
        if part in ("mtp", "mtp_duplicate"):
            continue
        lack = _lack(members, layer, tally) - (tally.tower_params if part == "tower" else 0)
        for home in members:
            weight = home.entry.weight
            if layer is not None and layer in absent[_stack(home)]:
                continue
            seen = tally.tensors.get((home.number, layer), 0)
            if (home.number, layer) not in tally.params:
                if lack < weight.num_elements:
                    continue
                how = ""
            elif 0 < seen < weight.count and home.per_tensor < weight.num_elements and lack > 0:
                how = f"{weight.count - seen} of {weight.count}"
            else:
                continue
            lacking.setdefault((weight.name, how), set()).update(() if layer is None else (layer,))
    for (name, how), layers in sorted(lacking.items()):
        whole = numbers.get(name, set()) - absent.get(name.partition("{layer}")[0], set())
        where = f"in layers {_ranges(layers)}" if layers != whole else ""
        told = " ".join(word for word in (how, where) if word)
        yield f"{name} ({told})" if told else name


def _stack(home: _Home) -> str:
    return home.entry.weight.name.partition("{layer}")[0]


def _ranges(numbers: set[int]) -> str:
    """`0-3, 7` for 0, 1, 2, 3 and 7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
