"""Pixtral: the vision tower of Mistral's models, with its patch merger and projector."""

from __future__ import annotations

from moeplan.core.model import Tower, Weight
from moeplan.core.weights import linear
from moeplan.sources.families.fields import Fields


def pixtral(vision: Fields, outer: Fields, text_hidden: int) -> Tower:
    """Tower and projector by transformers' names.

    Source: transformers 5.23.0 PixtralVisionModel and Mistral3MultiModalProjector.
    """
    hidden = vision.integer("hidden_size")
    inner = vision.integer("intermediate_size")
    depth = vision.integer("num_hidden_layers")
    patch = vision.integer("patch_size", default=14)
    channels = vision.integer("num_channels", default=3)
    merge = outer.integer("spatial_merge_size", default=2)
    bias = outer.flag("multimodal_projector_bias", False)
    chosen = outer.raw("vision_feature_layer")
    num_features = len(chosen) if isinstance(chosen, list) else 1
    block = "vision_tower.transformer.layers.{layer}"
    projector = "multi_modal_projector"
    weights: tuple[Weight, ...] = (
        Weight("vision_tower.patch_conv.weight", "towers", (hidden, channels, patch, patch)),
        Weight("vision_tower.ln_pre.weight", "towers", (hidden,)),
        Weight(f"{block}.attention_norm.weight", "towers", (hidden,), count=depth),
        Weight(f"{block}.ffn_norm.weight", "towers", (hidden,), count=depth),
    )
    for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
        weights += linear(f"{block}.attention.{part}", "towers", hidden, hidden, count=depth)
    return Tower(
        "vision",
        (
            *weights,
            *linear(f"{block}.feed_forward.gate_proj", "towers", inner, hidden, count=depth),
            *linear(f"{block}.feed_forward.up_proj", "towers", inner, hidden, count=depth),
            *linear(f"{block}.feed_forward.down_proj", "towers", hidden, inner, count=depth),
            Weight(f"{projector}.norm.weight", "towers", (hidden,)),
            *linear(f"{projector}.patch_merger.merging_layer", "towers", hidden, hidden * merge * merge),
            *linear(f"{projector}.linear_1", "towers", text_hidden, hidden * num_features, bias=bias),
            *linear(f"{projector}.linear_2", "towers", text_hidden, text_hidden, bias=bias),
        ),
    )
