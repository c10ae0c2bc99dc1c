"""Mistral Small 4 (also inside its Mistral 3 wrapper) and Mistral Large 4."""

from __future__ import annotations

from typing import Any

from moeplan.core.model import DenseFfn, LatentAttention, Layer, ModelSpec, Remark, Weight
from moeplan.core.weights import norms
from moeplan.sources.families.blocks import decoder_norms, dense_first, finish, grouped_attention, latent_attention
from moeplan.sources.families.deepseek import biased_latent_attention, dense_or_sparse, experts, indexer_owners
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.layer_types import need_kv_heads
from moeplan.sources.families.nested import inner, left_out, tied
from moeplan.sources.families.pixtral import pixtral

DENSE = ("mistral", "ministral3")


def mistral4(fields: Fields, *, family: str = "mistral4", **differences: Any) -> ModelSpec:
    """Mistral Small 4: latent attention, softmax router without a correction bias, experts packed in two tensors."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    sparse = Layer((biased_latent_attention(fields),), (experts(fields, shared_default=1),), decoder_norms(hidden))
    return finish(
        fields,
        family=family,
        defaults="transformers 5.23.0 Mistral4Config",
        layers=dense_or_sparse(fields, sparse, dense_first(fields, num_layers, default=0)),
        renames=(
            (".experts.{expert}.gate_proj.weight", ".experts.gate_up_proj"),
            (".experts.{expert}.up_proj.weight", ".experts.gate_up_proj"),
            (".experts.{expert}.down_proj.weight", ".experts.down_proj"),
        ),
        **({"tied_default": False} | differences),
    )


def mistral3(fields: Fields) -> ModelSpec:
    """The wrapper with a Pixtral tower: around Mistral Small 4, or around a dense Mistral."""
    text = inner(fields)
    shared = _wrapped(fields, text, tied_default=True) | {
        "prefix": "language_model.model.",
        "lm_head_name": "language_model.lm_head.weight",
    }
    model_type = text.text("model_type")
    if model_type == "mistral4":
        return mistral4(text, **shared)
    if model_type not in DENSE:
        raise text.wrong("model_type", f"is {model_type!r}; known inside mistral3 are mistral4, {', '.join(DENSE)}")
    need_kv_heads(text)
    hidden = text.integer("hidden_size")
    attention = grouped_attention(text, window_tokens=text.optional("sliding_window", minimum=1))
    layer = Layer((attention,), (DenseFfn(text.integer("intermediate_size")),), decoder_norms(hidden))
    return finish(
        text,
        family="mistral3",
        defaults="transformers 5.23.0 Mistral3Config",
        layers=(layer,) * text.num_layers("num_hidden_layers"),
        **shared,
    )


def mistral_large4(fields: Fields) -> ModelSpec:
    """Mistral Large 4: latent attention without a query latent, with indexers; some layers have no rotation, some
    read an earlier layer's latent. Names are Mistral's own, as the checkpoint has them.

    Source: transformers 5.23.0 MistralLarge4TextModel and its table of checkpoint names.
    """
    text = inner(fields)
    hidden = text.integer("hidden_size")
    num_layers = text.num_layers("num_hidden_layers")
    mixers = _large4_mixers(text, hidden, num_layers)
    sparse = Layer((mixers[0],), (experts(text, shared_default=1),), decoder_norms(hidden))
    by_ffn = dense_or_sparse(text, sparse, dense_first(text, num_layers, default=1))
    layers = tuple(layer._replace(mixers=(mixer,)) for layer, mixer in zip(by_ffn, mixers, strict=True))
    shared = _wrapped(fields, text, tied_default=False)
    shared["remarks"] += (
        Remark("mtp-left-out", "info", "the drafter (mtp_dspark) is not counted: no source has its shapes"),
    )
    positions = Weight("lerope.alpha", "other", (text.integer("qk_rope_head_dim") // 2,), buffer=True)
    return finish(
        text,
        family="mistral_large4",
        defaults="transformers 5.23.0 MistralLarge4Config",
        layers=layers,
        prefix="",
        embedding_name="tok_embeddings.weight",
        lm_head_name="output.weight",
        extras=(*norms(hidden, "norm"), positions),
        renames=LARGE4_NAMES,
        **shared,
    )


LARGE4_NAMES = (
    ("vision_tower.", "vision_encoder."),
    ("multi_modal_projector.norm.", "pre_mm_projector_norm."),
    ("multi_modal_projector.patch_merger.", "patch_merger."),
    ("multi_modal_projector.linear_1.", "vision_language_adapter.w_in."),
    ("multi_modal_projector.linear_2.", "vision_language_adapter.w_out."),
    (".self_attn.", ".attention."),
    (".q_proj.", ".wq."),
    (".k_proj.", ".wk."),
    (".v_proj.", ".wv."),
    (".o_proj.", ".wo."),
    (".kv_a_proj_with_mqa.", ".wkv_a_with_mqa."),
    (".kv_b_proj.", ".wkv_b."),
    (".kv_a_layernorm.", ".kv_a_norm."),
    (".input_layernorm.", ".attention_norm."),
    (".post_attention_layernorm.", ".ffn_norm."),
    (".mlp.gate.", ".gate."),
    (".mlp.experts.", ".experts."),
    (".mlp.shared_experts.", ".shared_experts."),
    (".mlp.", ".feed_forward."),
    (".gate_proj.", ".w1."),
    (".up_proj.", ".w3."),
    (".down_proj.", ".w2."),
)
"""Our names to Mistral's."""


def _wrapped(fields: Fields, text: Fields, *, tied_default: bool) -> dict[str, Any]:
    vision = fields.sub("vision_config")
    return {
        "outer": fields,
        "tied": tied(fields, text, tied_default),
        "towers": () if vision is None else (pixtral(vision, fields, text.integer("hidden_size")),),
        "remarks": left_out(fields, "vision_config", "vision tower"),
    }


def _large4_mixers(fields: Fields, hidden: int, num_layers: int) -> tuple[LatentAttention, ...]:
    bias = fields.flag("attention_bias", False)
    base = latent_attention(fields, indexed=True, qkv_bias=bias, output_bias=bias, q_lora_rank=None)
    assert base.indexer is not None
    scaling = _scaling("", "attention", base.num_heads)
    indexing = tuple(Weight(f"indexer.q_input_norm.{part}", "indexer", (hidden,)) for part in ("weight", "bias"))
    indexing += _scaling("indexer.", "indexer", base.indexer.num_heads)
    mixers = []
    owners = indexer_owners(fields, num_layers)
    for number, (rotates, source) in enumerate(
        zip(_rotating_layers(fields, num_layers), _latent_sources(fields, num_layers), strict=True)
    ):
        mixer = base._replace(shares_cache_of=None if source == number else source, extras=scaling + indexing)
        if not rotates:
            # The rotated part of the head is plain there, so it passes through the latent.
            whole = base.qk_nope_head_dim + base.qk_rope_head_dim
            mixer = mixer._replace(qk_nope_head_dim=whole, qk_rope_head_dim=0)
        if not owners[number]:
            mixer = mixer._replace(indexer=None, extras=scaling)
        mixers.append(mixer)
    return tuple(mixers)


def _scaling(stem: str, role: Any, num_heads: int) -> tuple[Weight, ...]:
    return (
        Weight(f"{stem}ssmax_scaling.s", role, (num_heads,)),
        Weight(f"{stem}ssmax_scaling.b", role, (num_heads,)),
    )


def _rotating_layers(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    stated = fields.integers("no_rope_layers")
    if stated is None:
        every = fields.integer("no_rope_layer_interval", default=4)
        return tuple((number + 1) % every != 0 for number in range(num_layers))
    if len(stated) < num_layers:
        raise fields.wrong("no_rope_layers", f"has {len(stated)} entries for {num_layers} layers")
    return tuple(bool(rotates) for rotates in stated[:num_layers])


def _latent_sources(fields: Fields, num_layers: int) -> tuple[int, ...]:
    sources = fields.integers("kv_source_layers", num_layers)
    if sources is None:
        return tuple(range(num_layers))
    for number, source in enumerate(sources):
        if source > number or sources[source] != source:
            raise fields.wrong("kv_source_layers", f"sends layer {number} to layer {source}, which keeps no latent")
    return sources
