"""The vision tower of ERNIE 4.5 VL: a ViT and a resampler that merges patches in space and time."""

from __future__ import annotations

from moeplan.core.model import Tower, Weight
from moeplan.core.weights import layer_norms, linear, norms
from moeplan.sources.families.fields import Fields


def ernie_tower(vision: Fields, text_hidden: int) -> Tower:
    """Weights by `vision_config`; shapes from transformers 5.23.0 Ernie4_5_VLMoeVisionTransformerPretrainedModel
    and Ernie4_5_VLMoeVariableResolutionResamplerModel."""
    hidden, width = vision.integer("hidden_size"), vision.integer("intermediate_size")
    num_layers = vision.num_layers("depth", "num_hidden_layers")
    patch = vision.integer("in_channels", default=3) * vision.integer("patch_size") ** 2
    spatial = hidden * vision.integer("spatial_merge_size", default=2) ** 2
    temporal = spatial * vision.integer("temporal_merge_size", default=2)
    stem, resampler = "vision_model.", "model.resampler_model."
    weights = linear(f"{stem}patch_embed.proj", "towers", hidden, patch)
    weights += _layers(f"{stem}blocks.{{layer}}", hidden, width, num_layers)
    weights += layer_norms(hidden, f"{stem}ln")
    for part, width_in in (("spatial_linear", spatial), ("temporal_linear", temporal)):
        weights += linear(f"{resampler}{part}.0", "towers", spatial, width_in, bias=True)
        weights += linear(f"{resampler}{part}.2", "towers", spatial, spatial, bias=True)
        weights += layer_norms(spatial, f"{resampler}{part}.3")
    weights += linear(f"{resampler}mlp", "towers", text_hidden, spatial, bias=True)
    weights += norms(text_hidden, f"{resampler}after_norm")
    return Tower("vision", tuple(weight._replace(role="towers") for weight in weights))


def _layers(stem: str, hidden: int, width: int, num_layers: int) -> tuple[Weight, ...]:
    weights = layer_norms(hidden, f"{stem}.norm1", f"{stem}.norm2")
    weights += linear(f"{stem}.attn.qkv", "towers", 3 * hidden, hidden, bias=True)
    weights += linear(f"{stem}.attn.proj", "towers", hidden, hidden, bias=True)
    weights += linear(f"{stem}.mlp.fc1", "towers", width, hidden, bias=True)
    weights += linear(f"{stem}.mlp.fc2", "towers", hidden, width, bias=True)
    return tuple(weight._replace(count=num_layers) for weight in weights)
