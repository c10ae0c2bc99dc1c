"""Why cards are not among the plans: the farthest that any of their options came, in words, cards that share it together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moeplan.core.units import duration, per_second
from moeplan.core.workload import Workload
from moeplan.plan.cards import Card, LeftOut
from moeplan.plan.result import Rejected, Term
from moeplan.plan.search import STAGES, Option, Reached, lies_on

ORDER: tuple[Term, ...] = (
    "beaten", "rate", "tpot", "ttft", "speed", "memory", "cache", "weights", "engine", "price", "profile",
)  # fmt: skip
"""Those that came farthest first."""


def rejections(
    cards: Sequence[Card],
    left: Sequence[LeftOut],
    reached: Mapping[str, Reached],
    by_gpus: Mapping[int, Sequence[Option]],
    workload: Workload,
    axis: str,
) -> tuple[Rejected, ...]:
    """A row for each term that ended the way of any card. `axis` is what plans were compared by, in words."""
    groups: dict[tuple[Term, str], list[str]] = {}
    for card in cards:
        name = card.hardware.profile
        found = reached.get(name)
        term: Term
        if found is not None:
            term, told = STAGES[found.stage], found.told
        else:
            term, told = _by_folds(card, by_gpus)
        if term == "kept":
            continue
        message = _words(term, told, workload, axis)
        groups.setdefault((term, message), []).append(name)
    for each in left:
        told = each.why if each.term == "profile" else "the price is not known, so the cost is not"
        groups.setdefault((each.term, told), []).append(each.profile)
    rows = [Rejected(term, tuple(names), message) for (term, message), names in groups.items()]
    return tuple(sorted(rows, key=lambda row: (ORDER.index(row.term), row.message, row.cards)))


def _by_folds(card: Card, by_gpus: Mapping[int, Sequence[Option]]) -> tuple[Term, str]:
    """A card that no option fits by weights and cache alone: which of the two."""
    mine = [
        option
        for count, options in by_gpus.items()
        if count <= card.max_gpus
        for option in options
        if lies_on(card, option)
    ]
    if not mine:
        return "engine", ""
    least = min(option.fold.weights_bytes for option in mine)
    return ("weights" if least > card.memory.high_bytes else "cache"), ""


def _words(term: Term, told: str, workload: Workload, axis: str) -> str:
    count = workload.concurrency or 1
    sequences = "1 sequence" if count == 1 else f"{count:,} sequences"
    match term:
        case "weights":
            return "no layout has room for the weights"
        case "cache":
            return (
                f"some layouts have room for the weights, and none beside them for the cache of {sequences} of "
                f"{workload.context_tokens:,} tokens"
            )
        case "memory":
            return "weights and cache would fit, and not what the engine keeps beside them"
        case "speed":
            return f"some layouts fit, and their speed is not known: {told}"
        case "ttft":
            limit = f" of {duration(workload.ttft_s)}" if workload.ttft_s else ""
            return f"fits, and prompts wait longer than the limit{limit} for their first token"
        case "tpot":
            limit = f" of {duration(workload.tpot_s)}" if workload.tpot_s else ""
            return f"fits, and tokens come slower than the limit{limit}"
        case "rate":
            return f"fits, and answers fewer than the {per_second(workload.arrival_per_s or 0)} requests per second that come in"
        case "beaten":
            return f"others do it for no more {axis}, as fast or nearly so"
        case "engine":
            return f"refused by the engine: {told}" if told else "no layout and engine for it"
        case _:
            return told
