"""NLLB-MoE: an encoder-decoder with biases everywhere and two experts per token in every few layers."""

from __future__ import annotations

from moeplan.core.model import CrossAttention, DenseFfn, Ffn, GroupedAttention, Layer, ModelSpec, MoeFfn
from moeplan.core.weights import layer_norms
from moeplan.sources.families.blocks import finish
from moeplan.sources.families.fields import Fields

_NAMES = (
    ("encoder.block.", "model.encoder.layers."),
    ("decoder.block.", "model.decoder.layers."),
    (".o_proj", ".out_proj"),
    (".up_proj", ".fc1"),
    (".down_proj", ".fc2"),
    (".experts.{expert}.", ".experts.expert_{expert}."),
)


def nllb_moe(fields: Fields) -> ModelSpec:
    """facebook/nllb-moe-54b: the router always takes two experts (transformers 5.23.0 NllbMoeTop2Router)."""
    hidden = fields.integer("d_model", "hidden_size")
    heads = {side: fields.integer(f"{side}_attention_heads", "num_attention_heads") for side in ("encoder", "decoder")}
    cross = CrossAttention(heads["decoder"], hidden // max(1, heads["decoder"]), bias=True, name="cross_attention")
    encoder = tuple(
        Layer(
            (_attention(hidden, heads["encoder"]),),
            (_ffn(fields, "encoder", is_sparse=is_sparse),),
            layer_norms(hidden, "self_attn_layer_norm", "ff_layer_norm"),
        )
        for is_sparse in _sparse_layers(fields, "encoder")
    )
    decoder = tuple(
        Layer(
            (_attention(hidden, heads["decoder"]), cross),
            (_ffn(fields, "decoder", is_sparse=is_sparse),),
            layer_norms(hidden, "self_attn_layer_norm", "cross_attention_layer_norm", "ff_layer_norm"),
        )
        for is_sparse in _sparse_layers(fields, "decoder")
    )
    return finish(
        fields,
        family="nllb_moe",
        defaults="transformers 5.23.0 NllbMoeConfig",
        layers=decoder,
        encoder_layers=encoder,
        hidden_size=hidden,
        tied_default=True,
        extras=layer_norms(hidden, "model.encoder.layer_norm", "model.decoder.layer_norm"),
        embedding_name="shared.weight",
        renames=_NAMES,
    )


def _attention(hidden: int, num_heads: int) -> GroupedAttention:
    head_dim = hidden // max(1, num_heads)
    return GroupedAttention(num_heads, num_heads, head_dim, head_dim, qkv_bias=True, output_bias=True)


def _ffn(fields: Fields, side: str, *, is_sparse: bool) -> Ffn:
    width = fields.integer(f"{side}_ffn_dim")
    if not is_sparse:
        return DenseFfn(width, gated=False, bias=True, name="ffn")
    return MoeFfn(
        num_experts=fields.integer("num_experts"),
        experts_per_token=2,
        expert_width=width,
        gated=False,
        expert_bias=True,
        router_bias=fields.flag("router_bias", False),
        name="ffn",
        router_name="router.classifier",
    )


def _sparse_layers(fields: Fields, side: str) -> tuple[bool, ...]:
    num_layers = fields.num_layers(f"{side}_layers")
    step = fields.integer(f"{side}_sparse_step", default=4, minimum=0)
    return tuple(step > 0 and (number + 1) % step == 0 for number in range(num_layers))
