"""What most families share: attention and feed-forward blocks read by their usual field names, and the frame.

A family that differs writes its own lines; a helper here never guesses on behalf of one model.
"""

from __future__ import annotations

from typing import Any

from moeplan.core.model import (
    GroupedAttention,
    Indexer,
    LatentAttention,
    Layer,
    ModelSpec,
    Mtp,
    Remark,
    Tower,
    Weight,
)
from moeplan.core.weights import norms
from moeplan.sources.families.fields import Fields

DTYPES = {
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
    "half": "float16",
    "float32": "float32",
    "fp32": "float32",
    "float": "float32",
}


def grouped_attention(fields: Fields, **differences: Any) -> GroupedAttention:
    """Grouped attention by the usual names; `differences` are fields of GroupedAttention that the family sets.

    Without `num_key_value_heads` every head has its own keys and values, without `head_dim` the heads share
    out the hidden size: both are what every transformers config class does.
    """
    num_heads = fields.integer("num_attention_heads", "n_head", "n_heads")
    num_kv_heads = fields.optional("num_key_value_heads", minimum=1) or num_heads
    head_dim = fields.optional("head_dim", minimum=1) or fields.integer("hidden_size") // num_heads
    shape: dict[str, Any] = {
        "num_heads": num_heads,
        "num_kv_heads": num_kv_heads,
        "key_head_dim": head_dim,
        "value_head_dim": head_dim,
    }
    return GroupedAttention(**(shape | differences))


def latent_attention(fields: Fields, *, indexed: bool = False, **differences: Any) -> LatentAttention:
    """Latent attention by DeepSeek's names; `indexed` reads the sparse indexer too."""
    indexer = None
    if indexed:
        indexer = Indexer(
            num_heads=fields.integer("index_n_heads"),
            head_dim=fields.integer("index_head_dim"),
            top_k=fields.integer("index_topk"),
        )
    shape: dict[str, Any] = {
        "num_heads": fields.integer("num_attention_heads"),
        "q_lora_rank": fields.optional("q_lora_rank", minimum=1),
        "kv_lora_rank": fields.integer("kv_lora_rank"),
        "qk_nope_head_dim": fields.integer("qk_nope_head_dim"),
        "qk_rope_head_dim": fields.integer("qk_rope_head_dim"),
        "v_head_dim": fields.integer("v_head_dim"),
        "indexer": indexer,
    }
    return LatentAttention(**(shape | differences))


def decoder_norms(hidden: int) -> tuple[Weight, ...]:
    """The two RMS norms of a pre-norm decoder layer."""
    return norms(hidden, "input_layernorm", "post_attention_layernorm")


def dense_first(fields: Fields, num_layers: int, default: int | None = None) -> tuple[bool, ...]:
    """Which layers are sparse, by `mlp_layer_types` or by `first_k_dense_replace` and `moe_layer_freq`."""
    kinds = fields.strings("mlp_layer_types", num_layers)
    if kinds is not None:
        unknown = sorted(set(kinds) - {"dense", "sparse"})
        if unknown:
            raise fields.wrong("mlp_layer_types", f"holds {unknown[0]!r}; known are dense and sparse")
        return tuple(kind == "sparse" for kind in kinds)
    first = fields.integer("first_k_dense_replace", default=default, minimum=0)
    every = fields.optional("moe_layer_freq", minimum=1) or 1
    return tuple(number >= first and number % every == 0 for number in range(num_layers))


def deepseek_mtp(hidden: int, vocab: int, layer: Layer, num_modules: int, first_layer: int) -> Mtp | None:
    """MTP modules as DeepSeek-V3 stores them: whole layers behind the last one, with a projection, three norms,
    and second copies of embedding and head. Source: the tensor names of deepseek-ai/DeepSeek-V3."""
    if not num_modules:
        return None
    extras: tuple[Weight, ...] = ()
    duplicates: tuple[Weight, ...] = ()
    for number in range(first_layer, first_layer + num_modules):
        stem = f"model.layers.{number}."
        extras += norms(hidden, f"{stem}enorm", f"{stem}hnorm", f"{stem}shared_head.norm")
        extras += (Weight(f"{stem}eh_proj.weight", "other", (hidden, 2 * hidden), linear=True),)
        table = Weight(f"{stem}embed_tokens.weight", "embedding", (vocab, hidden), "vocabulary", vocab)
        head = table._replace(name=f"{stem}shared_head.head.weight", role="lm_head")
        duplicates += (table, head)
    return Mtp((layer,) * num_modules, extras, duplicates, first_layer)


def finish(
    fields: Fields,
    *,
    family: str,
    defaults: str,
    layers: tuple[Layer, ...],
    tied: bool | None = None,
    tied_default: bool | None = None,
    outer: Fields | None = None,
    extras: tuple[Weight, ...] | None = None,
    towers: tuple[Tower, ...] = (),
    mtp: Mtp | None = None,
    remarks: tuple[Remark, ...] = (),
    **differences: Any,
) -> ModelSpec:
    """Close the reading: the fields that every family has, one note for all defaults, one error for all that is missing.

    `defaults` names where the family's defaults come from. `outer` is the wrapper of a nested config, asked
    for what the inner one leaves open. `tied_default` applies where `tie_word_embeddings` is absent; without it the field is needed.
    """
    hidden = differences.pop("hidden_size", None) or fields.integer("hidden_size")
    vocab = differences.pop("vocab_size", None) or fields.integer("vocab_size")
    prefix = differences.get("prefix", "model.")
    if tied is None:
        tied = _tied(fields, outer, tied_default)
    stated = next((text for f in (fields, outer) if f and (text := f.text("dtype", "torch_dtype"))), None)
    if stated is not None and stated.removeprefix("torch.") not in DTYPES:
        remarks += (
            Remark("dtype-unknown", "warning", f"dtype {stated!r} is not known; weights are taken as bfloat16"),
        )
        stated = None
    length_names = ("max_position_embeddings", "model_max_length", "max_sequence_length", "max_seq_len", "seq_length")
    model_type = str((outer or fields).values.get("model_type") or "")
    fields.finish()
    if fields.defaulted:
        taken = ", ".join(f"{name}={_json(value)}" for name, value in fields.defaulted.items())
        remarks += (Remark("family-default", "info", f"not in the config, taken from {defaults}: {taken}"),)
    return ModelSpec(
        model_type=model_type,
        family=family,
        hidden_size=hidden,
        vocab_size=vocab,
        layers=layers,
        tied_embedding=tied,
        max_context_tokens=fields.optional(*length_names, minimum=1),
        dtype=DTYPES[stated.removeprefix("torch.")] if stated else "bfloat16",
        dtype_stated=stated is not None,
        extras=norms(hidden, f"{prefix}norm") if extras is None else extras,
        towers=towers,
        mtp=mtp,
        remarks=remarks,
        **differences,
    )


def _tied(fields: Fields, outer: Fields | None, default: bool | None) -> bool:
    for candidate in (fields, outer):
        if candidate is not None and candidate.has("tie_word_embeddings"):
            return candidate.flag("tie_word_embeddings", False)
    if default is None:
        fields.need("tie_word_embeddings")
        return False
    return fields.flag("tie_word_embeddings", default)


def _json(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
