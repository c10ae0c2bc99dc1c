"""`moeplan routing place`: experts on ranks by their load, and what that is worth and costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moeplan.core.errors import InputError
from moeplan.core.expert_placement import (
    Placement,
    balance,
    balancedness_of_steps,
    contiguous,
    fan_out,
    most_without_copies,
    spare_bytes_per_rank,
)
from moeplan.core.expert_placement import place as place_layer
from moeplan.core.model import MoeFfn, Remark
from moeplan.core.quant import holdings
from moeplan.core.routing_profile import LayerRouting
from moeplan.core.weights import inventory
from moeplan.routing.reading import Part, check_same_layers, read_part
from moeplan.routing.result import PLACEMENT_SCHEMA, Balances, MemoryPaid, PlacedLayer, PlacementReport, RankLoads
from moeplan.sources.loaded import Asked, LoadedModel
from moeplan.sources.models import find_model

MOST_RANKS = 4096
ENGINE = "vllm"
"""Whose way to hold weights the memory is counted in; experts are held as the checkpoint stores them by all of them."""


def place(
    file: str | Path,
    *,
    ranks: int,
    nodes: int = 1,
    redundant: int = 0,
    groups: int | None = None,
    kept_groups: int | None = None,
    live: str | Path | None = None,
    model: str | None = None,
    quant: str | None = None,
    phase: str = "all",
    prompt_class: str | None = None,
    layers: Sequence[str | int] = (),
    offline: bool = False,
    profiles: str | Path | Sequence[str | Path] = (),
) -> PlacementReport:
    """Place the experts of each layer on `ranks` by the counts of `file`, with `redundant` further copies over all ranks.

    `live` is another file of the same model, whose counts judge the placement. `model` gives the memory of the copies, in the
    format `quant`, and the router's groups where its config has them; `groups` and `kept_groups` state these. Raises the errors
    of `moeplan.core.errors`.
    """
    if not 1 <= ranks <= MOST_RANKS:
        raise InputError(
            f"--ranks {ranks} must be from 1 to {MOST_RANKS:,}", hint="say how many ranks share the experts"
        )
    part = read_part(file, phase=phase, prompt_class=prompt_class, layers=layers)
    most = min(layer.num_experts for layer in part.layers) * (ranks - 1)
    if redundant > most:
        raise InputError(
            f"--redundant {redundant}: with a copy of each expert on each of {ranks} ranks there are {most}",
            hint=f"take {most} or fewer",
        )
    other = None if live is None else read_part(live, phase=phase, prompt_class=prompt_class, layers=layers)
    if other is not None:
        check_same_layers(part, other)
    notes = [*part.notes, *(other.notes if other is not None else ())]
    loaded, memory = None, None
    unknown: str | None = "no model was named; --model tells what a copy takes"
    if model is not None:
        folders = tuple(Path(folder) for folder in ([profiles] if isinstance(profiles, str | Path) else profiles))
        loaded = find_model(model, Asked(None, offline, False, None, folders))
        expert_bytes, format_ = _expert_bytes(loaded, part, quant, notes)
        each = spare_bytes_per_rank(redundant, ranks, expert_bytes, len(part.layers))
        memory, unknown = MemoryPaid(loaded.id, format_, expert_bytes, each, each * ranks), None
    elif quant is not None:
        raise InputError("--quant needs --model", hint="a format is of a model's weights")
    groups, kept = _groups(groups, kept_groups, loaded)
    lives: Sequence[LayerRouting | None] = [None] * len(part.layers) if other is None else other.layers
    placed = tuple(
        _layer(layer, counted, ranks, nodes, redundant, groups, kept)
        for layer, counted in zip(part.layers, lives, strict=True)
    )
    if nodes > 1 and groups % nodes:
        told = (
            f"{groups} groups of the router do not divide over {nodes} nodes"
            if groups > 1
            else "the router has no groups"
        )
        notes.append(
            Remark("placement-ignores-nodes", "info", f"{told}: experts are placed as if all ranks were on one")
        )
    return PlacementReport(
        schema=PLACEMENT_SCHEMA,
        source=part.source,
        live_source=None if other is None else other.source,
        selection=part.selection,
        ranks=ranks,
        nodes=nodes,
        redundant_experts=redundant,
        slots_per_rank=max(len(rank) for rank in placed[0].experts_by_rank),
        groups=groups,
        kept_groups=kept,
        before=_balances([(layer.layer, layer.before) for layer in placed]),
        after=_balances([(layer.layer, layer.after) for layer in placed]),
        live_before=_balances([(layer.layer, layer.live_before) for layer in placed if layer.live_before])
        if other
        else None,
        live=_balances([(layer.layer, layer.live) for layer in placed if layer.live]) if other else None,
        memory=memory,
        memory_unknown=unknown,
        layers=placed,
        notes=tuple(notes),
    )


def _layer(
    layer: LayerRouting, live: LayerRouting | None, ranks: int, nodes: int, redundant: int, groups: int, kept: int
) -> PlacedLayer:
    start = contiguous(layer.num_experts, ranks, 0, nodes)
    after = place_layer(layer.counts, ranks, redundant, num_nodes=nodes, num_groups=groups)
    inclusion = [count / layer.tokens for count in layer.counts]
    visited = fan_out(after, inclusion, max(1, round(layer.experts_per_token)), num_groups=groups, kept_groups=kept)
    return PlacedLayer(
        layer=layer.layer,
        num_experts=layer.num_experts,
        before=_loads(start, layer),
        after=_loads(after, layer),
        live_before=None if live is None else _loads(start, live),
        live=None if live is None else _loads(after, live),
        most_without_copies=most_without_copies(layer.counts, ranks) or 1.0,
        ranks_per_token=visited.ranks,
        nodes_per_token=visited.nodes,
        experts_by_rank=after.slots,
    )


def _loads(placement: Placement, layer: LayerRouting) -> RankLoads:
    found = balance(placement, layer.counts)
    even = found.balancedness or 1.0
    return RankLoads(found.loads, even, 1 / even, balancedness_of_steps(placement, layer.windows))


def _balances(layers: Sequence[tuple[int, RankLoads]]) -> Balances:
    number, worst = min(layers, key=lambda each: each[1].balancedness)
    return Balances(sum(loads.balancedness for _, loads in layers) / len(layers), worst.balancedness, number)


def _expert_bytes(loaded: LoadedModel, part: Part, quant: str | None, notes: list[Remark]) -> tuple[int, str]:
    """Bytes of one expert of one layer as it is resident, and its format. InputError for a model of other experts."""
    from moeplan.estimate.question import read_formats

    counts = {
        number: ffn.num_experts
        for number, layer in enumerate(loaded.spec.layers)
        for ffn in layer.ffns
        if isinstance(ffn, MoeFfn)
    }
    for each in part.layers:
        if counts.get(each.layer) != each.num_experts:
            there = f"has {counts[each.layer]}" if each.layer in counts else "is dense, or none"
            raise InputError(
                f"layer {each.layer} has {each.num_experts} experts in {part.source.file} and {there} in {loaded.id}",
                hint=f"name the model that was counted: the file says {part.source.model}",
            )
    spec, resident, _ = read_formats(loaded, ENGINE, None, None, quant, notes)
    held: dict[int, int] = {}
    formats: dict[str, int] = {}
    for weight, part_of, format_, num_bytes, owners in holdings(inventory(spec), resident):
        if weight.role == "routed_experts" and part_of == "text":
            formats[format_] = formats.get(format_, 0) + num_bytes
            for number in owners:
                held[number] = held.get(number, 0) + num_bytes // len(owners)
    taken = {layer.layer for layer in part.layers}
    return max(-(-held[layer] // counts[layer]) for layer in taken), max(formats, key=formats.__getitem__)


def _groups(groups: int | None, kept: int | None, loaded: LoadedModel | None) -> tuple[int, int]:
    """Groups of the router and how many a token keeps: as stated, else as the model's config has them, else none."""
    config: Mapping[str, Any] = (loaded.config or {}) if loaded is not None else {}
    known = [config.get(key) for key in ("n_group", "topk_group")]
    there = [value if isinstance(value, int) and value >= 1 else 1 for value in known]
    found = there[0] if groups is None else groups
    keeps = kept if kept is not None else there[1] if groups is None else found
    if found < 1 or not 1 <= keeps <= found:
        raise InputError(
            f"--groups {found} and --kept-groups {keeps}: a token keeps between 1 and all groups of its router",
            hint="`n_group` and `topk_group` of the model's config",
        )
    return found, keeps
