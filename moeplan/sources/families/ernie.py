"""ERNIE 4.5 MoE: sparse layers in a range, shared experts, correction biases that count as parameters."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Layer, ModelSpec, MoeFfn, Mtp, Remark, Tower, Weight
from moeplan.core.weights import gated_mlp, norms, vector
from moeplan.sources.families.blocks import decoder_norms, dense_first, finish, grouped_attention
from moeplan.sources.families.ernie_tower import ernie_tower
from moeplan.sources.families.fields import Fields


def ernie4_5_moe(fields: Fields) -> ModelSpec:
    """baidu/ERNIE-4.5-21B-A3B-PT and -300B-A47B-PT: `use_bias` is for all but the routed experts."""
    hidden, vocab = fields.integer("hidden_size"), fields.integer("vocab_size")
    bias = fields.flag("use_bias", False)
    num_layers = fields.num_layers("num_hidden_layers")
    attention = grouped_attention(fields, qkv_bias=bias, output_bias=bias)
    dense = DenseFfn(fields.integer("intermediate_size"), bias=bias)
    experts = _experts(fields, hidden, fields.integer("moe_intermediate_size"), bias=bias)
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


def ernie4_5_vl_moe(fields: Fields) -> ModelSpec:
    """baidu/ERNIE-4.5-VL-28B-A3B-PT: text and image tokens have experts of their own; those of images are a tower."""
    text = fields.sub("text_config") or fields
    hidden = text.integer("hidden_size")
    num_layers = text.num_layers("num_hidden_layers")
    bias = text.flag("use_bias", False)
    attention = grouped_attention(text, qkv_bias=bias, output_bias=bias)
    dense = DenseFfn(text.integer("intermediate_size"), bias=bias)
    text_width, image_width = text.integers("moe_intermediate_size", 2) or (1, 1)
    if not text.has("moe_intermediate_size"):
        text.need("moe_intermediate_size")
    experts = _experts(text, hidden, text_width, bias=bias)
    sparse = dense_first(text, num_layers, default=1)
    layers = tuple(
        Layer((attention,), (experts if is_sparse else dense,), decoder_norms(hidden)) for is_sparse in sparse
    )
    vision = fields.sub("vision_config")
    towers = [Tower("vision_experts", _image_experts(experts, hidden, image_width, sum(sparse)))]
    remarks: tuple[Remark, ...] = ()
    if vision is None:
        message = "the config has no vision_config: the published model's vision tower is left out of all counts"
        remarks = (Remark("tower-left-out", "warning", message, where="vision_config"),)
    else:
        towers.append(ernie_tower(vision, hidden))
    return finish(
        text,
        outer=fields,
        family="ernie4_5_vl_moe",
        defaults="transformers 5.23.0 Ernie4_5_VLMoeConfig",
        layers=layers,
        tied=_outer_tied(text, fields),
        towers=tuple(towers),
        remarks=remarks,
    )


def _outer_tied(text: Fields, outer: Fields) -> bool:
    """The wrapper decides for the whole model; where it is silent, the text config does."""
    holder = outer if outer.has("tie_word_embeddings") or not text.has("tie_word_embeddings") else text
    return holder.flag("tie_word_embeddings", True)


def _image_experts(experts: MoeFfn, hidden: int, width: int, num_sparse: int) -> tuple[Weight, ...]:
    """Experts that only image tokens visit: as many as for text, behind those in the numbering."""
    stem = "model.layers.{layer}.mlp."
    weights = gated_mlp(f"{stem}experts.{{expert}}", "towers", hidden, width, count=experts.num_experts * num_sparse)
    gate = Weight(f"{stem}gate.weight_1", "towers", (experts.num_experts, hidden), count=num_sparse)
    name = f"{stem}moe_statics.e_score_correction_bias"
    return (*weights, gate, Weight(name, "towers", (1, experts.num_experts), count=num_sparse))


def _experts(fields: Fields, hidden: int, width: int, *, bias: bool) -> MoeFfn:
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
