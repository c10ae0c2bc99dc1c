"""Which share of a weight one rank holds: by stage, by tensor-parallel rank, by expert-parallel rank.

Source of the split rules: vLLM 0.33.0 (ColumnParallelLinear, RowParallelLinear, ReplicatedLinear and QKVParallelLinear
in model_executor/layers/linear.py, vocab_parallel_embedding.py, fused_moe/expert_map_manager.py), and the same classes
of SGLang 0.5.23.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from math import ceil
from typing import NamedTuple

from moeplan.core.kv_cache import CacheRow
from moeplan.core.layout import Division, Layout, Place, Stage
from moeplan.core.ledger import Line
from moeplan.core.model import ModelSpec, Weight
from moeplan.core.quant import Holding


class RankView(NamedTuple):
    """One rank as engines' rules see it."""

    place: Place
    division: Division
    spec: ModelSpec
    """The model with the layers of this rank's stage alone."""
    rows: tuple[CacheRow, ...]
    """What the layers of this stage keep for one sequence."""
    weights: tuple[Line, ...] = ()
    """Weight lines of the rank, `weights.<role>`."""


# Ranks -----------------------------------------------------------------------------------------------------


def stages(layout: Layout, num_layers: int) -> tuple[Stage, ...]:
    """The pipeline stages with their layers; one stage where the layout states none."""
    counts = layout.pp_layers or (num_layers,)
    found, first = [], 0
    for number, count in enumerate(counts):
        found.append(Stage(number, first, first + count, number == 0, number == len(counts) - 1))
        first += count
    return tuple(found)


def places(layout: Layout, division: Division, num_layers: int, num_experts: int) -> tuple[Place, ...]:
    """All ranks, those that hold the same together; within a stage they differ in whole experts alone.

    Ranks are numbered as vLLM and SGLang do: tensor-parallel ranks count fastest, then stages, then data-parallel
    groups. Experts are in order of the rank in its stage.
    """
    copies = max(1, layout.num_gpus // (layout.tp * layout.pp))
    found = []
    for stage in stages(layout, num_layers):
        alike: dict[int, list[int]] = {}
        for copy in range(copies):
            for rank in range(layout.tp):
                number = copy * layout.pp * layout.tp + stage.number * layout.tp + rank
                expert_rank = (copy * layout.tp + rank) // division.expert_tp % division.expert_ep
                physical = num_experts + division.redundant_experts
                alike.setdefault(local_experts(physical, division.expert_ep, expert_rank), []).append(number)
        for experts in sorted(alike, reverse=True):
            ranks = alike[experts]
            first = ranks[0] - stage.number * layout.tp
            copy, rank = divmod(first, layout.pp * layout.tp)
            expert_rank = (copy * layout.tp + rank) // division.expert_tp % division.expert_ep
            found.append(Place(tuple(ranks), stage, expert_rank))
    return tuple(found)


def local_experts(num_experts: int, expert_ranks: int, expert_rank: int) -> int:
    """Whole experts on one expert-parallel rank: the first ranks take one more where they do not divide.

    Source: vLLM 0.33.0 fused_moe/expert_map_manager.py:determine_expert_map.
    """
    return num_experts // expert_ranks + (expert_rank < num_experts % expert_ranks)


# Weights ---------------------------------------------------------------------------------------------------


def layers_here(holding: Holding, stage: Stage, *, tied_embedding: bool = False) -> int:
    """In how many layers of the stage a weight is; weights outside layers count as one where the stage has them.

    The input table belongs to the first stage, and to the last as well where it is also the head; what stands behind
    the layers (final norm, head, draft layers) to the last; encoders of other modalities to the first.
    """
    if holding.part in ("mtp", "mtp_duplicate"):
        return (len(holding.layers) or 1) if stage.is_last else 0
    if holding.layers and holding.part == "text":
        # Numbers of layers ascend; a search over layouts asks this some hundred thousand times.
        return bisect_left(holding.layers, stage.end_layer) - bisect_left(holding.layers, stage.first_layer)
    if holding.part in ("tower", "encoder"):
        return (len(holding.layers) or 1) if stage.is_first else 0
    if holding.weight.role == "embedding":
        return int(stage.is_first or (tied_embedding and stage.is_last))
    return int(stage.is_last)


def rank_share(weight: Weight, division: Division, expert_rank: int = 0) -> tuple[int, int]:
    """Units of `weight` on a rank, of how many in all; more than all only where padding or copies add some.

    Units that do not divide evenly are refused by the engines; a planner still plans the fullest rank.
    """
    units, of_units = tensor_share(weight, division)
    return tensors_here(weight, division, expert_rank) * units, weight.count * of_units


def tensors_here(weight: Weight, division: Division, expert_rank: int = 0) -> int:
    """How many of the `count` tensors of a layer a rank has: routed experts as wholes, copies of some included."""
    if weight.role != "routed_experts" or weight.count == 1:
        return weight.count
    return local_experts(weight.count + division.redundant_experts, division.expert_ep, expert_rank)


def tensor_share(weight: Weight, division: Division) -> tuple[int, int]:
    """Units of one tensor on a rank that has it, of how many."""
    return _split_units(weight, _ranks_of(weight, division), division)


def _ranks_of(weight: Weight, division: Division) -> int:
    match weight.role:
        case "embedding":
            return division.embedding
        case "lm_head":
            return division.lm_head
        case "routed_experts":
            return division.expert_tp
        case "shared_experts":
            return division.shared_experts
        case "dense_mlp":
            return division.dense_mlp
        case "towers":
            return division.towers
        case _:
            return division.attention


def _split_units(weight: Weight, num_ranks: int, division: Division) -> tuple[int, int]:
    if num_ranks == 1 and weight.split != "vocabulary":
        return 1, 1
    match weight.split:
        case "replicated":
            return 1, 1
        case "column" | "row":
            return -(-weight.units // num_ranks), weight.units
        case "kv_heads":
            return max(1, -(-weight.units // num_ranks)), weight.units
        case "vocabulary":
            padding = division.vocabulary_padding
            padded = -(-weight.units // padding) * padding
            return -(-padded // num_ranks), weight.units


def rank_bytes(
    holding: Holding,
    place: Place,
    division: Division,
    *,
    tied_embedding: bool = False,
    on_host: Callable[[Weight, int | None], float] | None = None,
) -> int:
    """Bytes of a weight on a rank, in all the layers that its stage has, less what stays `on_host`; rounded up."""
    layers: float = layers_here(holding, place.stage, tied_embedding=tied_embedding)
    if on_host is not None and layers:
        layers -= host_layers(holding, on_host, place.stage)
    if not layers:
        return 0
    units, of_units = rank_share(holding.weight, division, place.expert_rank)
    of_layers = len(holding.layers) or 1
    if isinstance(layers, int):
        return -(-holding.num_bytes * layers * units // (of_layers * of_units))
    return ceil(holding.num_bytes * layers * units / (of_layers * of_units))


def host_layers(holding: Holding, on_host: Callable[[Weight, int | None], float], stage: Stage | None = None) -> float:
    """In how many layers (of a stage) a weight stays in host memory, parts counted as parts."""
    if not holding.layers or holding.part != "text":
        return on_host(holding.weight, None) * (len(holding.layers) or 1)
    mine = holding.layers
    if stage is not None:
        mine = tuple(layer for layer in mine if stage.first_layer <= layer < stage.end_layer)
    return sum(on_host(holding.weight, layer) for layer in mine)


def stage_spec(spec: ModelSpec, stage: Stage, *, drafts: bool = False) -> ModelSpec:
    """The model with the layers of one stage alone; the last stage runs the draft layers (MTP) where they are used."""
    extra = spec.mtp.layers if drafts and spec.mtp is not None and stage.is_last else ()
    if stage.first_layer == 0 and stage.end_layer == len(spec.layers) and not extra:
        return spec
    return spec._replace(layers=spec.layers[stage.first_layer : stage.end_layer] + extra)


def even_stages(num_layers: int, num_stages: int) -> tuple[int, ...]:
    """Layers of each stage where nobody states them: what is left over goes to the stages before the last, last first.

    Source: vLLM 0.33.0 distributed/utils.py:get_pp_indices, which spares the first and last stage their extra layer
    because these hold the embedding and the head.
    """
    return tuple(_even(num_layers, num_stages))


def _even(num_layers: int, num_stages: int) -> Iterator[int]:
    each, left = divmod(num_layers, num_stages)
    for stage in range(num_stages):
        behind = num_stages - stage  # counted from the end: the last stage is 1
        yield each + (2 <= behind < 2 + left)
