"""Weight formats, what a checkpoint stores in which of them, and the fold that turns an inventory into bytes.

A `WeightFormat` is data: `tensor_bytes` is the one function that reads it, scales and zero points included.
A `Quantisation` is an ordered list of rules over names and roles. Names in checkpoints and in our inventory may
differ by leading wrappers (`model.`, `language_model.`, `backbone.`, `transformer.`), so these are dropped on
both sides before names are compared.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

from moeplan.core.model import ROLES, Remark, Role, Weight
from moeplan.core.weights import Owned, Part

Group = (
    tuple[Literal["row"], int]
    | tuple[Literal["flat"], int]
    | tuple[Literal["block"], int, int]
    | tuple[Literal["channel"]]
    | tuple[Literal["tensor"]]
)
"""Which elements share a scale: runs of one row (along in_features), runs of the flattened tensor, blocks of rows
and columns, one output channel (a row), or the whole tensor."""


class WeightFormat(NamedTuple):
    """How a matrix of (out_features, in_features) is stored."""

    name: str
    element_bits: int
    group: Group | None = None
    """None: no scales."""
    scale_bits: int = 0
    """Per group; of one tensor or channel, too."""
    zero_point_bits: int = 0
    """Per group, packed into words along out_features."""
    index_bits: int = 0
    """Per input feature: the group index of GPTQ, the input scale of AWQ in ModelOpt."""
    fixed_bytes: int = 0
    """Per tensor: second scales, input scales, shape pairs, code books."""
    word_bits: int = 8
    """Elements and zero points are packed into words of this size; a row (or column) starts a new word."""
    packed_along: Literal["in", "out"] = "in"
    scale_group: int = 0
    """Scales themselves quantised in runs of so many, each run with one 32-bit scale; 0 for none."""
    block_bytes: int = 0
    """GGUF: bytes of one block of `group` elements with all that is in it; rows hold whole blocks."""
    compute: str = ""
    """What a multiplication with such weights runs in."""

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per element of a large matrix: fixed bytes and per-feature indices left out."""
        group = self.group
        size = float("inf")
        if group is not None and group[0] in ("row", "flat"):
            size = group[1]
        elif group is not None and group[0] == "block":
            size = group[1] * group[2]
        if self.block_bytes:
            return self.block_bytes * 8 / size
        nested = 32 / self.scale_group if self.scale_group else 0
        return self.element_bits + (self.scale_bits + self.zero_point_bits + nested) / size


_FP8 = "fp8 tensor cores (compute capability 8.9 and later); before that weight-only with 16-bit activations"
_INT4 = "weight-only: 16-bit activations"
_FP4 = "fp4 tensor cores (compute capability 10.0 and later); before that weight-only with 16-bit activations"
_GGML = "integer dot products with activations quantised to 8 bit (llama.cpp)"

BF16 = WeightFormat("bf16", 16, compute="16-bit")
FP16 = WeightFormat("fp16", 16, compute="16-bit")
FP32 = WeightFormat("fp32", 32, compute="32-bit")
INT64 = WeightFormat("int64", 64, compute="index table, not multiplied")
# One fp32 `weight_scale` per tensor (ModelOpt FP8); a static `input_scale` is added by `with_input_scale`.
FP8_TENSOR = WeightFormat("fp8 per tensor", 8, ("tensor",), 32, compute=_FP8)
FP8_CHANNEL = WeightFormat("fp8 per channel", 8, ("channel",), 32, compute=_FP8)
# deepseek-ai/DeepSeek-V3 inference/model.py: fp32 `weight_scale_inv` of ceil(out/128) x ceil(in/128).
FP8_BLOCK = WeightFormat("fp8 128x128 block", 8, ("block", 128, 128), 32, compute=_FP8)
# DeepSeek-V4 stores its power-of-two scales as one byte (its inference/model.py: float8_e8m0fnu). DeepSeek-V3.2 says
# `scale_fmt: ue8m0` too, but keeps fp32 (its inference/model.py), so that is FP8_BLOCK.
FP8_BLOCK_UE8M0 = WeightFormat("fp8 128x128 block, ue8m0 scales", 8, ("block", 128, 128), 8, compute=_FP8)
MXFP8 = WeightFormat("mxfp8", 8, ("row", 32), 8, compute="mx tensor cores (compute capability 10.0 and later)")
INT8 = WeightFormat("int8 per channel", 8, ("channel",), 32, compute="int8 tensor cores")
# AutoAWQ gemm: int32 `qweight` [in, out/8], int32 `qzeros` [in/g, out/8], fp16 `scales` [in/g, out].
AWQ_INT4 = WeightFormat(
    "awq int4 g128", 4, ("row", 128), 16, zero_point_bits=4, word_bits=32, packed_along="out", compute=_INT4
)
# AutoGPTQ: int32 `qweight` [in*bits/32, out], int32 `qzeros` [in/g, out*bits/32] (stored for symmetric ones as well),
# fp16 `scales` [in/g, out], int32 `g_idx` [in].
GPTQ_INT4 = WeightFormat(
    "gptq int4 g128", 4, ("row", 128), 16, zero_point_bits=4, index_bits=32, word_bits=32, compute=_INT4
)
GPTQ_INT8 = GPTQ_INT4._replace(name="gptq int8 g128", element_bits=8, zero_point_bits=8)
# compressed-tensors pack-quantized: int32 `weight_packed` [out, in*bits/32], 16-bit `weight_scale` [out, in/g] and an
# int64 pair `weight_shape`. Asymmetric: int32 `weight_zero_point`; activation order: int32 `weight_g_idx`.
PACKED_INT4 = WeightFormat("int4 g128", 4, ("row", 128), 16, word_bits=32, fixed_bytes=16, compute=_INT4)
PACKED_INT8 = PACKED_INT4._replace(name="int8 g128", element_bits=8)
# openai/gpt-oss: `blocks` [out, in/32, 16] and `scales` [out, in/32], one byte each. DeepSeek-V4 experts: same sizes.
MXFP4 = WeightFormat("mxfp4", 4, ("row", 32), 8, compute=_FP4)
# ModelOpt: uint8 `weight` [out, in/2], fp8 `weight_scale` [out, in/16], fp32 `weight_scale_2`.
NVFP4 = WeightFormat("nvfp4", 4, ("row", 16), 8, fixed_bytes=4, compute=_FP4)
# bitsandbytes: blocks of 64 over the flattened tensor, fp32 `absmax`, a code book of 16 fp32. The JSON record of about
# 100 bytes beside each tensor is left out.
BNB_NF4 = WeightFormat("bitsandbytes nf4", 4, ("flat", 64), 32, fixed_bytes=64, compute=_INT4)
# With double quantisation: 8-bit `absmax`, fp32 `nested_absmax` per 256 of them, a second code book of 256 fp32.
BNB_NF4_DOUBLE = BNB_NF4._replace(name="bitsandbytes nf4, double", scale_bits=8, scale_group=256, fixed_bytes=64 + 1024)
BNB_FP4 = BNB_NF4._replace(name="bitsandbytes fp4")
BNB_FP4_DOUBLE = BNB_NF4_DOUBLE._replace(name="bitsandbytes fp4, double")
# LLM.int8(): fp32 `SCB` per row and a one-byte format mark.
BNB_INT8 = WeightFormat("bitsandbytes int8", 8, ("channel",), 32, fixed_bytes=1, compute="int8 with 16-bit outliers")
# HQQ, axis 1: a 16-bit scale and a 16-bit zero point per group.
HQQ_INT4 = WeightFormat("hqq int4 g64", 4, ("row", 64), 16, zero_point_bits=16, compute=_INT4)
# torchao int4 weight-only: a pair of 16-bit scale and zero point per group.
TORCHAO_INT4 = WeightFormat("torchao int4 g128", 4, ("row", 128), 16, zero_point_bits=16, compute=_INT4)

GGUF_BLOCKS: dict[str, tuple[int, int]] = {
    # type: (elements, bytes) of one block; the size asserts of llama.cpp ggml-common.h
    "q4_0": (32, 18),
    "q4_1": (32, 20),
    "q5_0": (32, 22),
    "q5_1": (32, 24),
    "q8_0": (32, 34),
    "q2_k": (256, 84),
    "q3_k": (256, 110),
    "q4_k": (256, 144),
    "q5_k": (256, 176),
    "q6_k": (256, 210),
    "iq1_s": (256, 50),
    "iq1_m": (256, 56),
    "iq2_xxs": (256, 66),
    "iq2_xs": (256, 74),
    "iq2_s": (256, 82),
    "iq3_xxs": (256, 98),
    "iq3_s": (256, 110),
    "iq4_nl": (32, 18),
    "iq4_xs": (256, 136),
    "tq1_0": (256, 54),
    "tq2_0": (256, 66),
    "mxfp4": (32, 17),
    "nvfp4": (64, 36),
}

GGUF: dict[str, WeightFormat] = {
    name: WeightFormat(
        f"gguf {name}", num_bytes * 8 // elements, ("row", elements), block_bytes=num_bytes, compute=_GGML
    )
    for name, (elements, num_bytes) in GGUF_BLOCKS.items()
}

GGUF_FALLBACKS: dict[str, str] = {
    # For rows that are no multiple of the block; llama.cpp llama-quant.cpp, tensor_type_fallback. Behind these: fp16.
    **dict.fromkeys(("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs"), "iq4_nl"),
    **dict.fromkeys(("q2_k", "q3_k", "tq1_0", "tq2_0"), "q4_0"),
    "q4_k": "q5_0",
    "q5_k": "q5_1",
    "q6_k": "q8_0",
}

FORMATS: dict[str, WeightFormat] = {
    row.name: row
    for row in (
        BF16, FP16, FP32, INT64, FP8_TENSOR, FP8_CHANNEL, FP8_BLOCK, FP8_BLOCK_UE8M0, MXFP8, INT8, AWQ_INT4, GPTQ_INT4,
        GPTQ_INT8, PACKED_INT4, PACKED_INT8, MXFP4, NVFP4, BNB_NF4, BNB_NF4_DOUBLE, BNB_FP4, BNB_FP4_DOUBLE, BNB_INT8,
        HQQ_INT4, TORCHAO_INT4, *GGUF.values(),
    )
}  # fmt: skip

BY_DTYPE: dict[str, WeightFormat] = {"bfloat16": BF16, "float16": FP16, "float32": FP32}
"""The unquantised format of a weight dtype, by the names of `ModelSpec.dtype`."""


def with_group(weight_format: WeightFormat, size: int) -> WeightFormat:
    """The same format with groups of `size` elements; -1 is one group per output channel, as quantisers write it."""
    name = re.sub(r" g\d+$", "", weight_format.name)
    if size == -1:
        return weight_format._replace(name=f"{name} per channel", group=("channel",))
    return weight_format._replace(name=f"{name} g{size}", group=("row", size))


def with_block(weight_format: WeightFormat, rows: int, columns: int) -> WeightFormat:
    """A block format with blocks of `rows` x `columns`."""
    name = re.sub(r"\d+x\d+ block", f"{rows}x{columns} block", weight_format.name)
    return weight_format._replace(name=name, group=("block", rows, columns))


def with_input_scale(weight_format: WeightFormat) -> WeightFormat:
    """The same format beside a stored fp32 `input_scale` (static activation quantisation)."""
    return weight_format._replace(fixed_bytes=weight_format.fixed_bytes + 4)


def tensor_bytes(weight_format: WeightFormat, shape: tuple[int, ...], count: int = 1) -> int:
    """Bytes that `count` tensors of `shape` take as stored, scales and zero points included.

    `shape` is (out_features, in_features); one dimension is one row, leading dimensions (packed experts) multiply.
    Groups and blocks that do not divide are rounded up, as the quantisers do.
    """
    columns = shape[-1] if shape else 1
    rows = shape[-2] if len(shape) > 1 else 1
    for size in shape[:-2]:
        count *= size
    f = weight_format
    group = f.group
    if f.block_bytes and group is not None and group[0] == "row":
        return count * rows * _ceil(columns, group[1]) * f.block_bytes
    per_row = 1
    if group is None:
        num_scales = 0
    elif group[0] == "row":
        per_row = _ceil(columns, group[1])
        num_scales = rows * per_row
    elif group[0] == "channel":
        num_scales = rows
    elif group[0] == "block":
        num_scales = _ceil(rows, group[1]) * _ceil(columns, group[2])
    elif group[0] == "flat":
        num_scales = _ceil(rows * columns, group[1])
    else:
        num_scales = 1
    if group is not None and group[0] == "flat":
        stored = _words(rows * columns * f.element_bits, f.word_bits)
    elif f.packed_along == "in":
        stored = rows * _words(columns * f.element_bits, f.word_bits)
    else:
        stored = columns * _words(rows * f.element_bits, f.word_bits)
    stored += _words(num_scales * f.scale_bits, 8)
    if f.zero_point_bits:
        stored += per_row * _words(rows * f.zero_point_bits, f.word_bits)
    if f.scale_group:
        stored += 4 * _ceil(num_scales, f.scale_group)
    return count * (stored + columns * f.index_bits // 8 + f.fixed_bytes)


def block_shape(weight_format: WeightFormat) -> tuple[int, int] | None:
    """Rows and columns of a format's two-dimensional blocks, where it has such."""
    group = weight_format.group
    return (group[1], group[2]) if group is not None and group[0] == "block" else None


def fitted(weight_format: WeightFormat, shape: tuple[int, ...]) -> WeightFormat:
    """What llama.cpp stores instead where a row of `shape` is no multiple of the block; other formats unchanged."""
    group = weight_format.group
    while weight_format.block_bytes and group is not None and group[0] == "row" and shape[-1] % group[1]:
        fallback = GGUF_FALLBACKS.get(weight_format.name.removeprefix("gguf "))
        weight_format = GGUF[fallback] if fallback else FP16
        group = weight_format.group
    return weight_format


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)


def _words(bits: int, word_bits: int) -> int:
    return _ceil(bits, word_bits) * word_bits // 8


# Which weights ---------------------------------------------------------------------------------------------

MATRIX_ROLES: tuple[Role, ...] = (
    "attention",
    "indexer",
    "recurrent",
    "routed_experts",
    "moe_latent",
    "shared_experts",
    "dense_mlp",
)
"""Roles that a rule takes when it does not say otherwise: never embedding, head, router, norms or towers."""


class Rule(NamedTuple):
    """Weights of some `roles`, names and layers are stored in `format`."""

    format: WeightFormat
    roles: tuple[Role, ...] = MATRIX_ROLES
    patterns: tuple[str, ...] = ()
    """As in `Quantisation.ignored`; none means every name."""
    layers: tuple[int, ...] | None = None
    """None means every layer; else numbers of the text model's layers."""
    linear_only: bool = True
    """False for rules about vectors and other weights that no quantiser takes; `ignored` does not hold for them."""


class Quantisation(NamedTuple):
    """How a checkpoint stores its weights. The first rule that takes a weight decides, else it is in `base`."""

    name: str
    base: WeightFormat
    rules: tuple[Rule, ...] = ()
    ignored: tuple[str, ...] = ()
    """Weights that no quantiser takes. `re:X` is a regular expression matched from the start of the module's name;
    with `*` a glob over the module's name or that of a module around it; with a dot the name of a module, or of a
    part of one, at whole components; without a dot a whole component or the end of the last one."""
    kv_cache_dtype: str | None = None
    """The dtype that the checkpoint asks for in the cache (`fp8`), where it does."""
    remarks: tuple[Remark, ...] = ()

    def format_of(self, weight_name: str, role: Role, linear: bool, buffer: bool = False) -> WeightFormat:
        """The format of one weight by its full name with numbers; buffers are fp32 unless a rule says otherwise."""
        return _compiled(self).format_of(weight_name, role, linear=linear, buffer=buffer)


_WRAPPERS = ("model.", "language_model.", "backbone.", "transformer.")
_NUMBER = re.compile(r"(?:^|\.)(?:layers|block|blocks|h)\.(\d+)(?=\.|$)")
_DIGIT = re.compile(r"\.\d")
_EXPERT_NUMBER = re.compile(r"experts\W*\d")


def plain_name(name: str) -> str:
    """A module's name without the wrappers that differ between checkpoints of one model."""
    stripped = True
    while stripped:
        stripped = False
        for wrapper in _WRAPPERS:
            if name.startswith(wrapper):
                name, stripped = name[len(wrapper) :], True
    return name


def _module(weight_name: str) -> str:
    return weight_name.removesuffix(".weight").removesuffix(".bias")


class _Names:
    """A set of patterns, sorted by how they can be told fastest: lists of a thousand names are met every day."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.exact: set[str] = set()
        """Names of modules of one layer."""
        prefixes: list[str] = []
        prefixes_by_number: dict[str, list[str]] = {}
        runs: list[str] = []
        words: list[str] = []
        globs: list[str] = []
        expressions: list[str] = []
        self.by_layer = self.by_expert = False
        for pattern in patterns:
            if pattern.startswith("re:"):
                expressions.append(f"(?:{pattern[3:]})")
                self.by_layer |= re.search(r"\d|\[", pattern) is not None
                self.by_expert |= re.search(r"experts.*(?:\d|\[)", pattern) is not None
                continue
            name = plain_name(pattern)
            number = _NUMBER.search(name)
            self.by_layer |= _DIGIT.search(name) is not None
            self.by_expert |= _EXPERT_NUMBER.search(name) is not None
            if "*" not in name and "?" not in name:
                if number:
                    self.exact.add(name)
                elif "." in name:
                    runs.append(f".{name}.")
                else:
                    words.append(name)
            elif name.find("*") == len(name) - 1 and "?" not in name:
                of_number = prefixes_by_number.setdefault(number[1], []) if number else prefixes
                of_number.append(name[:-1])
            else:
                globs.append("".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in name))
        self.prefixes = tuple(prefixes)
        self.prefixes_by_number = {number: tuple(names) for number, names in prefixes_by_number.items()}
        self.runs, self.words, self.word_set = tuple(runs), tuple(words), frozenset(words)
        # A glob that names a module takes what is in it, too.
        self.glob = re.compile(rf"(?:{'|'.join(globs)})(?:\..*)?\Z") if globs else None
        self.expression = re.compile("|".join(expressions)) if expressions else None
        # Expressions cannot be stripped of wrappers, so names are tried with those that expressions mention.
        mentioned = [outer for outer in ("language_model.", "backbone.") if any(outer[:-1] in e for e in expressions)]
        self.fronts = tuple(f"{outer}{inner}" for outer in ("", *mentioned) for inner in ("", "model."))
        self.memo: dict[str, bool] = {}

    def __contains__(self, weight_name: str) -> bool:
        known = self.memo.get(weight_name)
        if known is None:
            known = self.memo[weight_name] = self._matches(weight_name)
        return known

    def _matches(self, weight_name: str) -> bool:
        name = plain_name(weight_name)
        if self.exact:
            end = len(name)
            while end > 0:
                if name[:end] in self.exact:
                    return True
                end = name.rfind(".", 0, end)
        module = _module(name)
        if self.words and (module.endswith(self.words) or not self.word_set.isdisjoint(module.split("."))):
            return True
        if self.runs and any(run in f".{module}." for run in self.runs):
            return True
        if module.startswith(self.prefixes):
            return True
        number = _NUMBER.search(module) if self.prefixes_by_number else None
        if number is not None and module.startswith(self.prefixes_by_number.get(number[1], ())):
            return True
        if self.glob is not None and self.glob.match(module):
            return True
        if self.expression is None:
            return False
        match = self.expression.match
        return match(_module(weight_name)) is not None or any(match(front + module) for front in self.fronts)


@lru_cache(maxsize=256)
def _names(patterns: tuple[str, ...]) -> _Names:
    return _Names(patterns)


class _Compiled:
    """A quantisation with its patterns compiled."""

    def __init__(self, quantisation: Quantisation) -> None:
        self.base = quantisation.base
        self.ignored = _names(quantisation.ignored)
        self.rules = tuple(
            (rule, frozenset(rule.roles), _names(rule.patterns) if rule.patterns else None)
            for rule in quantisation.rules
        )

    def format_of(self, name: str, role: Role, *, linear: bool, buffer: bool) -> WeightFormat:
        for rule, roles, names in self.rules:
            if role not in roles or (rule.linear_only and not linear):
                continue
            if rule.layers is not None and _layer_number(name) not in rule.layers:
                continue
            if names is not None and name not in names:
                continue
            if rule.linear_only and name in self.ignored:
                continue
            return rule.format
        return FP32 if buffer else self.base

    def varies(self, role: Role, *, linear: bool) -> tuple[bool, bool]:
        """Whether the answer may differ between layers, and between experts of a layer."""
        by_layer = by_expert = False
        for rule, roles, names in self.rules:
            if role not in roles or (rule.linear_only and not linear):
                continue
            asked = [self.ignored] if rule.linear_only else []
            asked += [names] if names is not None else []
            by_layer |= rule.layers is not None or any(patterns.by_layer for patterns in asked)
            by_expert |= any(patterns.by_expert for patterns in asked)
        return by_layer, by_expert


@lru_cache(maxsize=64)
def _compiled(quantisation: Quantisation) -> _Compiled:
    return _Compiled(quantisation)


def _layer_number(name: str) -> int | None:
    if name.startswith("mtp"):
        return None
    found = _NUMBER.search(name)
    return int(found[1]) if found else None


# Bytes -----------------------------------------------------------------------------------------------------


class Stored(NamedTuple):
    """Part of an inventory entry that is stored in one format."""

    format: WeightFormat
    layers: tuple[int, ...]
    """Layers of the entry that this holds for; empty where the entry belongs to no layer."""
    num_tensors: int
    """Per layer."""
    num_bytes: int
    """All of them, in all of `layers`."""


def stored(entry: Owned, quantisation: Quantisation) -> tuple[Stored, ...]:
    """How one inventory entry is stored: one part per format (ignore lists may take some layers or experts only)."""
    return _stored(entry, _compiled(quantisation))


def _stored(entry: Owned, compiled: _Compiled) -> tuple[Stored, ...]:
    weight = entry.weight
    template = weight.name
    layers: tuple[int | None, ...] = entry.layers or (None,)
    varies, by_expert = compiled.varies(weight.role, linear=weight.linear)
    experts = range(weight.count) if by_expert and "{expert}" in template else range(1)
    parts: dict[tuple[WeightFormat, int], list[int | None]] = {}
    for layer in layers if varies else layers[:1]:
        found: dict[WeightFormat, int] = {}
        for expert in experts:
            # Towers count their layers in `count`: the first one speaks for all.
            name = template.replace("{layer}", str(layer or 0)).replace("{expert}", str(expert))
            known = fitted(
                compiled.format_of(name, weight.role, linear=weight.linear, buffer=weight.buffer), weight.shape
            )
            found[known] = found.get(known, 0) + 1
        if len(found) == 1:
            found = dict.fromkeys(found, weight.count)
        for known, count in found.items():
            parts.setdefault((known, count), []).append(layer)
    return tuple(
        Stored(
            known,
            tuple(layer for layer in (owners if varies else layers) if layer is not None),
            count,
            tensor_bytes(known, weight.shape, count) * (len(owners) if varies else len(layers)),
        )
        for (known, count), owners in parts.items()
    )


class WeightBytes(NamedTuple):
    """Stored bytes. `total_bytes` holds text, encoder, towers and buffers; MTP stands apart."""

    total_bytes: int
    by_role: dict[str, int]
    by_format: dict[str, int]
    mtp_bytes: int
    mtp_duplicate_bytes: int
    """Tables that the MTP modules store a second time."""

    @property
    def checkpoint_bytes(self) -> int:
        """All tensors that the checkpoint holds, file headers left out."""
        return self.total_bytes + self.mtp_bytes + self.mtp_duplicate_bytes


class Holding(NamedTuple):
    """Bytes of one weight, in all its layers, that are stored in one format."""

    weight: Weight
    part: Part
    format: str
    num_bytes: int
    layers: tuple[int, ...] = ()
    """The layers that the bytes are in, each with as many; empty where the weight belongs to no layer."""


def holdings(owned: Iterable[Owned], quantisation: Quantisation) -> tuple[Holding, ...]:
    """What a checkpoint of this quantisation stores for each weight of an inventory."""
    compiled = _compiled(quantisation)
    return tuple(
        Holding(entry.weight, entry.part, part.format.name, part.num_bytes, part.layers)
        for entry in owned
        for part in _stored(entry, compiled)
    )


def by_layer(sums: Mapping[tuple[Weight, Part, str], Mapping[int | None, int]]) -> tuple[Holding, ...]:
    """Bytes per weight, part, format and layer as holdings: layers that hold equal bytes together."""
    found = []
    for (weight, part, name), layers in sums.items():
        alike: dict[tuple[bool, int], list[int]] = {}
        for layer, num_bytes in layers.items():
            alike.setdefault((layer is None, num_bytes), []).append(-1 if layer is None else layer)
        for (outside, num_bytes), owners in alike.items():
            numbers = () if outside else tuple(sorted(owners))
            found.append(Holding(weight, part, name, num_bytes * len(owners), numbers))
    return tuple(found)


def fold_bytes(held: Iterable[Holding]) -> WeightBytes:
    """Sum holdings by role and by format; MTP apart."""
    by_role: dict[str, int] = dict.fromkeys(ROLES, 0)
    by_format: dict[str, int] = {}
    mtp_bytes = mtp_duplicate_bytes = 0
    for weight, part, name, num_bytes, _ in held:
        if part == "mtp":
            mtp_bytes += num_bytes
        elif part == "mtp_duplicate":
            mtp_duplicate_bytes += num_bytes
        else:
            by_role[weight.role] += num_bytes
            by_format[name] = by_format.get(name, 0) + num_bytes
    return WeightBytes(sum(by_role.values()), by_role, by_format, mtp_bytes, mtp_duplicate_bytes)


def weight_bytes(owned: Iterable[Owned], quantisation: Quantisation) -> WeightBytes:
    """Fold an inventory into the bytes that a checkpoint of this quantisation stores."""
    return fold_bytes(holdings(owned, quantisation))
