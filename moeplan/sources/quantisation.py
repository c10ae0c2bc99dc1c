"""How a checkpoint stores its weights, read from its config (or the sidecar of ModelOpt), and what-if answers.

Each reader turns one quantiser's own words into the rules of `core.quant`. What a quantiser leaves alone without
saying so is a table here (`LEFT_ALONE`), with where it is known from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from moeplan.core.errors import ConfigError, InputError
from moeplan.core.model import (
    ROLES,
    CompressedAttention,
    GatedDelta,
    GroupedAttention,
    LatentAttention,
    ModelSpec,
    MoeFfn,
    Remark,
    Role,
)
from moeplan.core.quant import (
    AWQ_INT4,
    BF16,
    BNB_FP4,
    BNB_FP4_DOUBLE,
    BNB_INT8,
    BNB_NF4,
    BNB_NF4_DOUBLE,
    BY_DTYPE,
    FP8_BLOCK,
    FP8_BLOCK_UE8M0,
    FP8_CHANNEL,
    FP8_TENSOR,
    FP16,
    FP32,
    GGUF,
    GPTQ_INT4,
    GPTQ_INT8,
    HQQ_INT4,
    INT8,
    INT64,
    MATRIX_ROLES,
    MXFP4,
    MXFP8,
    NVFP4,
    PACKED_INT4,
    PACKED_INT8,
    TORCHAO_INT4,
    Quantisation,
    Rule,
    WeightFormat,
    with_block,
    with_group,
    with_input_scale,
)
from moeplan.sources.families.fields import Fields


class LeftAlone(NamedTuple):
    """What a quantiser takes and what it leaves without naming it."""

    roles: tuple[Role, ...]
    """Roles that it takes."""
    patterns: tuple[str, ...]
    """Names that it leaves all the same."""
    source: str


_SMALL = ("indexer.weights_proj", "shared_expert_gate")
LEFT_ALONE: dict[str, LeftAlone] = {
    "fp8": LeftAlone(
        MATRIX_ROLES,
        _SMALL,
        "deepseek-ai inference/model.py of V3 and V3.2-Exp: router, embedding, head, norms and indexer.weights_proj "
        "are 16-bit; eh_proj and shared_expert_gate are built without a quantiser in vLLM 0.33.0",
    ),
    "mxfp4": LeftAlone(
        ("routed_experts",), (), "transformers 5.23.0 integrations/mxfp4.py: only the expert module is replaced"
    ),
    "compressed-tensors": LeftAlone(
        (*MATRIX_ROLES, "lm_head", "towers", "other"),
        ("indexer.weights_proj",),
        "vLLM 0.33.0 compressed_tensors: every Linear that `ignore` does not name; routers and embeddings are none",
    ),
    "modelopt": LeftAlone(
        MATRIX_ROLES,
        _SMALL,
        "vLLM 0.33.0 modelopt.py: vision is left by name; router, embedding and norms are no quantised modules",
    ),
    "awq": LeftAlone(MATRIX_ROLES, _SMALL, "transformers 5.23.0 AwqConfig: head and embeddings are skipped by default"),
    "gptq": LeftAlone(MATRIX_ROLES, _SMALL, "transformers 5.23.0 GPTQConfig: the linear layers of the decoder blocks"),
    "bitsandbytes": LeftAlone(
        (*MATRIX_ROLES, "towers", "other"),
        (),
        "transformers 5.23.0 quantizers/base.py: every Linear but the output head and what is tied to it",
    ),
}  # fmt: skip
LEFT_ALONE["fbgemm_fp8"] = LEFT_ALONE["hqq"] = LEFT_ALONE["torchao"] = LEFT_ALONE["quark"] = LEFT_ALONE["modelopt"]
LEFT_ALONE["auto-round"] = LEFT_ALONE["gptq"]


class Around(NamedTuple):
    """What a reader may need beside its own object."""

    config: Mapping[str, Any]
    base: WeightFormat
    """The model's own dtype."""


def read_quantisation(
    config: Mapping[str, Any], sidecar: Mapping[str, Any] | None = None, where: str = "config"
) -> Quantisation | None:
    """How the checkpoint of `config` stores its weights, or None when neither file says that it is quantised.

    `sidecar` is the parsed `hf_quant_config.json`; engines read it only when the config itself says nothing, and so
    do we, except for a cache dtype that only the sidecar states. Raises ConfigError on an unknown method or one
    whose fields do not determine the stored sizes.
    """
    nested = config.get("text_config")
    inner = nested if isinstance(nested, Mapping) else {}
    base = _base_format(config, inner)
    for holder, path in ((config, ""), (inner, "text_config.")):
        for key in ("quantization_config", "compression_config"):
            values = holder.get(key)
            if values is None or values == {}:
                continue
            fields = _object(values, where, f"{path}{key}.")
            read = _by_method(fields, Around(config, base), has_towers=not path)
            if read.kv_cache_dtype is None and sidecar is not None:
                read = read._replace(kv_cache_dtype=_sidecar_kv_cache(sidecar))
            return read
    return None if sidecar is None else _sidecar(sidecar, Around(config, base))


def _base_format(config: Mapping[str, Any], inner: Mapping[str, Any]) -> WeightFormat:
    for holder in (inner, config):
        for key in ("dtype", "torch_dtype"):
            name = holder.get(key)
            if isinstance(name, str) and (known := BY_DTYPE.get(name.removeprefix("torch."))):
                return known
    return BF16


def _object(values: Any, where: str, path: str) -> Fields:
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{where}: `{path.rstrip('.')}` is not an object",
            hint="correct that field, or remove it if nothing is quantised",
        )
    return Fields(values, where=where, path=path)


# By method -------------------------------------------------------------------------------------------------


def _by_method(fields: Fields, around: Around, *, has_towers: bool) -> Quantisation:
    method = (fields.text("quant_method") or "").lower()
    if not method and fields.has("config_groups"):
        method = "compressed-tensors"  # early files of the library name the method by the key alone
    if not method and fields.has("quant_algo", "quantization"):
        method = "modelopt"
    reader = _READERS.get(method.replace("_", "-"))
    if reader is None:
        what = f"is {method!r}" if method else "is missing"
        raise ConfigError(
            f"{fields.where}: `{fields.path}quant_method` {what}; known are {', '.join(sorted(_READERS))}",
            hint="read the stored sizes from the checkpoint with --headers, or state a format with --quant",
        )
    read = reader(fields, around)
    fields.finish()
    _check_expressions(fields, read)
    if has_towers:
        return read
    # A quantiser written inside the text model's config knows nothing of the towers beside it.
    rules = tuple(rule._replace(roles=tuple(role for role in rule.roles if role != "towers")) for rule in read.rules)
    return read._replace(rules=rules)


def _check_expressions(fields: Fields, read: Quantisation) -> None:
    for pattern in (*read.ignored, *(pattern for rule in read.rules for pattern in rule.patterns)):
        if pattern.startswith("re:"):
            try:
                re.compile(pattern[3:])
            except re.error as error:
                raise ConfigError(
                    f"{fields.where}: {pattern!r} in `{fields.path.rstrip('.')}` is no regular expression: {error}",
                    hint="correct that pattern",
                ) from None


def _rules(method: str, weight_format: WeightFormat, patterns: tuple[str, ...] = ()) -> tuple[Rule, ...]:
    return (Rule(weight_format, LEFT_ALONE[method].roles, patterns),)


def _names(fields: Fields, *keys: str) -> tuple[str, ...] | None:
    for key in keys:
        if (found := fields.strings(key)) is not None:
            return found
    return None


def _fp8(fields: Fields, around: Around) -> Quantisation:
    ignored = _names(fields, "modules_to_not_convert", "ignored_layers")
    block = _block(fields, "weight_block_size")
    one_byte_scales = fields.text("scale_fmt") == "ue8m0" and _is_deepseek_v4(around.config)
    remarks: tuple[Remark, ...] = ()
    blocks = FP8_BLOCK_UE8M0 if one_byte_scales else FP8_BLOCK
    weight_format = with_block(blocks, *block) if block else FP8_TENSOR
    if fields.text("activation_scheme") == "static":
        weight_format = with_input_scale(weight_format)
    rules = _rules("fp8", weight_format)
    name = weight_format.name
    if converted := fields.strings("modules_to_convert"):
        rules = (Rule(weight_format, ROLES, converted), *rules)
    expert_dtype = fields.text("expert_dtype") or around.config.get("expert_dtype")
    if expert_dtype == "fp4":
        rules = (Rule(MXFP4, ("routed_experts",)), *rules)
        name = f"{name}, experts mxfp4"
    elif expert_dtype not in (None, "fp8"):
        raise ConfigError(
            f"{fields.where}: `expert_dtype` is {expert_dtype!r}; known are fp4 and fp8",
            hint="read the stored sizes from the checkpoint with --headers",
        )
    left: tuple[str, ...] = LEFT_ALONE["fp8"].patterns
    if _is_deepseek_v4(around.config):
        rules = (*_DEEPSEEK_V4, *rules, Rule(weight_format, ("other",), ("e_proj", "h_proj")))
        left += ("compressor",)
    if fields.has("quantized_layers"):
        # ModelOpt on top of an fp8 checkpoint: it replaces what it lists, and its `ignore` is about its own pass, so
        # what that names stays as the first quantiser left it.
        rules = (*_modelopt_layers(fields), *rules)
        name = "mixed: " + ", ".join(dict.fromkeys(rule.format.name for rule in rules if rule.linear_only))
        ignored = ()
    if ignored is None:
        remarks = (_by_convention(fields, "modules_to_not_convert"),)
    return Quantisation(name, around.base, rules, (*left, *(ignored or ())), _kv_cache(fields), remarks)


def _block(fields: Fields, key: str) -> tuple[int, int] | None:
    sizes = fields.integers(key, 2)
    if sizes is None:
        return None
    if min(sizes) < 1:
        raise fields.wrong(key, f"is {list(sizes)}; blocks have at least one row and column")
    return sizes[0], sizes[1]


def _is_deepseek_v4(config: Mapping[str, Any]) -> bool:
    return str(config.get("model_type") or "").startswith("deepseek_v4")


# deepseek-ai/DeepSeek-V4-Flash inference/model.py: hyper-connections, compressor positions and sinks are fp32, the
# compressors' projections 16-bit, the projections of MTP fp8. The token table of hash routing: int64, from the list
# of tensor types that the Hub shows for the repository.
_DEEPSEEK_V4 = (
    Rule(FP32, ROLES, ("*hc_*", "attn_sink", "ape", "*attn_hc*", "*ffn_hc*"), linear_only=False),
    Rule(INT64, ROLES, ("tid2eid",), linear_only=False),
)


def _by_convention(fields: Fields, key: str) -> Remark:
    return Remark(
        "exclusions-by-convention",
        "info",
        f"no `{key}`: router, embedding, head and norms are taken as not quantised, as DeepSeek-V3 stores them",
        f"{fields.path}{key}",
    )


def _mxfp4(fields: Fields, around: Around) -> Quantisation:
    ignored = _names(fields, "modules_to_not_convert") or ()
    return Quantisation("mxfp4", around.base, _rules("mxfp4", MXFP4), ignored, _kv_cache(fields))


def _fbgemm_fp8(fields: Fields, around: Around) -> Quantisation:
    ignored = (*LEFT_ALONE["fbgemm_fp8"].patterns, *(_names(fields, "modules_to_not_convert") or ()))
    return Quantisation(FP8_CHANNEL.name, around.base, _rules("fbgemm_fp8", FP8_CHANNEL), ignored, _kv_cache(fields))


def _awq(fields: Fields, around: Around) -> Quantisation:
    bits = fields.integer("bits", "w_bit", default=4)
    if bits != 4:
        raise fields.wrong("bits", f"is {bits}; AWQ stores 4 bits")
    weight_format = with_group(AWQ_INT4, _group_size(fields, "group_size", "q_group_size"))
    if not fields.flag("zero_point", True):
        weight_format = weight_format._replace(zero_point_bits=0)
    ignored = (*LEFT_ALONE["awq"].patterns, *(_names(fields, "modules_to_not_convert") or ()))
    return Quantisation(weight_format.name, around.base, _rules("awq", weight_format), ignored, _kv_cache(fields))


def _gptq(fields: Fields, around: Around) -> Quantisation:
    bits = fields.integer("bits")
    group_size = _group_size(fields, "group_size")
    weight_format = _gptq_format(bits, group_size)
    rules = _rules("gptq", weight_format)
    ignored: tuple[str, ...] = ()
    # GPTQModel: `-:pattern` leaves alone, `+:pattern` (or a bare one) changes the settings of what matches.
    for pattern, settings in _each(fields, "dynamic"):
        sign, _, expression = pattern.rpartition(":")
        if sign == "-":
            ignored += (f"re:{expression}",)
        elif settings.values:
            own = _gptq_format(settings.optional("bits", minimum=1) or bits, _own_group_size(settings, group_size))
            rules = (Rule(own, ROLES, (f"re:{expression}",)), *rules)
    listed = fields.raw("modules_in_block_to_quantize")
    if listed:
        only = tuple(_flat(listed))
        if not all(isinstance(name, str) for name in only):
            raise fields.wrong("modules_in_block_to_quantize", "is not a list of lists of names")
        rules = (*rules[:-1], rules[-1]._replace(patterns=only))
    if fields.flag("lm_head", False):
        rules = (*rules, Rule(weight_format, ("lm_head",)))
    ignored += (*LEFT_ALONE["gptq"].patterns, *(_names(fields, "modules_to_not_convert") or ()))
    return Quantisation(weight_format.name, around.base, rules, ignored, _kv_cache(fields))


def _gptq_format(bits: int, group_size: int) -> WeightFormat:
    if bits in {4, 8}:
        return with_group(GPTQ_INT4 if bits == 4 else GPTQ_INT8, group_size)
    odd = GPTQ_INT4._replace(name=f"gptq int{bits} g128", element_bits=bits, zero_point_bits=bits)
    return with_group(odd, group_size)


def _auto_round(fields: Fields, around: Around) -> Quantisation:
    bits, group_size = fields.integer("bits"), _group_size(fields, "group_size")
    packing = fields.text("packing_format") or "auto_round:auto_gptq"
    weight_format = with_group(AWQ_INT4, group_size) if "awq" in packing else _gptq_format(bits, group_size)
    ignored: tuple[str, ...] = LEFT_ALONE["auto-round"].patterns
    rules = _rules("auto-round", weight_format)
    for name, settings in _each(fields, "extra_config"):
        own = settings.optional("bits", minimum=1) or bits
        pattern = f"re:{name}" if any(c in name for c in "*\\(|") else name
        if own >= 16:
            ignored += (pattern,)
        elif own != bits:
            rules = (Rule(_gptq_format(own, _own_group_size(settings, group_size)), ROLES, (pattern,)), *rules)
    return Quantisation(weight_format.name, around.base, rules, ignored, _kv_cache(fields))


def _group_size(fields: Fields, *keys: str) -> int:
    """Elements per group; -1, as the files have it, for one group per row."""
    found = fields.first(*keys)
    if found is not None and found[1] == -1:
        return -1
    return fields.integer(*keys, default=128)


def _own_group_size(settings: Fields, outer: int) -> int:
    return _group_size(settings, "group_size") if settings.has("group_size") else outer


def _each(fields: Fields, key: str) -> Iterator[tuple[str, Fields]]:
    """The objects in the object at `key`, by name."""
    outer = fields.sub(key)
    for name in outer.values if outer else ():
        inner = outer.sub(str(name)) if outer else None
        if inner is not None:
            yield str(name), inner


def _flat(listed: Any) -> Iterator[Any]:
    for part in listed if isinstance(listed, list) else [None]:
        yield from part if isinstance(part, list) else [part]


def _bitsandbytes(fields: Fields, around: Around) -> Quantisation:
    ignored = ("lm_head", *(_names(fields, "llm_int8_skip_modules") or ()))
    if fields.flag("load_in_4bit", False) or fields.flag("_load_in_4bit", False):
        kind = fields.text("bnb_4bit_quant_type") or "fp4"
        double = fields.flag("bnb_4bit_use_double_quant", False)
        formats = {"nf4": (BNB_NF4, BNB_NF4_DOUBLE), "fp4": (BNB_FP4, BNB_FP4_DOUBLE)}
        if kind not in formats:
            raise fields.wrong("bnb_4bit_quant_type", f"is {kind!r}; known are nf4 and fp4")
        weight_format = formats[kind][double]
    else:
        weight_format = BNB_INT8
    return Quantisation(weight_format.name, around.base, _rules("bitsandbytes", weight_format), ignored)


def _hqq(fields: Fields, around: Around) -> Quantisation:
    settings = fields.sub("quant_config") or fields
    settings = settings.sub("weight_quant_params") or settings
    bits = settings.integer("nbits", default=4)
    weight_format = with_group(
        HQQ_INT4._replace(name=f"hqq int{bits} g64", element_bits=bits), settings.integer("group_size", default=64)
    )
    ignored = _names(fields, "skip_modules") or ("lm_head",)
    remarks = (_approximate("HQQ", "settings per layer and quantised scales are not read"),)
    return Quantisation(weight_format.name, around.base, _rules("hqq", weight_format), ignored, None, remarks)


def _torchao(fields: Fields, around: Around) -> Quantisation:
    stated = fields.raw("quant_type")
    default = stated.get("default") if isinstance(stated, Mapping) else None
    default = default if isinstance(default, Mapping) else {}
    kind = str(default.get("_type", stated if isinstance(stated, str) else "")).lower()
    if "int4" in kind:
        data = default.get("_data")
        sizes = Fields(data if isinstance(data, Mapping) else {}, where=fields.where, path=f"{fields.path}quant_type.")
        weight_format = with_group(TORCHAO_INT4, _group_size(sizes, "group_size"))
    elif "int8" in kind:
        weight_format = INT8
    elif "float8" in kind:
        weight_format = FP8_TENSOR
    else:
        raise fields.wrong("quant_type", f"is {kind!r}; known are int4, int8 and float8 kinds")
    ignored = ("lm_head", *(_names(fields, "modules_to_not_convert") or ()))
    remarks = (_approximate("torchao", "its tensors are stored in layouts of their own"),)
    return Quantisation(weight_format.name, around.base, _rules("torchao", weight_format), ignored, None, remarks)


def _approximate(quantiser: str, why: str) -> Remark:
    return Remark("format-approximate", "warning", f"sizes of {quantiser} weights are approximate: {why}")


# compressed-tensors and its kin ----------------------------------------------------------------------------


def _compressed_tensors(fields: Fields, around: Around) -> Quantisation:
    packing = fields.text("format") or ""
    ignored = (*LEFT_ALONE["compressed-tensors"].patterns, *(_names(fields, "ignore") or ()))
    rules = _group_rules(fields, "compressed-tensors", packing)
    return Quantisation(_named(rules), around.base, rules, ignored, _kv_cache(fields))


def _named(rules: Iterable[Rule]) -> str:
    return ", ".join(dict.fromkeys(rule.format.name for rule in rules if rule.linear_only))


def _group_rules(fields: Fields, method: str, packing: str) -> tuple[Rule, ...]:
    if not fields.has("config_groups"):
        fields.need("config_groups")
    rules: tuple[Rule, ...] = ()
    broad: tuple[Rule, ...] = ()
    for _, group in _each(fields, "config_groups"):
        weights = group.sub("weights")
        if weights is None:
            continue  # a group of activations or of the cache alone
        weight_format = _scheme(weights, group.text("format") or packing)
        inputs = group.sub("input_activations")
        if inputs is not None and weight_format.fixed_bytes < 8 and inputs.values.get("dynamic") is False:
            weight_format = with_input_scale(weight_format)
        targets = group.strings("targets") or ("Linear",)
        classes = [name for name in targets if "." not in name and name[:1].isupper()]
        if "Linear" in classes:
            broad += (Rule(weight_format, LEFT_ALONE[method].roles),)
        elif named := tuple(name for name in targets if name not in classes):
            # Names may go where class names do not, but never to a router: that is no Linear.
            roles = tuple(role for role in ROLES if role not in ("router", "norm"))
            rules += (Rule(weight_format, roles, named),)
    return rules + broad


def _scheme(weights: Fields, packing: str) -> WeightFormat:
    bits = weights.integer("num_bits")
    kind = weights.text("type") or "int"
    group_size = _group_size(weights, "group_size") if weights.has("group_size") else None
    strategy = weights.text("strategy") or ("group" if group_size not in (None, -1) else "tensor")
    if kind == "float" and bits == 4:
        if group_size == 32:
            return MXFP4
        if group_size in (None, 16):
            return NVFP4
        raise weights.wrong("group_size", f"is {group_size}; 4-bit floats have groups of 16 (nvfp4) or 32 (mxfp4)")
    if kind == "float" and bits == 8:
        if strategy == "block":
            return with_block(FP8_BLOCK, *(_block(weights, "block_structure") or (128, 128)))
        if group_size == 32:
            return MXFP8
        # The library keeps scales in the model's own 16-bit dtype, ModelOpt in fp32.
        return FP8_CHANNEL._replace(scale_bits=16) if strategy == "channel" else FP8_TENSOR
    if kind == "int" and bits in (2, 3, 4, 5, 6, 7, 8):
        if packing == "int-quantized" or (bits == 8 and packing != "pack-quantized"):
            return INT8._replace(scale_bits=16)  # one byte per element, whatever the bits
        packed = PACKED_INT8 if bits == 8 else PACKED_INT4._replace(name=f"int{bits} g128", element_bits=bits)
        packed = with_group(packed, group_size if strategy == "group" and group_size else -1)
        if not weights.flag("symmetric", True):
            packed = packed._replace(name=f"{packed.name} with zero points", zero_point_bits=bits)
        if weights.raw("actorder") in ("group", True):
            packed = packed._replace(index_bits=32)
        return packed
    raise weights.wrong("num_bits", f"is {bits} of type {kind!r}, which no known format stores")


def _kv_cache(fields: Fields) -> str | None:
    """The cache dtype of `kv_cache_scheme` or `kv_cache_quant_algo`, or None where it says nothing."""
    algorithm = fields.text("kv_cache_quant_algo")
    if algorithm:
        return algorithm.lower()
    scheme = fields.sub("kv_cache_scheme")
    if scheme is None:
        return None
    bits, kind = scheme.integer("num_bits", default=8), scheme.text("type") or "float"
    return {"float": {8: "fp8", 4: "nvfp4"}, "int": {8: "int8"}}.get(kind, {}).get(bits, f"{kind}{bits}")


def _quark(fields: Fields, around: Around) -> Quantisation:
    globally = fields.sub("global_quant_config")
    weights = globally.sub("weight") if globally else None
    if weights is None:
        fields.need("global_quant_config.weight")
        return Quantisation("quark", around.base)
    rules: tuple[Rule, ...] = ()
    for pattern, own in _each(fields, "layer_quant_config"):
        if (own_weights := own.sub("weight")) is not None:
            rules += (Rule(_quark_format(own_weights), MATRIX_ROLES, (pattern,)),)
    rules += _rules("quark", _quark_format(weights))
    ignored = (*LEFT_ALONE["quark"].patterns, *(_names(fields, "exclude") or ()))
    remarks = (_approximate("Quark", "packing and scale dtypes are taken from the format's definition"),)
    return Quantisation(_named(rules), around.base, rules, ignored, None, remarks)


def _quark_format(weights: Fields) -> WeightFormat:
    dtype, scheme = weights.text("dtype") or "", weights.text("qscheme") or ""
    group_size = weights.optional("group_size", minimum=1)
    if dtype == "fp4":
        return MXFP4
    if dtype.startswith("fp8"):
        if scheme == "per_group" and group_size == 32:
            return MXFP8
        return FP8_CHANNEL if scheme == "per_channel" else FP8_TENSOR
    if dtype == "int8":
        return INT8
    if dtype in ("int4", "uint4"):
        packed = with_group(PACKED_INT4._replace(fixed_bytes=0), group_size or -1)
        return packed._replace(zero_point_bits=4) if dtype == "uint4" else packed
    raise weights.wrong("dtype", f"is {dtype!r}; known are fp4, fp8, int8, int4 and uint4")


# ModelOpt --------------------------------------------------------------------------------------------------

MODELOPT_FORMATS: dict[str, WeightFormat] = {
    # quant_algo: stored weights. vLLM 0.33.0 modelopt.py; static input scales beside fp8 per tensor and nvfp4.
    "FP8": with_input_scale(FP8_TENSOR),
    "FP8_PER_CHANNEL_PER_TOKEN": FP8_CHANNEL,
    "FP8_PB_WO": FP8_BLOCK,
    "FP8_PB_REAL": FP8_BLOCK,
    "NVFP4": with_input_scale(NVFP4),
    "NVFP4_AWQ": with_input_scale(NVFP4)._replace(index_bits=16),
    "W4A16_NVFP4": NVFP4,
    "W4A8_NVFP4_FP8": with_input_scale(NVFP4),
    "W4A8_MXFP4_FP8": MXFP4,
    "MXFP4": MXFP4,
    "MXFP8": MXFP8,
    "INT4_AWQ": PACKED_INT4._replace(fixed_bytes=0, index_bits=16),
    "W4A16_AWQ": PACKED_INT4._replace(fixed_bytes=0, index_bits=16),
    "W4A8_AWQ": with_input_scale(PACKED_INT4._replace(fixed_bytes=4, index_bits=16)),
    "W8A16": INT8,
    "W8A8_SQ_PER_CHANNEL": INT8._replace(index_bits=16),
}


def _modelopt_format(fields: Fields, key: str = "quant_algo") -> WeightFormat:
    algorithm = (fields.text(key) or "").upper()
    known = MODELOPT_FORMATS.get(algorithm)
    if known is None:
        names = ", ".join(sorted([*MODELOPT_FORMATS, "MIXED_PRECISION"]))
        raise ConfigError(
            f"{fields.where}: `{fields.path}{key}` is {algorithm or 'missing'}; known are {names}",
            hint="read the stored sizes from the checkpoint with --headers, or state a format with --quant",
        )
    group_size = fields.optional("group_size", minimum=1)
    if known.element_bits == 4 and known.group is not None and known.group[0] == "row" and group_size:
        if group_size == known.group[1]:
            return known
        return with_group(known, group_size)
    return known


def _modelopt_layers(fields: Fields) -> tuple[Rule, ...]:
    by_format: dict[WeightFormat, list[str]] = {}
    for module, settings in _each(fields, "quantized_layers"):
        by_format.setdefault(_modelopt_format(settings), []).append(module)
    roles = tuple(role for role in ROLES if role not in ("router", "norm"))
    return tuple(Rule(weight_format, roles, tuple(modules)) for weight_format, modules in by_format.items())


def _modelopt(fields: Fields, around: Around) -> Quantisation:
    """ModelOpt in either spelling: `quantization` of the sidecar, or `quant_algo` in the config."""
    fields = fields.sub("quantization") or fields
    excluded = _names(fields, "exclude_modules", "ignore")
    remarks: tuple[Remark, ...] = ()
    if (fields.text("quant_algo") or "").upper() == "MIXED_PRECISION":
        if not fields.has("quantized_layers"):
            fields.need("quantized_layers")
        rules = _modelopt_layers(fields)
        excluded = excluded or ()  # the list of layers says what is taken
    elif fields.has("config_groups") and not fields.has("quant_algo"):
        rules = _group_rules(fields, "modelopt", "")
    else:
        rules = _rules("modelopt", _modelopt_format(fields))
    if excluded is None:
        remarks = (
            Remark(
                "exclusions-unknown",
                "warning",
                "the file does not say which modules stay 16-bit; router, embedding, head and norms are assumed to",
                f"{fields.path}exclude_modules",
            ),
        )
    ignored = (*LEFT_ALONE["modelopt"].patterns, *(excluded or ()))
    return Quantisation(_named(rules), around.base, rules, ignored, _kv_cache(fields), remarks)


def _sidecar(sidecar: Mapping[str, Any], around: Around) -> Quantisation | None:
    fields = Fields(sidecar, where="hf_quant_config.json")
    inner = fields.sub("quantization") or fields
    if not inner.has("quant_algo"):
        return None
    read = _modelopt(fields, around)
    inner.finish()
    _check_expressions(fields, read)
    if (layers := inner.sub("quantized_layers")) is not None and around.config.get("expert_dtype") == "fp4":
        # Such experts replace those of an fp8 checkpoint, which the sidecar does not describe again.
        first = {"weight_block_size": [128, 128], "scale_fmt": "ue8m0", "quantized_layers": layers.values}
        read = _fp8(Fields(first, where="hf_quant_config.json"), around)
    remark = Remark(
        "quantisation-sidecar",
        "info",
        "quantisation is read from hf_quant_config.json; config.json does not mention it",
    )
    return read._replace(remarks=(remark, *read.remarks))


def _sidecar_kv_cache(sidecar: Mapping[str, Any]) -> str | None:
    fields = Fields(sidecar, where="hf_quant_config.json")
    return _kv_cache(fields.sub("quantization") or fields)


_READERS: dict[str, Callable[[Fields, Around], Quantisation]] = {
    "auto-round": _auto_round,
    "awq": _awq,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed_tensors,
    "fbgemm-fp8": _fbgemm_fp8,
    "fp8": _fp8,
    "gptq": _gptq,
    "hqq": _hqq,
    "modelopt": _modelopt,
    "modelopt-fp4": _modelopt,
    "mxfp4": _mxfp4,
    "quark": _quark,
    "torchao": _torchao,
}


# What if ---------------------------------------------------------------------------------------------------


def plain(dtype: str) -> Quantisation:
    """A checkpoint that is not quantised: every weight in `dtype` (by the names of `ModelSpec.dtype`)."""
    base = BY_DTYPE.get(dtype, BF16)
    return Quantisation(base.name, base)


_EXPERTS: tuple[Role, ...] = ("routed_experts",)
_PLAIN: dict[str, str] = {row.name: dtype for dtype, row in BY_DTYPE.items()}
_WHAT_IF: dict[str, tuple[WeightFormat, str]] = {
    # name: format and whose habits decide what is left alone
    "fp8": (FP8_BLOCK, "fp8"),
    "fp8-tensor": (with_input_scale(FP8_TENSOR), "modelopt"),
    "fp8-channel": (FP8_CHANNEL, "modelopt"),
    "mxfp8": (MXFP8, "modelopt"),
    "int8": (INT8, "modelopt"),
    "int4": (PACKED_INT4, "modelopt"),
    "awq": (AWQ_INT4, "awq"),
    "gptq": (GPTQ_INT4, "gptq"),
    "mxfp4": (MXFP4, "mxfp4"),
    "nvfp4": (with_input_scale(NVFP4), "modelopt"),
    "nf4": (BNB_NF4, "bitsandbytes"),
}
_GROUPED = ("int4", "awq", "gptq")
_GROUP_SIZES = (32, 64, 128)
_MIXES = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_k_s", "q3_k_m", "q2_k", "mxfp4_moe")

WHAT_IF_NAMES: tuple[str, ...] = (
    *_PLAIN,
    *_WHAT_IF,
    *(f"{name}-g{size}" for name in _GROUPED for size in _GROUP_SIZES),
    *_MIXES,
)
"""Names that `what_if` knows."""


def what_if(name: str, spec: ModelSpec) -> Quantisation:
    """How `spec` would be stored if somebody quantised its 16-bit weights by `name` (see `WHAT_IF_NAMES`).

    Raises InputError for an unknown name, with the nearest known ones.
    """
    wanted = name.strip().lower()
    base = BY_DTYPE.get(spec.dtype, BF16)
    if wanted in _PLAIN:
        return plain(_PLAIN[wanted])
    if wanted in _MIXES:
        return _gguf_mix(wanted, spec)
    kind, _, size = wanted.partition("-g")
    known = _WHAT_IF.get(kind if kind in _GROUPED else wanted)
    if known is None or (size and kind in _GROUPED and size not in map(str, _GROUP_SIZES)):
        raise _unknown(name)
    weight_format, method = known
    if size and kind in _GROUPED:
        weight_format = with_group(weight_format, int(size))
    left = LEFT_ALONE[method]
    remarks: tuple[Remark, ...] = ()
    ignored = left.patterns
    if wanted == "fp8":
        ignored += ("in_proj_a", "in_proj_b", "in_proj_ba")  # Qwen/Qwen3-Next-80B-A3B-Instruct-FP8 lists them
    elif wanted == "nf4":
        remarks = (
            Remark(
                "experts-may-stay-16-bit",
                "warning",
                "transformers 5 keeps the experts of a layer in one tensor that bitsandbytes does not take; the sizes "
                "hold for checkpoints with a matrix per expert",
            ),
        )
    elif wanted == "nvfp4":
        remarks = (
            Remark(
                "exclusions-vary",
                "info",
                "published nvfp4 checkpoints differ in what they leave 16-bit (often all attention); here only router, "
                "embedding, head, norms and towers stay",
            ),
        )
    return Quantisation(wanted, base, (Rule(weight_format, left.roles),), ignored, None, remarks)


def _unknown(name: str) -> InputError:
    from difflib import get_close_matches

    near = get_close_matches(name.strip().lower(), WHAT_IF_NAMES, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(WHAT_IF_NAMES)}"
    return InputError(f"--quant {name!r} is not a known quantisation", hint=hint)


# llama.cpp mixes -------------------------------------------------------------------------------------------

_DOWN = ("down_proj", "w2", "fc2", "output_linear")
_FFN_ROLES: tuple[Role, ...] = ("routed_experts", "shared_experts", "dense_mlp")
_QUANTISED_ROLES: tuple[Role, ...] = tuple(role for role in ROLES if role not in ("router", "norm", "towers"))


def _more_bits(number: int, total: int) -> bool:
    return number < total // 8 or number >= 7 * total // 8 or (number - total // 8) % 3 == 2


def _gguf_mix(name: str, spec: ModelSpec) -> Quantisation:
    """A mix of llama.cpp without importance matrix; source: llama.cpp src/llama-quant.cpp, llama_tensor_get_type_impl.

    Vectors, router and convolutions are fp32; rows that are no multiple of a block fall back per tensor (`fitted`).
    """
    q = GGUF
    num_layers = len(spec.layers)
    everywhere = tuple(range(num_layers))
    # llama.cpp counts the attention values it meets, not layers.
    values = tuple(number for number, layer in enumerate(spec.layers) if any(map(_has_values, layer.mixers)))
    eight_experts = _num_experts(spec) == 8
    head, down, value, key, output = q["q6_k"], None, None, None, None
    rules: tuple[Rule, ...] = ()
    if name == "mxfp4_moe":
        # Tensors of three dimensions: experts, and the split halves of the latent's up-projection.
        base = head = q["q8_0"]
        rules += (Rule(q["mxfp4"], _EXPERTS), Rule(q["mxfp4"], ("attention",), ("kv_b_proj",)))
    elif name == "q8_0":
        base = head = q["q8_0"]
    elif name == "q6_k":
        base = q["q6_k"]
    elif name in ("q5_k_m", "q4_k_m"):
        base = q[name[:4]]
        down = {number: q["q6_k"] for number in everywhere if _more_bits(number, num_layers)}
        value = {layer: q["q6_k"] for i, layer in enumerate(values) if _more_bits(i, len(values))}
    elif name == "q4_k_s":
        base = q["q4_k"]
        down = {number: q["q5_k"] for number in everywhere if number < num_layers // 8}
        value = {layer: q["q5_k"] for i, layer in enumerate(values) if i < 4}
    elif name == "q3_k_m":
        base, output = q["q3_k"], q["q4_k"]
        down = {number: q["q5_k" if number < num_layers // 16 else "q4_k"] for number in everywhere}
        value = {layer: q["q5_k" if i < 2 else "q4_k"] for i, layer in enumerate(values)}
    else:
        base, output = q["q2_k"], q["q3_k"]
        down = dict.fromkeys(everywhere, q["q3_k"])
        value = dict.fromkeys(values, q["q4_k" if _queries_per_key(spec) >= 4 else "q3_k"])
    if eight_experts and name != "mxfp4_moe":
        value, key = dict.fromkeys(values, q["q8_0"]), q["q8_0"]
        if name in ("q4_k_m", "q4_k_s", "q3_k_m", "q2_k"):
            output = q["q5_k"]
    rules += (
        Rule(FP16, ("towers",), linear_only=False),
        Rule(head, ("lm_head", "embedding") if spec.tied_embedding else ("lm_head",)),
        *_layer_rules(down, _FFN_ROLES, _DOWN),
        *_layer_rules(value, ("attention", "recurrent"), ("v_proj", "in_proj_qkv")),
    )
    if key is not None:
        rules += (Rule(key, ("attention",), ("k_proj",)),)
    if output is not None:
        rules += (Rule(output, ("attention",), ("o_proj",)),)
    rules += (Rule(base, _QUANTISED_ROLES),)
    return Quantisation(name, FP32, rules, ("shared_expert_gate",), None, _mix_remarks(name, spec))


def _layer_rules(
    by_layer: dict[int, WeightFormat] | None, roles: tuple[Role, ...], names: tuple[str, ...]
) -> tuple[Rule, ...]:
    layers: dict[WeightFormat, list[int]] = {}
    for number, weight_format in (by_layer or {}).items():
        layers.setdefault(weight_format, []).append(number)
    return tuple(Rule(weight_format, roles, names, tuple(numbers)) for weight_format, numbers in layers.items())


def _has_values(mixer: object) -> bool:
    if isinstance(mixer, GatedDelta):
        return not mixer.fused_projections
    return isinstance(mixer, GroupedAttention) and not mixer.value_is_key


def _num_experts(spec: ModelSpec) -> int:
    return max((ffn.num_experts for layer in spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)), default=0)


def _queries_per_key(spec: ModelSpec) -> int:
    for layer in spec.layers:
        for mixer in layer.mixers:
            if isinstance(mixer, GroupedAttention):
                return mixer.num_heads // mixer.num_kv_heads
            if isinstance(mixer, LatentAttention | CompressedAttention):
                return mixer.num_heads  # llama.cpp sees one key/value head
    return 1


def _mix_remarks(name: str, spec: ModelSpec) -> tuple[Remark, ...]:
    doubts = []
    mixers = [mixer for layer in spec.layers for mixer in layer.mixers]
    if any(isinstance(mixer, LatentAttention | CompressedAttention) for mixer in mixers):
        doubts.append("llama.cpp splits the latent's up-projection in two, whose types differ from the whole")
    if any(not isinstance(mixer, GroupedAttention | LatentAttention | CompressedAttention) for mixer in mixers):
        doubts.append("recurrent projections are regrouped on conversion")
    if spec.towers:
        doubts.append("towers go to a second file and are counted as fp16")
    if spec.mtp is not None:
        doubts.append("converters differ in whether they keep MTP layers")
    remarks: tuple[Remark, ...] = (
        Remark(
            "gguf-mix",
            "info",
            f"{name} as llama.cpp mixes it without an importance matrix; files made with one, or named UD or XL, "
            "differ: read the file itself for exact sizes",
        ),
    )
    if doubts:
        remarks += (Remark("gguf-mix-approximate", "warning", "; ".join(doubts)),)
    return remarks
