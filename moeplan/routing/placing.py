"""`moeplan routing place`: experts on ranks by their load, and what that is worth and costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from moeplan.core.units import parse_count
from moeplan.core.weights import inventory
from moeplan.routing.reading import Part, check_same_layers, read_part
from moeplan.routing.result import PLACEMENT_SCHEMA, MemoryPaid, PlacedLayer, PlacementReport, RankLoads, Selection
from moeplan.routing.spare_result import SkewUsed
from moeplan.routing.spare_slots import Loads, Ranks, numbers, step_of_ranks, sweep
from moeplan.routing.stated_law import laws, skew_of
from moeplan.sources.loaded import Asked, LoadedModel
from moeplan.sources.models import find_model

MOST_RANKS = 4096
ENGINE = "vllm"
"""Whose way to hold weights the memory is counted in where none is named; all hold experts as the checkpoint stores them."""


def place(
    file: str | Path | None = None,
    *,
    ranks: int,
    nodes: int = 1,
    redundant: int | Sequence[int] | None = None,
    groups: int | None = None,
    kept_groups: int | None = None,
    live: str | Path | None = None,
    model: str | None = None,
    quant: str | None = None,
    skew: float | None = None,
    step_tokens: int | str | None = None,
    gpu: str | None = None,
    engine: str = ENGINE,
    tp: int = 1,
    concurrency: int | str | None = None,
    context: int | str | None = None,
    input: int | str | None = None,  # noqa: A002 - the option's name
    output: int | str | None = None,
    phase: str = "all",
    prompt_class: str | None = None,
    layers: Sequence[str | int] = (),
    offline: bool = False,
    profiles: str | Path | Sequence[str | Path] = (),
) -> PlacementReport:
    """Place the experts of each layer on `ranks` by the counts of `file`, with `redundant` further copies over all ranks.

    Without a file the expected loads of a law of the gates' weights are placed, whose exponent is `skew`, or what was published of
    the `model`. Several numbers of copies, or none, are held against each other; `live` is another file of the same model, whose
    counts judge the placement, and single steps of `step_tokens` do. `model` gives the memory of the copies, in the
    format `quant`, and the router's groups where its config has them; `groups` and `kept_groups` state these. With `gpu`
    and `concurrency` it is told what copies are worth in time, as `estimate` has it: `ranks` of an `engine`, of which `tp` share
    attention. Raises the errors of `moeplan.core.errors`.
    """
    part_of = _PartOf(phase, prompt_class, layers)
    _check(file, ranks, model=model, skew=skew, live=live, part_of=part_of)
    _check_load(file, gpu, model=model, part_of=part_of, lengths={"context": context, "input": input, "output": output})
    folders = tuple(Path(folder) for folder in ([profiles] if isinstance(profiles, str | Path) else profiles))
    notes: list[Remark] = []
    loaded = None if model is None else find_model(model, Asked(None, offline, False, None, folders))
    given = _given(file, live, loaded, skew, folders, part_of, notes)
    asked_counts = [redundant] if isinstance(redundant, int) else redundant
    counts = numbers(given.loads, ranks, asked_counts)
    most = min(len(each.loads) for each in given.loads) * (ranks - 1)
    if counts[-1] > most:
        raise InputError(
            f"--redundant {counts[-1]}: with a copy of each expert on each of {ranks} ranks there are {most}",
            hint=f"take {most} or fewer",
        )
    expert_bytes, format_ = None, ""
    if loaded is not None:
        expert_bytes, format_ = _expert_bytes(loaded, given.selection.layers, engine, quant, notes)
    elif quant is not None:
        raise InputError("--quant needs --model", hint="a format is of a model's weights")
    groups, kept = _groups(groups, kept_groups, loaded)
    at_once = None if concurrency is None else parse_count(str(concurrency), "--concurrency").value
    stated = None if step_tokens is None else parse_count(str(step_tokens), "--step-tokens").value
    on = Ranks(given.loads, ranks, nodes, groups, step_of_ranks(stated, at_once, ranks), expert_bytes)
    asked = None
    if gpu is not None and model is not None:
        from moeplan.routing.served_ranks import Asked as AskedRanks
        from moeplan.routing.served_ranks import check_asked

        asked = AskedRanks(
            model, gpu, engine, ranks, tp, nodes if nodes > 1 else None, concurrency, context, input, output, quant,
            None if given.skew is None else given.skew.exponent, file, offline, folders,
        )  # fmt: skip
        check_asked(asked)
    found, told = sweep(on, counts, asked)
    notes += told
    # The details are of the number that was asked for; of several of the recommended one, else of the fewest.
    shown = counts[0]
    if asked_counts:
        shown = found.recommended if found.recommended in asked_counts else min(asked_counts)
    row = next(each for each in found.spare if each.redundant_experts == shown)
    placed = tuple(_layer(layer, counted, ranks, nodes, shown, groups, kept) for layer, counted in given.counted)
    if nodes > 1 and groups % nodes:
        told_of = (
            f"{groups} groups of the router do not divide over {nodes} nodes"
            if groups > 1
            else "the router has no groups"
        )
        notes.append(
            Remark("placement-ignores-nodes", "info", f"{told_of}: experts are placed as if all ranks were on one")
        )
    memory = None
    if loaded is not None and expert_bytes is not None:
        num_layers = sum(each.layers for each in given.loads)
        each = spare_bytes_per_rank(shown, ranks, expert_bytes, num_layers)
        memory = MemoryPaid(loaded.id, format_, expert_bytes, each, each * ranks)
    return PlacementReport(
        schema=PLACEMENT_SCHEMA,
        model=given.model,
        source=None if given.part is None else given.part.source,
        skew=given.skew,
        live_source=None if given.other is None else given.other.source,
        selection=given.selection,
        ranks=ranks,
        nodes=nodes,
        redundant_experts=shown,
        slots_per_rank=row.slots_per_rank,
        groups=groups,
        kept_groups=kept,
        before=found.in_order.balancedness,
        after=row.balancedness,
        live_before=found.in_order.live,
        live=row.live,
        memory=memory,
        memory_unknown=None if memory is not None else "no model was named; --model tells what a copy takes",
        sweep=found,
        layers=placed,
        notes=tuple(dict.fromkeys(notes)),
    )


class _Given(NamedTuple):
    """What is placed: counts of a file, or a law."""

    model: str
    part: Part | None
    other: Part | None
    skew: SkewUsed | None
    selection: Selection
    loads: tuple[Loads, ...]

    @property
    def counted(self) -> list[tuple[LayerRouting, LayerRouting | None]]:
        """Layers of the file, each with that of the other one."""
        if self.part is None:
            return []
        lives: Sequence[LayerRouting | None] = [None] * len(self.part.layers)
        if self.other is not None:
            lives = self.other.layers
        return list(zip(self.part.layers, lives, strict=True))


class _PartOf(NamedTuple):
    """The part of a file that is asked for."""

    phase: str
    prompt_class: str | None
    layers: Sequence[str | int]

    @property
    def option(self) -> str | None:
        """The first option that asks for less than all of it."""
        if self.phase != "all":
            return "--phase"
        return "--class" if self.prompt_class is not None else "--layer" if self.layers else None


def _check(
    file: str | Path | None,
    ranks: int,
    *,
    model: str | None,
    skew: float | None,
    live: str | Path | None,
    part_of: _PartOf,
) -> None:
    """Raise InputError where loads are stated twice, or not at all."""
    if not 1 <= ranks <= MOST_RANKS:
        raise InputError(
            f"--ranks {ranks} must be from 1 to {MOST_RANKS:,}", hint="say how many ranks share the experts"
        )
    if file is not None:
        if skew is not None:
            raise InputError(f"{file} and --skew {skew:g} both say how experts are used", hint="leave one of them out")
        return
    if model is None:
        raise InputError(
            "neither a FILE of routing nor a model was named",
            hint="name a file, or a model and its skew: --model deepseek-v3 --skew 0.65",
        )
    option = part_of.option or ("--live" if live is not None else None)
    if option is not None:
        raise InputError(
            f"{option} needs a FILE of routing", hint="a skew says nothing of phases, classes, layers and other counts"
        )


def _check_load(
    file: str | Path | None,
    gpu: str | None,
    *,
    model: str | None,
    part_of: _PartOf,
    lengths: Mapping[str, int | str | None],
) -> None:
    """Raise InputError for options that need a GPU, and for a GPU that needs others."""
    if gpu is None:
        for name, length in lengths.items():
            if length is not None:
                raise InputError(f"--{name} {length} needs --gpu", hint="it says what load times are of")
        return
    if model is None:
        raise InputError(f"--gpu {gpu} needs --model", hint="times and cache are those of a model on a card")
    if part_of.option is not None:
        raise InputError(
            f"--gpu {gpu} and {part_of.option}: times are of all that {file} counted",
            hint=f"leave {part_of.option} out, or --gpu",
        )


def _given(
    file: str | Path | None,
    live: str | Path | None,
    loaded: LoadedModel | None,
    skew: float | None,
    folders: tuple[Path, ...],
    part_of: _PartOf,
    notes: list[Remark],
) -> _Given:
    if file is None:
        assert loaded is not None
        used = skew_of(loaded, skew, folders)
        found = laws(loaded, used.exponent)
        numbers_ = tuple(
            number
            for number, layer in enumerate(loaded.spec.layers)
            if any(isinstance(ffn, MoeFfn) for ffn in layer.ffns)
        )
        loads = tuple(Loads(None, law.inclusion, law.inclusion, None, law.orders, law.layers) for law in found)
        return _Given(loaded.id, None, None, used, Selection("all", None, numbers_), loads)
    part = read_part(file, **part_of._asdict())
    other = None if live is None else read_part(live, **part_of._asdict())
    if other is not None:
        check_same_layers(part, other)
    notes += [*part.notes, *(other.notes if other is not None else ())]
    if loaded is not None:
        _check_experts(loaded, part)
    given = _Given(part.source.model, part, other, None, part.selection, ())
    return given._replace(loads=tuple(_loads_of(layer, counted) for layer, counted in given.counted))


def _loads_of(layer: LayerRouting, live: LayerRouting | None) -> Loads:
    loads = tuple(map(float, layer.counts))
    inclusion = tuple(load / layer.tokens for load in loads)
    other = None if live is None else tuple(map(float, live.counts))
    return Loads(layer.layer, loads, inclusion, other, (inclusion,), 1)


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


def _check_experts(loaded: LoadedModel, part: Part) -> None:
    """InputError where a file was counted on a model of other experts."""
    counts = _experts_by_layer(loaded)
    for each in part.layers:
        if counts.get(each.layer) != each.num_experts:
            there = f"has {counts[each.layer]}" if each.layer in counts else "is dense, or none"
            raise InputError(
                f"layer {each.layer} has {each.num_experts} experts in {part.source.file} and {there} in {loaded.id}",
                hint=f"name the model that was counted: the file says {part.source.model}",
            )


def _experts_by_layer(loaded: LoadedModel) -> dict[int, int]:
    return {
        number: ffn.num_experts
        for number, layer in enumerate(loaded.spec.layers)
        for ffn in layer.ffns
        if isinstance(ffn, MoeFfn)
    }


def _expert_bytes(
    loaded: LoadedModel, layers: Sequence[int], engine: str, quant: str | None, notes: list[Remark]
) -> tuple[int, str]:
    """Bytes of one expert of one of these layers as it is resident, the largest where they differ, and its format."""
    from moeplan.estimate.question import read_formats

    counts = _experts_by_layer(loaded)
    spec, resident, _ = read_formats(loaded, engine, None, None, quant, notes)
    held: dict[int, int] = {}
    formats: dict[str, int] = {}
    for weight, part_of, format_, num_bytes, owners in holdings(inventory(spec), resident):
        if weight.role == "routed_experts" and part_of == "text":
            formats[format_] = formats.get(format_, 0) + num_bytes
            for number in owners:
                held[number] = held.get(number, 0) + num_bytes // len(owners)
    return max(-(-held[layer] // counts[layer]) for layer in layers), max(formats, key=formats.__getitem__)


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
