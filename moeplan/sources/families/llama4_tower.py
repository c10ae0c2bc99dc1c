"""The vision tower of Llama 4: a ViT with biases, a pixel shuffle adapter and a projector."""

from __future__ import annotations

from moeplan.core.model import Tower, Weight
from moeplan.core.weights import layer_norms, linear
from moeplan.sources.families.fields import Fields


def llama4_tower(vision: Fields, text_hidden: int) -> Tower:
    """Weights by `vision_config`; shapes from transformers 5.23.0 Llama4VisionModel and Llama4MultiModalProjector."""
    hidden, width = vision.integer("hidden_size"), vision.integer("intermediate_size")
    patch = vision.integer("patch_size")
    num_patches = (vision.integer("image_size") // patch) ** 2 + 1
    num_layers = vision.num_layers("num_hidden_layers")
    patch_size = vision.integer("num_channels", default=3) * patch**2
    inner = vision.integer("projector_input_dim", default=4096)
    outer = vision.integer("projector_output_dim", default=4096)
    stem = "vision_model."
    weights = linear(f"{stem}patch_embedding.linear", "towers", hidden, patch_size)
    weights += (Weight(f"{stem}class_embedding", "towers", (hidden,)),)
    weights += (Weight(f"{stem}positional_embedding_vlm", "towers", (num_patches, hidden)),)
    weights += layer_norms(hidden, f"{stem}layernorm_pre", f"{stem}layernorm_post")
    weights += _layers(f"{stem}model.layers.{{layer}}", hidden, width, num_layers)
    weights += linear(f"{stem}vision_adapter.mlp.fc1", "towers", inner, width)
    weights += linear(f"{stem}vision_adapter.mlp.fc2", "towers", outer, outer)
    weights += linear("multi_modal_projector.linear_1", "towers", text_hidden, vision.integer("vision_output_dim"))
    return Tower("vision", tuple(weight._replace(role="towers") for weight in weights))


def _layers(stem: str, hidden: int, width: int, num_layers: int) -> tuple[Weight, ...]:
    weights: tuple[Weight, ...] = ()
    for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
        weights += linear(f"{stem}.self_attn.{part}", "towers", hidden, hidden, bias=True)
    weights += linear(f"{stem}.mlp.fc1", "towers", width, hidden, bias=True)
    weights += linear(f"{stem}.mlp.fc2", "towers", hidden, width, bias=True)
    weights += layer_norms(hidden, f"{stem}.input_layernorm", f"{stem}.post_attention_layernorm")
    return tuple(weight._replace(count=num_layers) for weight in weights)
