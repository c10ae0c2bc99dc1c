"""MoonViT: the vision tower of Kimi K2.5 and K3, with its patch merger."""

from __future__ import annotations

from moeplan.core.model import Tower, Weight
from moeplan.core.weights import linear
from moeplan.sources.families.fields import Fields


def moonvit(vision: Fields, text_hidden: int) -> Tower:
    """Tower and projector by the published names; fields in the published spelling (`vt_...`) or transformers' own.

    Source: transformers 5.23.0 Kimi_K25VisionModel and Kimi_K25MultimodalProjection (the position table over time
    is computed, not stored). Kimi K3 (`patchmergerv2`, `rmsnorm`, no biases, a wider attention) by the tensor names
    and shapes of moonshotai/Kimi-K3.
    """
    hidden = vision.integer("vt_hidden_size", "hidden_size")
    inner = vision.integer("vt_intermediate_size", "intermediate_size")
    depth = vision.integer("vt_num_hidden_layers", "num_hidden_layers")
    heads = vision.optional("qkv_hidden_size", minimum=1) or hidden
    patch = vision.integer("patch_size", default=14)
    rows = vision.integer("init_pos_emb_height", "pos_emb_height", default=64)
    columns = vision.integer("init_pos_emb_width", "pos_emb_width", default=64)
    shifted = vision.text("norm_type") != "rmsnorm"
    attention_bias = _flag(vision, "attn_bias")
    mlp_bias = _flag(vision, "linear_bias")
    block = "vision_tower.encoder.blocks.{layer}"
    weights: tuple[Weight, ...] = (
        Weight("vision_tower.patch_embed.proj.weight", "towers", (hidden, 3, patch, patch)),
        Weight("vision_tower.patch_embed.pos_emb.weight", "towers", (rows, columns, hidden)),
        *_norm(f"{block}.norm0", hidden, shifted, depth),
        *_norm(f"{block}.norm1", hidden, shifted, depth),
        *linear(f"{block}.wqkv", "towers", 3 * heads, hidden, bias=attention_bias, count=depth),
        *linear(f"{block}.wo", "towers", hidden, heads, bias=attention_bias, count=depth),
        *linear(f"{block}.mlp.fc0", "towers", inner, hidden, bias=mlp_bias, count=depth),
        *linear(f"{block}.mlp.fc1", "towers", hidden, inner, bias=mlp_bias, count=depth),
        *_norm("vision_tower.encoder.final_layernorm", hidden, shifted),
    )
    if _flag(vision, "patch_embed_proj_bias"):
        weights += (Weight("vision_tower.patch_embed.proj.bias", "towers", (hidden,)),)
    return Tower("vision", weights + _projector(vision, hidden, text_hidden))


def _projector(vision: Fields, hidden: int, text_hidden: int) -> tuple[Weight, ...]:
    merge = vision.integers("merge_kernel_size", 2) or (2, 2)
    merged = hidden * merge[0] * merge[1]
    second = vision.text("mm_projector_type") == "patchmergerv2"
    return (
        *(
            _norm("mm_projector.post_norm", text_hidden, False)
            if second
            else _norm("mm_projector.pre_norm", hidden, True)
        ),
        *linear("mm_projector.proj.0", "towers", merged, merged, bias=not second),
        *linear("mm_projector.proj.2", "towers", text_hidden, merged, bias=not second),
    )


def _flag(vision: Fields, name: str) -> bool:
    # Kimi K2.5 does not state its biases; it has them all.
    return not vision.has(name) or vision.flag(name, True)


def _norm(name: str, width: int, shifted: bool, count: int = 1) -> tuple[Weight, ...]:
    parts = ("weight", "bias") if shifted else ("weight",)
    return tuple(Weight(f"{name}.{part}", "towers", (width,), count=count) for part in parts)
