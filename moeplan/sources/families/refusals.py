"""What the general rules must not read: configs of other kinds of model, and layers that they do not know.

A wrong figure is worse than none, so a field that speaks of an unknown layer kind is an error that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moeplan.core.errors import ConfigError
from moeplan.sources.families.fields import Fields

VOCABULARY = ("vocab_size", "padded_vocab_size", "n_vocab")
HIDDEN = ("hidden_size", "d_model", "n_embd", "dim")
LAYERS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer")

_OTHER_MODELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a diffusion model", ("_class_name", "_diffusers_version")),
    ("an encoder-decoder", ("num_decoder_layers", "decoder_layers", "encoder_layers", "cross_attention_hidden_size")),
    ("an encoder without a decoder", ("type_vocab_size", "pos_att_type")),
    ("a pair of encoders", ("logit_scale_init_value",)),
)
_OTHER_MODELS_WITHOUT_VOCABULARY: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a diffusion model", ("sample_size", "in_channels", "out_channels", "block_out_channels")),
    ("a vision model", ("image_size", "patch_size", "num_channels")),
    ("an audio model", ("num_mel_bins", "sampling_rate", "feat_extract_norm", "codebook_size")),
)
_OTHER_HEADS = ("ForMaskedLM", "ForImageClassification", "ForObjectDetection", "ForCTC", "ForAudioClassification")

_ENCODERS = (
    "albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "modernbert", "mpnet",
    "nomic_bert", "roberta", "xlm-roberta", "xlm-roberta-xl",
)  # fmt: skip
"""Types of encoders without a decoder, by `model_type`."""

# Beginnings of field names that only other mixers, other streams or other stacks use.
_UNKNOWN_LAYERS = (
    "linear_", "mamba", "ssm_", "state_size", "compress_", "recurrent_", "rwkv", "lightning_", "kda_", "gated_delta",
    "delta_", "hybrid_", "conv_kernel", "conv_L_cache", "lru_width", "time_step_", "attn_type", "attn_layer_",
    "attn_module_list", "full_attention_interval", "full_attn_", "layers_block_type", "block_types", "block_type_list",
    "indexer_types", "index_topk_freq", "index_topk_pattern", "swa_num_", "swa_head_dim", "swa_v_head_dim",
    "global_head_dim", "num_global_key_value_heads", "num_kv_shared_layers", "use_cla", "hc_mult", "altup_num",
    "laurel_rank", "hidden_size_per_layer_input", "o_lora_rank", "o_groups", "csa_", "hca_", "attn_config",
    "ffn_config", "num_loops", "lightning", "kv_share", "moe_latent_size", "num_attention_groups",
    "attention_chunk_size", "no_rope_layers", "attention_other_setting", "block_configs",
)  # fmt: skip


def stated(value: Any) -> bool:
    """False for what means "not used": null, false, 0 and empty."""
    return value is not None and value is not False and value != 0 and value not in ("", [], {})


def refuse_other_models(fields: Fields, *, is_wrapper: bool = False) -> None:
    """Raise ConfigError when the config is not one of a decoder language model.

    A wrapper around a text model may lack what only the text model has.
    """
    values = fields.values
    if values.get("model_type") in _ENCODERS:
        _refuse(fields, "an encoder without a decoder", ["model_type"])
    for kind, names in _OTHER_MODELS:
        _refuse(fields, kind, [name for name in names if stated(values.get(name))])
    if stated(values.get("is_encoder_decoder")):
        _refuse(fields, "an encoder-decoder", ["is_encoder_decoder"])
    architectures = values.get("architectures")
    if isinstance(architectures, list):
        heads = [name for name in architectures if isinstance(name, str) and name.endswith(_OTHER_HEADS)]
        _refuse(fields, f"a {heads[0]}" if heads else "", heads)
    if is_wrapper:
        return
    if not fields.has(*VOCABULARY):
        for kind, names in _OTHER_MODELS_WITHOUT_VOCABULARY:
            _refuse(fields, kind, [name for name in names if stated(values.get(name))])
    if not fields.has(*VOCABULARY, *HIDDEN, *LAYERS):
        raise ConfigError(
            f"{fields.where}: not the config of a language model: "
            f"{fields.path}{VOCABULARY[0]}, {fields.path}{HIDDEN[0]} and {fields.path}{LAYERS[0]} are all missing",
            hint="give the config.json of a language model (see `moeplan models`)",
        )


def refuse_unknown_layers(fields: Fields) -> None:
    """Raise ConfigError when a field speaks of layers that the general rules do not know."""
    names = [n for n, value in fields.values.items() if str(n).startswith(_UNKNOWN_LAYERS) and stated(value)]
    if names:
        raise ConfigError(
            f"{fields.where}: model_type {_type(fields)} is not known, and the general rules do not understand "
            f"{', '.join(f'`{fields.path}{name}`' for name in sorted(names))}",
            hint="estimate a known model (see `moeplan models`), or add this family to moeplan",
        )


def expert_fields(values: Mapping[str, Any]) -> list[str]:
    """Names of stated fields that speak of experts, in order of the config."""
    return [
        str(name)
        for name, value in values.items()
        if ("moe" in str(name).lower() or "expert" in str(name).lower()) and stated(value) and name != "model_type"
    ]


def _refuse(fields: Fields, kind: str, names: list[str]) -> None:
    if names:
        raise ConfigError(
            f"{fields.where}: this describes {kind}, not a decoder language model "
            f"({', '.join(f'`{fields.path}{name}`' for name in names)})",
            hint="give the config.json of a decoder language model (see `moeplan models`)",
        )


def _type(fields: Fields) -> str:
    return repr(fields.values.get("model_type"))
