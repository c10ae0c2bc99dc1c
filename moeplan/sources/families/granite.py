"""Granite MoE: 3.x with and without a shared expert, 4.x hybrid with Mamba-2, and the windowed form."""

from __future__ import annotations

from moeplan.core.model import DenseFfn, Ffn, GroupedAttention, Layer, Mamba2, Mixer, ModelSpec, MoeFfn
from moeplan.sources.families.blocks import decoder_norms, finish, grouped_attention
from moeplan.sources.families.fields import Fields

# Experts are one tensor, gate and up one matrix: parts of a tensor share its name.
EXPERTS = (
    (".block_sparse_moe.experts.{expert}.gate_proj", ".block_sparse_moe.input_linear"),
    (".block_sparse_moe.experts.{expert}.up_proj", ".block_sparse_moe.input_linear"),
    (".block_sparse_moe.experts.{expert}.down_proj", ".block_sparse_moe.output_linear"),
)
# The windowed form never had another library's names.
WINDOWED_EXPERTS = (
    (".block_sparse_moe.experts.{expert}.gate_proj.weight", ".block_sparse_moe.experts.gate_up_proj"),
    (".block_sparse_moe.experts.{expert}.up_proj.weight", ".block_sparse_moe.experts.gate_up_proj"),
    (".block_sparse_moe.experts.{expert}.down_proj.weight", ".block_sparse_moe.experts.down_proj"),
    (".block_sparse_moe.router.layer", ".block_sparse_moe.router"),
)
SHARED = (
    (".block_sparse_moe.shared_mlp", ".shared_mlp"),
    (".shared_mlp.gate_proj", ".shared_mlp.input_linear"),
    (".shared_mlp.up_proj", ".shared_mlp.input_linear"),
    (".shared_mlp.down_proj", ".shared_mlp.output_linear"),
)


def granitemoe(fields: Fields) -> ModelSpec:
    """ibm-granite/granite-3.x-1b-a400m, -3b-a800m: every layer sparse."""
    return _attention_only(fields, "granitemoe", "GraniteMoeConfig", shared_width=0)


def granitemoeshared(fields: Fields) -> ModelSpec:
    """Granite MoE with one shared expert of `shared_intermediate_size` beside the routed ones."""
    width = fields.integer("shared_intermediate_size", default=0, minimum=0)
    return _attention_only(fields, "granitemoeshared", "GraniteMoeSharedConfig", shared_width=width)


def granitemoe_swa(fields: Fields) -> ModelSpec:
    """Granite MoE with sliding windows and attention sinks; one layer in four sees everything."""
    num_layers = fields.num_layers("num_hidden_layers")
    full = _attention(fields, sinks=True)
    windowed = full._replace(window_tokens=fields.integer("sliding_window", default=128))
    kinds = _kinds(fields, num_layers, full=("full_attention",), other=("sliding_attention",))
    if kinds is None:
        fields.defaulted["layer_types"] = "full_attention in every fourth layer from the first"
        kinds = tuple(number % 4 == 0 for number in range(num_layers))
    width = fields.integer("shared_intermediate_size", default=0, minimum=0)
    mixers = tuple(full if is_full else windowed for is_full in kinds)
    return _model(fields, "granitemoe_swa", "GraniteMoeSWAConfig", mixers, _experts(fields, width), WINDOWED_EXPERTS)


def granitemoehybrid(fields: Fields) -> ModelSpec:
    """ibm-granite/granite-4.0-h-*: Mamba-2 and attention layers; with no experts the shared one is the feed-forward."""
    num_layers = fields.num_layers("num_hidden_layers")
    kinds = _kinds(fields, num_layers, full=("attention", "full_attention"), other=("mamba", "linear_attention"))
    if kinds is None:
        fields.defaulted["layer_types"] = "linear_attention in every layer"
        kinds = (False,) * num_layers
    width = fields.integer("shared_intermediate_size")
    ffn: Ffn = DenseFfn(width, name="shared_mlp")
    if fields.integer("num_local_experts", minimum=0):
        ffn = _experts(fields, width)
    attention, mamba = _attention(fields), _mamba(fields) if not all(kinds) else None
    mixers = tuple(attention if is_full or mamba is None else mamba for is_full in kinds)
    return _model(fields, "granitemoehybrid", "GraniteMoeHybridConfig", mixers, ffn)


def _attention_only(fields: Fields, family: str, config_class: str, *, shared_width: int) -> ModelSpec:
    mixers = (_attention(fields),) * fields.num_layers("num_hidden_layers")
    return _model(fields, family, config_class, mixers, _experts(fields, shared_width))


def _model(
    fields: Fields,
    family: str,
    config_class: str,
    mixers: tuple[Mixer, ...],
    ffn: Ffn,
    renames: tuple[tuple[str, str], ...] = EXPERTS,
) -> ModelSpec:
    norms = decoder_norms(fields.integer("hidden_size"))
    return finish(
        fields,
        family=family,
        defaults=f"transformers 5.23.0 {config_class}",
        layers=tuple(Layer((mixer,), (ffn,), norms) for mixer in mixers),
        tied_default=False,
        renames=(*renames, *SHARED),
    )


def _attention(fields: Fields, *, sinks: bool = False) -> GroupedAttention:
    bias = fields.flag("attention_bias", False)
    return grouped_attention(fields, qkv_bias=bias, output_bias=bias, sinks=sinks)


def _experts(fields: Fields, shared_width: int) -> MoeFfn:
    return MoeFfn(
        num_experts=fields.integer("num_local_experts", "num_experts"),
        experts_per_token=fields.integer("num_experts_per_tok"),
        expert_width=fields.integer("intermediate_size"),
        num_shared_experts=1 if shared_width else 0,
        shared_width=shared_width,
        name="block_sparse_moe",
        router_name="router.layer",
        shared_name="shared_mlp",
    )


def _mamba(fields: Fields) -> Mamba2:
    inner = fields.integer("mamba_expand", default=2) * fields.integer("hidden_size")
    num_heads = fields.integer("mamba_n_heads")
    stated = fields.raw("mamba_d_head")
    head_dim = inner // num_heads if stated in (None, "auto") else fields.integer("mamba_d_head")
    if head_dim * num_heads != inner and not fields.missing:
        raise fields.wrong("mamba_n_heads", f"is {num_heads}: heads of {head_dim} do not make up {inner}")
    return Mamba2(
        num_heads=num_heads,
        head_dim=head_dim,
        state_size=fields.integer("mamba_d_state"),
        num_groups=fields.integer("mamba_n_groups", default=1),
        conv_kernel=fields.integer("mamba_d_conv", default=4),
        conv_bias=fields.flag("mamba_conv_bias", True),
        projection_bias=fields.flag("mamba_proj_bias", False),
        name="mamba",
    )


def _kinds(
    fields: Fields, num_layers: int, *, full: tuple[str, ...], other: tuple[str, ...]
) -> tuple[bool, ...] | None:
    name = "layer_types" if fields.has("layer_types") else "layers_block_type"
    kinds = fields.strings(name, num_layers)
    if kinds is None:
        return None
    unknown = sorted(set(kinds) - {*full, *other})
    if unknown:
        raise fields.wrong(name, f"holds {unknown[0]!r}; known are {', '.join((*full, *other))}")
    return tuple(kind in full for kind in kinds)
