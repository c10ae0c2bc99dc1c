"""OpenMoE: every few layers sparse, each of these with a dense feed-forward behind the experts."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Layer, ModelSpec, MoeFfn, Remark, Role, Weight
from moeplan.core.weights import linear, norms
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields


def openmoe(fields: Fields) -> ModelSpec:
    """OrionZheng/openmoe-8b and -34b: with `swiglu` the gate projection is twice as wide as the others."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    width, num_experts = fields.integer("intermediate_size"), fields.integer("num_experts")
    every = fields.integer("moe_layer_interval")
    gated = fields.flag("mlp_gated", True)
    doubled = gated and fields.text("hidden_act") == "swiglu"

    def wider_gate(name: str, role: Role, count: int) -> tuple[Weight, ...]:
        # The activation halves what the gate gives, so the stored matrix has a second half.
        return linear(f"{name}gate_proj", role, width, hidden, "column", width, count=count) if doubled else ()

    experts = MoeFfn(
        num_experts=num_experts,
        experts_per_token=fields.integer("router_topk", "topk", "num_experts_per_tok"),
        expert_width=width,
        gated=gated,
        extras=wider_gate("experts.{expert}.", "routed_experts", num_experts),
    )
    dense = DenseFfn(width, extras=wider_gate("", "dense_mlp", 1))
    plain = Layer((grouped_attention(fields),), (dense,), decoder_norms(hidden))
    sparse = plain._replace(
        ffns=(experts, dense._replace(name="extra_mlp")), extras=plain.extras + norms(hidden, "pre_extra_mlp_layernorm")
    )
    message = "shapes follow ColossalAI's published modeling_openmoe code; no independent build confirms them"
    return finish(
        fields,
        family="openmoe",
        defaults="the published OpenMoE config",
        layers=tuple(plain if (number + 1) % every else sparse for number in range(num_layers)),
        tied_default=False,
        remarks=(Remark("not-verified", "warning", message),),
        renames=(
            (".mlp.gate.weight", ".mlp.gate_weight"),
            (".mlp.experts.{expert}.gate_proj.weight", ".mlp.experts.wi_gate"),  # stacked in the checkpoint
            (".mlp.experts.{expert}.up_proj.weight", ".mlp.experts.wi_up"),
            (".mlp.experts.{expert}.down_proj.weight", ".mlp.experts.wo"),
        ),
        verified=False,
    )
