"""The general rules: a config whose `model_type` is not known, read by the usual names of each concept.

What the fields state is taken; what they leave open in size is an error; what they leave open in form (norms,
biases, a window that no field gives a layer to) is taken the usual way or the larger way, and a note says so.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from moeplan.core.errors import ConfigError
from moeplan.core.model import (
    DenseFfn,
    Ffn,
    GroupedAttention,
    LatentAttention,
    Layer,
    ModelSpec,
    MoeFfn,
    Remark,
)
from moeplan.sources.families import FAMILIES
from moeplan.sources.families.blocks import decoder_norms, finish, latent_attention
from moeplan.sources.families.fields import Fields
from moeplan.sources.families.refusals import (
    HIDDEN,
    LAYERS,
    VOCABULARY,
    expert_fields,
    refuse_other_models,
    refuse_unknown_layers,
    stated,
)

INNER = ("text_config", "language_config", "llm_config", "thinker_config")
MAX_INNER = 4

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")
PER_TOKEN = (
    "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_k", "moe_top_k",
    "top_k_experts",
)  # fmt: skip
EXPERT_WIDTH = ("moe_intermediate_size", "moe_ffn_hidden_size", "expert_ffn_hidden_size", "expert_intermediate_size")
DENSE_WIDTH = ("intermediate_size", "ffn_hidden_size", "d_ff", "n_inner")
NUM_SHARED = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
SHARED_WIDTH = ("moe_shared_expert_intermediate_size", "share_expert_dim", "shared_intermediate_size")
GATED_SHARED_WIDTH = "shared_expert_intermediate_size"
ZERO_EXPERTS = ("zero_expert_num", "num_zero_experts")
MTP = ("num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers", "num_mtp_layers", "mtp_num_layers")
OTHER_MODALITIES = ("vision_config", "audio_config", "vision_tower", "audio_tower", "vision_encoder")
LAYER_KINDS = {"full_attention": False, "attention": False, "global": False, "sliding_attention": True}
GATED_ACTIVATIONS = ("silu", "swish", "swiglu")
PLAIN_ACTIVATIONS = ("relu", "relu2", "gelu_new", "gelu_fast", "quick_gelu")


def general(fields: Fields) -> ModelSpec:
    """Any decoder language model that its fields describe; a warning names every field relied on.

    Raises ConfigError when the config is of another kind of model, speaks of layers that these rules do not
    know, contradicts itself, or does not determine the sizes.
    """
    outer = fields
    fields = _innermost(outer)
    if fields is not outer:
        refuse_other_models(outer, is_wrapper=True)
    refuse_other_models(fields)
    known = _read_by_inner_type(outer, fields)
    if known is not None:
        return known
    refuse_unknown_layers(fields)
    doubts: list[str] = []
    hidden = fields.integer(*HIDDEN)
    num_layers = fields.num_layers(*LAYERS)
    fields.finish()  # lists below need these two; what else is missing comes in one error at the end
    mixers = _mixers(fields, hidden, num_layers, doubts)
    ffns = _ffns(fields, hidden, num_layers, doubts)
    tied = _tied(fields, outer, doubts)
    _note_left_out(fields, outer, doubts)
    norms = decoder_norms(hidden)
    spec = finish(
        fields,
        family="general",
        defaults="the general rules",
        layers=tuple(Layer((mixer,), (ffn,), norms) for mixer, ffn in zip(mixers, ffns, strict=True)),
        hidden_size=hidden,
        vocab_size=fields.integer(*VOCABULARY),
        tied=tied,
        outer=outer,
        verified=False,
    )
    return spec._replace(remarks=(_unknown(outer, fields.used), *_doubts(doubts), *spec.remarks))


# The frame -------------------------------------------------------------------------------------------------


def _innermost(fields: Fields) -> Fields:
    for _ in range(MAX_INNER):
        inner = next((sub for name in INNER if (sub := fields.sub(name)) is not None and sub.values), None)
        if inner is None:
            return fields
        fields = inner
    raise ConfigError(
        f"{fields.where}: `{fields.path.rstrip('.')}` is nested too deeply",
        hint="give the config.json of the language model itself",
    )


def _read_by_inner_type(outer: Fields, inner: Fields) -> ModelSpec | None:
    """A wrapper that is not known around a text model that is."""
    inner_type = inner.values.get("model_type")
    if inner is outer or not isinstance(inner_type, str) or inner_type not in FAMILIES:
        return None
    from moeplan.sources.families import read_config

    spec = read_config(inner.values, where=f"{outer.where} ({inner.path.rstrip('.')})")
    remark = Remark(
        "family-unknown",
        "warning",
        f"model_type {_named(outer)} is not known; its `{inner.path.rstrip('.')}` is read as {inner_type}, "
        "everything beside it (towers, projectors) is left out",
    )
    return spec._replace(model_type=str(outer.values.get("model_type") or inner_type), remarks=(remark, *spec.remarks))


def _named(fields: Fields) -> str:
    model_type = fields.values.get("model_type")
    return "(absent)" if model_type is None else repr(model_type)


def _unknown(outer: Fields, used: Mapping[str, Any]) -> Remark:
    relied = ", ".join(f"{name}={_short(value)}" for name, value in used.items() if name != "model_type")
    return Remark(
        "family-unknown",
        "warning",
        f"model_type {_named(outer)} is not known; read by the general rules (RMS norms, no biases unless stated) "
        f"from: {relied}",
    )


def _doubts(doubts: list[str]) -> tuple[Remark, ...]:
    return tuple(Remark("family-unknown-form", "warning", doubt) for doubt in doubts)


def _short(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _tied(fields: Fields, outer: Fields, doubts: list[str]) -> bool:
    for candidate in (fields, outer):
        if candidate.has("tie_word_embeddings"):
            return candidate.flag("tie_word_embeddings", False)
    doubts.append("tie_word_embeddings is absent: embedding and head are taken as two tables, the larger reading")
    return False


def _note_left_out(fields: Fields, outer: Fields, doubts: list[str]) -> None:
    towers = [name for name in OTHER_MODALITIES if stated(outer.values.get(name))]
    if towers:
        doubts.append(f"towers are left out: {', '.join(towers)}")
    mtp = [name for name in MTP if stated(fields.values.get(name))]
    if mtp:
        doubts.append(f"layers that predict further tokens are left out: {', '.join(mtp)}")
    if stated(fields.values.get("n_positions")) or fields.values.get("position_embedding_type") in (
        "absolute",
        "learned",
    ):
        doubts.append("a table of learned positions, if there is one, is left out")
    unread = [name for name in expert_fields(fields.values) if f"{fields.path}{name}" not in fields.used]
    if unread:
        doubts.append(f"fields about experts that these rules do not use: {', '.join(sorted(unread))}")


def _one_of(fields: Fields, names: tuple[str, ...], what: str) -> str | None:
    """The one of `names` that is stated; ConfigError where two are stated and differ."""
    found = [name for name in names if fields.values.get(name) is not None]
    if len({repr(fields.values[name]) for name in found}) > 1:
        listed = ", ".join(f"{fields.path}{name}={_short(fields.values[name])}" for name in found)
        raise ConfigError(
            f"{fields.where}: the config contradicts itself on the {what}: {listed}",
            hint="leave the one that the model uses",
        )
    return found[0] if found else None


# Attention -------------------------------------------------------------------------------------------------


def _mixers(
    fields: Fields, hidden: int, num_layers: int, doubts: list[str]
) -> tuple[GroupedAttention | LatentAttention, ...]:
    windowed = _windowed_layers(fields, num_layers)
    if fields.has("kv_lora_rank"):
        if windowed is not None and any(windowed):
            raise fields.wrong("layer_types", "asks for windows beside kv_lora_rank, which these rules do not know")
        return (latent_attention(fields, indexed=fields.has("index_topk")),) * num_layers
    if fields.has("index_topk"):
        raise fields.wrong(
            "index_topk", "asks for sparse attention without kv_lora_rank, which these rules do not know"
        )
    attention = _grouped(fields, hidden)
    window = (
        fields.optional("sliding_window", minimum=1) if fields.values.get("use_sliding_window") is not False else None
    )
    if windowed is None:
        if window is not None:
            doubts.append("sliding_window is set but no field says for which layers: every layer is taken as full")
        return (attention,) * num_layers
    if any(windowed) and window is None:
        fields.need("sliding_window")
    local = attention._replace(window_tokens=window)
    return tuple(local if is_windowed else attention for is_windowed in windowed)


def _windowed_layers(fields: Fields, num_layers: int) -> tuple[bool, ...] | None:
    kinds = fields.strings("layer_types", num_layers)
    if kinds is not None:
        unknown = sorted(set(kinds) - set(LAYER_KINDS))
        if unknown:
            raise fields.wrong("layer_types", f"holds {unknown[0]!r}, which the general rules do not know")
        return tuple(LAYER_KINDS[kind] for kind in kinds)
    every = fields.optional("sliding_window_pattern", minimum=1)
    if every is not None:
        return tuple((number + 1) % every != 0 for number in range(num_layers))
    first = fields.optional("max_window_layers") if fields.values.get("use_sliding_window") is True else None
    return None if first is None else tuple(number >= first for number in range(num_layers))


def _grouped(fields: Fields, hidden: int) -> GroupedAttention:
    num_heads = fields.integer("num_attention_heads", "n_head", "n_heads", "num_heads")
    num_kv_heads = fields.optional("num_key_value_heads", "n_kv_heads", "num_kv_heads", "n_head_kv", minimum=1)
    if num_kv_heads is None:
        num_kv_heads = 1 if fields.values.get("multi_query") is True else num_heads
        fields.defaulted[f"{fields.path}num_key_value_heads"] = num_kv_heads
    head_dim = fields.optional("head_dim", "attention_head_dim", "kv_channels", minimum=1)
    if head_dim is None:
        if hidden % num_heads:
            fields.need("head_dim")
        head_dim = max(1, hidden // num_heads)
        fields.defaulted[f"{fields.path}head_dim"] = head_dim
    if num_heads % num_kv_heads and not fields.missing:
        raise fields.wrong("num_key_value_heads", f"is {num_kv_heads}, which does not divide {num_heads} heads")
    biased = _stated_flag(fields, "attention_bias", "use_bias")
    return GroupedAttention(
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        key_head_dim=head_dim,
        value_head_dim=fields.optional("v_head_dim", minimum=1) or head_dim,
        qkv_bias=biased or _stated_flag(fields, "qkv_bias", "use_qkv_bias"),
        output_bias=biased,
        qk_norm="head" if _stated_flag(fields, "use_qk_norm", "qk_norm", "qk_layernorm") else "none",
    )


def _stated_flag(fields: Fields, *names: str) -> bool:
    return any(fields.flag(name, False) for name in names if fields.has(name))


# Feed-forwards ---------------------------------------------------------------------------------------------


class _Experts(NamedTuple):
    num_experts: tuple[int, ...]
    per_token: tuple[int, ...]
    width: tuple[int, ...]
    num_shared: tuple[int, ...]


def _ffns(fields: Fields, hidden: int, num_layers: int, doubts: list[str]) -> tuple[Ffn, ...]:
    gated = _gated(fields, doubts)
    biased = _stated_flag(fields, "mlp_bias")
    count_name = _one_of(fields, EXPERTS, "number of experts")
    if count_name is None or fields.values[count_name] == 0:
        _refuse_hidden_experts(fields, count_name)
        width = fields.integer(*DENSE_WIDTH)
        return (DenseFfn(width, gated, biased),) * num_layers
    sparse = _sparse_layers(fields, num_layers)
    experts = _experts(fields, count_name, num_layers, all(sparse))
    dense = DenseFfn(1 if all(sparse) else fields.integer(*DENSE_WIDTH), gated, biased)
    return tuple(
        _moe(fields, experts, number, gated, biased) if sparse[number] else dense for number in range(num_layers)
    )


def _gated(fields: Fields, doubts: list[str]) -> bool:
    name = next(
        (n for n in ("hidden_act", "activation_function", "hidden_activation", "mlp_hidden_act") if fields.has(n)), None
    )
    activation = fields.text(name) if name else None
    if activation in GATED_ACTIVATIONS:
        return True
    gated = activation not in PLAIN_ACTIVATIONS
    form = "three matrices (gate, up, down)" if gated else "two matrices (up, down)"
    said = "no activation is stated" if activation is None else f"{name}={activation} is used with either form"
    doubts.append(f"feed-forwards are taken to have {form}: {said}")
    return gated


def _refuse_hidden_experts(fields: Fields, count_name: str | None) -> None:
    """A config that speaks of experts but not of how many must not be read as dense."""
    if count_name is not None:
        fields.optional(count_name)
        return
    names = expert_fields(fields.values)
    if names:
        fields.need(" or ".join(EXPERTS))
        fields.finish()


def _experts(fields: Fields, count_name: str, num_layers: int, all_sparse: bool) -> _Experts:
    per_token_name = _one_of(fields, PER_TOKEN, "number of experts per token")
    width_name = _one_of(fields, EXPERT_WIDTH, "width of an expert")
    if width_name is None and all_sparse:
        # Families without dense layers call the experts' width by the dense name.
        width_name = _one_of(fields, DENSE_WIDTH, "width of an expert")
    if per_token_name is None:
        fields.need(" or ".join(PER_TOKEN))
    if width_name is None:
        fields.need(" or ".join(EXPERT_WIDTH))
    fields.finish()
    assert per_token_name is not None
    assert width_name is not None
    shared_name = _one_of(fields, NUM_SHARED, "number of shared experts")
    experts = _Experts(
        num_experts=_per_layer(fields, count_name, num_layers),
        per_token=_per_layer(fields, per_token_name, num_layers),
        width=_per_layer(fields, width_name, num_layers),
        num_shared=(0,) * num_layers if shared_name is None else _per_layer(fields, shared_name, num_layers, 0),
    )
    for num_experts, per_token in zip(experts.num_experts, experts.per_token, strict=True):
        if per_token > num_experts:
            raise fields.wrong(per_token_name, f"is {per_token}, more than the {num_experts} experts")
    return experts


def _per_layer(fields: Fields, name: str, num_layers: int, minimum: int = 1) -> tuple[int, ...]:
    if not isinstance(fields.values.get(name), list):
        return (fields.integer(name, minimum=minimum),) * num_layers
    values = fields.integers(name, num_layers) or ()
    if any(value < minimum for value in values):
        raise fields.wrong(name, f"holds a value below {minimum}")
    return values


def _moe(fields: Fields, experts: _Experts, number: int, gated: bool, biased: bool) -> MoeFfn:
    num_shared, width = experts.num_shared[number], experts.width[number]
    stated_width = fields.optional(*SHARED_WIDTH)
    gated_width = fields.optional(GATED_SHARED_WIDTH)
    if stated_width:
        shared_width = stated_width
    elif gated_width:
        shared_width = gated_width * max(1, num_shared)
    else:
        shared_width = num_shared * width
    return MoeFfn(
        num_experts=experts.num_experts[number],
        experts_per_token=experts.per_token[number],
        expert_width=width,
        gated=gated,
        expert_bias=biased,
        num_zero_experts=fields.optional(*ZERO_EXPERTS) or 0,
        num_shared_experts=max(1, num_shared) if shared_width else 0,
        shared_width=shared_width,
        shared_gate=bool(gated_width and not stated_width),
        correction_bias=fields.values.get("topk_method") == "noaux_tc",
    )


# Which layers are sparse -----------------------------------------------------------------------------------


def _sparse_layers(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    """One truth per layer. Every way in which the config states it must give the same answer."""
    stated_ways: dict[str, tuple[bool, ...]] = {}
    kinds = fields.strings("mlp_layer_types", num_layers)
    if kinds is not None:
        unknown = sorted(set(kinds) - {"dense", "sparse"})
        if unknown:
            raise fields.wrong("mlp_layer_types", f"holds {unknown[0]!r}; known are dense and sparse")
        stated_ways["mlp_layer_types"] = tuple(kind == "sparse" for kind in kinds)
    for name, numbers in (
        ("moe_layer_freq", _by_frequency(fields, num_layers)),
        ("decoder_sparse_step", _by_step(fields, num_layers)),
        ("moe_layer_interval", _by_interval(fields, num_layers)),
        ("expert_layer_period", _by_period(fields, num_layers)),
        ("interleave_moe_layer_step", _by_interleave(fields, num_layers)),
        ("num_dense_layers", _behind_dense(fields, num_layers)),
        ("moe_layers_enum", _by_numbers(fields, num_layers)),
    ):
        if numbers is not None:
            stated_ways[name] = numbers
    if len(set(stated_ways.values())) > 1:
        raise ConfigError(
            f"{fields.where}: the config contradicts itself on which layers are sparse: {', '.join(stated_ways)}",
            hint="leave the one that the model uses",
        )
    sparse = next(iter(stated_ways.values()), (True,) * num_layers)
    if not any(sparse):
        raise ConfigError(
            f"{fields.where}: the config has experts but no sparse layer, by {', '.join(stated_ways)}",
            hint="correct that field, or remove the experts",
        )
    return sparse


def _by_frequency(fields: Fields, num_layers: int) -> tuple[bool, ...] | None:
    if isinstance(fields.values.get("moe_layer_freq"), list):
        listed = fields.integers("moe_layer_freq", num_layers) or ()
        if set(listed) - {0, 1}:
            raise fields.wrong("moe_layer_freq", "is a list that holds more than 0 and 1")
        return tuple(value == 1 for value in listed)
    if not fields.has("moe_layer_freq", "first_k_dense_replace"):
        return None
    first = fields.optional("first_k_dense_replace") or 0
    every = fields.optional("moe_layer_freq", minimum=1) or 1
    return tuple(number >= first and number % every == 0 for number in range(num_layers))


def _by_step(fields: Fields, num_layers: int) -> tuple[bool, ...] | None:
    if not fields.has("decoder_sparse_step", "mlp_only_layers"):
        return None
    step = fields.optional("decoder_sparse_step", minimum=1) or 1
    dense = fields.integers("mlp_only_layers") or ()
    return tuple(number not in dense and (number + 1) % step == 0 for number in range(num_layers))


def _by_interval(fields: Fields, num_layers: int) -> tuple[bool, ...] | None:
    if not fields.has("moe_layer_start_index", "moe_layer_end_index", "moe_layer_interval"):
        return None
    first = fields.optional("moe_layer_start_index") or 0
    last = fields.integer("moe_layer_end_index", default=num_layers - 1, minimum=-1)
    last = num_layers - 1 if last < 0 else last
    every = fields.optional("moe_layer_interval", minimum=1) or 1
    return tuple(first <= number <= last and (number + 1) % every == 0 for number in range(num_layers))


def _by_period(fields: Fields, num_layers: int) -> tuple[bool, ...] | None:
    if not fields.has("expert_layer_period"):
        return None
    every, offset = fields.integer("expert_layer_period"), fields.integer("expert_layer_offset", minimum=0)
    return tuple(number % every == offset for number in range(num_layers))


def _by_interleave(fields: Fields, num_layers: int) -> tuple[bool, ...] | None:
    every = fields.optional("interleave_moe_layer_step", minimum=1)
    return None if every is None else tuple((number + 1) % every == 0 for number in range(num_layers))


def _behind_dense(fields: Fields, num_layers: int) -> tuple[bool, ...] | None:
    first = fields.optional("num_dense_layers")
    return None if first is None else tuple(number >= first for number in range(num_layers))


def _by_numbers(fields: Fields, num_layers: int) -> tuple[bool, ...] | None:
    value = fields.raw("moe_layers_enum")
    if value is None:
        return None
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(str(item).strip().isdecimal() for item in items):
        raise fields.wrong("moe_layers_enum", "is no list of layer numbers")
    chosen = {int(str(item)) for item in items}
    return tuple(number in chosen for number in range(num_layers))
