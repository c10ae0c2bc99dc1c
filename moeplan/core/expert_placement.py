"""Which rank holds which experts, how evenly tokens then fall on ranks, and how many ranks and nodes a token visits.

A layer has E logical experts, of which some lie on several ranks as copies. A slot holds one copy, and all ranks have as many
slots. Copies of an expert share its tokens evenly. Loads are anything that adds up: tokens, choices, shares of them.

The balancer is that of DeepSeek (deepseek-ai/EPLB, README.md and eplb.py at d52c72d5), which vLLM, SGLang and
TensorRT-LLM follow: copies for the experts with most load per copy, then the heaviest copy first onto the lightest rank.
"""

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.expert_visits import odds_of, visited, visited_in_groups


class Placement(NamedTuple):
    """One layer's experts on ranks."""

    num_experts: int
    """Logical ones, E."""
    slots: tuple[tuple[int, ...], ...]
    """Of each rank, the logical experts in its slots, in order."""
    num_nodes: int = 1
    """Ranks are numbered node by node, as many on each."""

    @property
    def num_ranks(self) -> int:
        """Of the expert-parallel group."""
        return len(self.slots)

    @property
    def num_slots(self) -> int:
        """Of all ranks: physical experts."""
        return sum(len(rank) for rank in self.slots)

    @property
    def spare_slots(self) -> int:
        """Slots beyond one copy of each expert: engines call them redundant experts."""
        return self.num_slots - self.num_experts

    @property
    def copies(self) -> tuple[int, ...]:
        """How often each logical expert is there."""
        found = [0] * self.num_experts
        for rank in self.slots:
            for expert in rank:
                found[expert] += 1
        return tuple(found)

    def nodes(self) -> tuple[tuple[int, ...], ...]:
        """Of each node, the logical experts in the slots of its ranks."""
        of_node = self.num_ranks // self.num_nodes
        return tuple(
            tuple(expert for rank in self.slots[first : first + of_node] for expert in rank)
            for first in range(0, self.num_ranks, of_node)
        )


class Balance(NamedTuple):
    """How evenly one layer's load falls on ranks."""

    loads: tuple[float, ...]
    """Of each rank, in the unit that was given."""

    @property
    def balancedness(self) -> float | None:
        """Mean over maximum of the ranks' loads, 1 at best; None where there is no load. SGLang and vLLM log this quantity."""
        return sum(self.loads) / len(self.loads) / busiest if (busiest := max(self.loads)) > 0 else None

    @property
    def busiest_over_mean(self) -> float | None:
        """Maximum over mean: 1 + TensorRT-LLM's imbalance ratio."""
        return None if self.balancedness is None else 1 / self.balancedness


class FanOut(NamedTuple):
    """What one token of a layer visits, expected."""

    ranks: float
    """Distinct ranks, its own among them where an expert lies there."""
    nodes: float
    """Distinct nodes. By symmetry (N - 1) / N of them are not the token's own."""


# Placing -----------------------------------------------------------------------------------------------------


def contiguous(num_experts: int, num_ranks: int, spare_slots: int = 0, num_nodes: int = 1) -> Placement:
    """Experts in their order, as engines start: the first ranks hold one more where they do not divide.

    Spare slots stand behind, with copies of experts 0, 1, 2 and so on (vllm-project/vllm, vllm/distributed/eplb/eplb_state.py,
    `build_initial_global_physical_to_logical_map`). InputError where spare slots leave ranks unequal, or nodes do.
    """
    if spare_slots:
        _slots_per_rank(num_experts, num_ranks, spare_slots)
    _check_nodes(num_ranks, num_nodes)
    order = [slot % num_experts for slot in range(num_experts + spare_slots)]
    each, more = divmod(len(order), num_ranks)
    slots, first = [], 0
    for rank in range(num_ranks):
        last = first + each + (rank < more)
        slots.append(tuple(order[first:last]))
        first = last
    return Placement(num_experts, tuple(slots), num_nodes)


def place(
    loads: Sequence[float], num_ranks: int, spare_slots: int = 0, *, num_nodes: int = 1, num_groups: int = 1
) -> Placement:
    """The balancer's plan for one layer of `loads` [E].

    Where the nodes divide the router's groups, whole groups go to nodes first, and copies stay within a node (prefill); else
    groups and nodes are ignored (decode). Ties go to the lower number. InputError for loads that are negative or no numbers,
    slots that do not divide over the ranks, ranks that do not divide over the nodes, and experts that do not over the groups.
    """
    num_experts = len(loads)
    _check_loads(loads)
    per_rank = _slots_per_rank(num_experts, num_ranks, spare_slots)
    _check_nodes(num_ranks, num_nodes)
    if num_experts % num_groups:
        raise InputError(
            f"{num_experts} experts do not divide over {num_groups} groups",
            hint="give the model's own number of groups (`n_group` of its config), or 1",
        )
    if num_groups % num_nodes:
        return Placement(num_experts, _within(range(num_experts), loads, num_ranks, per_rank), num_nodes)
    size = num_experts // num_groups
    of_groups = [sum(loads[first : first + size]) for first in range(0, num_experts, size)]
    slots: tuple[tuple[int, ...], ...] = ()
    for groups in pack(of_groups, num_nodes):
        experts = [expert for group in groups for expert in range(group * size, (group + 1) * size)]
        slots += _within(experts, [loads[expert] for expert in experts], num_ranks // num_nodes, per_rank)
    return Placement(num_experts, slots, num_nodes)


def replicate(loads: Sequence[float], num_slots: int) -> tuple[int, ...]:
    """Copies of each item where `num_slots` copies are there in all: each spare one goes to the most load per copy.

    ValueError for fewer slots than items.
    """
    if num_slots < len(loads):
        raise ValueError(f"{num_slots} slots for {len(loads)} experts")
    copies = [1] * len(loads)
    heaviest = [(-load, item) for item, load in enumerate(loads)]
    heapq.heapify(heaviest)
    for _ in range(num_slots - len(loads)):
        item = heaviest[0][1]
        copies[item] += 1
        heapq.heapreplace(heaviest, (-loads[item] / copies[item], item))
    return tuple(copies)


def pack(loads: Sequence[float], num_packs: int) -> tuple[tuple[int, ...], ...]:
    """Items of each pack, equally many in all: the heaviest item first, onto the lightest pack that has room.

    ValueError where the items do not divide over the packs.
    """
    room, left = divmod(len(loads), num_packs)
    if left:
        raise ValueError(f"{len(loads)} items do not divide over {num_packs} packs")
    if room == 1:  # one each: nothing to even out, so nothing moves
        return tuple((item,) for item in range(num_packs))
    packs: list[list[int]] = [[] for _ in range(num_packs)]
    lightest = [(0.0, number) for number in range(num_packs)]
    for item in sorted(range(len(loads)), key=lambda item: -loads[item]):
        weight, number = lightest[0]
        packs[number].append(item)
        if len(packs[number]) < room:
            heapq.heapreplace(lightest, (weight + loads[item], number))
        else:
            heapq.heappop(lightest)
    return tuple(tuple(one) for one in packs)


def _within(
    experts: Sequence[int], loads: Sequence[float], num_ranks: int, per_rank: int
) -> tuple[tuple[int, ...], ...]:
    """Copies of `experts` on ranks that may hold any of them."""
    copies = replicate(loads, num_ranks * per_rank)
    # The balancer numbers first copies before all others: ties between equal copies are broken in that order.
    order = list(range(len(experts)))
    order += [item for item, count in enumerate(copies) for _ in range(count - 1)]
    packed = pack([loads[item] / copies[item] for item in order], num_ranks)
    return tuple(tuple(experts[order[copy]] for copy in rank) for rank in packed)


def _slots_per_rank(num_experts: int, num_ranks: int, spare_slots: int) -> int:
    if spare_slots < 0:
        raise InputError(f"{spare_slots} spare slots are no number of slots", hint="give 0 or more")
    each, left = divmod(num_experts + spare_slots, num_ranks)
    if left:
        below, above = spare_slots - left, spare_slots + num_ranks - left
        raise InputError(
            f"{num_experts} experts and {spare_slots} spare slots do not divide over {num_ranks} ranks",
            hint=f"take {below} or {above} spare slots" if below >= 0 else f"take {above} spare slots",
        )
    return each


def _check_nodes(num_ranks: int, num_nodes: int) -> None:
    if num_ranks % num_nodes:
        raise InputError(
            f"{num_ranks} ranks do not divide over {num_nodes} nodes",
            hint="give a number of nodes that divides the ranks",
        )


def _check_loads(loads: Sequence[float]) -> None:
    for expert, load in enumerate(loads):
        if not (math.isfinite(load) and load >= 0):
            raise InputError(
                f"the load of expert {expert} is {load}", hint="loads are counts of tokens: numbers from 0 on"
            )


# Judging -----------------------------------------------------------------------------------------------------


def balance(placement: Placement, loads: Sequence[float]) -> Balance:
    """Load of each rank where experts have `loads` [E]; copies share evenly. ValueError for loads of other experts."""
    if len(loads) != placement.num_experts:
        raise ValueError(f"{len(loads)} loads for {placement.num_experts} experts")
    each = [load / count for load, count in zip(loads, placement.copies, strict=True)]
    return Balance(tuple(sum(each[expert] for expert in rank) for rank in placement.slots))


def balancedness_of_steps(placement: Placement, steps: Sequence[Sequence[float]]) -> float | None:
    """Mean over steps of mean over maximum; steps without load are left out. SGLang logs the mean over steps and layers.

    A plan made on the sum of many steps is judged by single ones: each waits for its own busiest rank.
    """
    found = [value for step in steps if (value := balance(placement, step).balancedness) is not None]
    return sum(found) / len(found) if found else None


def most_without_copies(loads: Sequence[float], num_ranks: int) -> float | None:
    """The best balancedness that placement alone can reach: 1 / (share of the hottest expert x ranks). None without load."""
    total = sum(loads)
    return min(1.0, total / (max(loads) * num_ranks)) if total > 0 else None


def spare_bytes_per_rank(spare_slots: int, num_ranks: int, expert_bytes: int, num_layers: int) -> int:
    """What spare slots cost one rank in all layers, rounded up: spare slots / ranks x bytes of one expert x layers."""
    return -(-spare_slots * expert_bytes * num_layers // num_ranks)


# Fan-out -----------------------------------------------------------------------------------------------------


def fan_out(
    placement: Placement,
    inclusion: Sequence[float],
    experts_per_token: int,
    *,
    num_groups: int = 1,
    kept_groups: int = 1,
) -> FanOut:
    """Distinct ranks and nodes that one token's experts lie on, expected; a token takes any copy of an expert, all alike.

    `inclusion` [E] sums to `experts_per_token`. Experts are drawn with these inclusions and otherwise independently: where all
    are alike this is N (1 - C(E - E/N, k) / C(E, k)). A router that keeps `kept_groups` of `num_groups` draws from so many
    groups, at least one expert from each; where it has fewer than two experts for each kept group, no limit is assumed.
    ValueError for inclusions of other experts, for fewer that are ever chosen than a token has, and for groups of no model.

    Against draws of top-k choices by skewed gates (128 and 256 experts, k = 1, 4, 8; 8 to 32 ranks, 2 to 8 nodes, with copies
    and without; Zipf exponents 0 to 1) it was within 1 %. With groups (256 experts, 8 of them, 4 of 8 groups; 160, 6, 3 of 8):
    within 1 % where experts are alike, 1.5 % up to an exponent of 0.6, 5 % at 1.
    """
    if len(inclusion) != placement.num_experts:
        raise ValueError(f"{len(inclusion)} inclusions for {placement.num_experts} experts")
    if len(inclusion) % num_groups or not 1 <= kept_groups <= num_groups:
        raise ValueError(f"{kept_groups} of {num_groups} groups of {len(inclusion)} experts")
    limited = kept_groups < num_groups and experts_per_token >= 2 * kept_groups
    odds = odds_of(inclusion, experts_per_token)
    found = []
    for places in (placement.slots, placement.nodes()):
        shares = _shares(placement, places)
        if limited:
            found.append(visited_in_groups(shares, odds, experts_per_token, num_groups, kept_groups))
        else:
            found.append(visited(shares, odds, experts_per_token))
    return FanOut(*found)


def _shares(placement: Placement, places: Sequence[Sequence[int]]) -> list[dict[int, float]]:
    """Of each rank or node, which part of an expert's tokens goes there."""
    copies = placement.copies
    shares: list[dict[int, float]] = []
    for experts in places:
        mine: dict[int, float] = {}
        for expert in experts:
            mine[expert] = mine.get(expert, 0.0) + 1 / copies[expert]
        shares.append(mine)
    return shares
