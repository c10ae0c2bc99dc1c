"""MiMo-V2-Flash: sliding layers with twice the key/value heads and sinks, values narrower than keys."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, GroupedAttention, Layer, ModelSpec, MoeFfn, Mtp, Remark
from moeplan.core.weights import linear, norms
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.layer_types import FULL, SLIDING, layer_types


def mimo_v2_flash(fields: Fields) -> ModelSpec:
    """XiaomiMiMo/MiMo-V2-Flash, as published (`hybrid_layer_pattern`, `swa_...`) or as transformers writes it."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    full, sliding = _attention(fields)
    width = fields.integer("moe_intermediate_size")
    num_shared = fields.optional("n_shared_experts") or 0
    experts = MoeFfn(
        num_experts=fields.integer("n_routed_experts", "num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=width,
        num_shared_experts=num_shared,
        shared_width=num_shared * width,
        correction_bias=True,
    )
    is_sliding, is_sparse = _sliding_layers(fields, num_layers), _sparse_layers(fields, num_layers)
    dense = DenseFfn(fields.integer("intermediate_size"))
    layers = tuple(
        Layer((sliding if windowed else full,), (experts if sparse else dense,), decoder_norms(hidden))
        for windowed, sparse in zip(is_sliding, is_sparse, strict=True)
    )
    num_modules = fields.optional("num_nextn_predict_layers")
    remarks: tuple[Remark, ...] = ()
    if num_modules is None:
        message = "the config does not state MTP modules; those of the published checkpoint are left out"
        remarks = (Remark("mtp-left-out", "info", message, "num_nextn_predict_layers"),)
    return finish(
        fields,
        family="mimo_v2_flash",
        defaults="transformers 5.23.0 MiMoV2FlashConfig",
        layers=layers,
        tied_default=False,
        mtp=_mtp(Layer((sliding,), (dense,)), hidden, num_modules or 0),
        remarks=remarks,
        renames=((".sinks", ".attention_sink_bias"), ("mtp.layers.", "model.mtp.layers.")),
    )


def _attention(fields: Fields) -> tuple[GroupedAttention, GroupedAttention]:
    """Attention of full and of sliding layers. Without `swa_...` fields a sliding layer has twice the key/value
    heads and sinks, as transformers 5.23.0 MiMoV2FlashAttention builds it."""
    full = grouped_attention(
        fields,
        key_head_dim=fields.integer("head_dim"),
        value_head_dim=fields.integer("v_head_dim"),
        qkv_bias=fields.flag("attention_bias", False),
    )
    # A query sees `sliding_window_size` earlier tokens and itself, by SGLang and transformers 5.23.0 alike.
    earlier = fields.optional("sliding_window_size", minimum=1)
    window = earlier + 1 if earlier is not None else fields.integer("sliding_window")
    sliding = full._replace(
        num_heads=fields.optional("swa_num_attention_heads", minimum=1) or full.num_heads,
        num_kv_heads=fields.optional("swa_num_key_value_heads", minimum=1) or 2 * full.num_kv_heads,
        key_head_dim=fields.optional("swa_head_dim", minimum=1) or full.key_head_dim,
        value_head_dim=fields.optional("swa_v_head_dim", minimum=1) or full.value_head_dim,
        window_tokens=window,
        sinks=fields.flag("add_swa_attention_sink_bias", True),
    )
    return full._replace(sinks=fields.flag("add_full_attention_sink_bias", False)), sliding


def _sliding_layers(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    pattern = fields.integers("hybrid_layer_pattern", num_layers)
    if pattern is not None:
        if set(pattern) - {0, 1}:
            raise fields.wrong("hybrid_layer_pattern", "holds more than 0 (full) and 1 (sliding)")
        return tuple(value == 1 for value in pattern)
    kinds = layer_types(
        fields,
        num_layers,
        (FULL, SLIDING),
        lambda number: FULL if number == 0 or (number + 1) % 6 == 0 else SLIDING,
    )
    return tuple(kind == SLIDING for kind in kinds)


def _sparse_layers(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    """By `mlp_layer_types` or `moe_layer_freq` (a list of 0 and 1); else all but the first layer."""
    kinds = fields.strings("mlp_layer_types", num_layers)
    if kinds is not None:
        if unknown := sorted(set(kinds) - {"dense", "sparse"}):
            raise fields.wrong("mlp_layer_types", f"holds {unknown[0]!r}; known are dense and sparse")
        return tuple(kind == "sparse" for kind in kinds)
    listed = fields.integers("moe_layer_freq", num_layers)
    if listed is not None:
        return tuple(value == 1 for value in listed)
    return tuple(number > 0 for number in range(num_layers))


def _mtp(block: Layer, hidden: int, num_modules: int) -> Mtp | None:
    """Sliding attention and a dense feed-forward per module, embedding and head shared.
    Source: SGLang mimo_v2_flash_nextn.py, which names the checkpoint's tensors."""
    if not num_modules:
        return None
    extras = norms(hidden, "input_layernorm", "pre_mlp_layernorm", "enorm", "hnorm", "final_layernorm")
    return Mtp((block._replace(extras=extras + linear("eh_proj", "other", hidden, 2 * hidden)),) * num_modules)
