"""Jamba: Mamba layers with an attention layer in between, experts in every other layer."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Layer, Mamba1, ModelSpec, MoeFfn
from moeplan.core.weights import norms
from moeplan.sources.families.blocks import finish, grouped_attention
from moeplan.sources.families.fields import Fields


def jamba(fields: Fields) -> ModelSpec:
    """ai21labs/Jamba-v0.1 and Jamba 1.5, 1.6, 1.7; with `num_experts` 1 every layer is dense."""
    hidden = fields.integer("hidden_size")
    width = fields.integer("intermediate_size")
    attention_layers = _every(fields, "attn_layer", period=8, offset=4)
    num_experts = fields.integer("num_experts", "num_local_experts")
    experts = MoeFfn(
        num_experts=num_experts,
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=width,
        name="feed_forward",
        router_name="router",
    )
    dense = DenseFfn(width, name="feed_forward")
    attention, mamba = grouped_attention(fields), _mamba(fields, hidden)
    period, offset = _every(fields, "expert_layer", period=2, offset=1)
    layers = []
    for number in range(fields.num_layers("num_hidden_layers")):
        mixer = attention if number % attention_layers[0] == attention_layers[1] else mamba
        ffn = experts if num_experts > 1 and number % period == offset else dense
        layers.append(Layer((mixer,), (ffn,), norms(hidden, "input_layernorm", "pre_ff_layernorm")))
    return finish(
        fields,
        family="jamba",
        defaults="transformers 5.23.0 JambaConfig",
        layers=tuple(layers),
        tied_default=False,
        extras=norms(hidden, "model.final_layernorm"),
    )


def _every(fields: Fields, stem: str, *, period: int, offset: int) -> tuple[int, int]:
    every = fields.integer(f"{stem}_period", default=period)
    first = fields.integer(f"{stem}_offset", default=offset, minimum=0)
    if first >= every:
        raise fields.wrong(f"{stem}_offset", f"is {first}, not below `{stem}_period` ({every})")
    return every, first


def _mamba(fields: Fields, hidden: int) -> Mamba1:
    rank = fields.raw("mamba_dt_rank")
    if rank is None:
        fields.defaulted["mamba_dt_rank"] = "auto"
    return Mamba1(
        inner_size=fields.integer("mamba_expand", default=2) * hidden,
        state_size=fields.integer("mamba_d_state", default=16),
        conv_kernel=fields.integer("mamba_d_conv", default=4),
        time_step_rank=-(-hidden // 16) if rank in (None, "auto") else fields.integer("mamba_dt_rank"),
        conv_bias=fields.flag("mamba_conv_bias", True),
        projection_bias=fields.flag("mamba_proj_bias", False),
    )
