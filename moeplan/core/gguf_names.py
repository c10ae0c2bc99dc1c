"""What llama.cpp calls a weight of the inventory: tensor names of GGUF files.

Source of the names: TENSOR_NAMES in gguf-py 0.19.0 constants.py, and llama.cpp's converters (conversion/*.py).
"""

import re
from functools import lru_cache

from moeplan.core.model import Role, Weight

_GATE = ("gate_proj", "w1", "linear")
_UP = ("up_proj", "w3", "v1", "linear_v", "fc1")
_DOWN = ("down_proj", "w2", "linear_1", "fc2", "output_linear")
_GATE_AND_UP = ("gate_up_proj", "input_linear")
_SUFFIXES: dict[Role, str] = {"routed_experts": "_exps", "shared_experts": "_shexp", "dense_mlp": ""}

_OUTSIDE: dict[Role, str] = {"embedding": "token_embd", "lm_head": "output"}
_ATTENTION: dict[str, tuple[str, ...]] = {
    "q_proj": ("attn_q",),
    "wq": ("attn_q",),
    "k_proj": ("attn_k",),
    "v_proj": ("attn_v",),
    "o_proj": ("attn_output",),
    "out_proj": ("attn_output",),
    "dense": ("attn_output",),
    "wo": ("attn_output",),
    "qkv_proj": ("attn_qkv",),
    "query_key_value": ("attn_qkv",),
    "Wqkv": ("attn_qkv",),
    "q_a_proj": ("attn_q_a",),
    "q_b_proj": ("attn_q_b",),
    "kv_a_proj_with_mqa": ("attn_kv_a_mqa",),
    "wkv_a_with_mqa": ("attn_kv_a_mqa",),
    # The converter parts the latent's up-projection in keys and values.
    "kv_b_proj": ("attn_k_b", "attn_v_b"),
    "wkv_b": ("attn_k_b", "attn_v_b"),
    "q_norm": ("attn_q_norm",),
    "q_layernorm": ("attn_q_norm",),
    "query_layernorm": ("attn_q_norm",),
    "k_norm": ("attn_k_norm",),
    "k_layernorm": ("attn_k_norm",),
    "key_layernorm": ("attn_k_norm",),
    "q_a_layernorm": ("attn_q_a_norm",),
    "kv_a_layernorm": ("attn_kv_a_norm",),
    "kv_a_norm": ("attn_kv_a_norm",),
    "sinks": ("attn_sinks",),
    "attention_sink_bias": ("attn_sinks",),
    "b_proj": ("ssm_beta",),
    "f_a_proj": ("ssm_f_a",),
    "f_b_proj": ("ssm_f_b",),
    "g_a_proj": ("ssm_g_a",),
    "g_b_proj": ("ssm_g_b",),
    "o_norm": ("ssm_norm",),
}
_INDEXER: dict[str, tuple[str, ...]] = {
    "wq_b": ("indexer.attn_q_b",),
    "wk": ("indexer.attn_k",),
    "k_norm": ("indexer.k_norm",),
    "weights_proj": ("indexer.proj",),
}
_RECURRENT: dict[str, tuple[str, ...]] = {
    "in_proj_qkv": ("attn_qkv",),
    "in_proj_z": ("attn_gate",),
    "in_proj_qkvz": ("attn_qkv", "attn_gate"),
    "in_proj_ba": ("ssm_ba",),
    "in_proj_a": ("ssm_alpha",),
    "in_proj_b": ("ssm_beta",),
    "in_proj": ("ssm_in",),
    "x_proj": ("ssm_x",),
    "dt_proj": ("ssm_dt",),
    "dt_bias": ("ssm_dt",),
    "conv1d": ("ssm_conv1d",),
    "q_conv1d": ("ssm_conv1d_q",),
    "k_conv1d": ("ssm_conv1d_k",),
    "v_conv1d": ("ssm_conv1d_v",),
    "A_log": ("ssm_a",),
    "D": ("ssm_d",),
    "norm": ("ssm_norm",),
    "out_proj": ("ssm_out",),
}
_MERGED = {"ffn_gate_up_exps": ("ffn_gate_exps", "ffn_up_exps")}
"""Tensors that some files have in place of two."""
_BLOCK = re.compile(r"^blk\.\d+\.")


@lru_cache(maxsize=1024)
def gguf_stems(weight: Weight) -> tuple[str, ...]:
    """The tensors that hold `weight`, by their names within a block (`ffn_up_exps`), or whole outside of layers.

    Several where the converter takes a weight apart; they are taken as equal parts of it. Empty for weights whose name
    depends on the architecture (norms) or is not known.
    """
    if "{layer}" not in weight.name:
        stem = _OUTSIDE.get(weight.role)
        return (stem,) if stem else ()
    components = weight.name.split("{layer}.", 1)[1].split(".")
    if components[-1] in ("weight", "bias"):
        components.pop()
    last = components[-1].removesuffix("_bias") if components[-1] != "attention_sink_bias" else components[-1]
    return _stems(weight, last or components[-1], "conv" in components[:-1])


def _stems(weight: Weight, last: str, in_convolution: bool) -> tuple[str, ...]:
    match weight.role:
        case "routed_experts" | "shared_experts" | "dense_mlp":
            if last.endswith("_gate"):
                return ("ffn_gate_inp_shexp",)
            ending = _SUFFIXES[weight.role]
            return tuple(f"ffn_{part}{ending}" for part in _ffn_parts(last))
        case "router":
            if weight.buffer or last.endswith(("score_correction", "expert_bias", "router_bias")):
                return ("exp_probs_b",)
            return ("ffn_gate_inp",)
        case "moe_latent":
            return ("ffn_latent_down",) if last.startswith("fc1") else ("ffn_latent_up",)
        case "attention":
            return _ATTENTION.get(last, ())
        case "indexer":
            return _INDEXER.get(last, ())
        case "recurrent" if in_convolution or last == "conv":
            return (f"shortconv.{last}",)
        case "recurrent":
            return _RECURRENT.get(last, ())
        case _:
            return ()


def _ffn_parts(last: str) -> tuple[str, ...]:
    if last in _GATE_AND_UP:
        return ("gate", "up")
    named = (("gate", _GATE), ("up", _UP), ("down", _DOWN))
    return tuple(part for part, names in named if last in names)


def gguf_names(weight: Weight, layer: int | None) -> tuple[str, ...]:
    """Full names of the tensors that hold `weight` in `layer` (`blk.3.ffn_up_exps.weight`)."""
    front = "" if layer is None else f"blk.{layer}."
    return tuple(f"{front}{stem}.{_suffix(weight)}" for stem in gguf_stems(weight))


def holds(tensor_name: str, weight: Weight) -> bool:
    """True where the tensor called `tensor_name` stores `weight`, or a part of it."""
    stem = _BLOCK.sub("", tensor_name)
    if stem.endswith(".bias") != (_suffix(weight) == "bias"):
        return False
    stem, stems = stem.removesuffix(".weight").removesuffix(".bias"), gguf_stems(weight)
    return stem in stems or any(part in stems for part in _MERGED.get(stem, ()))


def _suffix(weight: Weight) -> str:
    return "bias" if weight.name.endswith("bias") or weight.buffer else "weight"
