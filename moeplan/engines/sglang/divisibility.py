"""Sizes that do not divide over SGLang's ranks: heads, widths, and blocks of fp8 scales.

Sources: SGLang 0.5.23 srt/models/*.py, srt/layers/linear.py, srt/layers/quantization/fp8.py,
srt/layers/attention/mamba/mamba.py.
"""

from __future__ import annotations

from moeplan.core.deployment import Serving, Settings
from moeplan.core.divisibility import BlockSide
from moeplan.core.layout import Division
from moeplan.core.mixers import divided_units, mixers_of
from moeplan.core.model import DenseFfn, GroupedAttention, ModelSpec, Role
from moeplan.core.remedies import Problem
from moeplan.engines.sglang.attention import is_amd
from moeplan.engines.sglang.layout import division
from moeplan.engines.sglang.registry import experts_of


def misfits(serving: Serving, settings: Settings, sides: tuple[BlockSide, ...]) -> list[Problem]:
    """Everything that does not divide."""
    split = division(serving, settings)
    return [
        *_heads(serving.spec, split.attention),
        *_widths(serving.spec, split),
        *_broken_blocks(serving, split, sides),
    ]


def _heads(spec: ModelSpec, ranks: int) -> list[Problem]:
    found = []
    for mixer in mixers_of(spec):
        for what, units in divided_units(mixer):
            if units % ranks:
                told = f"{units} {what} do not divide over {ranks} attention ranks"
                found.append(Problem("heads-not-divisible", told))
        if isinstance(mixer, GroupedAttention) and mixer.num_kv_heads % ranks and ranks % mixer.num_kv_heads:
            told = f"{mixer.num_kv_heads} key/value heads and {ranks} attention ranks do not divide"
            found.append(Problem("kv-heads-not-divisible", told))
    return found


def _widths(spec: ModelSpec, split: Division) -> list[Problem]:
    found = []
    for ffn in dict.fromkeys(ffn for layer in spec.layers for ffn in layer.ffns):
        if isinstance(ffn, DenseFfn) and ffn.width % split.dense_mlp:
            told = f"feed-forward width {ffn.width} does not divide over {split.dense_mlp} ranks"
            found.append(Problem("width-not-divisible", told))
    for width in sorted({ffn.expert_width for ffn in experts_of(spec)}):
        if width % split.expert_tp:
            told = f"expert width {width} does not divide over {split.expert_tp} ranks"
            found.append(Problem("width-not-divisible", told))
    return found


def _broken_blocks(serving: Serving, split: Division, sides: tuple[BlockSide, ...]) -> list[Problem]:
    """fp8 in two-dimensional blocks: the shard of every matrix, of experts too, must be whole blocks."""
    found: dict[int, Problem] = {}
    for side in sides:
        ranks = _ranks_of(side.role, split)
        if side.role == "routed_experts" and is_amd(serving):
            continue  # aiter pads them
        if side.is_broken(ranks):
            found.setdefault(side.size // ranks, Problem("block-not-divisible", side.told(ranks)))
    return list(found.values())


def _ranks_of(role: Role, split: Division) -> int:
    match role:
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
