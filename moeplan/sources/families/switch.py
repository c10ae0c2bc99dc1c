"""Switch Transformers: a T5 encoder-decoder with one expert per token in some layers."""

from __future__ import annotations

from moeplan.core.model import CrossAttention, DenseFfn, Ffn, GroupedAttention, Layer, ModelSpec, MoeFfn, Weight
from moeplan.core.weights import norms
from moeplan.sources.families.blocks import finish
from moeplan.sources.families.fields import Fields

_NAMES = (
    (".q_proj", ".q"),
    (".k_proj", ".k"),
    (".v_proj", ".v"),
    (".o_proj", ".o"),
    (".up_proj", ".wi"),
    (".down_proj", ".wo"),
    (".experts.{expert}.", ".experts.expert_{expert}."),
)


def switch_transformers(fields: Fields) -> ModelSpec:
    """google/switch-base-8 to -256 and switch-large: one token goes through the whole encoder and decoder."""
    hidden = fields.integer("d_model", "hidden_size")
    num_encoder_layers = fields.num_layers("num_layers")
    num_decoder_layers = fields.num_layers("num_decoder_layers", default=num_encoder_layers)
    attention, cross = _attention(fields), _cross(fields)
    bias = Weight(
        "relative_attention_bias.weight",
        "attention",
        (fields.integer("relative_attention_num_buckets", default=32), attention.num_heads),
        "column",
        attention.num_heads,
    )
    first_attention = attention._replace(extras=(bias,))  # later layers reuse the first one's relative positions
    encoder = tuple(
        Layer(
            (attention if number else first_attention,),
            (_ffn(fields, 1, is_sparse=is_sparse),),
            norms(hidden, "layer.0.layer_norm", "layer.1.layer_norm"),
        )
        for number, is_sparse in enumerate(_sparse_layers(fields, "encoder", num_encoder_layers))
    )
    decoder = tuple(
        Layer(
            (attention if number else first_attention, cross),
            (_ffn(fields, 2, is_sparse=is_sparse),),
            norms(hidden, "layer.0.layer_norm", "layer.1.layer_norm", "layer.2.layer_norm"),
        )
        for number, is_sparse in enumerate(_sparse_layers(fields, "decoder", num_decoder_layers))
    )
    return finish(
        fields,
        family="switch_transformers",
        defaults="transformers 5.23.0 SwitchTransformersConfig",
        layers=decoder,
        encoder_layers=encoder,
        hidden_size=hidden,
        tied_default=True,
        extras=norms(hidden, "encoder.final_layer_norm", "decoder.final_layer_norm"),
        prefix="",
        embedding_name="shared.weight",
        renames=_NAMES,
    )


def _attention(fields: Fields) -> GroupedAttention:
    num_heads, head_dim = fields.integer("num_heads", "num_attention_heads"), fields.integer("d_kv")
    return GroupedAttention(num_heads, num_heads, head_dim, head_dim, name="layer.0.SelfAttention")


def _cross(fields: Fields) -> CrossAttention:
    num_heads, head_dim = fields.integer("num_heads", "num_attention_heads"), fields.integer("d_kv")
    return CrossAttention(num_heads, head_dim, name="layer.1.EncDecAttention")


def _ffn(fields: Fields, sublayer: int, *, is_sparse: bool) -> Ffn:
    name = f"layer.{sublayer}.mlp"
    width = fields.integer("d_ff")
    if not is_sparse:
        return DenseFfn(width, gated=False, name=name)
    return MoeFfn(
        num_experts=fields.integer("num_experts"),
        experts_per_token=1,
        expert_width=width,
        gated=False,
        router_bias=fields.flag("router_bias", False),
        name=name,
        router_name="router.classifier",
    )


def _sparse_layers(fields: Fields, side: str, num_layers: int) -> tuple[bool, ...]:
    """Every step-th layer from the second on (transformers 5.23.0 SwitchTransformersStack); with a step of all
    layers, or one, what its formula gives."""
    num_sparse = fields.integer(f"num_sparse_{side}_layers", minimum=0)
    step = num_layers // num_sparse if num_sparse else num_layers
    return tuple(step > 0 and (step == 1 or number % step == 1) for number in range(num_layers))
