"""llama.cpp's mixes: which of its types each tensor of a model gets when somebody quantises it to `q4_k_m` and kin.

Source of all rules: llama.cpp src/llama-quant.cpp, llama_tensor_get_type_impl, without an importance matrix but for mixes of
types that are made with one alone. Block sizes are in `core.quant`.
"""

from __future__ import annotations

from moeplan.core.model import (
    ROLES,
    CompressedAttention,
    GatedDelta,
    GroupedAttention,
    LatentAttention,
    ModelSpec,
    MoeFfn,
    Remark,
    Role,
)
from moeplan.core.quant import FP16, FP32, GGUF, Quantisation, Rule, WeightFormat

MIXES = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_k_s", "q3_k_m", "q2_k", "mxfp4_moe")
"""Mixes that need no importance matrix."""
IQ_MIXES = ("iq4_xs", "iq3_s", "iq3_xxs", "iq2_m", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s")
"""Mixes of types by code books, which reach fewer bits."""
ALL_MIXES = (*MIXES, *IQ_MIXES)
"""Names that `gguf_mix` knows."""
WITH_MATRIX = ("iq3_xxs", "iq2_m", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s")
"""Those that llama.cpp makes with an importance matrix alone (tensor_requires_imatrix)."""

_DOWN = ("down_proj", "w2", "fc2", "output_linear")
_VALUES: tuple[tuple[Role, ...], tuple[str, ...]] = (("attention", "recurrent"), ("v_proj", "in_proj_qkv"))
_EXPERTS: tuple[Role, ...] = ("routed_experts",)
_FFN_ROLES: tuple[Role, ...] = ("routed_experts", "shared_experts", "dense_mlp")
_QUANTISED_ROLES: tuple[Role, ...] = tuple(role for role in ROLES if role not in ("router", "norm", "towers"))


def gguf_mix(name: str, spec: ModelSpec) -> Quantisation:
    """How `spec` would be stored in the mix `name`, one of `ALL_MIXES`.

    Vectors, router and convolutions are fp32; rows that are no multiple of a block fall back per tensor (`fitted`).
    """
    if name in IQ_MIXES:
        return _iq_mix(name, spec)
    q = GGUF
    num_layers = len(spec.layers)
    everywhere = tuple(range(num_layers))
    values = _value_layers(spec)
    eight_experts = _num_experts(spec) == 8
    head, down, value, key, output = q["q6_k"], None, None, None, None
    rules: tuple[Rule, ...] = ()
    if name == "mxfp4_moe":
        # Tensors of three dimensions: experts, and the split halves of the latent's up-projection.
        base = head = q["q8_0"]
        rules += (Rule(q["mxfp4"], _EXPERTS), Rule(q["mxfp4"], ("attention",), ("kv_b_proj",)))
    elif name == "q8_0":
        base = head = q["q8_0"]
    elif name == "q6_k":
        base = q["q6_k"]
    elif name in ("q5_k_m", "q4_k_m"):
        base = q[name[:4]]
        down = {number: q["q6_k"] for number in everywhere if _more_bits(number, num_layers)}
        value = {layer: q["q6_k"] for i, layer in enumerate(values) if _more_bits(i, len(values))}
    elif name == "q4_k_s":
        base = q["q4_k"]
        down = {number: q["q5_k"] for number in everywhere if number < num_layers // 8}
        value = {layer: q["q5_k"] for i, layer in enumerate(values) if i < 4}
    elif name == "q3_k_m":
        base, output = q["q3_k"], q["q4_k"]
        down = {number: q["q5_k" if number < num_layers // 16 else "q4_k"] for number in everywhere}
        value = {layer: q["q5_k" if i < 2 else "q4_k"] for i, layer in enumerate(values)}
    else:
        base, output = q["q2_k"], q["q3_k"]
        down = dict.fromkeys(everywhere, q["q3_k"])
        value = dict.fromkeys(values, q["q4_k" if _queries_per_key(spec) >= 4 else "q3_k"])
    if eight_experts and name != "mxfp4_moe":
        value, key = dict.fromkeys(values, q["q8_0"]), q["q8_0"]
        if name in ("q4_k_m", "q4_k_s", "q3_k_m", "q2_k"):
            output = q["q5_k"]
    rules += (*_outer_rules(spec, head), *_layer_rules(down, _FFN_ROLES, _DOWN), *_layer_rules(value, *_VALUES))
    if key is not None:
        rules += (Rule(key, ("attention",), ("k_proj",)),)
    if output is not None:
        rules += (Rule(output, ("attention",), ("o_proj",)),)
    rules += (Rule(base, _QUANTISED_ROLES),)
    return Quantisation(name, FP32, rules, ("shared_expert_gate",), None, _mix_remarks(name, spec))


def _iq_mix(name: str, spec: ModelSpec) -> Quantisation:
    """The mixes of IQ types: attention and tables keep more bits than experts."""
    q, num_layers, values = GGUF, len(spec.layers), _value_layers(spec)
    queries, num_experts = _queries_per_key(spec), _num_experts(spec)
    head, table, key, query, output = q["q6_k"], None, None, None, None
    base = q[{"iq2_m": "iq2_s", "iq2_s": "iq2_xs"}.get(name, name)]
    value: WeightFormat | None = None
    down: tuple[Rule, ...] = ()
    if name in ("iq4_xs", "iq3_s"):
        value = (q["q5_k"] if name == "iq4_xs" else q["q4_k"]) if queries >= 4 else None
        if name == "iq4_xs":
            down = _layer_rules(dict.fromkeys(range(num_layers // 8), q["q5_k"]), _FFN_ROLES, _DOWN)
        if num_experts == 8:
            value = key = q["q8_0"]
            output = q["q5_k"]
    elif name == "iq3_xxs":
        head, table, output = q["q5_k"], q["iq3_s"], q["q5_k" if num_experts == 8 else "iq3_s"]
        value, key, query = q["q4_k"] if queries >= 4 else None, q["iq2_s"], q["iq2_s"]
        if num_experts == 8:
            value = key = q["q8_0"]
    else:
        more = q["iq3_s" if name in ("iq2_s", "iq2_m") else "q2_k"]
        head, table = q["q5_k"], more
        value = q["q4_k"] if queries >= 4 or num_experts >= 4 else more
        key = q["q4_k"] if num_experts == 8 else None
        if name not in ("iq2_xxs", "iq2_xs"):
            output = q["iq2_xxs"] if name in ("iq1_s", "iq1_m") else q["iq3_s"]
        output = q["q5_k"] if num_experts == 8 else output
        down = tuple(Rule(more, (role,), _DOWN, layers) for role, layers in _first_downs(spec, num_layers // 8).items())
    one_layer = dict.fromkeys(values, value) if value is not None else None
    rules = (*_outer_rules(spec, head), *down, *_layer_rules(one_layer, *_VALUES))
    named = (("k_proj", key), ("q_proj", query), ("o_proj", output))
    rules += tuple(Rule(kind, ("attention",), (part,)) for part, kind in named if kind is not None)
    if table is not None:
        rules += (Rule(table, ("embedding",)),)
    rules += (Rule(base, _QUANTISED_ROLES),)
    return Quantisation(name, FP32, rules, ("shared_expert_gate",), None, _mix_remarks(name, spec))


def _outer_rules(spec: ModelSpec, head: WeightFormat) -> tuple[Rule, ...]:
    return (
        Rule(FP16, ("towers",), linear_only=False),
        Rule(head, ("lm_head", "embedding") if spec.tied_embedding else ("lm_head",)),
    )


def _value_layers(spec: ModelSpec) -> tuple[int, ...]:
    """llama.cpp counts the attention values it meets, not layers."""
    return tuple(number for number, layer in enumerate(spec.layers) if any(map(_has_values, layer.mixers)))


def _first_downs(spec: ModelSpec, count: int) -> dict[Role, tuple[int, ...]]:
    """Layers of the first `count` down-projections by role, as these mixes count them: each tensor, not each layer, and of a
    layer's those of routed experts first."""
    found: dict[Role, list[int]] = {}
    for number, layer in enumerate(spec.layers):
        for ffn in layer.ffns:
            roles: tuple[Role, ...] = ("dense_mlp",)
            if isinstance(ffn, MoeFfn):
                roles = ("routed_experts", "shared_experts") if ffn.num_shared_experts else ("routed_experts",)
            for role in roles:
                if count > 0:
                    found.setdefault(role, []).append(number)
                    count -= 1
    return {role: tuple(layers) for role, layers in found.items()}


def _more_bits(number: int, total: int) -> bool:
    return number < total // 8 or number >= 7 * total // 8 or (number - total // 8) % 3 == 2


def _layer_rules(
    by_layer: dict[int, WeightFormat] | None, roles: tuple[Role, ...], names: tuple[str, ...]
) -> tuple[Rule, ...]:
    layers: dict[WeightFormat, list[int]] = {}
    for number, weight_format in (by_layer or {}).items():
        layers.setdefault(weight_format, []).append(number)
    return tuple(Rule(weight_format, roles, names, tuple(numbers)) for weight_format, numbers in layers.items())


def _has_values(mixer: object) -> bool:
    if isinstance(mixer, GatedDelta):
        return not mixer.fused_projections
    return isinstance(mixer, GroupedAttention) and not mixer.value_is_key


def _num_experts(spec: ModelSpec) -> int:
    return max((ffn.num_experts for layer in spec.layers for ffn in layer.ffns if isinstance(ffn, MoeFfn)), default=0)


def _queries_per_key(spec: ModelSpec) -> int:
    for layer in spec.layers:
        for mixer in layer.mixers:
            if isinstance(mixer, GroupedAttention):
                return mixer.num_heads // mixer.num_kv_heads
            if isinstance(mixer, LatentAttention | CompressedAttention):
                return mixer.num_heads  # llama.cpp sees one key/value head
    return 1


def _mix_remarks(name: str, spec: ModelSpec) -> tuple[Remark, ...]:
    doubts = []
    mixers = [mixer for layer in spec.layers for mixer in layer.mixers]
    if any(isinstance(mixer, LatentAttention | CompressedAttention) for mixer in mixers):
        doubts.append("llama.cpp splits the latent's up-projection in two, whose types differ from the whole")
    if any(not isinstance(mixer, GroupedAttention | LatentAttention | CompressedAttention) for mixer in mixers):
        doubts.append("recurrent projections are regrouped on conversion")
    if spec.towers:
        doubts.append("towers go to a second file and are counted as fp16")
    if spec.mtp is not None:
        doubts.append("converters differ in whether they keep MTP layers")
    remarks: tuple[Remark, ...] = (
        Remark(
            "gguf-mix",
            "info",
            f"{name} as llama.cpp mixes it with an importance matrix; files named UD or XL differ: read the file itself for exact sizes"
            if name in WITH_MATRIX
            else f"{name} as llama.cpp mixes it without an importance matrix; files made with one, or named UD or XL, "
            "differ: read the file itself for exact sizes",
        ),
    )
    if doubts:
        remarks += (Remark("gguf-mix-approximate", "warning", "; ".join(doubts)),)
    return remarks
