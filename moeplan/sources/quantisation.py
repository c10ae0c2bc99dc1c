"""How a checkpoint stores its weights, read from its config (or the sidecar of ModelOpt), and what-if answers.

`quantisers` turns each quantiser's own words into the rules of `core.quant`; `gguf.mixes` knows those of llama.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from moeplan.core.errors import ConfigError, InputError
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.quant import (
    AWQ_INT4,
    BF16,
    BNB_NF4,
    BY_DTYPE,
    FP8_BLOCK,
    FP8_CHANNEL,
    FP8_TENSOR,
    GPTQ_INT4,
    INT8,
    MXFP4,
    MXFP8,
    NVFP4,
    PACKED_INT4,
    Quantisation,
    Rule,
    WeightFormat,
    with_group,
    with_input_scale,
)
from moeplan.sources.families.fields import Fields
from moeplan.sources.gguf.mixes import ALL_MIXES, gguf_mix
from moeplan.sources.quantisers import READERS, reader
from moeplan.sources.quantisers.habits import LEFT_ALONE
from moeplan.sources.quantisers.settings import Around, stated_kv_cache


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


def _by_method(fields: Fields, around: Around, *, has_towers: bool) -> Quantisation:
    method = (fields.text("quant_method") or "").lower()
    if not method and fields.has("config_groups"):
        method = "compressed-tensors"  # early files of the library name the method by the key alone
    if not method and fields.has("quant_algo", "quantization"):
        method = "modelopt"
    key = method.replace("_", "-")
    if key not in READERS:
        what = f"is {method!r}" if method else "is missing"
        raise ConfigError(
            f"{fields.where}: `{fields.path}quant_method` {what}; known are {', '.join(sorted(READERS))}",
            hint="read the stored sizes from the checkpoint with --headers, or state a format with --quant",
        )
    read = reader(key)(fields, around)
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


def _sidecar(sidecar: Mapping[str, Any], around: Around) -> Quantisation | None:
    fields = Fields(sidecar, where="hf_quant_config.json")
    inner = fields.sub("quantization") or fields
    if not inner.has("quant_algo"):
        return None
    read = reader("modelopt")(fields, around)
    inner.finish()
    _check_expressions(fields, read)
    if (layers := inner.sub("quantized_layers")) is not None and around.config.get("expert_dtype") == "fp4":
        # Such experts replace those of an fp8 checkpoint, which the sidecar does not describe again.
        first = {"weight_block_size": [128, 128], "scale_fmt": "ue8m0", "quantized_layers": layers.values}
        read = reader("fp8")(Fields(first, where="hf_quant_config.json"), around)
    remark = Remark(
        "quantisation-sidecar",
        "info",
        "quantisation is read from hf_quant_config.json; config.json does not mention it",
    )
    return read._replace(remarks=(remark, *read.remarks))


def _sidecar_kv_cache(sidecar: Mapping[str, Any]) -> str | None:
    fields = Fields(sidecar, where="hf_quant_config.json")
    return stated_kv_cache(fields.sub("quantization") or fields)


# What if ---------------------------------------------------------------------------------------------------


def plain(dtype: str) -> Quantisation:
    """A checkpoint that is not quantised: every weight in `dtype` (by the names of `ModelSpec.dtype`)."""
    base = BY_DTYPE.get(dtype, BF16)
    return Quantisation(base.name, base)


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

WHAT_IF_NAMES: tuple[str, ...] = (
    *_PLAIN,
    *_WHAT_IF,
    *(f"{name}-g{size}" for name in _GROUPED for size in _GROUP_SIZES),
    *ALL_MIXES,
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
    if wanted in ALL_MIXES:
        return gguf_mix(wanted, spec)
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
