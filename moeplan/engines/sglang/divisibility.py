"""Sizes that do not divide over SGLang's ranks: heads, widths, and blocks of fp8 scales.

Sources: SGLang 0.5.23 srt/models/*.py, srt/layers/linear.py, srt/layers/quantization/fp8.py,
srt/layers/attention/mamba/mamba.py.
"""

from typing import NamedTuple

from moeplan.core.deployment import Refusal, Serving, Settings
from moeplan.core.layout import Division
from moeplan.core.mixers import divided_units, mixers_of
from moeplan.core.model import DenseFfn, GroupedAttention, ModelSpec, Weight
from moeplan.core.quant import block_shape
from moeplan.engines.sglang.attention import is_amd
from moeplan.engines.sglang.layout import division
from moeplan.engines.sglang.registry import experts_of


class Misfit(NamedTuple):
    """A size that does not divide."""

    code: str
    told: str
    routed: bool = False
    """True where whole experts on every rank would do."""


def indivisible(serving: Serving, settings: Settings) -> list[Refusal]:
    """Everything that does not divide, with the largest number of ranks below it with which everything does."""
    layout = serving.layout
    if layout.tp % layout.ep or (layout.dp_attention and layout.tp % layout.dp):
        return []  # these degrees are refused as such
    found = _misfits(serving, settings)
    if not found:
        return []
    best = next((tp for tp in range(layout.tp - 1, 0, -1) if _fits(serving, settings, tp)), None)
    way = f"--tp {best} does" if best else "no smaller --tp does"
    ways = {True: f"{way}, or --ep {layout.tp}", False: way}
    return [Refusal(misfit.code, f"{misfit.told}; {ways[misfit.routed]}") for misfit in found]


def _fits(serving: Serving, settings: Settings, tp: int) -> bool:
    layout = serving.layout
    ep = tp if layout.ep == layout.tp else layout.ep
    if tp % ep or (layout.dp_attention and tp % layout.dp):
        return False
    other = serving.deployment._replace(layout=layout._replace(tp=tp, ep=ep))
    return not _misfits(serving._replace(deployment=other), settings)


def _misfits(serving: Serving, settings: Settings) -> list[Misfit]:
    split = division(serving, settings)
    return [*_heads(serving.spec, split.attention), *_widths(serving.spec, split), *_broken_blocks(serving, split)]


def _heads(spec: ModelSpec, ranks: int) -> list[Misfit]:
    found = []
    for mixer in mixers_of(spec):
        for what, units in divided_units(mixer):
            if units % ranks:
                told = f"{units} {what} do not divide over {ranks} attention ranks"
                found.append(Misfit("heads-not-divisible", told))
        if isinstance(mixer, GroupedAttention) and mixer.num_kv_heads % ranks and ranks % mixer.num_kv_heads:
            told = f"{mixer.num_kv_heads} key/value heads and {ranks} attention ranks do not divide"
            found.append(Misfit("kv-heads-not-divisible", told))
    return found


def _widths(spec: ModelSpec, split: Division) -> list[Misfit]:
    found = []
    for ffn in dict.fromkeys(ffn for layer in spec.layers for ffn in layer.ffns):
        if isinstance(ffn, DenseFfn) and ffn.width % split.dense_mlp:
            told = f"feed-forward width {ffn.width} does not divide over {split.dense_mlp} ranks"
            found.append(Misfit("width-not-divisible", told))
    for width in sorted({ffn.expert_width for ffn in experts_of(spec)}):
        if width % split.expert_tp:
            told = f"expert width {width} does not divide over {split.expert_tp} ranks"
            found.append(Misfit("width-not-divisible", told, routed=True))
    return found


def _broken_blocks(serving: Serving, split: Division) -> list[Misfit]:
    """fp8 in two-dimensional blocks: the shard of every matrix, of experts too, must be whole blocks."""
    quantisation = serving.quantisation
    if not any(block_shape(rule.format) for rule in quantisation.rules):
        return []
    found: dict[int, Misfit] = {}
    for entry in serving.owned:
        weight, ranks = entry.weight, _ranks_of(entry.weight, split)
        side = {"column": 0, "row": 1}.get(weight.split)
        if ranks == 1 or entry.part != "text" or not weight.linear or side is None or len(weight.shape) != 2:
            continue
        size = weight.shape[side]
        name = entry.first_name
        if weight.role == "routed_experts" and is_amd(serving):
            continue  # aiter pads them
        block = block_shape(quantisation.format_of(name, weight.role, linear=True))
        if block is None or size % ranks or size // ranks % block[side] == 0:
            continue
        module, unit = name.rpartition(".")[0], block[side]
        told = f"{size} / {ranks} = {size // ranks} of {module} is no multiple of the {unit} of its fp8 blocks"
        found.setdefault(size // ranks, Misfit("block-not-divisible", told, weight.role == "routed_experts"))
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
