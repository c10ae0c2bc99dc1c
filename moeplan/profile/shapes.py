"""Shapes of experts that a profile measures: those of a model, or the built-in ones."""

from __future__ import annotations

from moeplan.core.errors import InputError
from moeplan.core.measurement import MoeShape
from moeplan.core.model import ModelSpec, MoeFfn

ROUTERS = {
    "deepseek_v2": "group_limited_greedy",
    "deepseek_v4": "sqrtsoftplus_bias",
    "ernie4_5_moe": "softmax_bias",
    "gpt_oss": "topk_softmax",
    "llama4": "topk_sigmoid",
    "llama4_text": "topk_sigmoid",
    "longcat_flash": "softmax_zero_experts",
    "minimax_m2": "sigmoid_bias",
    "phimoe": "sparsemixer",
}
"""Routing functions by `model_type`, where the weights do not tell (facts on routing, section 1)."""


def shapes_of(spec: ModelSpec, name: str) -> tuple[MoeShape, ...]:
    """The different MoE layers of a model, whole, the most frequent first. InputError for a model without any."""
    found: dict[MoeFfn, int] = {}
    for layer in spec.layers:
        for ffn in layer.ffns:
            if isinstance(ffn, MoeFfn):
                plain = ffn._replace(extras=(), name="", router_name="", shared_name="")
                found[plain] = found.get(plain, 0) + 1
    if not found:
        raise InputError(
            f"{name} has no experts to measure", hint="name a Mixture-of-Experts model, or leave --model out"
        )
    frequent = sorted(found, key=lambda ffn: -found[ffn])
    return tuple(
        MoeShape(
            name=name if len(frequent) == 1 else f"{name} ({number})",
            hidden_size=spec.hidden_size,
            expert_width=ffn.expert_width,
            num_experts=ffn.num_experts,
            experts_per_token=ffn.experts_per_token,
            router=router_of(spec.model_type, ffn),
            shared_width=ffn.shared_width,
            latent_size=ffn.latent_size,
            gated=ffn.gated,
        )
        for number, ffn in enumerate(frequent, 1)
    )


def router_of(model_type: str, ffn: MoeFfn) -> str:
    """By the model's type; else sigmoid where a correction bias steers the choice, and softmax where none does."""
    return ROUTERS.get(model_type) or ("sigmoid_bias_groups" if ffn.correction_bias else "softmax_topk")
