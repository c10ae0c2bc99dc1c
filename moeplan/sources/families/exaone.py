"""K-EXAONE (EXAONE MoE): head-normed attention with windows, dense first layers, shared experts."""

from __future__ import annotations

from collections.abc import Callable

from moeplan.core.model import DenseFfn, Layer, ModelSpec, MoeFfn, Remark
from moeplan.sources.families.blocks import decoder_norms, dense_first, finish, grouped_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.layer_types import FULL, SLIDING, every, layer_types, window, windowed


def exaone_moe(fields: Fields) -> ModelSpec:
    """LGAI-EXAONE/K-EXAONE: which layers see a window comes from `layer_types` or from a pattern of letters."""
    hidden = fields.integer("hidden_size")
    num_layers = fields.num_layers("num_hidden_layers")
    fields.finish()
    attention = grouped_attention(fields, qk_norm="head")
    tokens = window(fields, 4096)
    kinds = layer_types(fields, num_layers, (FULL, SLIDING), _pattern(fields, tokens))
    width = fields.integer("moe_intermediate_size")
    num_shared = fields.integer("num_shared_experts", "n_shared_experts", minimum=0)
    experts = MoeFfn(
        num_experts=fields.integer("num_experts", "num_local_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=width,
        num_shared_experts=num_shared,
        shared_width=num_shared * width,
        correction_bias=True,
    )
    is_sparse = _sparse_layers(fields, num_layers)
    dense = DenseFfn(1 if all(is_sparse) else fields.integer("intermediate_size"))
    layers = tuple(
        Layer((mixer,), (experts if sparse else dense,), decoder_norms(hidden))
        for mixer, sparse in zip(windowed(attention, kinds, tokens), is_sparse, strict=True)
    )
    remarks: tuple[Remark, ...] = ()
    if fields.optional("num_nextn_predict_layers"):
        message = "the MTP modules that the config speaks of are left out: their shapes are not known here"
        remarks = (Remark("mtp-left-out", "warning", message, "num_nextn_predict_layers"),)
    return finish(
        fields,
        family="exaone_moe",
        defaults="transformers 5.23.0 ExaoneMoeConfig",
        layers=layers,
        tied_default=False,
        remarks=remarks,
        renames=((".gate.e_score_correction_bias", ".e_score_correction_bias"),),
    )


def _pattern(fields: Fields, tokens: int | None) -> Callable[[int], str]:
    """The kind of a layer by `sliding_window_pattern`: letters (`LLLG`, G is full) or the interval of full layers."""
    if fields.has("layer_types") or tokens is None:
        return lambda _: FULL
    letters = fields.values.get("sliding_window_pattern")
    if not isinstance(letters, str):
        return every(fields.integer("sliding_window_pattern", default=4), FULL, SLIDING)
    fields.raw("sliding_window_pattern")
    if not letters or set(letters) - {"L", "G"}:
        raise fields.wrong("sliding_window_pattern", f"is {letters!r}; known letters are L and G")
    return lambda number: FULL if letters[number % len(letters)] == "G" else SLIDING


def _sparse_layers(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    listed = fields.values.get("is_moe_layer")
    if isinstance(listed, list) and not fields.has("mlp_layer_types"):
        fields.raw("is_moe_layer")
        if len(listed) != num_layers or not all(isinstance(value, bool) for value in listed):
            raise fields.wrong("is_moe_layer", f"is no list of {num_layers} truth values")
        return tuple(listed)
    return dense_first(fields, num_layers, default=1)
