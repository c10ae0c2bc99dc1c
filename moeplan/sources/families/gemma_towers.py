"""Vision and audio towers of Gemma 3 (SigLIP) and Gemma 4. Source: transformers 5.23.0 modeling_siglip,
modeling_gemma3 and modeling_gemma4."""

from __future__ import annotations

from moeplan.core.model import Tower, Weight
from moeplan.core.weights import linear
from moeplan.sources.families.fields import Fields

CLIP_BOUNDS = ("input_min", "input_max", "output_min", "output_max")


def _scales(width: int, *names: str, count: int = 1) -> tuple[Weight, ...]:
    return tuple(Weight(f"{name}.weight", "towers", (width,), count=count) for name in names)


def _layer_norms(width: int, *names: str, count: int = 1) -> tuple[Weight, ...]:
    return tuple(
        Weight(f"{name}.{part}", "towers", (width,), count=count) for name in names for part in ("weight", "bias")
    )


def siglip(fields: Fields | None, text_hidden: int) -> tuple[Tower, ...]:
    """Gemma 3's SigLIP encoder and its projector; `vision_use_head` adds the pooling head."""
    if fields is None:
        return ()
    stem, projector = "vision_tower.vision_model.", "multi_modal_projector."
    hidden = fields.integer("hidden_size")
    width = fields.integer("intermediate_size")
    depth = fields.num_layers("num_hidden_layers")
    heads = fields.integer("num_attention_heads")
    patch = fields.integer("patch_size")
    patches = (fields.integer("image_size") // patch) ** 2
    layer = f"{stem}encoder.layers.{{layer}}."
    kernel = (hidden, fields.integer("num_channels", default=3), patch, patch)
    weights: tuple[Weight, ...] = (
        Weight(f"{stem}embeddings.patch_embedding.weight", "towers", kernel),
        Weight(f"{stem}embeddings.patch_embedding.bias", "towers", (hidden,)),
        Weight(f"{stem}embeddings.position_embedding.weight", "towers", (patches, hidden)),
        *_layer_norms(hidden, f"{layer}layer_norm1", f"{layer}layer_norm2", count=depth),
        *_layer_norms(hidden, f"{stem}post_layernorm"),
        *linear(f"{layer}self_attn.out_proj", "towers", hidden, hidden, "row", heads, bias=True, count=depth),
        *linear(f"{layer}mlp.fc1", "towers", width, hidden, "column", width, bias=True, count=depth),
        *linear(f"{layer}mlp.fc2", "towers", hidden, width, "row", width, bias=True, count=depth),
        Weight(f"{projector}mm_input_projection_weight", "towers", (hidden, text_hidden)),
        *_scales(hidden, f"{projector}mm_soft_emb_norm"),
    )
    for part in ("q_proj", "k_proj", "v_proj"):
        weights += linear(f"{layer}self_attn.{part}", "towers", hidden, hidden, "column", heads, bias=True, count=depth)
    if fields.flag("vision_use_head", True):
        weights += (
            Weight(f"{stem}head.probe", "towers", (1, 1, hidden)),
            Weight(f"{stem}head.attention.in_proj_weight", "towers", (3 * hidden, hidden)),
            Weight(f"{stem}head.attention.in_proj_bias", "towers", (3 * hidden,)),
            *linear(f"{stem}head.attention.out_proj", "towers", hidden, hidden, bias=True),
            *_layer_norms(hidden, f"{stem}head.layernorm"),
            *linear(f"{stem}head.mlp.fc1", "towers", width, hidden, bias=True),
            *linear(f"{stem}head.mlp.fc2", "towers", hidden, width, bias=True),
        )
    return (Tower("vision", weights),)


def _clippable(name: str, out: int, inputs: int, count: int, clipped: bool) -> tuple[Weight, ...]:
    """A matrix whose input and output are clamped to four bounds that the checkpoint stores beside it."""
    weights = linear(f"{name}.linear", "towers", out, inputs, count=count)
    if clipped:
        weights += tuple(Weight(f"{name}.{bound}", "towers", (), count=count, buffer=True) for bound in CLIP_BOUNDS)
    return weights


def gemma4_vision(fields: Fields | None, text_hidden: int) -> tuple[Tower, ...]:
    """Gemma 4's vision encoder and its projector."""
    if fields is None:
        return ()
    stem = "model.vision_tower."
    hidden = fields.integer("hidden_size")
    width = fields.integer("intermediate_size")
    depth = fields.num_layers("num_hidden_layers")
    heads = fields.integer("num_attention_heads")
    kv_heads = fields.integer("num_key_value_heads")
    head_dim = fields.integer("head_dim", default=64)
    positions = fields.integer("position_embedding_size", default=10240)
    patch = 3 * fields.integer("patch_size", default=16) ** 2
    clipped = fields.flag("use_clipped_linears", False)
    layer = f"{stem}encoder.layers.{{layer}}."
    queries, keys = heads * head_dim, kv_heads * head_dim
    weights: tuple[Weight, ...] = (
        Weight(f"{stem}patch_embedder.position_embedding_table", "towers", (2, positions, hidden)),
        *linear(f"{stem}patch_embedder.input_proj", "towers", hidden, patch),
        *_scales(head_dim, f"{layer}self_attn.q_norm", f"{layer}self_attn.k_norm", count=depth),
        *_scales(
            hidden,
            f"{layer}input_layernorm",
            f"{layer}post_attention_layernorm",
            f"{layer}pre_feedforward_layernorm",
            f"{layer}post_feedforward_layernorm",
            count=depth,
        ),
        *linear("model.embed_vision.embedding_projection", "towers", text_hidden, hidden),
    )
    for name, out, inputs in (
        ("self_attn.q_proj", queries, hidden),
        ("self_attn.k_proj", keys, hidden),
        ("self_attn.v_proj", keys, hidden),
        ("self_attn.o_proj", hidden, queries),
        ("mlp.gate_proj", width, hidden),
        ("mlp.up_proj", width, hidden),
        ("mlp.down_proj", hidden, width),
    ):
        weights += _clippable(f"{layer}{name}", out, inputs, depth, clipped)
    if fields.flag("standardize", False):
        weights += tuple(
            Weight(f"{stem}{name}", "towers", (hidden,), buffer=True) for name in ("std_bias", "std_scale")
        )
    return (Tower("vision", weights),)


def gemma4_audio(fields: Fields | None, text_hidden: int) -> tuple[Tower, ...]:
    """Gemma 4's audio conformer and its projector."""
    if fields is None:
        return ()
    stem = "model.audio_tower."
    hidden = fields.integer("hidden_size")
    depth = fields.num_layers("num_hidden_layers")
    heads = fields.integer("num_attention_heads")
    kernel = fields.integer("conv_kernel_size", default=5)
    first, second = fields.integers("subsampling_conv_channels", 2) or (128, 32)
    out = fields.integer("output_proj_dims", default=1536)
    clipped = fields.flag("use_clipped_linears", True)
    inner = hidden // heads * heads
    layer = f"{stem}layers.{{layer}}."
    subsample = f"{stem}subsample_conv_projection."
    weights: tuple[Weight, ...] = (
        Weight(f"{subsample}layer0.conv.weight", "towers", (first, 1, 3, 3)),
        *_scales(first, f"{subsample}layer0.norm"),
        Weight(f"{subsample}layer1.conv.weight", "towers", (second, first, 3, 3)),
        *_scales(second, f"{subsample}layer1.norm"),
        *linear(f"{subsample}input_proj_linear", "towers", hidden, first // 4 * second),
        Weight(f"{layer}self_attn.per_dim_scale", "towers", (hidden // heads,), count=depth),
        *linear(f"{layer}self_attn.relative_k_proj", "towers", inner, hidden, count=depth),
        Weight(f"{layer}lconv1d.depthwise_conv1d.weight", "towers", (hidden, 1, kernel), count=depth),
        *linear(f"{stem}output_proj", "towers", out, hidden, bias=True),
        *linear("model.embed_audio.embedding_projection", "towers", text_hidden, out),
    )
    names = ["norm_pre_attn", "norm_post_attn", "norm_out", "lconv1d.pre_layer_norm", "lconv1d.conv_norm"]
    names += [f"feed_forward{half}.{side}_layer_norm" for half in (1, 2) for side in ("pre", "post")]
    weights += _scales(hidden, *(f"{layer}{name}" for name in names), count=depth)
    for name, rows, columns in (
        ("feed_forward1.ffw_layer_1", 4 * hidden, hidden),
        ("feed_forward1.ffw_layer_2", hidden, 4 * hidden),
        ("feed_forward2.ffw_layer_1", 4 * hidden, hidden),
        ("feed_forward2.ffw_layer_2", hidden, 4 * hidden),
        ("self_attn.q_proj", inner, hidden),
        ("self_attn.k_proj", inner, hidden),
        ("self_attn.v_proj", inner, hidden),
        ("self_attn.post", hidden, hidden),
        ("lconv1d.linear_start", 2 * hidden, hidden),
        ("lconv1d.linear_end", hidden, hidden),
    ):
        weights += _clippable(f"{layer}{name}", rows, columns, depth, clipped)
    return (Tower("audio", weights),)
