"""ERNIE 4.5 MoE: sparse layers in a range, shared experts, correction biases that count as parameters."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Layer, ModelSpec, MoeFfn, Mtp, Remark, Weight
from moeplan.core.weights import norms, vector
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields


def ernie4_5_moe(fields: Fields) -> ModelSpec:
    """baidu/ERNIE-4.5-21B-A3B-PT and -300B-A47B-PT: `use_bias` is for all but the routed experts."""
    hidden, vocab = fields.integer("hidden_size"), fields.integer("vocab_size")
    bias = fields.flag("use_bias", False)
    num_layers = fields.num_layers("num_hidden_layers")
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias)
    dense = DenseFfn(fields.integer("intermediate_size"), bias=bias)
    experts = _experts(fields, hidden, bias=bias)
    layers = tuple(
        Layer((attention,), (experts if is_sparse else dense,), decoder_norms(hidden))
        for is_sparse in _sparse_layers(fields, num_layers)
    )
    extras = norms(hidden, "model.norm")
    if bias:
        extras += (vector("lm_head.bias", "lm_head", vocab, "vocabulary", vocab),)
    num_modules = fields.optional("num_nextn_predict_layers") or 0
    mtp, remarks = _mtp(hidden, Layer((attention,), (dense,), decoder_norms(hidden)), num_modules)
    return finish(
        fields,
        family="ernie4_5_moe",
        defaults="transformers 5.23.0 Ernie4_5_MoeConfig",
        layers=layers,
        tied_default=True,
        extras=extras,
        mtp=mtp,
        remarks=remarks,
        renames=(("mtp.layers.", "model.mtp_block."),),
    )


def _experts(fields: Fields, hidden: int, *, bias: bool) -> MoeFfn:
    width = fields.integer("moe_intermediate_size")
    num_experts = fields.integer("moe_num_experts", "num_experts")
    num_shared = fields.integer("moe_num_shared_experts", default=2, minimum=0)
    shared_width = num_shared * width
    # Stored as a trained tensor of one row and counted by the published total, unlike the buffers of others.
    extras: tuple[Weight, ...] = (Weight("moe_statics.e_score_correction_bias", "router", (1, num_experts)),)
    if bias and shared_width:
        for part in ("gate_proj", "up_proj"):
            extras += (vector(f"shared_experts.{part}.bias", "shared_experts", shared_width, "column", shared_width),)
        extras += (vector("shared_experts.down_proj.bias", "shared_experts", hidden),)
    return MoeFfn(
        num_experts=num_experts,
        experts_per_token=fields.integer("moe_k", "num_experts_per_tok"),
        expert_width=width,
        num_shared_experts=num_shared,
        shared_width=shared_width,
        extras=extras,
    )


def _sparse_layers(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    first = fields.integer("moe_layer_start_index", default=1, minimum=0)
    last = fields.integer("moe_layer_end_index", default=-1, minimum=-1)
    every = fields.integer("moe_layer_interval", default=1)
    if last == -1:
        last = num_layers - 1
    return tuple((number + 1) % every == 0 and first <= number <= last for number in range(num_layers))


def _mtp(hidden: int, layer: Layer, num_modules: int) -> tuple[Mtp | None, tuple[Remark, ...]]:
    """MTP modules as vLLM's ernie_mtp reads them: a dense layer, two norms and a projection, tables shared."""
    if not num_modules:
        return None, ()
    extras: tuple[Weight, ...] = ()
    for number in range(num_modules):
        extras += norms(hidden, f"model.mtp_emb_norm.{number}", f"model.mtp_hidden_norm.{number}")
        projection = Weight(f"model.mtp_linear_proj.{number}.weight", "other", (hidden, 2 * hidden), linear=True)
        extras += (projection,)
    message = "MTP modules are sized as vLLM's ernie_mtp reads them; no independent build confirms their shapes"
    remark = Remark("mtp-not-confirmed", "info", message, where="num_nextn_predict_layers")
    return Mtp((layer,) * num_modules, extras), (remark,)
