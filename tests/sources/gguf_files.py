"""GGUF files for tests, made by gguf-py: names from its own tables, shapes from models that transformers builds.

The steps between (experts split and stacked, the latent's up-projection halved, recurrent projections regrouped) are
those of llama.cpp's converters (conversion/*.py), on shapes alone. Nothing here knows moeplan.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests import oracle

Shapes = dict[str, tuple[int, ...]]
F32 = gguf.GGMLQuantizationType.F32


def write(
    path: Path,
    architecture: str,
    values: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    types: Mapping[str, gguf.GGMLQuantizationType] | None = None,
    **options: Any,
) -> Path:
    """A file with tensors of zeros, F32 unless `types` says otherwise. Keys without a dot before them get the
    architecture in front, except `general.`, `tokenizer.` and `split.` ones."""
    writer = gguf.GGUFWriter(path, architecture, **options)
    add_values(writer, architecture, values)
    for name, shape in shapes.items():
        kind = (types or {}).get(name, F32)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        stored = (*shape[:-1], shape[-1] // block * size)
        writer.add_tensor(name, np.zeros(stored, dtype=np.uint8), raw_shape=stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_values(writer: gguf.GGUFWriter, architecture: str, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        key = name if name.startswith(("general.", "tokenizer.", "split.")) else f"{architecture}.{name}"
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, list(value))


def converted(config: dict[str, Any], architecture: str) -> tuple[Shapes, int]:
    """(tensor names and shapes, number of parameters) of a config's model, as a converter would write it."""
    model = oracle.build(config)
    parameters = {name for name, _ in model.named_parameters()}
    total = sum(tensor.numel() for _, tensor in model.named_parameters())
    arch = next(known for known, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, model.config.num_hidden_layers)
    shapes: Shapes = {}
    for name, tensor in model.state_dict().items():
        if name not in parameters and "bias" not in name:
            continue  # a tied head, tables of positions
        for renamed, shape in _steps(name, tuple(tensor.shape), config):
            mapped = renamed if renamed.startswith("blk.") else names.get_name(renamed, (".weight", ".bias"))
            if mapped is None:
                message = f"gguf-py has no name for {renamed} ({name})"
                raise LookupError(message)
            # Stacked experts of some models have no suffix; the converters add one.
            shapes[f"{mapped}.weight" if len(shape) == 3 and not mapped.endswith(".weight") else mapped] = shape
    return shapes, total


def _steps(name: str, shape: tuple[int, ...], config: dict[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    for ours, theirs in RENAMES:
        name = name.replace(ours, theirs)
    if config["model_type"] == "nemotron_h" and ".experts." not in name:
        name = name.replace("model.", "backbone.", 1)
    stem, _, last = name.rpartition(".")
    if config["model_type"] == "gemma4_text" and (".experts." in name or ".router." in name):
        block = f"blk.{name.split('.')[2]}"
        renamed = {
            "router.proj.weight": "ffn_gate_inp.weight",
            "router.scale": "ffn_gate_inp.scale",
            "router.per_expert_scale": "ffn_down_exps.scale",
            "experts.gate_up_proj": "ffn_gate_up_exps.weight",
            "experts.down_proj": "ffn_down_exps.weight",
        }[name.split(".", 3)[3]]
        return [(f"{block}.{renamed}", shape)]
    stacked = config["model_type"] in ("gpt_oss", "llama4_text")
    if last in ("gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"):
        suffix = "bias" if last.endswith("_bias") else "weight"
        if stacked and suffix == "weight":
            shape = (shape[0], shape[2], shape[1])  # these two store experts the other way round
        if last.startswith("down"):
            return [(f"{stem}.down_proj.{suffix}", shape)]
        at = 1
        half = (*shape[:at], shape[at] // 2, *shape[at + 1 :])
        return [(f"{stem}.gate_proj.{suffix}", half), (f"{stem}.up_proj.{suffix}", half)]
    if ".ffn.experts.mlp." in name:
        experts = config["ffn_config"]["moe_num_experts"]
        rows = (experts, shape[0] // experts, shape[1])
        return [(name, (rows[0], rows[2], rows[1]) if name.endswith("w2") else rows)]
    if name.endswith("shared_mlp.input_linear.weight"):
        half = (shape[0] // 2, shape[1])
        stem = stem.replace("shared_mlp.input_linear", "mlp.shared_experts")
        return [(f"{stem}.gate_proj.weight", half), (f"{stem}.up_proj.weight", half)]
    if name.endswith("kv_b_proj.weight"):
        heads, nope, value = (config[k] for k in ("num_attention_heads", "qk_nope_head_dim", "v_head_dim"))
        return [
            (name.replace("kv_b_proj", "k_b_proj"), (heads, shape[1], nope)),
            (name.replace("kv_b_proj", "v_b_proj"), (heads, value, shape[1])),
        ]
    if name.endswith("in_proj_qkvz.weight"):
        value = config["linear_num_value_heads"] * config["linear_value_head_dim"]
        block = stem.split(".")[2]
        return [
            (f"blk.{block}.attn_qkv.weight", (shape[0] - value, shape[1])),
            (f"blk.{block}.attn_gate.weight", (value, shape[1])),
        ]
    if name.endswith("self_attn.conv1d.weight"):
        third = (1, shape[0] // 3, 1, shape[2])
        return [(name.replace("conv1d", f"{part}_conv1d"), third) for part in "qkv"]
    if "conv1d" in name or name.endswith("conv.conv.weight"):
        shape = tuple(size for size in shape if size != 1)
    return [(name, shape)]


RENAMES = (
    ("block_sparse_moe.", "mlp."),
    ("feed_forward.experts.", "mlp.experts."),
    (".forget_gate.", "."),
    (".dt_bias", ".dt_proj.bias"),
    ("e_score_correction_bias", "e_score_correction.bias"),
    ("mlp.e_score", "block_sparse_moe.e_score"),
    ("mlp.gate.moe_statics.", "mlp.moe_statics."),
    (".expert_bias", ".expert_bias.bias"),
    (".sinks", ".sinks.weight"),
    ("mixer.experts.", "mlp.experts."),
    ("mixer.dt_proj.", "mixer.dt."),
    ("shared_mlp.output_linear", "mlp.shared_experts.down_proj"),
)
"""Names of transformers 5 to those that the converters ask gguf-py for."""
