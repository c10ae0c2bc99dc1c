"""Sizes that do not divide over SGLang's ranks: heads, widths, and blocks of fp8 scales.

Sources: SGLang 0.5.23 srt/models/*.py, srt/layers/linear.py, srt/layers/quantization/fp8.py,
srt/layers/attention/mamba/mamba.py.
"""

from __future__ import annotations

from typing import assert_never

from moeplan.core.deployment import Refusal, Serving, Settings
from moeplan.core.layout import Division
from moeplan.core.model import (
    CompressedAttention,
    CrossAttention,
    DenseFfn,
    GatedDelta,
    GroupedAttention,
    KimiDelta,
    LatentAttention,
    LightningAttention,
    Mamba1,
    Mamba2,
    Mixer,
    ModelSpec,
    RoutedAttention,
    ShortConvolution,
    Weight,
)
from moeplan.core.quant import WeightFormat
from moeplan.engines.sglang.layout import division
from moeplan.engines.sglang.registry import experts_of, mixers_of


def indivisible(serving: Serving, settings: Settings) -> list[Refusal]:
    """Everything that does not divide, with the nearest number of ranks that does."""
    if serving.layout.ep > serving.layout.tp or serving.layout.tp % serving.layout.ep:
        return []  # these degrees are refused as such
    if serving.layout.dp_attention and serving.layout.tp % serving.layout.dp:
        return []
    split = division(serving, settings)
    return _heads(serving.spec, split.attention) + _widths(serving, split) + _broken_blocks(serving, split)


def _heads(spec: ModelSpec, ranks: int) -> list[Refusal]:
    found = []
    for mixer in mixers_of(spec):
        for what, units in _units(mixer):
            if units % ranks:
                told = f"{units} {what} do not divide over {ranks} attention ranks; {_nearest(units, ranks)}"
                found.append(Refusal("heads-not-divisible", told))
        if isinstance(mixer, GroupedAttention) and mixer.num_kv_heads % ranks and ranks % mixer.num_kv_heads:
            heads = mixer.num_kv_heads
            told = f"{heads} key/value heads and {ranks} attention ranks do not divide; {_nearest(heads, ranks)}"
            found.append(Refusal("kv-heads-not-divisible", told))
    return found


def _widths(serving: Serving, split: Division) -> list[Refusal]:
    found = []
    for ffn in dict.fromkeys(ffn for layer in serving.spec.layers for ffn in layer.ffns):
        if isinstance(ffn, DenseFfn) and ffn.width % split.dense_mlp:
            told = f"feed-forward width {ffn.width} does not divide over {split.dense_mlp} ranks"
            found.append(Refusal("width-not-divisible", f"{told}; {_nearest(ffn.width, split.dense_mlp)}"))
    for width in sorted({ffn.expert_width for ffn in experts_of(serving.spec)}):
        if width % split.expert_tp:
            told = f"expert width {width} does not divide over {split.expert_tp} ranks"
            ways = f"{_nearest(width, split.expert_tp)}, or --ep {serving.layout.tp}"
            found.append(Refusal("width-not-divisible", f"{told}; {ways}"))
    return found


def _nearest(units: int, asked: int, multiple: int = 1) -> str:
    fitting = [count for count in range(1, asked) if units % (count * multiple) == 0]
    # Other numbers of ranks than divisors of the asked one would seldom divide heads.
    best = max((count for count in fitting if asked % count == 0), default=max(fitting, default=1))
    return f"--tp {best} does"


def _units(mixer: Mixer) -> list[tuple[str, int]]:
    """Units that must divide over the ranks."""
    match mixer:
        case GroupedAttention() | LatentAttention() | CrossAttention():
            return [("attention heads", mixer.num_heads)]
        case CompressedAttention():
            return [("attention heads", mixer.num_heads), ("output groups", mixer.o_groups)]
        case GatedDelta():
            return [("linear key heads", mixer.num_key_heads), ("linear value heads", mixer.num_value_heads)]
        case KimiDelta() | LightningAttention():
            return [("linear heads", mixer.num_heads)]
        case Mamba2():
            return [("state-space heads", mixer.num_heads)]
        case RoutedAttention():
            return [("key/value heads", mixer.num_kv_heads)]
        case Mamba1():
            return [("state-space channels", mixer.inner_size)]
        case ShortConvolution():
            return [("convolution channels", mixer.channels)]
        case _:
            assert_never(mixer)


def _broken_blocks(serving: Serving, split: Division) -> list[Refusal]:
    """fp8 in two-dimensional blocks: the shard of every matrix, of experts too, must be whole blocks."""
    quantisation = serving.quantisation
    if not any(_block(rule.format) for rule in quantisation.rules):
        return []
    found: dict[int, Refusal] = {}
    for entry in serving.owned:
        weight, ranks = entry.weight, _ranks_of(entry.weight, split)
        side = {"column": 0, "row": 1}.get(weight.split)
        if ranks == 1 or entry.part != "text" or not weight.linear or side is None or len(weight.shape) != 2:
            continue
        size = weight.shape[side]
        name = weight.name.replace("{layer}", str(entry.layers[0]) if entry.layers else "0").replace("{expert}", "0")
        block = _block(quantisation.format_of(name, weight.role, linear=True))
        if block is None or size % ranks or size // ranks % block[side] == 0:
            continue
        told = f"{size} / {ranks} = {size // ranks} of {name.rpartition('.')[0]} is no multiple of the {block[side]} of its fp8 blocks"
        routed = weight.role == "routed_experts"
        way = f"{_nearest(size, ranks, block[side])}" + (f", or --ep {serving.layout.tp}" if routed else "")
        found.setdefault(size // ranks, Refusal("block-not-divisible", f"{told}; {way}"))
    return list(found.values())


def _ranks_of(weight: Weight, split: Division) -> int:
    match weight.role:
        case "attention" | "recurrent" | "indexer":
            return split.attention
        case "dense_mlp":
            return split.dense_mlp
        case "shared_experts":
            return split.shared_experts
        case "routed_experts":
            return split.expert_tp
        case _:
            return 1


def _block(weight_format: WeightFormat) -> tuple[int, int] | None:
    """Rows and columns of a format's blocks, where it has such."""
    group = weight_format.group
    return (group[1], group[2]) if group is not None and group[0] == "block" else None
