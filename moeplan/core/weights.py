"""The one inventory: every weight of a model, and the folds over it.

`inventory(spec)` lists each kind of tensor once, with the layers that own it. Parameters, bytes in any format,
shares per rank and work per step are folds over this list; there is no second formula for any of them.

Shapes follow the published checkpoints: a linear weight is (out_features, in_features).
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple, assert_never

from moeplan.core.model import (
    ROLES,
    CompressedAttention,
    CrossAttention,
    DenseFfn,
    Ffn,
    GatedDelta,
    GroupedAttention,
    Indexer,
    KimiDelta,
    LatentAttention,
    Layer,
    LightningAttention,
    Mamba1,
    Mamba2,
    Mixer,
    ModelSpec,
    MoeFfn,
    Role,
    RoutedAttention,
    ShortConvolution,
    Split,
    Weight,
)

Part = Literal["text", "encoder", "tower", "mtp", "mtp_duplicate"]


class Owned(NamedTuple):
    """One kind of tensor and where it lives."""

    weight: Weight
    """With its full checkpoint name; `{layer}` and `{expert}` stand for numbers."""
    part: Part
    layers: tuple[int, ...]
    """Numbers of the layers that own it; empty for weights outside layers."""
    visits: tuple[int, int] | None = None
    """For routed experts: (experts per token, experts a token chooses from, zero-computation ones included)."""

    @property
    def num_elements(self) -> int:
        """Elements of all tensors in all layers."""
        return self.weight.num_elements * max(1, len(self.layers))

    @property
    def first_name(self) -> str:
        """Name of the first of its tensors: that of the first layer that owns it, and of expert 0."""
        name = self.weight.name.replace("{layer}", str(self.layers[0]) if self.layers else "0")
        return name.replace("{expert}", "0")


# Building blocks -------------------------------------------------------------------------------------------


def linear(
    name: str,
    role: Role,
    out_features: int,
    in_features: int,
    split: Split = "replicated",
    units: int = 1,
    bias: bool = False,
    count: int = 1,
) -> tuple[Weight, ...]:
    """A matrix that quantisers may take, and its bias (whole on every rank for row splits)."""
    weight = Weight(f"{name}.weight", role, (out_features, in_features), split, units, count, linear=True)
    if not bias:
        return (weight,)
    bias_split: Split = "replicated" if split == "row" else split
    return (weight, Weight(f"{name}.bias", role, (out_features,), bias_split, units, count))


def vector(name: str, role: Role, size: int, split: Split = "replicated", units: int = 1) -> Weight:
    """A one-dimensional weight: a norm, a gate, a sink."""
    return Weight(name, role, (size,), split, units)


def norms(width: int, *names: str) -> tuple[Weight, ...]:
    """RMS norms of one width, role `norm`."""
    return tuple(Weight(f"{name}.weight", "norm", (width,)) for name in names)


def layer_norms(width: int, *names: str) -> tuple[Weight, ...]:
    """Layer norms (scale and shift) of one width, role `norm`."""
    return tuple(Weight(f"{name}.{part}", "norm", (width,)) for name in names for part in ("weight", "bias"))


def gated_mlp(
    name: str, role: Role, hidden: int, width: int, gated: bool = True, bias: bool = False, count: int = 1
) -> tuple[Weight, ...]:
    """Gate, up and down projections; up and down alone when not gated."""
    weights: tuple[Weight, ...] = ()
    for part in ("gate_proj", "up_proj") if gated else ("up_proj",):
        weights += linear(f"{name}.{part}", role, width, hidden, "column", width, bias, count)
    return weights + linear(f"{name}.down_proj", role, hidden, width, "row", width, bias, count)


# Mixers ----------------------------------------------------------------------------------------------------


def _grouped(a: GroupedAttention, hidden: int) -> tuple[Weight, ...]:
    q, k, v = a.num_heads * a.key_head_dim, a.num_kv_heads * a.key_head_dim, a.num_kv_heads * a.value_head_dim
    q_rows = 2 * q if a.gate == "elementwise" else q
    weights = linear("q_proj", "attention", q_rows, hidden, "column", a.num_heads, a.qkv_bias)
    owns_cache = a.shares_cache_of is None
    if owns_cache:
        weights += linear("k_proj", "attention", k, hidden, "kv_heads", a.num_kv_heads, a.qkv_bias)
    if owns_cache and not a.value_is_key:
        weights += linear("v_proj", "attention", v, hidden, "kv_heads", a.num_kv_heads, a.qkv_bias)
    if a.gate == "headwise":
        weights += linear("g_proj", "attention", a.num_heads, hidden, "column", a.num_heads)
    weights += linear("o_proj", "attention", hidden, a.num_heads * a.value_head_dim, "row", a.num_heads, a.output_bias)
    if a.qk_norm == "head":
        weights += (vector("q_norm.weight", "attention", a.key_head_dim),)
        if owns_cache:
            weights += (vector("k_norm.weight", "attention", a.key_head_dim),)
    elif a.qk_norm == "full":
        weights += (vector("q_norm.weight", "attention", q), vector("k_norm.weight", "attention", k))
    if a.sinks:
        weights += (vector("sinks", "attention", a.num_heads, "column", a.num_heads),)
    return weights


def _cross(a: CrossAttention, hidden: int) -> tuple[Weight, ...]:
    inner = a.num_heads * a.head_dim
    weights: tuple[Weight, ...] = ()
    for part in ("q_proj", "k_proj", "v_proj"):
        weights += linear(part, "attention", inner, hidden, "column", a.num_heads, a.bias)
    return weights + linear("o_proj", "attention", hidden, inner, "row", a.num_heads, a.bias)


def _routed_attention(a: RoutedAttention, hidden: int) -> tuple[Weight, ...]:
    inner = a.num_kv_heads * a.head_dim
    return (
        *linear("experts.input_linear", "routed_experts", inner, hidden, "column", a.num_kv_heads, count=a.num_experts),
        *linear("experts.output_linear", "routed_experts", hidden, inner, "row", a.num_kv_heads, count=a.num_experts),
        *linear("kv_proj", "attention", 2 * inner, hidden, "kv_heads", a.num_kv_heads),
        *linear("experts.router.layer", "router", a.num_experts, hidden),
    )  # fmt: skip


def _indexer(x: Indexer, hidden: int, q_lora_rank: int) -> tuple[Weight, ...]:
    return (
        *linear("indexer.wq_b", "indexer", x.num_heads * x.head_dim, q_lora_rank),
        *linear("indexer.wk", "indexer", x.head_dim, hidden),
        vector("indexer.k_norm.weight", "indexer", x.head_dim),
        vector("indexer.k_norm.bias", "indexer", x.head_dim),
        *linear("indexer.weights_proj", "indexer", x.num_heads, hidden),
    )


def _latent(a: LatentAttention, hidden: int) -> tuple[Weight, ...]:
    q_rows = a.num_heads * (a.qk_nope_head_dim + a.qk_rope_head_dim)
    weights: tuple[Weight, ...]
    if a.q_lora_rank is None:
        weights = linear("q_proj", "attention", q_rows, hidden, "column", a.num_heads)
    else:
        weights = linear("q_a_proj", "attention", a.q_lora_rank, hidden, bias=a.qkv_bias)
        weights += (vector("q_a_layernorm.weight", "attention", a.q_lora_rank),)
        weights += linear("q_b_proj", "attention", q_rows, a.q_lora_rank, "column", a.num_heads)
    kv_rows = a.num_heads * (a.qk_nope_head_dim + a.v_head_dim)
    if a.shares_cache_of is None:
        weights += linear(
            "kv_a_proj_with_mqa", "attention", a.kv_lora_rank + a.qk_rope_head_dim, hidden, bias=a.qkv_bias
        )
        weights += (vector("kv_a_layernorm.weight", "attention", a.kv_lora_rank),)
    weights += linear("kv_b_proj", "attention", kv_rows, a.kv_lora_rank, "column", a.num_heads)
    weights += linear("o_proj", "attention", hidden, a.num_heads * a.v_head_dim, "row", a.num_heads, a.output_bias)
    if a.indexer is not None:
        # Models without a query latent feed the hidden state to the indexer.
        weights += _indexer(a.indexer, hidden, a.q_lora_rank or hidden)
    return weights


def _compressor(
    name: str, role: Role, hidden: int, width: int, norm_width: int, tokens_per_entry: int
) -> tuple[Weight, ...]:
    return (
        *linear(f"{name}.wkv", role, width, hidden),
        *linear(f"{name}.wgate", role, width, hidden),
        Weight(f"{name}.ape", role, (tokens_per_entry, width)),
        vector(f"{name}.norm.weight", role, norm_width),
    )


def _compressed(a: CompressedAttention, hidden: int) -> tuple[Weight, ...]:
    heads = a.num_heads * a.head_dim
    weights: tuple[Weight, ...] = (
        *linear("wq_a", "attention", a.q_lora_rank, hidden),
        vector("q_norm.weight", "attention", a.q_lora_rank),
        *linear("wq_b", "attention", heads, a.q_lora_rank, "column", a.num_heads),
        *linear("wkv", "attention", a.head_dim, hidden),
        vector("kv_norm.weight", "attention", a.head_dim),
        *linear("wo_a", "attention", a.o_groups * a.o_lora_rank, heads // a.o_groups, "column", a.o_groups),
        *linear("wo_b", "attention", hidden, a.o_groups * a.o_lora_rank, "row", a.o_groups),
        vector("attn_sink", "attention", a.num_heads, "column", a.num_heads),
    )
    if a.tokens_per_entry:
        overlap = 2 if a.indexer is not None else 1
        weights += _compressor("compressor", "attention", hidden, overlap * a.head_dim, a.head_dim, a.tokens_per_entry)
    if a.indexer is not None:
        x = a.indexer
        weights += linear("indexer.wq_b", "indexer", x.num_heads * x.head_dim, a.q_lora_rank)
        weights += linear("indexer.weights_proj", "indexer", x.num_heads, hidden)
        weights += _compressor("indexer.compressor", "indexer", hidden, 2 * x.head_dim, x.head_dim, a.tokens_per_entry)
    return weights


def _gated_delta(a: GatedDelta, hidden: int) -> tuple[Weight, ...]:
    key, value = a.num_key_heads * a.key_head_dim, a.num_value_heads * a.value_head_dim
    weights: tuple[Weight, ...]
    if a.fused_projections:
        weights = linear("in_proj_qkvz", "recurrent", 2 * key + 2 * value, hidden, "column", a.num_key_heads)
        weights += linear("in_proj_ba", "recurrent", 2 * a.num_value_heads, hidden, "column", a.num_key_heads)
    else:
        weights = linear("in_proj_qkv", "recurrent", 2 * key + value, hidden, "column", a.num_key_heads)
        weights += linear("in_proj_z", "recurrent", value, hidden, "column", a.num_value_heads)
        weights += linear("in_proj_b", "recurrent", a.num_value_heads, hidden, "column", a.num_value_heads)
        weights += linear("in_proj_a", "recurrent", a.num_value_heads, hidden, "column", a.num_value_heads)
    return (
        *weights,
        Weight("conv1d.weight", "recurrent", (2 * key + value, 1, a.conv_kernel), "column", a.num_key_heads),
        vector("dt_bias", "recurrent", a.num_value_heads, "column", a.num_value_heads),
        vector("A_log", "recurrent", a.num_value_heads, "column", a.num_value_heads),
        vector("norm.weight", "norm", a.value_head_dim),
        *linear("out_proj", "recurrent", hidden, value, "row", a.num_value_heads),
    )


def _kimi_delta(a: KimiDelta, hidden: int) -> tuple[Weight, ...]:
    # Kimi keeps the projections under `self_attn`; like its checkpoint, we count them as attention, and as
    # recurrent only what the recurrence alone needs (convolutions, decay).
    inner = a.num_heads * a.head_dim
    weights: tuple[Weight, ...] = ()
    for part in ("q", "k", "v"):
        weights += linear(f"{part}_proj", "attention", inner, hidden, "column", a.num_heads)
        weights += (Weight(f"{part}_conv1d.weight", "recurrent", (inner, 1, a.conv_kernel), "column", a.num_heads),)
    if a.full_rank_gate:
        gate = linear("g_proj", "attention", inner, hidden, "column", a.num_heads)
    else:
        gate = linear("g_a_proj", "attention", a.head_dim, hidden)
        gate += linear("g_b_proj", "attention", inner, a.head_dim, "column", a.num_heads)
    if a.full_rank_forget:
        forget = linear("f_proj", "attention", inner, hidden, "column", a.num_heads)
    else:
        forget = linear("f_a_proj", "attention", a.head_dim, hidden)
        forget += linear("f_b_proj", "attention", inner, a.head_dim, "column", a.num_heads)
    return (
        *weights,
        vector("A_log", "recurrent", a.num_heads, "column", a.num_heads),
        vector("dt_bias", "recurrent", inner, "column", a.num_heads),
        *forget,
        *linear("b_proj", "attention", a.num_heads, hidden, "column", a.num_heads),
        *gate,
        vector("o_norm.weight", "attention", a.head_dim),
        *linear("o_proj", "attention", hidden, inner, "row", a.num_heads),
    )


def _lightning(a: LightningAttention, hidden: int) -> tuple[Weight, ...]:
    inner = a.num_heads * a.head_dim
    return (
        *linear("qkv_proj", "attention", 3 * inner, hidden, "column", a.num_heads),
        *linear("output_gate", "attention", inner, hidden, "column", a.num_heads),
        vector("norm.weight", "attention", inner, "column", a.num_heads),
        *linear("out_proj", "attention", hidden, inner, "row", a.num_heads),
    )


def _mamba1(a: Mamba1, hidden: int) -> tuple[Weight, ...]:
    inner = a.inner_size
    weights: tuple[Weight, ...] = (
        *linear("in_proj", "recurrent", 2 * inner, hidden, "column", inner, a.projection_bias),
        Weight("conv1d.weight", "recurrent", (inner, 1, a.conv_kernel), "column", inner),
        *linear("x_proj", "recurrent", a.time_step_rank + 2 * a.state_size, inner, "row", inner),
        *linear("dt_proj", "recurrent", inner, a.time_step_rank, "column", inner, bias=True),
        Weight("A_log", "recurrent", (inner, a.state_size), "column", inner),
        vector("D", "recurrent", inner, "column", inner),
        *linear("out_proj", "recurrent", hidden, inner, "row", inner, a.projection_bias),
    )
    if a.conv_bias:
        weights += (vector("conv1d.bias", "recurrent", inner, "column", inner),)
    if a.inner_norms:
        weights += (
            vector("dt_layernorm.weight", "norm", a.time_step_rank),
            vector("b_layernorm.weight", "norm", a.state_size),
            vector("c_layernorm.weight", "norm", a.state_size),
        )
    return weights


def _mamba2(a: Mamba2, hidden: int) -> tuple[Weight, ...]:
    inner = a.num_heads * a.head_dim
    channels = inner + 2 * a.num_groups * a.state_size
    weights: tuple[Weight, ...] = (
        *linear("in_proj", "recurrent", inner + channels + a.num_heads, hidden, "column", a.num_heads, a.projection_bias),
        Weight("conv1d.weight", "recurrent", (channels, 1, a.conv_kernel), "column", a.num_heads),
        vector("dt_bias", "recurrent", a.num_heads, "column", a.num_heads),
        vector("A_log", "recurrent", a.num_heads, "column", a.num_heads),
        vector("D", "recurrent", a.num_heads, "column", a.num_heads),
        vector("norm.weight", "recurrent", inner, "column", a.num_heads),
        *linear("out_proj", "recurrent", hidden, inner, "row", a.num_heads, a.projection_bias),
    )  # fmt: skip
    if a.conv_bias:
        weights += (vector("conv1d.bias", "recurrent", channels, "column", a.num_heads),)
    return weights


def _short_convolution(a: ShortConvolution, hidden: int) -> tuple[Weight, ...]:
    weights: tuple[Weight, ...] = (
        *linear("in_proj", "recurrent", 3 * a.channels, hidden, "column", a.channels, a.bias),
        Weight("conv.weight", "recurrent", (a.channels, 1, a.conv_kernel), "column", a.channels),
        *linear("out_proj", "recurrent", hidden, a.channels, "row", a.channels, a.bias),
    )
    if a.bias:
        weights += (vector("conv.bias", "recurrent", a.channels, "column", a.channels),)
    return weights


def mixer_weights(mixer: Mixer, hidden: int) -> tuple[Weight, ...]:
    """All weights of one mixer in a model of `hidden` width, named within the layer."""
    extras: tuple[Weight, ...] = ()
    match mixer:
        case GroupedAttention():
            weights, extras = _grouped(mixer, hidden), mixer.extras
        case CrossAttention():
            weights, extras = _cross(mixer, hidden), mixer.extras
        case RoutedAttention():
            weights, extras = _routed_attention(mixer, hidden), mixer.extras
        case LatentAttention():
            weights, extras = _latent(mixer, hidden), mixer.extras
        case CompressedAttention():
            weights = _compressed(mixer, hidden)
        case GatedDelta():
            weights = _gated_delta(mixer, hidden)
        case KimiDelta():
            weights = _kimi_delta(mixer, hidden)
        case LightningAttention():
            weights, extras = _lightning(mixer, hidden), mixer.extras
        case Mamba1():
            weights = _mamba1(mixer, hidden)
        case Mamba2():
            weights = _mamba2(mixer, hidden)
        case ShortConvolution():
            weights = _short_convolution(mixer, hidden)
        case _:
            assert_never(mixer)
    return _under(mixer.name, weights + extras)


# Feed-forwards ---------------------------------------------------------------------------------------------


def _moe(ffn: MoeFfn, hidden: int) -> tuple[Weight, ...]:
    entrants = ffn.num_experts + ffn.num_zero_experts
    router = f"{ffn.router_name}"
    weights = linear(router, "router", entrants, hidden, bias=ffn.router_bias)
    if ffn.correction_bias:
        bias = Weight(f"{router}.e_score_correction_bias", "router", (entrants,), buffer=True)
        weights += (bias,)
    width_in = hidden if ffn.latent_size is None else ffn.latent_size
    weights += gated_mlp(
        "experts.{expert}",
        "routed_experts",
        width_in,
        ffn.expert_width,
        ffn.gated,
        ffn.expert_bias,
        ffn.num_experts,
    )
    if ffn.latent_size is not None:
        weights += linear("fc1_latent_proj", "moe_latent", ffn.latent_size, hidden)
        weights += linear("fc2_latent_proj", "moe_latent", hidden, ffn.latent_size)
    if ffn.shared_width:
        weights += gated_mlp(ffn.shared_name, "shared_experts", hidden, ffn.shared_width, ffn.gated)
    if ffn.shared_gate:
        weights += linear(f"{ffn.shared_name}_gate", "shared_experts", 1, hidden)
    return weights


def ffn_weights(ffn: Ffn, hidden: int) -> tuple[Weight, ...]:
    """All weights of one feed-forward in a model of `hidden` width, named within the layer."""
    match ffn:
        case DenseFfn():
            weights = tuple(
                weight._replace(name=weight.name.removeprefix("."))
                for weight in gated_mlp("", "dense_mlp", hidden, ffn.width, ffn.gated, ffn.bias)
            )
        case MoeFfn():
            weights = _moe(ffn, hidden)
        case _:
            assert_never(ffn)
    return _under(ffn.name, weights + ffn.extras)


def layer_weights(layer: Layer, hidden: int) -> tuple[Weight, ...]:
    """All weights of one layer, named within the layer."""
    weights: tuple[Weight, ...] = ()
    for mixer in layer.mixers:
        weights += mixer_weights(mixer, hidden)
    for ffn in layer.ffns:
        weights += ffn_weights(ffn, hidden)
    return weights + layer.extras


def _under(name: str, weights: tuple[Weight, ...]) -> tuple[Weight, ...]:
    return tuple(weight._replace(name=f"{name}.{weight.name}") for weight in weights) if name else weights


# The inventory ---------------------------------------------------------------------------------------------


def inventory(spec: ModelSpec) -> tuple[Owned, ...]:
    """Every weight of the model, text, towers and MTP, each kind of tensor once."""
    prefix = spec.prefix
    embedding = (spec.vocab_size, spec.hidden_size)
    table = Weight(f"{prefix}{spec.embedding_name}", "embedding", embedding, "vocabulary", spec.vocab_size, linear=True)
    owned = [Owned(table, "text", ())]
    stacks: list[tuple[str, Part, tuple[Layer, ...], int]]
    if spec.is_encoder_decoder:
        stacks = [("encoder.block.", "encoder", spec.encoder_layers, 0), ("decoder.block.", "text", spec.layers, 0)]
    else:
        stacks = [(f"{prefix}layers.", "text", spec.layers, 0)]
    if spec.mtp is not None:
        first = spec.mtp.first_layer
        stem = f"{prefix}layers." if first is not None else "mtp.layers."
        stacks.append((stem, "mtp", spec.mtp.layers, first or 0))
    for stem, part, layers, first_layer in stacks:
        owned += _stack(stem, part, layers, first_layer, spec.hidden_size)
    if not spec.tied_embedding:
        owned.append(Owned(table._replace(name=spec.lm_head_name, role="lm_head"), "text", ()))
    owned += [Owned(weight, "text", ()) for weight in spec.extras]
    for tower in spec.towers:
        owned += [Owned(weight, "tower", ()) for weight in tower.weights]
    if spec.mtp is not None:
        owned += [Owned(weight, "mtp", ()) for weight in spec.mtp.extras]
        owned += [Owned(weight, "mtp_duplicate", ()) for weight in spec.mtp.duplicates]
    return tuple(_renamed(entry, spec.renames) for entry in owned)


def _stack(stem: str, part: Part, layers: tuple[Layer, ...], first_layer: int, hidden: int) -> list[Owned]:
    numbers: dict[Layer, list[int]] = {}
    for number, layer in enumerate(layers, start=first_layer):
        numbers.setdefault(layer, []).append(number)
    owned = []
    for layer, owners in numbers.items():
        visits = expert_visits(layer)
        for weight in layer_weights(layer, hidden):
            named = weight._replace(name=f"{stem}{{layer}}.{weight.name}")
            routed = visits if weight.role == "routed_experts" else None
            owned.append(Owned(named, part, tuple(owners), routed))
    return owned


def expert_visits(layer: Layer) -> tuple[int, int] | None:
    """Experts per token, and experts that a token chooses from with those that compute nothing; None in a dense layer."""
    for ffn in layer.ffns:
        if isinstance(ffn, MoeFfn):
            return ffn.experts_per_token, ffn.num_experts + ffn.num_zero_experts
    for mixer in layer.mixers:
        if isinstance(mixer, RoutedAttention):
            return mixer.experts_per_token, mixer.num_experts
    return None


def _renamed(entry: Owned, renames: tuple[tuple[str, str], ...]) -> Owned:
    name = entry.weight.name
    for canonical, published in renames:
        name = name.replace(canonical, published)
    return entry if name == entry.weight.name else entry._replace(weight=entry.weight._replace(name=name))


# Parameters ------------------------------------------------------------------------------------------------


class Parameters(NamedTuple):
    """Parameter counts as `parameters` in JSON; see there for what each convention leaves out."""

    total: int
    text_total: int
    active: int
    active_low: int
    active_high: int
    active_without_embedding: int
    active_without_embedding_and_head: int
    card_convention: str | None
    buffers: int
    mtp_unique: int
    mtp_duplicate: int
    by_role: dict[str, int]
    basis: str


def parameters(spec: ModelSpec, owned: tuple[Owned, ...] | None = None) -> Parameters:
    """Parameter counts of the inventory, see `count_parameters`."""
    entries = inventory(spec) if owned is None else owned
    return count_parameters(spec, ((entry, entry.num_elements) for entry in entries), "derived")


def count_parameters(spec: ModelSpec, counted: Iterable[tuple[Owned, int]], basis: str) -> Parameters:
    """Fold weights with their numbers of elements, from the inventory or from headers, into parameter counts.

    `active` counts the text parameters that one token uses: experts by the number visited. Where a router may
    choose zero-computation experts the visits vary: the mean assumes that every entrant is equally likely
    (k x real / entrants), low and high are the bounds.
    """
    by_role: dict[str, int] = dict.fromkeys(ROLES, 0)
    buffers = mtp_unique = mtp_duplicate = text_total = idle = idle_low = idle_high = 0
    embedding = head = 0
    for entry, elements in counted:
        weight = entry.weight
        if entry.part == "mtp_duplicate":
            mtp_duplicate += elements
            continue
        if weight.buffer:
            buffers += elements if entry.part != "mtp" else 0
            continue
        if entry.part == "mtp":
            mtp_unique += elements
            continue
        by_role[weight.role] += elements
        if entry.part == "tower":
            continue
        text_total += elements
        if weight.role == "embedding":
            embedding += elements
        elif weight.role == "lm_head":
            head += elements
        if entry.visits is not None:
            chosen, entrants = entry.visits
            per_expert = elements // weight.count
            most = min(chosen, weight.count)
            least = max(0, chosen - (entrants - weight.count))
            idle += elements - per_expert * chosen * weight.count // entrants
            idle_low += elements - per_expert * least
            idle_high += elements - per_expert * most
    # A tied table also works as the head; other input tables (Gemma's per-layer inputs) never do.
    tied_table = spec.vocab_size * spec.hidden_size if spec.tied_embedding else 0
    return Parameters(
        total=sum(by_role.values()),
        text_total=text_total,
        active=text_total - idle,
        active_low=text_total - idle_low,
        active_high=text_total - idle_high,
        active_without_embedding=text_total - idle - (embedding - tied_table),
        active_without_embedding_and_head=text_total - idle - embedding - head,
        card_convention=spec.card_convention,
        buffers=buffers,
        mtp_unique=mtp_unique,
        mtp_duplicate=mtp_duplicate,
        by_role=by_role,
        basis=basis,
    )
