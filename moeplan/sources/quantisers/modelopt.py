"""NVIDIA ModelOpt: an algorithm by name, for all modules or for each that it lists."""

from __future__ import annotations

from moeplan.core.errors import ConfigError
from moeplan.core.model import ROLES, Remark
from moeplan.core.quant import (
    FP8_BLOCK,
    FP8_CHANNEL,
    FP8_TENSOR,
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
from moeplan.sources.quantisers.compressed_tensors import group_rules
from moeplan.sources.quantisers.habits import LEFT_ALONE, taken
from moeplan.sources.quantisers.settings import Around, each, names_of, stated_kv_cache, stated_names

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


def modelopt(fields: Fields, around: Around) -> Quantisation:
    """ModelOpt in either spelling: `quantization` of the sidecar, or `quant_algo` in the config."""
    fields = fields.sub("quantization") or fields
    excluded = stated_names(fields, "exclude_modules", "ignore")
    remarks: tuple[Remark, ...] = ()
    if (fields.text("quant_algo") or "").upper() == "MIXED_PRECISION":
        if not fields.has("quantized_layers"):
            fields.need("quantized_layers")
        rules = listed_layers(fields)
        excluded = excluded or ()  # the list of layers says what is taken
    elif fields.has("config_groups") and not fields.has("quant_algo"):
        rules = group_rules(fields, "modelopt", "")
    else:
        rules = taken("modelopt", _stored_by(fields))
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
    return Quantisation(names_of(rules), around.base, rules, ignored, stated_kv_cache(fields), remarks)


def listed_layers(fields: Fields) -> tuple[Rule, ...]:
    """A rule per format over the modules that `quantized_layers` names."""
    by_format: dict[WeightFormat, list[str]] = {}
    for module, settings in each(fields, "quantized_layers"):
        by_format.setdefault(_stored_by(settings), []).append(module)
    roles = tuple(role for role in ROLES if role not in ("router", "norm"))
    return tuple(Rule(weight_format, roles, tuple(modules)) for weight_format, modules in by_format.items())


def _stored_by(fields: Fields, key: str = "quant_algo") -> WeightFormat:
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
