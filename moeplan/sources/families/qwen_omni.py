"""Qwen3-Omni: the thinker is the text model; everything that hears, sees and speaks stands beside it as towers."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Layer, ModelSpec, Remark, Tower, Weight
from moeplan.core.weights import layer_weights, linear
from moeplan.sources.families.blocks import decoder_norms, finish
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.nested import inner, left_out, tied
from moeplan.sources.families.qwen import experts, moe_layers, normed_attention
from moeplan.sources.families.qwen_towers import audio, vision, vocoder


def qwen3_omni_moe_thinker(fields: Fields) -> ModelSpec:
    """The thinker of Qwen3-Omni alone: a Qwen3 MoE text model that hears and sees."""
    return _thinker(fields, None)


def qwen3_omni_moe(fields: Fields) -> ModelSpec:
    """Qwen/Qwen3-Omni-30B-A3B: the thinker; talker and vocoder are towers, since no text token passes them."""
    return _thinker(inner(fields, "thinker_config"), fields)


def _thinker(thinker: Fields, outer: Fields | None) -> ModelSpec:
    text = inner(thinker)
    stem = "" if outer is None else "thinker."
    mixers = (normed_attention(text),) * text.num_layers("num_hidden_layers")
    towers = audio(thinker.sub("audio_config"), f"{stem}audio_tower.")
    towers += vision(thinker.sub("vision_config"), f"{stem}visual.", deepstack=True, omni=True)
    remarks = left_out(thinker, "audio_config", "audio tower") + left_out(thinker, "vision_config", "vision tower")
    if outer is not None and outer.flag("enable_audio_output", True):
        towers += talker(outer.sub("talker_config"), "talker.") + vocoder(outer.sub("code2wav_config"), "code2wav.")
        remarks += left_out(outer, "talker_config", "talker") + left_out(outer, "code2wav_config", "vocoder")
        message = (
            "active parameters, cache and layers are those of the thinker; talker and code2wav count as towers, "
            "and the talker's own cache is not counted"
        )
        remarks += (Remark("talker-is-tower", "info", message, "talker_config"),)
    return finish(
        text,
        family="qwen",
        defaults="transformers 5.23.0 Qwen3OmniMoeConfig",
        layers=moe_layers(text, mixers, experts(text, shared=False)),
        outer=outer or thinker,
        tied=tied(thinker, text, False),
        towers=towers,
        remarks=remarks,
        prefix=f"{stem}model.",
        lm_head_name=f"{stem}lm_head.weight",
        card_convention="active",
    )


def talker(fields: Fields | None, stem: str) -> tuple[Tower, ...]:
    """The talker: a MoE decoder of speech codes, and a small dense decoder that predicts the remaining codebooks.

    Every layer is sparse, whatever `mlp_only_layers` says. Source: transformers 5.23.0
    Qwen3OmniMoeTalkerForConditionalGeneration.
    """
    if fields is None:
        return ()
    text = inner(fields)
    hidden, vocab = text.integer("hidden_size"), text.integer("vocab_size")
    width = text.integer("intermediate_size")
    listener = fields.integer("thinker_hidden_size", default=2048)
    layer = Layer((normed_attention(text),), (experts(text, shared=True),), decoder_norms(hidden))
    weights = _decoder(f"{stem}model.", layer, hidden, text.num_layers("num_hidden_layers"))
    weights += (Weight(f"{stem}model.codec_embedding.weight", "towers", (vocab, hidden)),)
    if not fields.flag("tie_word_embeddings", False):
        weights += linear(f"{stem}codec_head", "towers", vocab, hidden)
    for name in ("text_projection", "hidden_projection"):
        weights += linear(f"{stem}{name}.linear_fc1", "towers", width, listener, bias=True)
        weights += linear(f"{stem}{name}.linear_fc2", "towers", hidden, width, bias=True)
    weights += _code_predictor(inner(fields, "code_predictor_config"), f"{stem}code_predictor.")
    return (Tower("talker", weights),)


def _code_predictor(fields: Fields, stem: str) -> tuple[Weight, ...]:
    hidden, vocab = fields.integer("hidden_size"), fields.integer("vocab_size")
    groups = fields.integer("num_code_groups", default=32) - 1
    layer = Layer(
        (normed_attention(fields, head_dim=128),),
        (DenseFfn(fields.integer("intermediate_size")),),
        decoder_norms(hidden),
    )
    return (
        *_decoder(f"{stem}model.", layer, hidden, fields.num_layers("num_hidden_layers")),
        Weight(f"{stem}model.codec_embedding.{{layer}}.weight", "towers", (vocab, hidden), count=groups),
        *linear(f"{stem}lm_head.{{layer}}", "towers", vocab, hidden, count=groups),
    )


def _decoder(stem: str, layer: Layer, hidden: int, num_layers: int) -> tuple[Weight, ...]:
    """`num_layers` equal layers and a last norm, as weights of a tower (whole on every rank)."""
    repeated = tuple(
        weight._replace(
            name=f"{stem}layers.{{layer}}.{weight.name}",
            role="towers",
            split="replicated",
            units=1,
            count=weight.count * num_layers,
        )
        for weight in layer_weights(layer, hidden)
    )
    return (*repeated, Weight(f"{stem}norm.weight", "towers", (hidden,)))
