"""A placement of experts in words: what it is worth, what it costs, numbers of spare slots, a row per layer."""

from collections.abc import Callable, Iterator, Sequence

from moeplan.core.units import duration, gib, per_second
from moeplan.report.heat_map import HeatRow
from moeplan.report.page import UNKNOWN, Column
from moeplan.report.routing_words import (
    counted,
    figure,
    layers_words,
    legend_words,
    percent,
    selection_words,
    source_words,
)
from moeplan.routing.result import PlacedLayer, PlacementReport, RankLoads
from moeplan.routing.spare_result import Balances, SkewUsed, SpareSlots, Worth

BY_NUMBER = "by number"
"""Experts in the order of their numbers, where nobody places them."""
LEGEND = (
    "balancedness: the ranks' mean load over the busiest one's, 1 at best; bound: the best without copies, since an expert that "
    "is on one rank loads it alone; idle: what all ranks wait for the busiest one, where tokens cost time"
)


def head_words(report: PlacementReport) -> list[str]:
    """What is placed where, and by whose counts."""
    found = {layer.num_experts for layer in report.layers}
    found = found or {report.slots_per_rank * report.ranks - report.redundant_experts}
    experts = " or ".join(f"{count:,}" for count in sorted(found))
    copies = (
        f" and {counted(report.redundant_experts, 'redundant copy', 'redundant copies')}"
        if report.redundant_experts
        else ""
    )
    slots = counted(report.slots_per_rank, "slot", "slots")
    nodes = f", {report.nodes} nodes" if report.nodes > 1 else ""
    groups = f", {report.groups} groups of which a token keeps {report.kept_groups}" if report.groups > 1 else ""
    layers = counted(len(report.selection.layers), "layer", "layers")
    told = [f"{experts} experts{copies} on {counted(report.ranks, 'rank', 'ranks')}: up to {slots} each{nodes}{groups}"]
    if report.source is not None:
        told.append(f"{layers} · by {selection_words(report.selection, report.source)}")
        told.append(f"planned on {source_words(report.source)}")
    elif report.skew is not None:
        told.append(f"{layers} alike · {skew_words(report.skew)}")
    if report.live_source is not None:
        told.append(f"judged by {source_words(report.live_source)}")
    return told


def skew_words(skew: SkewUsed) -> str:
    """`loads by a law, no counts: weights of the gates fall as rank^-0.65, as stated`."""
    band = "" if skew.low is None or skew.high is None else f" ({skew.low:g} to {skew.high:g})"
    if not skew.exponent and not band:
        return f"loads by a law, no counts: all experts are alike likely, {skew.why}"
    return f"loads by a law, no counts: weights of the gates fall as rank^-{skew.exponent:g}{band}, {skew.why}"


def verdict_words(report: PlacementReport) -> str:
    """What it does to the busiest rank, on the counts that say it best."""
    live = report.live is not None
    before, after = (report.live_before, report.live) if live else (report.before, report.after)
    assert before is not None
    assert after is not None
    on = "live counts" if live else "the counts it was planned on" if report.source is not None else "the law"
    told = f"balancedness from {figure(before.mean)} to {figure(after.mean)} on {on}, the mean of all layers"
    advised = next(row for row in report.sweep.spare if row.redundant_experts == report.sweep.recommended)
    if advised.redundant_experts == report.redundant_experts:
        return told
    here = counted(report.redundant_experts, "copy", "copies") if report.redundant_experts else "no copies"
    named = counted(advised.redundant_experts, "copy", "copies") if advised.redundant_experts else "no copies"
    return (
        f"{told}, with {here}; advised are {named}, which reach {figure((advised.live or advised.balancedness).mean)}"
    )


def order_words(report: PlacementReport) -> str:
    """What experts by number are."""
    drawn = (
        ""
        if report.layers
        else "; the law does not say which are busy, so that is drawn at random, and figures are means of draws"
    )
    return f"{BY_NUMBER}: experts in the order of their numbers, without copies, as engines start{drawn}"


def summary_columns(report: PlacementReport) -> list[Column]:
    """Balancedness before and after, over all layers and in the worst one."""
    rows: list[tuple[str, Balances | None]] = [
        (BY_NUMBER, report.before),
        ("as placed", report.after),
        (f"{BY_NUMBER}, live", report.live_before),
        ("as placed, live", report.live),
    ]
    known = [(name, each) for name, each in rows if each is not None]
    worst = [
        Column("worst", tuple(figure(each.worst) for _, each in known)),
        Column("in layer", tuple(str(each.worst_layer) for _, each in known)),
    ]
    return [
        Column("balancedness", tuple(name for name, _ in known), right=False),
        Column("mean", tuple(figure(each.mean) for _, each in known)),
        *(worst if report.layers else []),
        Column("idle", tuple(percent(1 - each.mean, 0) for _, each in known), 1),
    ]


# Spare slots -------------------------------------------------------------------------------------------------


def spare_columns(report: PlacementReport) -> list[Column]:
    """A row for experts by number, and one for each number of copies; what nobody knows takes no column."""
    start, rows = report.sweep.in_order, report.sweep.spare

    def column(title: str, first: str, cell: Callable[[SpareSlots], str], rank: int = 0) -> Column:
        return Column(title, (first, *map(cell, rows)), rank)

    def known(value: int | None) -> str:
        return UNKNOWN if value is None else f"{value:,}"

    first = rows[0]
    fewest = first.slots_per_rank if not first.redundant_experts else None
    columns = [
        Column("copies", (BY_NUMBER, *(_copies(report, row) for row in rows)), right=False),
        column("slots", known(fewest), lambda row: f"{row.slots_per_rank:,}", 6),
        column("on a rank", UNKNOWN, lambda row: _size(row.per_rank_bytes)),
        column("in all", UNKNOWN, lambda row: _size(row.all_ranks_bytes), 7),
        column("planned", figure(start.balancedness.mean), lambda row: figure(row.balancedness.mean)),
        column("one step", figure(start.step_balancedness), lambda row: figure(row.step_balancedness), 4),
        column("live", figure(start.live and start.live.mean), lambda row: figure(row.live and row.live.mean), 2),
        column("cache lost", UNKNOWN, lambda row: known(row.kv_tokens_lost), 3),
        column("decode", _seconds(start.decode_s), lambda row: _seconds(row.decode.seconds), 5),
        column("decode saves", UNKNOWN, lambda row: _saved(row.decode), 1),
        column("prefill", _seconds(start.prefill_s), lambda row: _seconds(row.prefill.seconds), 5),
        column("prefill saves", UNKNOWN, lambda row: _saved(row.prefill), 2),
        column("TPOT", _seconds(start.tpot_s), lambda row: _seconds(row.tpot_s), 3),
        column("tokens/s", _rate(start.output_tokens_per_s), lambda row: _rate(row.output_tokens_per_s), 3),
    ]
    return [each for each in columns if set(each.cells) != {UNKNOWN}]


def spare_legend(report: PlacementReport, columns: Sequence[Column] | None = None) -> str:
    """What these columns of the sweep mean; all of them where none are named."""
    sweep = report.sweep
    whose = {"stated": "as stated", "concurrency": "the concurrency", "default": "128 for each rank"}
    step = f"{sweep.step_tokens:,} tokens over all ranks, {whose[sweep.step_tokens_basis]}"
    told = {
        "copies": "redundant experts over all ranks, > those advised",
        "slots": "of each rank",
        "on a rank": "memory that they take",
        "planned": "balancedness on what was planned on",
        "one step": f"expected of single steps of {step}: a batch has noise of its own",
        "live": "on the other counts",
        "cache lost": f"tokens of cache{_each(sweep.kv_tokens_per)} that had room before",
        "decode saves": "of a step of decode alone, and of one in which a rank reads a prompt; the first row of copies is held against "
        "experts by number, the others against that row",
        "TPOT": "time per token under the load: steps in which several ranks read prompts of others are among those that a token waits "
        "for, and evenness saves most of them",
        "tokens/s": "of all ranks; goes by TPOT, so it may gain more than either step",
    }
    return legend_words(told.items(), spare_columns(report) if columns is None else columns)


def advice_words(report: PlacementReport) -> Iterator[str]:
    """What is recommended, what times are of, and in which phase copies pay and why."""
    sweep = report.sweep
    yield f"advised: {sweep.recommendation}"
    served = sweep.served
    if served is None:
        yield (
            "token imbalance costs time where experts compute (prompts, large batches) and in what ranks exchange; a small decode step "
            "reads all of its experts anyway"
        )
        return
    groups = f"{counted(served.dp, 'group', 'groups')} of {counted(served.tp, 'rank', 'ranks')} for attention"
    yield (
        f"times: {served.concurrency:,} requests in flight, {served.input_tokens:,.0f} tokens in and {served.output_tokens:,.0f} out, on "
        f"{served.gpu} under {served.engine}, {groups}"
    )
    for row in _told_rows(report):
        name = (
            counted(row.redundant_experts, "copy", "copies") if row.redundant_experts else "placed by load, no copies"
        )
        for phase, each in (("decode", row.decode), ("prefill", row.prefill)):
            yield f"{phase}, {name}: {_verdict(each)}; {each.why}"


def _told_rows(report: PlacementReport) -> list[SpareSlots]:
    """The fewest copies, and those that are advised, else the next ones."""
    first, *more = report.sweep.spare
    advised = [row for row in more if row.redundant_experts == report.sweep.recommended]
    return [first, *(advised or more[:1])]


def _copies(report: PlacementReport, row: SpareSlots) -> str:
    return f"{row.redundant_experts:,}{' >' if row.redundant_experts == report.sweep.recommended else ''}"


def _size(num_bytes: int | None) -> str:
    return UNKNOWN if num_bytes is None else gib(num_bytes, 2) if num_bytes else "0 GiB"


def _seconds(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else duration(seconds)


def _rate(rate: float | None) -> str:
    return UNKNOWN if rate is None else per_second(rate)


def _saved(worth: Worth) -> str:
    return UNKNOWN if worth.saved_fraction is None else f"{100 * worth.saved_fraction:.1f} % {worth.verdict}"


def _verdict(worth: Worth) -> str:
    """`pays, 38.2 ms are 5.7 % less`."""
    if worth.seconds is None or worth.saved_fraction is None:
        return worth.verdict
    change = f"{abs(100 * worth.saved_fraction):.1f} %"
    less = "less" if worth.saved_fraction >= 0 else "more"
    return f"{worth.verdict}, {duration(worth.seconds)} are {change} {less}"


def _each(per: str | None) -> str:
    return " of each attention group" if per == "attention_dp_rank" else ""


# Details -----------------------------------------------------------------------------------------------------


def told_words(report: PlacementReport) -> Iterator[str]:
    """What it is held against, what it costs, what bounds it, what tokens visit."""
    yield order_words(report)
    memory = report.memory
    if memory is not None and report.redundant_experts:
        yield (
            f"memory: {gib(memory.per_rank_bytes, 2)} more on each rank, {gib(memory.all_ranks_bytes, 2)} on all; one expert of "
            f"{memory.model} takes {gib(memory.expert_bytes)} ({memory.format})"
        )
    elif report.redundant_experts:
        yield f"memory of the copies: {report.memory_unknown}"
    if not report.layers:
        if report.sweep.most_without_copies < 1:
            yield (
                f"without copies no placement is above {figure(report.sweep.most_without_copies)}: the hottest expert alone fills a rank"
            )
        return
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
            f"on live counts {layers_words(worse)} would be less even than with experts by number: their load moved, and "
            f"`moeplan routing drift` says how far"
        )
    visits = [layer.ranks_per_token for layer in report.layers]
    nodes = [layer.nodes_per_token for layer in report.layers]
    on = f" on {figure(sum(nodes) / len(nodes), 1)} nodes" if report.nodes > 1 else ""
    yield f"a token visits {figure(sum(visits) / len(visits), 1)} of {report.ranks} ranks{on}, the mean of all layers"


def layer_columns(report: PlacementReport) -> list[Column]:
    """A row per layer."""

    def column(title: str, cell: Callable[[PlacedLayer], str], rank: int = 0) -> Column:
        return Column(title, tuple(map(cell, report.layers)), rank)

    columns = [
        column("layer", lambda layer: str(layer.layer)),
        column(BY_NUMBER, lambda layer: _even(layer.before)),
        column("bound", lambda layer: figure(layer.most_without_copies), 1),
        column("placed", lambda layer: _even(layer.after)),
        column("by windows", lambda layer: figure(layer.after.by_windows), 2),
        column(f"{BY_NUMBER}, live", lambda layer: _even(layer.live_before), 1),
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
