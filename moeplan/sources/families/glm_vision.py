"""The vision towers of GLM-4.5V and GLM-5.3: patch embedding, blocks, a convolution that merges patches, a merger."""

from __future__ import annotations

from moeplan.core.model import Tower, Weight
from moeplan.core.weights import linear
from moeplan.sources.families.fields import Fields

STEM = "model.visual"


def glm4v_tower(vision: Fields) -> Tower:
    """GLM-4.5V's tower. Source: transformers 5.23.0 Glm4vMoeVisionModel (blocks are `out_hidden_size` wide inside,
    the merger `intermediate_size`)."""
    hidden, out = vision.integer("hidden_size"), vision.integer("out_hidden_size")
    depth = vision.integer("depth", "num_hidden_layers")
    patch = vision.integer("patch_size", default=14)
    side = vision.integer("image_size", default=336) // patch
    bias = vision.flag("attention_bias", False)
    block = f"{STEM}.blocks.{{layer}}"
    weights = (
        Weight(f"{STEM}.embeddings.position_embedding.weight", "towers", (side * side, hidden)),
        *_patch_embedding(vision, hidden, patch),
        *_norms(hidden, f"{block}.norm1", f"{block}.norm2", count=depth),
        *linear(f"{block}.attn.qkv", "towers", 3 * hidden, hidden, bias=bias, count=depth),
        *linear(f"{block}.attn.proj", "towers", hidden, hidden, count=depth),
        *_gated(f"{block}.mlp", hidden, out, count=depth),
        *_merger(out, vision.integer("intermediate_size")),
        *_norms(hidden, f"{STEM}.post_conv_layernorm", f"{STEM}.post_layernorm"),
        *_downsample(vision, hidden, out),
    )
    return Tower("vision", weights)


def glm5_tower(vision: Fields) -> Tower:
    """GLM-5.3's tower: biases, query and key norms, no stored positions.

    Source: transformers 5.23.0 Glm5NextVisionModel.
    """
    hidden, out = vision.integer("hidden_size"), vision.integer("out_hidden_size")
    depth = vision.integer("depth", "num_hidden_layers")
    head = hidden // vision.integer("num_heads", "num_attention_heads")
    bias = vision.flag("attention_bias", True)
    block = f"{STEM}.blocks.{{layer}}"
    weights = (
        *_patch_embedding(vision, hidden, vision.integer("patch_size", default=14)),
        *_norms(hidden, f"{block}.norm1", f"{block}.norm2", count=depth),
        *linear(f"{block}.attn.qkv", "towers", 3 * hidden, hidden, bias=bias, count=depth),
        *linear(f"{block}.attn.proj", "towers", hidden, hidden, bias=bias, count=depth),
        *_norms(head, f"{block}.attn.q_norm", f"{block}.attn.k_norm", count=depth),
        *_gated(f"{block}.mlp", hidden, vision.integer("intermediate_size"), bias=bias, count=depth),
        *_merger(out, vision.integer("projection_intermediate_size")),
        *_norms(hidden, f"{STEM}.post_layernorm"),
        *_downsample(vision, hidden, out),
    )
    return Tower("vision", weights)


def _patch_embedding(vision: Fields, hidden: int, patch: int) -> tuple[Weight, ...]:
    channels = vision.integer("in_channels", default=3)
    frames = vision.integer("temporal_patch_size", default=2)
    return (
        Weight(f"{STEM}.patch_embed.proj.weight", "towers", (hidden, channels, frames, patch, patch)),
        Weight(f"{STEM}.patch_embed.proj.bias", "towers", (hidden,)),
    )


def _downsample(vision: Fields, hidden: int, out: int) -> tuple[Weight, ...]:
    merge = vision.integer("spatial_merge_size", default=2)
    return (
        Weight(f"{STEM}.downsample.weight", "towers", (out, hidden, merge, merge)),
        Weight(f"{STEM}.downsample.bias", "towers", (out,)),
    )


def _merger(width: int, inner: int) -> tuple[Weight, ...]:
    return (
        *linear(f"{STEM}.merger.proj", "towers", width, width),
        Weight(f"{STEM}.merger.post_projection_norm.weight", "towers", (width,)),
        Weight(f"{STEM}.merger.post_projection_norm.bias", "towers", (width,)),
        *_gated(f"{STEM}.merger", width, inner),
    )


def _gated(name: str, hidden: int, inner: int, bias: bool = False, count: int = 1) -> tuple[Weight, ...]:
    return (
        *linear(f"{name}.gate_proj", "towers", inner, hidden, bias=bias, count=count),
        *linear(f"{name}.up_proj", "towers", inner, hidden, bias=bias, count=count),
        *linear(f"{name}.down_proj", "towers", hidden, inner, bias=bias, count=count),
    )


def _norms(width: int, *names: str, count: int = 1) -> tuple[Weight, ...]:
    return tuple(Weight(f"{name}.weight", "towers", (width,), count=count) for name in names)
