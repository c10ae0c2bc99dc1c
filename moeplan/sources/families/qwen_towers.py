"""Vision and audio towers of Qwen3-VL, Qwen3.5 and Qwen3-Omni. Source: transformers 5.23.0 modeling_qwen3_vl_moe,
modeling_qwen3_5_moe and modeling_qwen3_omni_moe."""

from __future__ import annotations

from moeplan.core.model import Tower, Weight
from moeplan.core.weights import linear
from moeplan.sources.families.fields import Fields


def biased_norms(width: int, *names: str, count: int = 1) -> tuple[Weight, ...]:
    """Layer norms (scale and shift) of a tower."""
    return tuple(
        Weight(f"{name}.{part}", "towers", (width,), count=count) for name in names for part in ("weight", "bias")
    )


def convolution(name: str, shape: tuple[int, ...], *, out: int | None = None, bias: bool = True) -> tuple[Weight, ...]:
    """A convolution of `shape` as stored; `out` output channels where those are not the first of it (transposed)."""
    kernel = Weight(f"{name}.weight", "towers", shape)
    return (kernel, Weight(f"{name}.bias", "towers", (out or shape[0],))) if bias else (kernel,)


def _sizes(fields: Fields, name: str, default: int, length: int) -> tuple[int, ...]:
    """A kernel size that configs give as one number or as one per axis."""
    if isinstance(fields.values.get(name), list | tuple):
        return fields.integers(name, length) or ()
    return (fields.integer(name, default=default),) * length


def _merger(stem: str, merged: int, out: int, norm_width: int, *, omni: bool) -> tuple[Weight, ...]:
    """A norm and two matrices from the joined patches to the text model's width."""
    norm, first, second = ("ln_q", "mlp.0", "mlp.2") if omni else ("norm", "linear_fc1", "linear_fc2")
    return (
        *biased_norms(norm_width, f"{stem}.{norm}"),
        *linear(f"{stem}.{first}", "towers", merged, merged, "column", merged, bias=True),
        *linear(f"{stem}.{second}", "towers", out, merged, "row", merged, bias=True),
    )


def vision(fields: Fields | None, stem: str, *, deepstack: bool, omni: bool = False) -> tuple[Tower, ...]:
    """The vision transformer, its merger, and with `deepstack` one more merger for each layer that it feeds.

    `omni` takes Qwen3-Omni's names of the mergers, whose shapes are the same. No tower without `fields`.
    """
    if fields is None:
        return ()
    hidden = fields.integer("hidden_size")
    width = fields.integer("intermediate_size")
    depth = fields.num_layers("depth", "num_hidden_layers")
    heads = fields.integer("num_heads", "num_attention_heads")
    channels = fields.integer("in_channels", default=3)
    patch = _sizes(fields, "temporal_patch_size", 2, 1) + _sizes(fields, "patch_size", 16, 2)
    merged = hidden * fields.integer("spatial_merge_size", default=2) ** 2
    out = fields.integer("out_hidden_size")
    positions = fields.integer("num_position_embeddings", default=2304)
    block = f"{stem}blocks.{{layer}}."
    weights = (
        *convolution(f"{stem}patch_embed.proj", (hidden, channels, *patch)),
        Weight(f"{stem}pos_embed.weight", "towers", (positions, hidden)),
        *biased_norms(hidden, f"{block}norm1", f"{block}norm2", count=depth),
        *linear(f"{block}attn.qkv", "towers", 3 * hidden, hidden, "column", heads, bias=True, count=depth),
        *linear(f"{block}attn.proj", "towers", hidden, hidden, "row", heads, bias=True, count=depth),
        *linear(f"{block}mlp.linear_fc1", "towers", width, hidden, "column", width, bias=True, count=depth),
        *linear(f"{block}mlp.linear_fc2", "towers", hidden, width, "row", width, bias=True, count=depth),
        *_merger(f"{stem}merger", merged, out, hidden, omni=omni),
    )
    if deepstack:
        fed = fields.integers("deepstack_visual_indexes")
        if fed is None:
            fields.defaulted[f"{fields.path}deepstack_visual_indexes"] = [8, 16, 24]
            fed = (8, 16, 24)
        extra = "merger_list" if omni else "deepstack_merger_list"
        for number in range(len(fed)):
            weights += _merger(f"{stem}{extra}.{number}", merged, out, merged, omni=omni)
    return (Tower("vision", weights),)


def audio(fields: Fields | None, stem: str) -> tuple[Tower, ...]:
    """Qwen3-Omni's audio encoder: three convolutions that each halve time and frequency, then a transformer."""
    if fields is None:
        return ()
    hidden = fields.integer("d_model", "hidden_size")
    width = fields.integer("encoder_ffn_dim", "intermediate_size")
    depth = fields.num_layers("encoder_layers", "num_hidden_layers")
    heads = fields.integer("encoder_attention_heads", "num_attention_heads")
    channels = fields.integer("downsample_hidden_size", default=480)
    mels = fields.integer("num_mel_bins", default=128)
    for _ in range(3):
        mels = (mels + 1) // 2
    out = fields.integer("output_dim")
    layer = f"{stem}layers.{{layer}}."
    weights: tuple[Weight, ...] = ()
    for number, inputs in enumerate((1, channels, channels), start=1):
        weights += convolution(f"{stem}conv2d{number}", (channels, inputs, 3, 3))
    weights += linear(f"{stem}conv_out", "towers", hidden, channels * mels)
    for part in ("q_proj", "k_proj", "v_proj"):
        weights += linear(f"{layer}self_attn.{part}", "towers", hidden, hidden, "column", heads, bias=True, count=depth)
    weights += (
        *linear(f"{layer}self_attn.out_proj", "towers", hidden, hidden, "row", heads, bias=True, count=depth),
        *biased_norms(hidden, f"{layer}self_attn_layer_norm", f"{layer}final_layer_norm", count=depth),
        *linear(f"{layer}fc1", "towers", width, hidden, "column", width, bias=True, count=depth),
        *linear(f"{layer}fc2", "towers", hidden, width, "row", width, bias=True, count=depth),
        *biased_norms(hidden, f"{stem}ln_post"),
        *linear(f"{stem}proj1", "towers", hidden, hidden, bias=True),
        *linear(f"{stem}proj2", "towers", out, hidden, bias=True),
    )
    return (Tower("audio", weights),)


def vocoder(fields: Fields | None, stem: str) -> tuple[Tower, ...]:
    """Qwen3-Omni's code2wav: a windowed transformer over codes, then convolutions up to the waveform."""
    if fields is None:
        return ()
    hidden = fields.integer("hidden_size", default=1024)
    width = fields.integer("intermediate_size", default=3072)
    depth = fields.num_layers("num_hidden_layers", default=8)
    heads = fields.integer("num_attention_heads", default=16)
    kv_heads = fields.integer("num_key_value_heads", default=16)
    head_dim = fields.optional("head_dim", minimum=1) or hidden // heads
    bias = fields.flag("attention_bias", False)
    codes = fields.integer("codebook_size", default=2048) * fields.integer("num_quantizers", default=16)
    rates = fields.integers("upsample_rates") or (8, 5, 4, 3)
    ratios = fields.integers("upsampling_ratios") or (2, 2)
    channels = fields.integer("decoder_dim", default=1536)
    layer = f"{stem}pre_transformer.layers.{{layer}}."
    weights: tuple[Weight, ...] = (Weight(f"{stem}code_embedding.weight", "towers", (codes, hidden)),)
    for part, rows in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
        weights += linear(f"{layer}self_attn.{part}", "towers", rows * head_dim, hidden, bias=bias, count=depth)
    weights += linear(f"{layer}self_attn.o_proj", "towers", hidden, heads * head_dim, bias=bias, count=depth)
    for part, shape in (("gate_proj", (width, hidden)), ("up_proj", (width, hidden)), ("down_proj", (hidden, width))):
        weights += linear(f"{layer}mlp.{part}", "towers", *shape, count=depth)
    weights += tuple(
        Weight(f"{layer}{name}", "towers", (hidden,), count=depth)
        for name in (
            "input_layernorm.weight",
            "post_attention_layernorm.weight",
            "self_attn_layer_scale.scale",
            "mlp_layer_scale.scale",
        )
    )
    weights += (Weight(f"{stem}pre_transformer.norm.weight", "towers", (hidden,)),)
    for number, ratio in enumerate(ratios):
        up = f"{stem}upsample.{number}."
        weights += (
            *convolution(f"{up}0.conv", (hidden, hidden, ratio)),
            *convolution(f"{up}1.dwconv.conv", (hidden, 1, 7)),
            *biased_norms(hidden, f"{up}1.norm"),
            *linear(f"{up}1.pwconv1", "towers", 4 * hidden, hidden, bias=True),
            *linear(f"{up}1.pwconv2", "towers", hidden, 4 * hidden, bias=True),
            Weight(f"{up}1.gamma", "towers", (hidden,)),
        )
    weights += convolution(f"{stem}decoder.0.conv", (channels, hidden, 7))
    for number, rate in enumerate(rates, start=1):
        weights += _decoder_block(f"{stem}decoder.{number}.block.", channels, channels // 2, rate)
        channels //= 2
    last = len(rates) + 1
    weights += _snake(f"{stem}decoder.{last}", channels)
    weights += convolution(f"{stem}decoder.{last + 1}.conv", (1, channels, 7))
    return (Tower("code2wav", weights),)


def _snake(name: str, channels: int) -> tuple[Weight, ...]:
    return tuple(Weight(f"{name}.{part}", "towers", (channels,)) for part in ("alpha", "beta"))


def _decoder_block(stem: str, inputs: int, outputs: int, rate: int) -> tuple[Weight, ...]:
    """A transposed convolution, then three residual units of one wide and one pointwise convolution."""
    weights = _snake(f"{stem}0", inputs)
    weights += convolution(f"{stem}1.conv", (inputs, outputs, 2 * rate), out=outputs)
    for unit in range(2, 5):
        weights += (
            *_snake(f"{stem}{unit}.act1", outputs),
            *convolution(f"{stem}{unit}.conv1.conv", (outputs, outputs, 7)),
            *_snake(f"{stem}{unit}.act2", outputs),
            *convolution(f"{stem}{unit}.conv2.conv", (outputs, outputs, 1)),
        )
    return weights
