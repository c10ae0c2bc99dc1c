"""Gemma 1 to 4, dense and MoE, with the vision and audio towers of Gemma 3 and 4."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Ffn, GroupedAttention, Layer, ModelSpec, MoeFfn, Remark, Tower, Weight
from moeplan.core.weights import linear, norms
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.gemma_towers import gemma4_audio, gemma4_vision, siglip
from moeplan.sources.families.layer_types import FULL, SLIDING, every, layer_types, need_kv_heads, window, windowed
from moeplan.sources.families.nested import inner, left_out, tied


def _sandwich_norms(hidden: int) -> tuple[Weight, ...]:
    """Norms before and after attention and feed-forward (Gemma 2 and later)."""
    return (*decoder_norms(hidden), *norms(hidden, "pre_feedforward_layernorm", "post_feedforward_layernorm"))


def _attention(fields: Fields, qk_norm: str) -> GroupedAttention:
    bias = fields.flag("attention_bias", False)
    width = fields.integer("head_dim", default=256)
    return grouped_attention(
        fields, key_head_dim=width, value_head_dim=width, qkv_bias=bias, output_bias=bias, qk_norm=qk_norm
    )


# Gemma 1 to 3 ----------------------------------------------------------------------------------------------


def gemma(fields: Fields) -> ModelSpec:
    """google/gemma-2b, 7b: heads of 256, tied table."""
    need_kv_heads(fields)
    hidden = fields.integer("hidden_size")
    ffn = DenseFfn(fields.integer("intermediate_size"))
    layer = Layer((_attention(fields, "none"),), (ffn,), decoder_norms(hidden))
    return finish(
        fields,
        family="gemma",
        defaults="transformers 5.23.0 GemmaConfig",
        layers=(layer,) * fields.num_layers("num_hidden_layers"),
        tied_default=True,
    )


def gemma2(fields: Fields) -> ModelSpec:
    """google/gemma-2-2b, 9b, 27b: a window in every other layer, from the first on."""
    need_kv_heads(fields)
    num_layers = fields.num_layers("num_hidden_layers")
    kinds = layer_types(fields, num_layers, (FULL, SLIDING), every(2, FULL, SLIDING))
    attentions = windowed(_attention(fields, "none"), kinds, window(fields, 4096))
    ffn = DenseFfn(fields.integer("intermediate_size"))
    around = _sandwich_norms(fields.integer("hidden_size"))
    return finish(
        fields,
        family="gemma",
        defaults="transformers 5.23.0 Gemma2Config",
        layers=tuple(Layer((attention,), (ffn,), around) for attention in attentions),
        tied_default=True,
    )


def _gemma3(text: Fields, outer: Fields | None) -> ModelSpec:
    num_layers = text.num_layers("num_hidden_layers")
    hidden = text.integer("hidden_size")
    interval = 0 if text.has("layer_types") else text.integer("sliding_window_pattern", default=6)
    kinds = layer_types(text, num_layers, (FULL, SLIDING), every(interval, FULL, SLIDING))
    tokens = window(text, 4096)
    if tokens is not None and text.raw("use_bidirectional_attention"):
        tokens = tokens // 2 + 1
    # Published configs of Gemma 3 with a tower leave these to the class: google/gemma-3-4b-it states no heads.
    heads = text.integer("num_attention_heads", default=8)
    kv_heads = (
        heads if text.values.get("num_key_value_heads", 0) is None else text.integer("num_key_value_heads", default=4)
    )
    bias = text.flag("attention_bias", False)
    head_dim = text.integer("head_dim", default=256)
    attention = GroupedAttention(heads, kv_heads, head_dim, head_dim, qkv_bias=bias, output_bias=bias, qk_norm="head")
    ffn = DenseFfn(text.integer("intermediate_size"))
    return finish(
        text,
        family="gemma",
        defaults="transformers 5.23.0 Gemma3TextConfig",
        layers=tuple(Layer((mixer,), (ffn,), _sandwich_norms(hidden)) for mixer in windowed(attention, kinds, tokens)),
        vocab_size=text.integer("vocab_size", default=262208),
        outer=outer,
        tied=None if outer is None else tied(outer, text, True),
        tied_default=True,
        towers=() if outer is None else siglip(outer.sub("vision_config"), hidden),
        remarks=() if outer is None else left_out(outer, "vision_config", "vision tower"),
        prefix="model." if outer is None else "language_model.model.",
        lm_head_name="lm_head.weight" if outer is None else "language_model.lm_head.weight",
    )


def gemma3(fields: Fields) -> ModelSpec:
    """google/gemma-3-4b, 12b, 27b with their SigLIP tower."""
    return _gemma3(inner(fields), fields)


def gemma3_text(fields: Fields) -> ModelSpec:
    """google/gemma-3-270m, 1b and text models alone: a window in five of six layers, norms over each head."""
    return _gemma3(fields, None)


# Gemma 4 ---------------------------------------------------------------------------------------------------


def _gemma4_attentions(text: Fields, kinds: tuple[str, ...]) -> tuple[GroupedAttention, ...]:
    """Attention of each layer: full layers have their own width and heads, the last `num_kv_shared_layers` read the
    cache of the last layer of their kind before them. Source: transformers 5.23.0 Gemma4TextAttention."""
    need_kv_heads(text)
    sliding = _attention(text, "head")
    tokens = window(text, 512)
    if tokens is not None and text.text("use_bidirectional_attention") == "all":
        tokens = tokens // 2 + 1
    same = text.flag("attention_k_eq_v", False)
    shapes = _full_shapes(text, kinds, sliding, own_heads=same)
    first_shared = len(kinds) - text.integer("num_kv_shared_layers", default=0, minimum=0)
    if first_shared < 1 or set(kinds[first_shared:]) - set(kinds[:first_shared]):
        raise text.wrong("num_kv_shared_layers", "leaves no layer of each kind whose cache the others could read")
    attentions: tuple[GroupedAttention, ...] = ()
    for number, (kind, (head_dim, kv_heads)) in enumerate(zip(kinds, shapes, strict=True)):
        source = None
        if number >= first_shared:
            source = max(earlier for earlier in range(first_shared) if kinds[earlier] == kind)
        attentions += (
            sliding._replace(
                num_kv_heads=kv_heads,
                key_head_dim=head_dim,
                value_head_dim=head_dim,
                window_tokens=tokens if kind == SLIDING else None,
                value_is_key=same and kind == FULL,
                shares_cache_of=source,
            ),
        )
    return attentions


def _full_shapes(
    text: Fields, kinds: tuple[str, ...], sliding: GroupedAttention, *, own_heads: bool
) -> tuple[tuple[int, int], ...]:
    """Head width and key/value heads of each layer: as published, or as transformers 5 writes them layer by layer."""
    usual = (sliding.key_head_dim, sliding.num_kv_heads)
    stated = text.sub("per_layer_config")
    if stated is not None:
        shapes = []
        for number in range(len(kinds)):
            own = stated.sub(str(number))
            shapes.append(
                usual
                if own is None
                else (
                    own.optional("head_dim", minimum=1) or usual[0],
                    own.optional("num_key_value_heads", minimum=1) or usual[1],
                )
            )
        return tuple(shapes)
    head_dim = text.integer("global_head_dim", default=512)
    heads = text.optional("num_global_key_value_heads", minimum=1) if own_heads else None
    return tuple((head_dim, heads or usual[1]) if kind == FULL else usual for kind in kinds)


def _gemma4_moe(text: Fields) -> MoeFfn:
    """Experts beside the dense feed-forward; the router scales its input and each expert's output."""
    num_experts = text.integer("num_experts", "num_local_experts")
    return MoeFfn(
        num_experts=num_experts,
        experts_per_token=text.integer("top_k_experts", "num_experts_per_tok"),
        expert_width=text.integer("moe_intermediate_size", "expert_intermediate_size"),
        name="",
        router_name="router.proj",
        extras=(
            Weight("router.scale", "router", (text.integer("hidden_size"),)),
            Weight("router.per_expert_scale", "router", (num_experts,)),
        ),
    )


def _per_layer_inputs(text: Fields, prefix: str, num_layers: int) -> tuple[tuple[Weight, ...], tuple[Weight, ...]]:
    """Weights of a second embedding that feeds every layer: (those of one layer, those outside layers)."""
    hidden = text.integer("hidden_size")
    width = text.integer("hidden_size_per_layer_input", default=256, minimum=0)
    if not width:
        return (), ()
    rows = text.integer("vocab_size_per_layer_input", default=262144)
    inside = (
        *linear("per_layer_input_gate", "other", width, hidden),
        *linear("per_layer_projection", "other", hidden, width),
        *norms(hidden, "post_per_layer_input_norm"),
    )
    table = Weight(
        f"{prefix}embed_tokens_per_layer.weight",
        "embedding",
        (rows, num_layers * width),
        "vocabulary",
        rows,
        linear=True,
    )
    outside = (
        table,
        *linear(f"{prefix}per_layer_model_projection", "other", num_layers * width, hidden),
        *norms(width, f"{prefix}per_layer_projection_norm"),
    )
    return inside, outside


def _gemma4(text: Fields, outer: Fields | None) -> ModelSpec:
    prefix = "model." if outer is None else "model.language_model."
    hidden = text.integer("hidden_size")
    num_layers = text.num_layers("num_hidden_layers")
    kinds = layer_types(text, num_layers, (FULL, SLIDING), every(6, FULL, SLIDING))
    kinds = (*kinds[:-1], FULL)  # Gemma4TextConfig forces the last layer
    inside, outside = _per_layer_inputs(text, prefix, num_layers)
    around = (
        *_sandwich_norms(hidden),
        Weight("layer_scalar", "other", (1,), buffer=True),
        *inside,
    )
    sparse = text.flag("enable_moe_block", False)
    beside: tuple[Ffn, ...] = (_gemma4_moe(text),) if sparse else ()
    if sparse:
        around += norms(
            hidden, "post_feedforward_layernorm_1", "post_feedforward_layernorm_2", "pre_feedforward_layernorm_2"
        )
    width = text.integer("intermediate_size")
    wide = 2 if text.flag("use_double_wide_mlp", False) else 1
    layers = tuple(
        Layer((mixer,), (DenseFfn(width if mixer.shares_cache_of is None else wide * width), *beside), around)
        for mixer in _gemma4_attentions(text, kinds)
    )
    towers: tuple[Tower, ...] = ()
    remarks: tuple[Remark, ...] = ()
    if outer is not None:
        towers = gemma4_vision(outer.sub("vision_config"), hidden) + gemma4_audio(outer.sub("audio_config"), hidden)
        remarks = left_out(outer, "vision_config", "vision tower")
    if text.optional("num_kv_shared_layers"):
        message = (
            "layers that read another layer's cache are counted without key and value projections, as transformers "
            "5.23.0 builds them; a checkpoint may store such projections, which are never loaded"
        )
        remarks += (Remark("shared-cache-unused-weights", "info", message, f"{text.path}num_kv_shared_layers"),)
    # "Effective" on the cards of E2B and E4B leaves out the table of per-layer inputs alone.
    card = "active" if sparse else "active_without_embedding" if inside else None
    return finish(
        text,
        family="gemma",
        defaults="transformers 5.23.0 Gemma4TextConfig",
        layers=layers,
        outer=outer,
        tied=None if outer is None else tied(outer, text, True),
        tied_default=True,
        extras=(*norms(hidden, f"{prefix}norm"), *outside),
        towers=towers,
        remarks=remarks,
        prefix=prefix,
        card_convention=card,
        renames=(
            (".experts.{expert}.gate_proj.weight", ".experts.gate_up_proj"),
            (".experts.{expert}.up_proj.weight", ".experts.gate_up_proj"),
            (".experts.{expert}.down_proj.weight", ".experts.down_proj"),
        ),
    )


def gemma4(fields: Fields) -> ModelSpec:
    """google/gemma-4-26B-A4B, 31B, E2B, E4B with their towers: experts beside the dense feed-forward, wider heads in
    full layers, values that are keys, shared caches and per-layer inputs, each where the config asks for it."""
    return _gemma4(inner(fields), fields)


def gemma4_text(fields: Fields) -> ModelSpec:
    """The text model of Gemma 4 alone."""
    return _gemma4(fields, None)
