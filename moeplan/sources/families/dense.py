"""Dense decoders that MoE models are compared with: Llama, Mistral, Ministral, Phi-3, OLMo 2 and 3."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, GroupedAttention, Layer, ModelSpec, Weight
from moeplan.core.weights import norms
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.layer_types import FULL, SLIDING, every, layer_types, need_kv_heads, window, windowed


def _stack(
    fields: Fields, attentions: tuple[GroupedAttention, ...], layer_norms: tuple[Weight, ...], *, bias: bool = False
) -> tuple[Layer, ...]:
    ffn = DenseFfn(fields.integer("intermediate_size"), bias=bias)
    return tuple(Layer((attention,), (ffn,), layer_norms) for attention in attentions)


def llama(fields: Fields) -> ModelSpec:
    """meta-llama/Llama-2, 3, 3.1, 3.3 and all that share the type; `attention_bias` covers all four projections."""
    num_layers = fields.num_layers("num_hidden_layers")
    bias = fields.flag("attention_bias", False)
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias)
    return finish(
        fields,
        family="llama",
        defaults="transformers 5.23.0 LlamaConfig",
        layers=_stack(
            fields,
            (attention,) * num_layers,
            decoder_norms(fields.integer("hidden_size")),
            bias=fields.flag("mlp_bias", False),
        ),
        tied_default=False,
    )


def _mistral(
    fields: Fields, family: str, config_class: str, window_tokens: int | None, head_dim: int | None
) -> ModelSpec:
    need_kv_heads(fields)
    attention = grouped_attention(fields, window_tokens=window_tokens)
    if head_dim is not None:
        width = fields.integer("head_dim", default=head_dim)
        attention = attention._replace(key_head_dim=width, value_head_dim=width)
    return finish(
        fields,
        family=family,
        defaults=f"transformers 5.23.0 {config_class}",
        layers=_stack(
            fields,
            (attention,) * fields.num_layers("num_hidden_layers"),
            decoder_norms(fields.integer("hidden_size")),
        ),
        tied_default=False,
    )


def mistral(fields: Fields) -> ModelSpec:
    """mistralai/Mistral-7B, Nemo, Small; every layer has the window that v0.1 states and later ones set to null."""
    return _mistral(fields, "mistral", "MistralConfig", window(fields, 4096), None)


def ministral3(fields: Fields) -> ModelSpec:
    """mistralai/Ministral-3 text models: Mistral without a window, heads of 128."""
    return _mistral(fields, "mistral", "Ministral3Config", window(fields, None), 128)


def ministral(fields: Fields) -> ModelSpec:
    """mistralai/Ministral-8B: Mistral with the window in the layers that `layer_types` names (in all, without it)."""
    need_kv_heads(fields)
    num_layers = fields.num_layers("num_hidden_layers")
    tokens = window(fields, 4096)
    kinds = layer_types(fields, num_layers, (FULL, SLIDING), lambda _: SLIDING)
    return finish(
        fields,
        family="mistral",
        defaults="transformers 5.23.0 MinistralConfig",
        layers=_stack(
            fields,
            windowed(grouped_attention(fields), kinds, tokens),
            decoder_norms(fields.integer("hidden_size")),
        ),
        tied_default=False,
    )


def phi3(fields: Fields) -> ModelSpec:
    """microsoft/Phi-3, Phi-3.5, Phi-4: Llama's shapes; the checkpoint joins q, k, v and gate, up."""
    attention = grouped_attention(fields, window_tokens=window(fields, None))
    return finish(
        fields,
        family="phi3",
        defaults="transformers 5.23.0 Phi3Config",
        layers=_stack(
            fields,
            (attention,) * fields.num_layers("num_hidden_layers"),
            decoder_norms(fields.integer("hidden_size")),
        ),
        tied_default=False,
        renames=(
            (".q_proj", ".qkv_proj"),
            (".k_proj", ".qkv_proj"),
            (".v_proj", ".qkv_proj"),
            (".gate_proj", ".gate_up_proj"),
            (".up_proj", ".gate_up_proj"),
        ),
    )


def _olmo(fields: Fields, config_class: str, attentions: tuple[GroupedAttention, ...]) -> ModelSpec:
    # Norms stand behind attention and feed-forward, not before them.
    after = norms(fields.integer("hidden_size"), "post_attention_layernorm", "post_feedforward_layernorm")
    return finish(
        fields,
        family="olmo",
        defaults=f"transformers 5.23.0 {config_class}",
        layers=_stack(fields, attentions, after),
        tied_default=False,
    )


def _olmo_attention(fields: Fields) -> GroupedAttention:
    bias = fields.flag("attention_bias", False)
    return grouped_attention(fields, qkv_bias=bias, output_bias=bias, qk_norm="full")


def olmo2(fields: Fields) -> ModelSpec:
    """allenai/OLMo-2: norms over all heads of queries and keys."""
    return _olmo(fields, "Olmo2Config", (_olmo_attention(fields),) * fields.num_layers("num_hidden_layers"))


def olmo3(fields: Fields) -> ModelSpec:
    """allenai/Olmo-3: OLMo 2 with a window in three of four layers."""
    num_layers = fields.num_layers("num_hidden_layers")
    kinds = layer_types(fields, num_layers, (FULL, SLIDING), every(4, FULL, SLIDING))
    return _olmo(fields, "Olmo3Config", windowed(_olmo_attention(fields), kinds, window(fields, 4096)))
