"""Llama 4: chunked attention with full layers in between, one shared expert, MoE in every or every other layer."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Ffn, GroupedAttention, Layer, ModelSpec, MoeFfn, Remark, Tower
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.llama4_tower import llama4_tower

# The checkpoint keeps all experts in one tensor, gate beside up: parts of it share its name.
STACKED = (
    (".experts.{expert}.gate_proj.weight", ".experts.gate_up_proj"),
    (".experts.{expert}.up_proj.weight", ".experts.gate_up_proj"),
    (".experts.{expert}.down_proj.weight", ".experts.down_proj"),
)


def llama4(fields: Fields) -> ModelSpec:
    """meta-llama/Llama-4-Scout and -Maverick, and what llm-compressor makes of them (one tensor per expert)."""
    text = fields.sub("text_config") or fields
    vision = fields.sub("vision_config")
    if vision is None:
        message = "the config has no vision_config: the published model's vision tower is left out of all counts"
        remark = Remark("tower-left-out", "warning", message, where="vision_config")
        return _model(text, outer=fields, prefix="language_model.", remarks=(remark,))
    tower = llama4_tower(vision, text.integer("hidden_size"))
    return _model(text, outer=fields, prefix="language_model.", towers=(tower,))


def llama4_text(fields: Fields) -> ModelSpec:
    """The text model of Llama 4 alone."""
    return _model(fields, outer=None, prefix="")


def _model(
    text: Fields,
    *,
    outer: Fields | None,
    prefix: str,
    towers: tuple[Tower, ...] = (),
    remarks: tuple[Remark, ...] = (),
) -> ModelSpec:
    num_layers = text.num_layers("num_hidden_layers")
    mixers = _attention(text, num_layers)
    sparse_layers = _sparse_layers(text, num_layers)
    experts: Ffn | None = _experts(text) if sparse_layers else None
    dense: Ffn | None = None
    if len(sparse_layers) < num_layers:
        dense = DenseFfn(text.integer("intermediate_size_mlp"), name="feed_forward")
    norms = decoder_norms(text.integer("hidden_size"))
    ffns = tuple(experts if number in sparse_layers else dense for number in range(num_layers))
    layers = tuple(Layer((mixer,), (ffn,), norms) for mixer, ffn in zip(mixers, ffns, strict=True) if ffn)
    return finish(
        text,
        outer=outer,
        family="llama4",
        defaults="transformers 5.23.0 Llama4TextConfig",
        layers=layers,
        tied_default=False,
        towers=towers,
        remarks=remarks,
        prefix=f"{prefix}model.",
        lm_head_name=f"{prefix}lm_head.weight",
        renames=() if text.raw("for_llm_compressor") is True else STACKED,
        card_convention="active",
    )


def _attention(text: Fields, num_layers: int) -> tuple[GroupedAttention, ...]:
    head_dim = text.integer("head_dim")
    bias = text.flag("attention_bias", False)
    # Its query and key norm has no weights.
    full = grouped_attention(text, key_head_dim=head_dim, value_head_dim=head_dim, qkv_bias=bias, output_bias=bias)
    chunk = text.optional("attention_chunk_size", minimum=1)
    if chunk is None and "attention_chunk_size" not in text.values:
        chunk = text.integer("attention_chunk_size", default=8192)
    if chunk is None:
        return (full,) * num_layers
    chunked = full._replace(window_tokens=chunk, chunked=True)
    return tuple(chunked if is_chunked else full for is_chunked in _chunked_layers(text, num_layers))


def _chunked_layers(text: Fields, num_layers: int) -> tuple[bool, ...]:
    """By `layer_types`, else layers with rotary positions are chunked: `no_rope_layers` holds 1 for those (sic)."""
    kinds = text.strings("layer_types", num_layers)
    if kinds is not None:
        unknown = sorted(set(kinds) - {"chunked_attention", "full_attention"})
        if unknown:
            raise text.wrong("layer_types", f"holds {unknown[0]!r}; known are chunked_attention and full_attention")
        return tuple(kind == "chunked_attention" for kind in kinds)
    rotary = text.integers("no_rope_layers")
    if rotary:
        if len(rotary) < num_layers:
            raise text.wrong("no_rope_layers", f"has {len(rotary)} entries for {num_layers} layers")
        return tuple(number == 1 for number in rotary[:num_layers])
    interval = text.integer("no_rope_layer_interval", default=4)
    return tuple((number + 1) % interval != 0 for number in range(num_layers))


def _sparse_layers(text: Fields, num_layers: int) -> frozenset[int]:
    listed = text.integers("moe_layers")
    if listed is not None:
        return frozenset(listed) & frozenset(range(num_layers))
    step = text.integer("interleave_moe_layer_step", default=1, minimum=0)
    return frozenset(range(step - 1, num_layers, step) if step else ())


def _experts(text: Fields) -> MoeFfn:
    width = text.integer("intermediate_size")
    return MoeFfn(
        num_experts=text.integer("num_local_experts", "num_experts"),
        experts_per_token=text.integer("num_experts_per_tok"),
        expert_width=width,
        # The shared expert has no field of its own: one, as wide as a routed one.
        num_shared_experts=1,
        shared_width=width,
        name="feed_forward",
        router_name="router",
        shared_name="shared_expert",
    )
