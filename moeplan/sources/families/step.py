"""Step-3.5-Flash and Step-3.7-Flash: headwise gated attention, more heads in sliding layers, a vision tower in 3.7."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, GroupedAttention, Layer, ModelSpec, MoeFfn, Mtp, Remark, Tower, Weight
from moeplan.core.weights import layer_norms, linear, norms, vector
from moeplan.sources.families.blocks import decoder_norms, dense_first, finish, grouped_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.nested import left_out

_ATTENTION = {"full_attention": False, "sliding_attention": True}


def step3p5(fields: Fields) -> ModelSpec:
    """stepfun-ai/Step-3.5-Flash: the text model of Step-3.7."""
    return _step(fields, family="step3p5")


def step3p7(fields: Fields) -> ModelSpec:
    """stepfun-ai/Step-3.7-Flash: text fields in `text_config` or at the top, and a vision tower."""
    text = fields.sub("text_config") or fields
    hidden = text.integer("hidden_size")
    vision = fields.sub("vision_config")
    towers: tuple[Tower, ...] = ()
    if vision is not None:
        towers = (_tower(vision, hidden, projector_bias=fields.flag("projector_bias", False)),)
    return _step(
        text,
        family="step3p7",
        outer=fields,
        towers=towers,
        remarks=left_out(fields, "vision_config", "vision tower"),
    )


def _step(
    fields: Fields,
    *,
    family: str,
    outer: Fields | None = None,
    towers: tuple[Tower, ...] = (),
    remarks: tuple[Remark, ...] = (),
) -> ModelSpec:
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    num_modules = fields.optional("num_nextn_predict_layers", "num_mtp_layers") or 0
    fields.finish()  # the lists below are checked against the number of layers
    full, sliding = _attention(fields)
    experts = MoeFfn(
        num_experts=fields.integer("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok", "moe_top_k"),
        expert_width=fields.integer("moe_intermediate_size"),
        num_shared_experts=1,
        shared_width=fields.integer("share_expert_dim", "share_expert_dims"),
        correction_bias=True,
        name="moe",
    )
    dense = DenseFfn(fields.integer("intermediate_size"))
    is_sliding, mtp_sliding = _sliding_layers(fields, num_layers, num_modules)
    layers = tuple(
        Layer((sliding if windowed else full,), (experts if sparse else dense,), decoder_norms(hidden))
        for windowed, sparse in zip(is_sliding, _sparse_layers(fields, num_layers, num_modules), strict=True)
    )
    blocks = tuple(Layer((sliding if windowed else full,), (dense,), decoder_norms(hidden)) for windowed in mtp_sliding)
    return finish(
        fields,
        family=family,
        defaults="transformers 5.23.0 Step3p7TextConfig",
        layers=layers,
        tied_default=False,
        outer=outer,
        towers=towers,
        mtp=_mtp(blocks, hidden, fields.integer("vocab_size"), num_layers),
        remarks=remarks,
        renames=(
            (".moe.experts.{expert}.", ".moe."),  # stacked in the checkpoint
            (".moe.gate.e_score_correction_bias", ".moe.router_bias"),
            (".moe.shared_experts.", ".share_expert."),
        ),
    )


def _attention(fields: Fields) -> tuple[GroupedAttention, GroupedAttention]:
    """Attention of full and of sliding layers; `attention_other_setting` holds what differs in the latter."""
    biased = fields.flag("attention_bias", False)
    full = grouped_attention(
        fields,
        num_kv_heads=fields.integer("num_key_value_heads", "num_attention_groups"),
        qkv_bias=biased,
        output_bias=biased,
        qk_norm="head",
        gate="headwise",
    )
    other = fields.sub("attention_other_setting")
    num_heads = fields.optional("num_sliding_attention_heads", minimum=1)
    if num_heads is None and other is not None:
        num_heads = other.optional("num_attention_heads", minimum=1)
    if num_heads is None:
        fields.defaulted[f"{fields.path}num_sliding_attention_heads"] = full.num_heads
    window = fields.optional("sliding_window", minimum=1)
    return full, full._replace(num_heads=num_heads or full.num_heads, window_tokens=window)


def _sliding_layers(fields: Fields, num_layers: int, num_modules: int) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Which layers, and which MTP modules, see a window; published lists hold the MTP modules at their end."""
    kinds = fields.strings("layer_types")
    if kinds is None:
        return (False,) * num_layers, (False,) * num_modules
    if len(kinds) not in (num_layers, num_layers + num_modules):
        raise fields.wrong("layer_types", f"has {len(kinds)} entries for {num_layers} layers")
    of_modules = (
        kinds[num_layers:] or fields.strings("mtp_layer_types", num_modules) or ("full_attention",) * num_modules
    )
    if unknown := sorted(set(kinds + of_modules) - set(_ATTENTION)):
        raise fields.wrong("layer_types", f"holds {unknown[0]!r}; known are {' and '.join(_ATTENTION)}")
    return tuple(_ATTENTION[kind] for kind in kinds[:num_layers]), tuple(_ATTENTION[kind] for kind in of_modules)


def _sparse_layers(fields: Fields, num_layers: int, num_modules: int) -> tuple[bool, ...]:
    """By `moe_layers_enum` (numbers of sparse layers, one string or a list), `mlp_layer_types`, or all from the third on."""
    numbers = fields.raw("moe_layers_enum")
    if numbers is not None and not fields.has("mlp_layer_types"):
        items = numbers.split(",") if isinstance(numbers, str) else numbers
        if not isinstance(items, list) or not all(str(item).strip().isdecimal() for item in items):
            raise fields.wrong("moe_layers_enum", "is no list of layer numbers")
        chosen = {int(str(item)) for item in items}
        return tuple(number in chosen for number in range(num_layers))
    kinds = fields.strings("mlp_layer_types")
    if kinds is not None and num_modules and len(kinds) == num_layers + num_modules:
        if unknown := sorted(set(kinds) - {"dense", "sparse"}):
            raise fields.wrong("mlp_layer_types", f"holds {unknown[0]!r}; known are dense and sparse")
        return tuple(kind == "sparse" for kind in kinds[:num_layers])
    return dense_first(fields, num_layers, default=3)


def _mtp(blocks: tuple[Layer, ...], hidden: int, vocab: int, num_layers: int) -> Mtp | None:
    """Dense layers behind the last one, with a projection, three norms and a second copy of the head each.
    Source: vLLM 0.33.0 step3p5_mtp.py; sizes as transformers 5.23.0 MtpModel builds them."""
    if not blocks:
        return None
    extras: tuple[Weight, ...] = ()
    duplicates: tuple[Weight, ...] = ()
    for number in range(num_layers, num_layers + len(blocks)):
        stem = f"model.layers.{number}."
        extras += norms(hidden, f"{stem}enorm", f"{stem}hnorm", f"{stem}transformer.shared_head.norm")
        extras += linear(f"{stem}eh_proj", "other", hidden, 2 * hidden)
        head = f"{stem}transformer.shared_head.output.weight"
        duplicates += (Weight(head, "lm_head", (vocab, hidden), "vocabulary", vocab),)
    return Mtp(blocks, extras, duplicates, first_layer=num_layers)


def _tower(vision: Fields, hidden: int, *, projector_bias: bool) -> Tower:
    """Perception encoder with two downsampling convolutions and a projector (transformers 5.23.0 Step3p7VisionModel)."""
    width = vision.integer("hidden_size", "width")
    num_layers = vision.num_layers("num_hidden_layers", "layers")
    patch, channels = vision.integer("patch_size"), vision.integer("num_channels", default=3)
    positions = (vision.integer("image_size") // max(1, patch)) ** 2
    ratio = vision.raw("mlp_ratio")
    inner = int(width * ratio) if isinstance(ratio, int | float) else vision.integer("mlp_ratio")
    stem = "vision_model."
    block = "transformer.resblocks.{layer}."
    weights: tuple[Weight, ...] = (
        Weight("conv1.weight", "towers", (width, channels, patch, patch)),
        Weight("positional_embedding", "towers", (positions, width)),
        *layer_norms(width, "ln_pre"),
    )
    per_layer: tuple[Weight, ...] = (
        vector("ls_1.gamma", "towers", width),
        vector("ls_2.gamma", "towers", width),
        Weight("attn.in_proj_weight", "towers", (3 * width, width), linear=True),
        vector("attn.in_proj_bias", "towers", 3 * width),
        *linear("attn.out_proj", "towers", width, width, bias=True),
        *linear("mlp.c_fc", "towers", inner, width, bias=True),
        *linear("mlp.c_proj", "towers", width, inner, bias=True),
        *layer_norms(width, "ln_1", "ln_2"),
    )
    weights += tuple(weight._replace(name=f"{block}{weight.name}", count=num_layers) for weight in per_layer)
    for number in (1, 2):
        weights += (
            Weight(f"vit_downsampler{number}.weight", "towers", (2**number * width, 2 ** (number - 1) * width, 3, 3)),
            vector(f"vit_downsampler{number}.bias", "towers", 2**number * width),
        )
    weights = tuple(weight._replace(name=f"{stem}{weight.name}", role="towers") for weight in weights)
    projector = linear("vit_large_projector", "towers", hidden, 4 * width, bias=projector_bias)
    return Tower("vision", weights + projector)
