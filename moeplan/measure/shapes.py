"""MoE layers that are measured without a model: few fat experts, many thin ones, shared experts, latent sizes.

Widths, experts and routers are those of the models' configs on the Hub. gpt-oss is taken without its biases and its clamped
activation. A name that ends in `-tp8` or `-ep8` is one of eight ranks: an eighth of each expert's width, or an eighth of the
experts with the tokens that come to them.
"""

from __future__ import annotations

from collections.abc import Mapping

from moeplan.core.measurement import CaseValue, Effort, MeasuredDevice, MoeShape
from moeplan.core.units import MIB

FEW_FAT = MoeShape("mixtral-8x7b", 4096, 14336, 8, 2)
MANY_THIN = MoeShape("qwen3-30b-a3b", 2048, 768, 128, 8)
OLMOE = MoeShape("olmoe-1b-7b", 2048, 1024, 64, 8)
GPT_OSS = MoeShape("gpt-oss-20b", 2880, 2880, 32, 4, "topk_softmax")
SHARED = MoeShape("deepseek-v2-lite", 2048, 1408, 64, 6, shared_width=2816)
V3_TP8 = MoeShape("deepseek-v3-tp8", 7168, 256, 256, 8, "sigmoid_bias_groups", shared_width=256)
V3_EP8 = MoeShape("deepseek-v3-ep8", 7168, 2048, 32, 1, "sigmoid_bias_groups")
V3 = MoeShape("deepseek-v3", 7168, 2048, 256, 8, "sigmoid_bias_groups", shared_width=2048)
LATENT = MoeShape(
    "nemotron-3-super", 4096, 2688, 512, 22, "sigmoid_bias_groups", shared_width=5376, latent_size=1024, gated=False
)
SCOUT = MoeShape("llama-4-scout", 5120, 8192, 16, 1, "topk_sigmoid", shared_width=8192)

_SHAPES: dict[Effort, tuple[MoeShape, ...]] = {
    "quick": (FEW_FAT, MANY_THIN),
    "default": (FEW_FAT, MANY_THIN, OLMOE, GPT_OSS, V3_TP8, LATENT),
    "full": (FEW_FAT, MANY_THIN, OLMOE, GPT_OSS, SHARED, V3_TP8, V3_EP8, V3, LATENT, SCOUT),
}

_SMALL_SHAPES: dict[Effort, tuple[MoeShape, ...]] = {
    "quick": (MoeShape("few-fat-small", 512, 1024, 4, 2), MoeShape("many-thin-small", 512, 128, 32, 4)),
    "default": (
        MoeShape("few-fat-small", 1024, 2048, 8, 2),
        MoeShape("many-thin-small", 1024, 256, 64, 8, "sigmoid_bias_groups"),
        MoeShape("shared-small", 1024, 512, 16, 4, shared_width=1024),
        MoeShape("latent-small", 1024, 512, 32, 8, "sigmoid_bias_groups", 1024, 256, gated=False),
    ),
}

ROUTER_SHAPES = (
    FEW_FAT,
    GPT_OSS,
    V3,
    MoeShape("deepseek-v2", 5120, 1536, 160, 6, "group_limited_greedy", shared_width=3072),
    MoeShape("minimax-m2.5", 3072, 1536, 256, 8, "sigmoid_bias"),
    MoeShape("deepseek-v4-flash", 4096, 2048, 256, 6, "sqrtsoftplus_bias", shared_width=2048),
    MoeShape("deepseek-v4-flash-hash", 4096, 2048, 256, 6, "hash_by_token", shared_width=2048),
    MoeShape("ernie-4.5-21b-a3b", 2560, 1536, 64, 6, "softmax_bias", shared_width=3072),
    MoeShape("longcat-flash", 6144, 2048, 768, 12, "softmax_zero_experts"),
    MoeShape("phi-3.5-moe", 4096, 6400, 16, 2, "sparsemixer"),
    SCOUT,
)
"""One model of each routing function. Longcat's 768 are 512 experts and 256 zero experts."""

_CPU_BYTES: dict[Effort, int] = {"quick": 64 * MIB, "default": 256 * MIB, "full": 1024 * MIB}


def builtin_shapes(effort: Effort, device: MeasuredDevice) -> tuple[MoeShape, ...]:
    """Shapes for a device of this kind: those of models on a GPU, small ones on the CPU."""
    if device.kind == "cpu":
        return _SMALL_SHAPES["default" if effort == "full" else effort]
    return _SHAPES[effort]


def is_builtin(shapes: tuple[MoeShape, ...]) -> bool:
    """Whether these are built-in shapes and no model's own."""
    known = {shape for shapes in (*_SHAPES.values(), *_SMALL_SHAPES.values()) for shape in shapes}
    return all(shape in known for shape in shapes)


def fitted(shape: MoeShape, effort: Effort, value_bytes: int, device: MeasuredDevice) -> MoeShape:
    """The shape, or one with fewer experts that says so in its name, where its weights would fill the device.

    Weights may take two fifths of the free bytes of a GPU (copies and work space need the rest), and on the CPU what can be
    measured in the time of this effort. Experts are halved, and never fewer than a token chooses.
    """
    most = _CPU_BYTES[effort] if device.kind == "cpu" else (device.free_bytes or device.total_bytes or 0) * 2 // 5
    matrices = 3 if shape.gated else 2
    expert_bytes = matrices * (shape.latent_size or shape.hidden_size) * shape.expert_width * value_bytes
    kept = shape.num_experts
    while kept * expert_bytes > most > 0 and kept // 2 >= shape.experts_per_token:
        kept //= 2
    if kept == shape.num_experts:
        return shape
    return shape._replace(name=f"{shape.name} ({kept} of {shape.num_experts} experts)", num_experts=kept)


def shape_case(shape: MoeShape) -> dict[str, CaseValue]:
    """What a case says of its shape: the fields of `MoeShape`, with the name as `shape`."""
    fields = shape._asdict()
    return {"shape": fields.pop("name"), **fields}


def shape_of(case: Mapping[str, CaseValue]) -> MoeShape:
    """The shape of a case that `shape_case` made, whatever else it says."""
    fields = {name: case[name] for name in MoeShape._fields if name in case}
    return MoeShape(**fields | {"name": case["shape"]})  # type: ignore[arg-type]  # as they were put in
