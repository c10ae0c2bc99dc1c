"""GGUF metadata as a config in Hugging Face field names, for the families to read.

What the metadata leaves open is taken from the tensors where they determine it: biases and norms from presence, a
tied head from the absence of `output.weight`, kinds of layers from what a block holds. Source of the keys: gguf-py
0.19.0 constants.py and llama.cpp's converters (conversion/*.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moeplan.core.checkpoint import StoredTensor
from moeplan.core.errors import ConfigError, InputError
from moeplan.core.model import Remark
from moeplan.sources.gguf.architectures import READERS
from moeplan.sources.gguf.fields import (
    FULL,
    LINEAR,
    Config,
    common_fields,
    put_experts,
    put_latent,
    put_presence,
    put_windows,
    shared_width,
    sparse_layers,
)
from moeplan.sources.gguf.metadata import Described, Value

NO_MODELS = {
    "clip": "a vision or audio projector (mmproj)",
    "adapter": "an adapter (LoRA)",
    "mmproj": "a vision or audio projector (mmproj)",
    "imatrix": "an importance matrix",
    "controlvector": "a control vector",
}


def gguf_config(
    values: Mapping[str, Value], tensors: Sequence[StoredTensor], where: str
) -> tuple[Config, str, tuple[Remark, ...]]:
    """(config, architecture, remarks) of a model by its metadata and all its tensors.

    Fields that the file does not determine are left out, so that the family's error names them. Raises InputError for
    files that are no language model, ConfigError for values that cannot be meant.
    """
    architecture = _architecture(values, where)
    described = Described(values, tensors, architecture, where)
    config = common_fields(described)
    reader = READERS.get(architecture)
    model_type = None if reader is None else reader(described, config)
    remarks: tuple[Remark, ...] = ()
    if model_type is None:
        config = _general(described)
        # Never the name of a family: that one's own reader would expect its own fields.
        model_type = f"gguf {architecture}"
        message = f"architecture {architecture!r} of this file is read by the general rules, not as a known family"
        remarks += (Remark("gguf-architecture-unknown", "warning", message, "general.architecture"),)
    return {"model_type": model_type, **config}, architecture, remarks + _remarks(described)


def _architecture(values: Mapping[str, Value], where: str) -> str:
    architecture = values.get("general.architecture")
    kind = values.get("general.type")
    for told in (kind, architecture):
        if isinstance(told, str) and told in NO_MODELS:
            raise InputError(
                f"{where}: the file is {NO_MODELS[told]}, not a language model",
                hint="give the file of the model that it belongs to",
            )
    if not isinstance(architecture, str) or not architecture:
        raise ConfigError(
            f"{where}: the metadata does not state `general.architecture`",
            hint="convert the model again with a current llama.cpp",
        )
    return architecture


def _remarks(d: Described) -> tuple[Remark, ...]:
    remarks: tuple[Remark, ...] = ()
    if d.from_tensors:
        message = f"not in the metadata, taken from the tensors of the file: {', '.join(d.from_tensors)}"
        remarks += (Remark("gguf-from-tensors", "info", message),)
    if d.varying:
        message = (
            f"differs from layer to layer, which this architecture's reading does not know: {', '.join(d.varying)}"
        )
        remarks += (Remark("gguf-per-layer", "warning", message),)
    remarks += tuple(Remark("gguf-metadata", "warning", doubt) for doubt in d.doubts)
    missing = (d.number("nextn_predict_layers") or 0) - d.num_nextn_layers
    if missing > 0:
        message = f"{missing} layer(s) that predict further tokens are stated in the metadata but not in the file"
        remarks += (Remark("gguf-mtp-left-out", "info", message, f"{d.architecture}.nextn_predict_layers"),)
    return remarks


# Everything else -------------------------------------------------------------------------------------------


def _general(d: Described) -> Config:
    """Fields for the general rules, by the usual keys. Layers with a state say so, which those rules refuse."""
    c = common_fields(d)
    put_windows(d, c)
    if d.any_layer("ssm_", "shortconv.", "time_mix_"):
        c["layer_types"] = [
            LINEAR if has_state else FULL for has_state in d.layers_with("ssm_", "shortconv.", "time_mix_")
        ]
    if d.number("attention.kv_lora_rank"):
        put_latent(d, c)
    elif d.number("attention.value_length") not in (None, c.get("head_dim")):
        c["v_head_dim"] = d.number("attention.value_length")
    c["qkv_bias"] = d.any_layer("attn_q.bias", "attn_qkv.bias")
    put_presence(d, c, attention_bias="attn_output.bias", mlp_bias="ffn_up.bias", use_qk_norm="attn_q_norm.")
    gated = d.any_layer("ffn_gate.", "ffn_gate_exps.", "ffn_gate_up_exps.")
    c["hidden_act"] = "silu" if gated else "relu"
    d.told_by_tensors(f"hidden_act (feed-forwards with {'a' if gated else 'no'} gate)")
    if put_experts(d, c, "num_experts", "moe_intermediate_size"):
        sparse = sparse_layers(d)
        c["mlp_layer_types"] = ["sparse" if is_sparse else "dense" for is_sparse in sparse]
        shared = shared_width(d)
        if shared:
            c["shared_intermediate_size"] = shared
    return c
