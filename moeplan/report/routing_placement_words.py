"""A placement of experts in words: what it is worth, what it costs, a row per layer."""

from collections.abc import Callable, Iterator

from moeplan.core.units import gib
from moeplan.report.heat_map import HeatRow
from moeplan.report.page import UNKNOWN, Column
from moeplan.report.routing_words import counted, figure, layers_words, percent, selection_words, source_words
from moeplan.routing.result import Balances, PlacedLayer, PlacementReport, RankLoads

LEGEND = (
    "balancedness: the ranks' mean load over the busiest one's, 1 at best; bound: the best without copies, since an expert that "
    "is on one rank loads it alone; idle: what all ranks wait for the busiest one, where tokens cost time"
)


def head_words(report: PlacementReport) -> list[str]:
    """What is placed where, and by whose counts."""
    experts = " or ".join(f"{count:,}" for count in sorted({layer.num_experts for layer in report.layers}))
    copies = (
        f" and {counted(report.redundant_experts, 'redundant copy', 'redundant copies')}"
        if report.redundant_experts
        else ""
    )
    slots = counted(report.slots_per_rank, "slot", "slots")
    nodes = f", {report.nodes} nodes" if report.nodes > 1 else ""
    groups = f", {report.groups} groups of which a token keeps {report.kept_groups}" if report.groups > 1 else ""
    told = [
        f"{experts} experts{copies} on {counted(report.ranks, 'rank', 'ranks')}: up to {slots} each{nodes}{groups}",
        f"{counted(len(report.layers), 'layer', 'layers')} · by {selection_words(report.selection, report.source)}",
        f"planned on {source_words(report.source)}",
    ]
    if report.live_source is not None:
        told.append(f"judged by {source_words(report.live_source)}")
    return told


def verdict_words(report: PlacementReport) -> str:
    """What it does to the busiest rank, on the counts that say it best."""
    live = report.live is not None
    before, after = (report.live_before, report.live) if live else (report.before, report.after)
    assert before is not None
    assert after is not None
    on = "live counts" if live else "the counts it was planned on"
    return f"balancedness from {figure(before.mean)} to {figure(after.mean)} on {on}, the mean of all layers"


def summary_columns(report: PlacementReport) -> list[Column]:
    """Balancedness before and after, over all layers and in the worst one."""
    rows: list[tuple[str, Balances | None]] = [
        ("in their order", report.before),
        ("as placed", report.after),
        ("in their order, live", report.live_before),
        ("as placed, live", report.live),
    ]
    known = [(name, each) for name, each in rows if each is not None]
    return [
        Column("balancedness", tuple(name for name, _ in known), right=False),
        Column("mean", tuple(figure(each.mean) for _, each in known)),
        Column("worst", tuple(figure(each.worst) for _, each in known)),
        Column("in layer", tuple(str(each.worst_layer) for _, each in known)),
        Column("idle", tuple(percent(1 - each.mean, 0) for _, each in known), 1),
    ]


def told_words(report: PlacementReport) -> Iterator[str]:
    """What it costs, what bounds it, what tokens visit."""
    memory = report.memory
    if memory is not None and report.redundant_experts:
        yield (
            f"memory: {gib(memory.per_rank_bytes, 2)} more on each rank, {gib(memory.all_ranks_bytes, 2)} on all; one expert of "
            f"{memory.model} takes {gib(memory.expert_bytes)} ({memory.format})"
        )
    elif report.redundant_experts:
        yield f"memory of the copies: {report.memory_unknown}"
    bound = min(report.layers, key=lambda layer: layer.most_without_copies)
    if bound.most_without_copies < 1:
        yield (
            f"without copies no placement of layer {bound.layer} is above {figure(bound.most_without_copies)}: its hottest expert "
            f"alone fills a rank"
        )
    worse = [
        layer.layer
        for layer in report.layers
        if layer.live is not None
        and layer.live_before is not None
        and layer.live.balancedness < layer.live_before.balancedness
    ]
    if worse:
        yield (
            f"on live counts {layers_words(worse)} would be less even than with experts in their order: their load moved, and "
            f"`moeplan routing drift` says how far"
        )
    visits = [layer.ranks_per_token for layer in report.layers]
    nodes = [layer.nodes_per_token for layer in report.layers]
    on = f" on {figure(sum(nodes) / len(nodes), 1)} nodes" if report.nodes > 1 else ""
    yield f"a token visits {figure(sum(visits) / len(visits), 1)} of {report.ranks} ranks{on}, the mean of all layers"
    yield (
        "token imbalance costs time where experts compute (prompts, large batches) and in what ranks exchange; a small decode step "
        "reads all of its experts anyway"
    )


def layer_columns(report: PlacementReport) -> list[Column]:
    """A row per layer."""

    def column(title: str, cell: Callable[[PlacedLayer], str], rank: int = 0) -> Column:
        return Column(title, tuple(map(cell, report.layers)), rank)

    columns = [
        column("layer", lambda layer: str(layer.layer)),
        column("in order", lambda layer: _even(layer.before)),
        column("bound", lambda layer: figure(layer.most_without_copies), 1),
        column("placed", lambda layer: _even(layer.after)),
        column("by windows", lambda layer: figure(layer.after.by_windows), 2),
        column("in order, live", lambda layer: _even(layer.live_before), 1),
        column("live", lambda layer: _even(layer.live)),
        column("live by windows", lambda layer: figure(layer.live and layer.live.by_windows), 2),
        column("ranks per token", lambda layer: figure(layer.ranks_per_token, 1), 3),
        *([column("nodes per token", lambda layer: figure(layer.nodes_per_token, 1), 3)] if report.nodes > 1 else []),
    ]
    return [each for each in columns if set(each.cells) != {UNKNOWN}]


def heat_rows(report: PlacementReport, *, placed: bool) -> list[HeatRow]:
    """Load of each rank: in the experts' order, or as placed; by live counts where there are any."""
    rows = []
    for layer in report.layers:
        loads = (layer.live or layer.after) if placed else (layer.live_before or layer.before)
        rows.append(HeatRow(str(layer.layer), loads.tokens_by_rank, _even(loads)))
    return rows


def _even(loads: RankLoads | None) -> str:
    return figure(None if loads is None else loads.balancedness)
