"""LongCat-Flash: two latent attentions and two dense feed-forwards per layer, beside experts of which some are empty."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Layer, ModelSpec, MoeFfn, Mtp, Remark, Weight
from moeplan.core.weights import linear, norms
from moeplan.sources.families.blocks import finish, latent_attention
from moeplan.sources.families.fields import Fields


def longcat_flash(fields: Fields) -> ModelSpec:
    """meituan-longcat/LongCat-Flash: a router over real and zero-computation experts, so active parameters vary."""
    hidden = fields.integer("hidden_size")
    # `num_hidden_layers` counts attentions, two per layer, in what transformers writes.
    num_layers = fields.num_layers("num_layers") if fields.has("num_layers") else _half(fields)
    biased = fields.flag("attention_bias", False)
    attention = latent_attention(fields, qkv_bias=biased, output_bias=biased)
    dense = DenseFfn(fields.integer("ffn_hidden_size", "intermediate_size"))
    experts = MoeFfn(
        num_experts=fields.integer("n_routed_experts", "num_local_experts"),
        experts_per_token=fields.integer("moe_topk", "num_experts_per_tok"),
        expert_width=fields.integer("expert_ffn_hidden_size", "moe_intermediate_size"),
        num_zero_experts=fields.integer("zero_expert_num", minimum=0),
        router_bias=fields.flag("router_bias", False),
        correction_bias=True,
        router_name="router.classifier",
    )
    layer = Layer(
        (attention._replace(name="self_attn.0"), attention._replace(name="self_attn.1")),
        (experts, dense._replace(name="mlps.0"), dense._replace(name="mlps.1")),
        norms(hidden, "input_layernorm.0", "input_layernorm.1")
        + norms(hidden, "post_attention_layernorm.0", "post_attention_layernorm.1"),
    )
    block = Layer((attention,), (dense._replace(name="transformer_layer.mlp"),))
    num_modules = fields.optional("num_nextn_predict_layers", "mtp_num_layers") or 0
    mtp = _mtp(block, hidden, fields.integer("vocab_size"), num_modules)
    remarks: tuple[Remark, ...] = ()
    if mtp is not None:
        message = "sizes of the MTP modules follow the published tensor names; no independent build confirms them"
        remarks = (Remark("mtp-not-verified", "info", message),)
    return finish(
        fields,
        family="longcat_flash",
        defaults="transformers 5.23.0 LongcatFlashConfig",
        layers=(layer,) * num_layers,
        tied_default=False,
        mtp=mtp,
        remarks=remarks,
        renames=(
            (".router.classifier.e_score_correction_bias", ".router.e_score_correction_bias"),
            ("mtp.layers.", "model.mtp.layers."),
        ),
    )


def _half(fields: Fields) -> int:
    num_attentions = fields.num_layers("num_hidden_layers")
    fields.finish()
    if num_attentions % 2:
        raise fields.wrong("num_hidden_layers", f"is {num_attentions}; it counts two per layer")
    return num_attentions // 2


def _mtp(block: Layer, hidden: int, vocab: int, num_modules: int) -> Mtp | None:
    """Modules with one latent attention and one dense feed-forward. Source: vLLM 0.33.0 longcat_flash_mtp.py."""
    if not num_modules:
        return None
    extras = norms(hidden, "input_layernorm", "post_attention_layernorm", "enorm.m", "hnorm.m")
    layer = block._replace(extras=extras + linear("eh_proj", "other", hidden, 2 * hidden))
    table = Weight("model.mtp.embed_tokens.weight", "embedding", (vocab, hidden), "vocabulary", vocab)
    return Mtp((layer,) * num_modules, norms(hidden, "model.mtp.norm"), (table,))
