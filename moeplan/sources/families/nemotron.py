"""Nemotron-H: Nemotron Nano 2, Nemotron 3 Nano, Super and Ultra. One block per layer: Mamba-2, attention, MLP or MoE."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Layer, Mamba2, ModelSpec, MoeFfn, Mtp, Remark, Weight
from moeplan.core.weights import linear, norms, vector
from moeplan.sources.families.blocks import finish, grouped_attention
from moeplan.sources.families.fields import Fields

_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
_KINDS = {
    "mamba": "mamba",
    "linear_attention": "mamba",
    "attention": "attention",
    "full_attention": "attention",
    "mlp": "mlp",
    "moe": "moe",
}


def nemotron_h(fields: Fields) -> ModelSpec:
    """nvidia/NVIDIA-Nemotron-Nano-12B-v2 and nvidia/NVIDIA-Nemotron-3: each layer is exactly one of four blocks."""
    kinds = _block_kinds(fields, "layers_block_type", "layer_types", "hybrid_override_pattern")
    if kinds is None:
        fields.need("hybrid_override_pattern or layers_block_type")
        fields.finish()
    assert kinds is not None
    num_modules = fields.optional("num_nextn_predict_layers") or 0
    mtp_kinds = _block_kinds(fields, "mtp_layers_block_type", "mtp_layers_block_type", "mtp_hybrid_override_pattern")
    hidden = fields.integer("hidden_size")
    every_kind = kinds + (mtp_kinds or ()) if num_modules else kinds
    blocks = {kind: _block(fields, kind, hidden) for kind in dict.fromkeys(every_kind)}
    mtp: Mtp | None = None
    remarks: tuple[Remark, ...] = ()
    if num_modules and mtp_kinds:
        mtp = _mtp(tuple(blocks[kind] for kind in mtp_kinds), hidden, num_modules)
    elif num_modules:
        remarks = (Remark("mtp-left-out", "warning", "the config does not state which blocks the MTP modules have"),)
    return finish(
        fields,
        family="nemotron_h",
        defaults="transformers 5.23.0 NemotronHConfig",
        layers=tuple(blocks[kind] for kind in kinds),
        tied_default=False,
        extras=norms(hidden, "backbone.norm_f"),
        mtp=mtp,
        remarks=remarks,
        prefix="backbone.",
        embedding_name="embeddings.weight",
    )


def _block_kinds(fields: Fields, list_name: str, alias: str, pattern_name: str) -> tuple[str, ...] | None:
    """What each layer is, from a list of names or a string of letters; None where the config has neither."""
    for name in (list_name, alias):
        listed = fields.strings(name)
        if listed is not None:
            if unknown := sorted(set(listed) - set(_KINDS)):
                raise fields.wrong(name, f"holds {unknown[0]!r}; known are {', '.join(_KINDS)}")
            return tuple(_KINDS[kind] for kind in listed)
    pattern = fields.text(pattern_name)
    if pattern is None:
        return None
    if unknown := sorted(set(pattern) - set(_LETTERS)):
        raise fields.wrong(pattern_name, f"holds {unknown[0]!r}; known are {' '.join(_LETTERS)}")
    return tuple(_LETTERS[letter] for letter in pattern)


def _block(fields: Fields, kind: str, hidden: int) -> Layer:
    extras = norms(hidden, "norm")
    if kind == "mamba":
        return Layer((_mamba(fields),), (), extras)
    if kind == "attention":
        return Layer((grouped_attention(fields, name="mixer"),), (), extras)
    if kind == "mlp":
        width, biased = fields.integer("intermediate_size"), fields.flag("mlp_bias", False)
        return Layer((), (DenseFfn(width, gated=False, bias=biased, name="mixer"),), extras)
    return Layer((), (_experts(fields, hidden),), extras)


def _mamba(fields: Fields) -> Mamba2:
    biased = fields.flag("use_bias", False)
    return Mamba2(
        num_heads=fields.integer("mamba_num_heads"),
        head_dim=fields.integer("mamba_head_dim"),
        state_size=fields.integer("ssm_state_size", "mamba_state_dim"),
        num_groups=fields.integer("n_groups", "mamba_n_groups", "mamba_num_groups"),
        conv_kernel=fields.integer("conv_kernel", "mamba_d_conv", default=4),
        conv_bias=fields.flag("mamba_conv_bias" if fields.has("mamba_conv_bias") else "use_conv_bias", True),
        projection_bias=biased,
        state_dtype=fields.text("mamba_ssm_cache_dtype"),
        name="mixer",
    )


def _experts(fields: Fields, hidden: int) -> MoeFfn:
    """Experts of two matrices, in Super and Ultra behind a projection into a latent.

    `moe_shared_expert_intermediate_size` is the width of all shared experts together, whatever their number.
    """
    shared_width = fields.integer("moe_shared_expert_intermediate_size", minimum=0)
    latent = fields.optional("moe_latent_size", minimum=1)
    experts = MoeFfn(
        num_experts=fields.integer("n_routed_experts", "num_local_experts", "num_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=fields.integer("moe_intermediate_size"),
        gated=False,
        num_shared_experts=fields.integer("n_shared_experts", default=1, minimum=0),
        shared_width=shared_width,
        latent_size=latent,
        correction_bias=True,
        name="mixer",
    )
    if not fields.flag("mlp_bias", False):
        return experts
    biases: tuple[Weight, ...] = (
        vector("shared_experts.up_proj.bias", "shared_experts", shared_width, "column", max(1, shared_width)),
        vector("shared_experts.down_proj.bias", "shared_experts", hidden),
    )
    if latent is not None:
        biases += (
            vector("fc1_latent_proj.bias", "moe_latent", latent),
            vector("fc2_latent_proj.bias", "moe_latent", hidden),
        )
    return experts._replace(extras=biases)


def _mtp(blocks: tuple[Layer, ...], hidden: int, num_modules: int) -> Mtp:
    """MTP modules of the given blocks: projection and norms sit in the first block, the last norm in the last one.
    Source of the tensor names: vLLM 0.33.0 nemotron_h_mtp.py. Embedding and head are the main model's."""
    first = blocks[0]._replace(
        extras=blocks[0].extras + norms(hidden, "enorm", "hnorm") + linear("eh_proj", "other", hidden, 2 * hidden)
    )
    blocks = (first, *blocks[1:])
    last = blocks[-1]._replace(extras=blocks[-1].extras + norms(hidden, "final_layernorm"))
    return Mtp((*blocks[:-1], last) * num_modules)
