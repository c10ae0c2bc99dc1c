"""How many spare slots: what each number reaches in balance, takes in memory, and saves in time."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from moeplan.core.busiest_rank import busiest_rows_placed
from moeplan.core.expert_placement import (
    Placement,
    balance,
    contiguous,
    most_without_copies,
    place,
    spare_bytes_per_rank,
)
from moeplan.core.model import Remark
from moeplan.routing.served_ranks import PAYS_FROM, Asked, Found, Phase, serve, step_of, worth
from moeplan.routing.spare_result import Balances, InOrder, SpareSlots, Sweep, Worth

BALANCED = 0.9
"""Balancedness from which a placement is called even: all ranks wait for a tenth of their time at most."""
MORE_SLOTS = (0, 1, 2, 3, 4)
"""Slots of each rank beyond the fewest that hold all experts, where no number of copies was named."""
TOKENS_OF_A_RANK = 128
"""Of a step, where neither it nor a concurrency was stated: a decode batch at which DeepSeek and SGLang run their wide layouts
(deepseek-ai/DeepEP, README: 128 tokens per batch)."""


class Loads(NamedTuple):
    """What the ranks are given: one layer that was counted, or all layers that one law stands for."""

    layer: int | None
    """None for a law."""
    loads: tuple[float, ...]
    """Of each expert, that the plan is made of."""
    inclusion: tuple[float, ...]
    """Share of tokens that choose each."""
    live: tuple[float, ...] | None
    """Loads of other counts."""
    orders: tuple[tuple[float, ...], ...]
    """Inclusions of the experts in the order in which they start; several for a law."""
    layers: int


class StepTokens(NamedTuple):
    """Of a single step, over all ranks."""

    tokens: int
    basis: Literal["stated", "concurrency", "default"]


def step_of_ranks(stated: int | None, concurrency: int | None, ranks: int) -> StepTokens:
    """Tokens of the step that is judged."""
    if stated is not None:
        return StepTokens(stated, "stated")
    if concurrency is not None:
        return StepTokens(concurrency, "concurrency")
    return StepTokens(TOKENS_OF_A_RANK * ranks, "default")


def numbers(layers: Sequence[Loads], ranks: int, asked: Sequence[int] | None) -> tuple[int, ...]:
    """The numbers of copies that are held against each other, ascending: those asked for, and the fewest that there can be.

    Slots divide over ranks, as engines demand; where none were asked for, a rank gets 0 to 4 further ones, as far as there are
    experts to copy.
    """
    most = min(len(each.loads) for each in layers)
    fewest = -most % ranks
    if asked is None:
        asked = [fewest + more * ranks for more in MORE_SLOTS]
        asked = [count for count in asked if count <= most * (ranks - 1)]
    return tuple(sorted({fewest, *asked}))


class Ranks(NamedTuple):
    """Where the experts go, and how that is judged."""

    layers: tuple[Loads, ...]
    ranks: int
    nodes: int
    groups: int
    """Of the router."""
    step: StepTokens
    expert_bytes: int | None
    """Of one expert of one layer; None where no model was named."""

    @property
    def experts(self) -> int:
        """Of the layer with fewest."""
        return min(len(each.loads) for each in self.layers)


NO_GPU = "no GPU was named; --gpu tells times"


def sweep(on: Ranks, counts: Sequence[int], asked: Asked | None = None) -> tuple[Sweep, tuple[Remark, ...]]:
    """All numbers of `counts`, the first of them without more copies than it takes to fill the ranks.

    With `asked` times and cache are those of `estimate`, whose remarks on what was asked are returned too.
    """
    start = None if asked is None else serve(asked, 0, experts=on.experts, by_load=False)
    first: tuple[SpareSlots, Found | None] | None = None
    rows = []
    for count in counts:
        served = None
        if asked is not None and start is not None:
            context = start.served.context_tokens
            served = serve(asked, count, experts=on.experts, by_load=True, context=context)
        row = _spare(on, count, start, served, first)
        first = first or (row, served)
        rows.append(row)
    unknown = NO_GPU if start is None else start.unknown
    recommended, words = _recommended(rows, unknown)
    bounds = [most_without_copies(each.loads, on.ranks) or 1.0 for each in on.layers]
    found = Sweep(
        step_tokens=on.step.tokens,
        step_tokens_basis=on.step.basis,
        most_without_copies=_mean(on.layers, bounds),
        kv_tokens_per=None if start is None else start.kv_tokens_per,
        in_order=_in_order(on, start),
        spare=tuple(rows),
        served=start.served if start is not None and start.speed is not None else None,
        times_unknown=unknown,
        recommended=recommended,
        recommendation=words,
    )
    return found, () if start is None else start.notes


def _in_order(on: Ranks, start: Found | None) -> InOrder:
    planned, steps, live = [], [], []
    for each in on.layers:
        placement = contiguous(len(each.loads), on.ranks, 0, on.nodes)
        planned.append(_average([_even(placement, order) for order in each.orders]))
        steps.append(_average([_even_step(placement, order, on.step.tokens) for order in each.orders]))
        live.append(None if each.live is None else _even(placement, each.live))
    speed = None if start is None else start.speed
    return InOrder(
        balancedness=_balances(on.layers, planned),
        step_balancedness=_mean(on.layers, steps),
        live=_live(on.layers, live),
        kv_tokens=None if start is None else start.kv_tokens,
        fits=None if start is None else start.fits,
        decode_s=None if speed is None else step_of("decode", speed).seconds,
        prefill_s=None if speed is None else step_of("prefill", speed).seconds,
        tpot_s=_tpot_s(start),
        output_tokens_per_s=_rate(start),
    )


def _spare(
    on: Ranks, count: int, start: Found | None, served: Found | None, first: tuple[SpareSlots, Found | None] | None
) -> SpareSlots:
    """One row; `first` is that of the fewest slots, which the others are held against."""
    planned, steps, live = [], [], []
    slots = 0
    for each in on.layers:
        placement = place(each.loads, on.ranks, count, num_nodes=on.nodes, num_groups=on.groups)
        slots = max(slots, len(placement.slots[0]))
        planned.append(_even(placement, each.loads))
        steps.append(_even_step(placement, each.inclusion, on.step.tokens))
        live.append(None if each.live is None else _even(placement, each.live))
    num_layers = sum(each.layers for each in on.layers)
    memory = None if on.expert_bytes is None else spare_bytes_per_rank(count, on.ranks, on.expert_bytes, num_layers)
    held, held_slots = (start, -(-on.experts // on.ranks)) if first is None else (first[1], first[0].slots_per_rank)
    before, now = _rate(held), _rate(served)
    kept, left = (None if each is None else each.kv_tokens for each in (start, served))
    return SpareSlots(
        redundant_experts=count,
        slots_per_rank=slots,
        per_rank_bytes=memory,
        all_ranks_bytes=None if memory is None else memory * on.ranks,
        balancedness=_balances(on.layers, planned),
        step_balancedness=_mean(on.layers, steps),
        live=_live(on.layers, live),
        kv_tokens=left,
        kv_tokens_lost=None if kept is None or left is None else kept - left,
        fits=None if served is None else served.fits,
        than="in_order" if first is None else "placed",
        decode=_worth("decode", held, served, (held_slots, slots), on.ranks),
        prefill=_worth("prefill", held, served, (held_slots, slots), on.ranks),
        tpot_s=_tpot_s(served),
        output_tokens_per_s=now,
        gained_fraction=None if before is None or now is None else now / before - 1,
    )


def _worth(phase: Phase, held: Found | None, now: Found | None, slots: tuple[int, int], ranks: int) -> Worth:
    if held is None or now is None:
        return Worth("unknown", None, None, f"times are not known: {NO_GPU}")
    return worth(phase, held, now, slots=slots, ranks=ranks)


def _tpot_s(found: Found | None) -> float | None:
    """Seconds per token, of steps with and without prompts beside it."""
    return None if found is None or found.speed is None else found.speed.tpot.value_s


def _rate(found: Found | None) -> float | None:
    """Tokens of answers per second, of all ranks."""
    return None if found is None or found.speed is None else found.speed.output_tokens_per_s.total.value


# Recommending ------------------------------------------------------------------------------------------------


def _recommended(rows: Sequence[SpareSlots], unknown: str | None) -> tuple[int, str]:
    """The fewest copies that make ranks even, or those that gain most; by what they are worth in time where that is known."""
    first, more = rows[0], rows[1:]
    named = _named(first.redundant_experts)
    if unknown is not None:
        return _by_balance(rows, unknown)
    fitting = [row for row in more if row.fits is not False]
    paying = [row for row in fitting if (row.gained_fraction or 0) >= PAYS_FROM]
    alone = first.gained_fraction or 0
    how = f"{named} by load" if first.redundant_experts else "by load alone"
    placing = f"placing {how} changes tokens per second by {_change(alone)}"
    if not paying:
        if not more:
            return first.redundant_experts, f"no further copies were asked for; {placing}"
        best = max(more, key=lambda row: -1.0 if row.gained_fraction is None else row.gained_fraction)
        room = "" if best.fits is not False else ", and there is no room for them"
        told = (
            f"no {'further ' if first.redundant_experts else ''}copies pay: at best {_named(best.redundant_experts)} change "
            f"tokens per second by {_change(best.gained_fraction or 0)} over {named}{room}; {placing}"
        )
        return first.redundant_experts, told
    even = [row for row in paying if _reached(row) >= BALANCED]
    best = even[0] if even else max(paying, key=lambda row: row.gained_fraction or 0)
    reach = (
        f"the fewest that reach balancedness {BALANCED:g}" if even else f"none reaches {BALANCED:g}, these gain most"
    )
    told = (
        f"{_named(best.redundant_experts)}: {reach} ({_reached(best):.2f}), {_change(best.gained_fraction or 0)} tokens per second over "
        f"{named}; {placing}"
    )
    return best.redundant_experts, told


def _by_balance(rows: Sequence[SpareSlots], why: str) -> tuple[int, str]:
    even = [row for row in rows if _reached(row) >= BALANCED]
    best = even[0] if even else max(rows, key=_reached)
    reach = (
        f"the fewest that reach balancedness {BALANCED:g}" if even else f"none reaches {BALANCED:g}, these come nearest"
    )
    told = f"{_named(best.redundant_experts)}: {reach} ({_reached(best):.2f}); whether that pays is not known: {why}"
    return best.redundant_experts, told


def _reached(row: SpareSlots) -> float:
    return (row.live or row.balancedness).mean


def _change(fraction: float) -> str:
    return f"{100 * fraction:+.1f} %"


def _named(count: int) -> str:
    return "no copies" if count == 0 else f"{count:,} {'copy' if count == 1 else 'copies'}"


# Averages over layers ----------------------------------------------------------------------------------------


def _even(placement: Placement, loads: Sequence[float]) -> float:
    return balance(placement, loads).balancedness or 1.0


def _even_step(placement: Placement, inclusion: tuple[float, ...], tokens: int) -> float:
    """Mean over busiest of a single step's rows, expected."""
    return tokens * sum(inclusion) / placement.num_ranks / busiest_rows_placed(placement, inclusion, tokens)


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _mean(layers: Sequence[Loads], values: Sequence[float]) -> float:
    weights = [each.layers for each in layers]
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def _balances(layers: Sequence[Loads], values: Sequence[float]) -> Balances:
    worst, number = min(
        ((value, each.layer) for value, each in zip(values, layers, strict=True)), key=lambda pair: pair[0]
    )
    return Balances(_mean(layers, values), worst, number)


def _live(layers: Sequence[Loads], values: Sequence[float | None]) -> Balances | None:
    known = [value for value in values if value is not None]
    return _balances(layers, known) if len(known) == len(values) else None
