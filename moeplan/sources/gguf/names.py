"""What a tensor of a GGUF file is for, by its name.

Source of the names: TENSOR_NAMES in gguf-py 0.19.0 constants.py, and `ffn_up.{expert}` of files made before llama.cpp
stacked experts. Roles follow `core.weights`, so that sums over a file and over an inventory compare.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from moeplan.core.model import Role

BUFFERS = ("exp_probs_b", "rope_freqs", "rope_factors_long", "rope_factors_short", "attn_rot_embd")
"""Stems of tensors that are stored but are no parameters."""

_BLOCK = re.compile(r"((?:enc\.|dec\.)?blk\.\d+)\.(.+)")
_SUFFIX = re.compile(r"\.(?:weight|bias|scale|input_scale)$")
_SINGLE_EXPERT = re.compile(r"ffn_(?:gate|up|down)\.\d+$")

_OUTSIDE: dict[str, Role] = {
    "token_embd": "embedding",
    "token_types": "embedding",
    "position_embd": "embedding",
    "per_layer_token_embd": "embedding",
    "output": "lm_head",
    "token_embd_norm": "norm",
    "output_norm": "norm",
    "enc.output_norm": "norm",
    "dec.output_norm": "norm",
    "per_layer_proj_norm": "norm",
    "per_layer_model_proj": "other",
    "altup_proj": "other",
    "altup_unembd_proj": "other",
    "rope_freqs": "other",
    "rope_factors_long": "other",
    "rope_factors_short": "other",
}
_TOWERS = ("v.", "a.", "mm.", "resampler.")

_INSIDE: dict[str, Role] = {
    "ffn_gate_inp": "router",
    "exp_probs_b": "router",
    "ffn_gate_inp_shexp": "shared_experts",
    "ffn_latent_down": "moe_latent",
    "ffn_latent_up": "moe_latent",
    "ffn_gate": "dense_mlp",
    "ffn_up": "dense_mlp",
    "ffn_down": "dense_mlp",
    "ffn": "dense_mlp",
    "ffn_norm_exps": "norm",
    "attn_norm": "norm",
    "attn_norm_2": "norm",
    "attn_output_norm": "norm",
    "attn_post_norm": "norm",
    "attn_sub_norm": "norm",
    "cross_attn_norm": "norm",
    "post_attention_norm": "norm",
    "layer_output_norm": "norm",
    "ssm_norm": "norm",
    "ssm_dt_norm": "norm",
    "ssm_b_norm": "norm",
    "ssm_c_norm": "norm",
    "post_norm": "norm",
    "laurel_post_norm": "norm",
    "altup_router_norm": "norm",
    "layer_output_scale": "other",
    "inp_gate": "other",
    "proj": "other",
    "nextn.eh_proj": "other",
    "nextn.embed_tokens": "embedding",
    "nextn.shared_head_head": "lm_head",
    "nextn.shared_head_norm": "norm",
    "nextn.enorm": "norm",
    "nextn.hnorm": "norm",
}
_BEGINNINGS: tuple[tuple[str, Role], ...] = (
    ("indexer.", "indexer"),
    ("ssm_", "recurrent"),
    ("shortconv.", "recurrent"),
    ("time_mix_", "recurrent"),
    ("channel_mix_", "dense_mlp"),
    ("attn_", "attention"),
    ("cross_attn_", "attention"),
    ("vis_", "towers"),
    ("ffn.", "dense_mlp"),
    ("altup_", "other"),
    ("laurel_", "other"),
    ("hc_", "other"),
)
_ENDINGS: tuple[tuple[str, Role], ...] = (
    ("_chexps", "routed_experts"),
    ("_exps", "routed_experts"),
    ("_shexp", "shared_experts"),
)
_GATED_DELTA: dict[str, Role] = {"attn_qkv": "recurrent", "attn_gate": "recurrent"}
_MAMBA: dict[str, Role] = {"ssm_norm": "recurrent"}
_KIMI_DELTA: dict[str, Role] = dict.fromkeys(
    ("ssm_f_a", "ssm_f_b", "ssm_g_a", "ssm_g_b", "ssm_beta", "ssm_norm"), "attention"
)


def gguf_roles(tensor_names: Iterable[str]) -> dict[str, Role | None]:
    """Every tensor's role, by all names of a file."""
    names = tuple(tensor_names)
    blocks: dict[str, set[str]] = {}
    for name in names:
        match = _BLOCK.fullmatch(_SUFFIX.sub("", name))
        if match:
            blocks.setdefault(match[1], set()).add(match[2])
    roles: dict[str, Role | None] = {}
    for name in names:
        match = _BLOCK.fullmatch(_SUFFIX.sub("", name))
        roles[name] = gguf_role(name, blocks[match[1]] if match else ())
    return roles


def gguf_role(tensor_name: str, block: Collection[str] = ()) -> Role | None:
    """The role of a tensor by its GGUF name; None for a name that no known architecture has.

    `block` holds the stems in the tensor's block (`attn_qkv`, `ssm_a`). A few names are attention in one architecture
    and recurrence in another, and only their neighbours tell.
    """
    stem = _SUFFIX.sub("", tensor_name)
    inside = _BLOCK.fullmatch(stem)
    if inside is None:
        return "towers" if stem.startswith(_TOWERS) else _OUTSIDE.get(stem)
    part = inside[2]
    exceptions: dict[str, Role] = {}
    if "ssm_f_a" in block:
        exceptions = _KIMI_DELTA
    elif "ssm_d" in block:
        exceptions = _MAMBA
    elif "ssm_a" in block:
        exceptions = _GATED_DELTA
    if part in exceptions or part in _INSIDE:
        return exceptions.get(part) or _INSIDE[part]
    if part.startswith("ffn_"):
        if _SINGLE_EXPERT.fullmatch(part):
            return "routed_experts"
        role = next((role for ending, role in _ENDINGS if part.endswith(ending)), None)
        if role is not None:
            return role
    if part.startswith(("ffn_", "pre_ffw_", "post_ffw_")) and "norm" in part:
        return "norm"
    return next((role for beginning, role in _BEGINNINGS if part.startswith(beginning)), None)


def is_gguf_buffer(tensor_name: str) -> bool:
    """True for tensors in the file that are no parameters: router correction biases and tables of positions.

    Ernie 4.5 counts its correction biases as parameters all the same (`families.ernie`).
    """
    stem = _SUFFIX.sub("", tensor_name)
    return stem.rsplit(".", 1)[-1] in BUFFERS
