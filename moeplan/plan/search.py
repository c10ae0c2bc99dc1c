"""The search: from all that could be run to the few plans of which none is dearer and slower than another.

Layouts are folded once per format and engine (`folds`). What is left for a card and a number of GPUs is to compare: the
bytes that a rank needs with its memory, and the bytes that a token waits for, over its bandwidth, with the best time that
is known for as little money. Calls of kernels, and those bytes at the rates that kernels reach, are the least that a step
can take, so options behind that need not be worked out; those before it are, with the latency model and the ledger
(`cells`), the most promising first.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from moeplan.core.errors import MoeplanError
from moeplan.core.expert_use import ExpertUse
from moeplan.core.step_bytes import StepBytes
from moeplan.core.step_time import Floor
from moeplan.core.workload import Workload
from moeplan.estimate.result import MEMORY_REASONS
from moeplan.plan.cards import Card
from moeplan.plan.cells import Cell, Speeds, keeping_up, placement, written_alone
from moeplan.plan.folds import Fold
from moeplan.plan.formats import Format, runs
from moeplan.plan.result import Term

WORTH = 0.95
"""A plan that costs more is worth showing where its tokens come in less than this share of the time."""


ONE_MACHINE = "llamacpp"
"""An engine whose server does not reach beyond its machine."""


class Option(NamedTuple):
    """A layout with a number of replicas, on any card."""

    read_bytes: float
    """All that a token waits for."""
    reads: StepBytes
    first: StepBytes
    """The same with a single sequence."""
    needed_bytes: int
    num_gpus: int
    replicas: int
    serving: int
    """Replicas that serve: all but those that are spare."""
    sequences: int
    """Of one replica."""
    engine: str
    format: Format
    fold: Fold
    placed: Hashable
    """What its floor depends on, and whether it goes on a card; equal for many options."""


class Candidate(NamedTuple):
    """An option on a card, worked out."""

    axis: float
    """What it costs: US dollars per hour, or GPUs."""
    option: Option
    cell: Cell
    speeds: Speeds

    @property
    def tpot_s(self) -> float:
        """Seconds per token."""
        return self.speeds.speed.tpot_s.value


class Memory(NamedTuple):
    """What searches of one workload and use of experts have worked out: by card, engine, format, layout, and sequences."""

    decoding: dict[Hashable, float]
    """Seconds of a step of decode."""
    fitting: dict[Hashable, bool]


class Bar(NamedTuple):
    """What an option has to be below, and what it then fails at."""

    below_s: float
    term: Term


class Reached(NamedTuple):
    """How far a card came."""

    stage: int
    """Index in `STAGES`."""
    told: str


STAGES: tuple[Term, ...] = ("engine", "weights", "cache", "memory", "speed", "ttft", "tpot", "rate", "beaten", "kept")


def options(
    folds: Iterable[tuple[str, Format, Fold]], concurrency: int, max_gpus: int, spare: int = 0
) -> dict[int, list[Option]]:
    """All options by their number of GPUs, the fewest bytes first. Replicas that leave each as many sequences add nothing.

    `spare` replicas are there and serve nobody.
    """
    found: dict[int, list[Option]] = {}
    for engine, form, fold in folds:
        last = 0
        for replicas in range(1 + spare, max_gpus // fold.layout.num_gpus + 1):
            option = option_of(engine, form, fold, concurrency, replicas, spare)
            if option.sequences == last:
                continue
            last = option.sequences
            found.setdefault(option.num_gpus, []).append(option)
    for each in found.values():
        each.sort(key=lambda option: (option.read_bytes, option.needed_bytes, option.num_gpus, option.engine))
    return found


def option_of(engine: str, form: Format, fold: Fold, concurrency: int, replicas: int, spare: int = 0) -> Option:
    """A layout with so many replicas, of which `spare` serve nobody."""
    sequences = -(-concurrency // (replicas - spare))
    in_group = -(-sequences // fold.groups)
    # Stages work on parts of a batch, of which each reads the experts and the cache of its own.
    reads = fold.reads(sequences // min(fold.layout.pp, sequences))
    placed = engine, form.name, *placement(fold), _together(engine, fold)
    return Option(
        reads.total_bytes, reads, fold.reads(1), fold.needed_bytes(in_group), fold.layout.num_gpus * replicas, replicas, replicas - spare,
        sequences, engine, form, fold, placed,
    )  # fmt: skip


def lies_on(card: Card, option: Option) -> bool:
    """Whether a layout goes on a card's machines in a format that it runs, memory aside.

    Tensor-parallel ranks stay within a node, and so do all devices of a llama.cpp server.
    """
    return _together(option.engine, option.fold) <= card.node_gpus and runs(card.hardware, option.format.name)


def _together(engine: str, fold: Fold) -> int:
    """Devices that have to be in one machine."""
    return fold.layout.num_gpus if engine == ONE_MACHINE else fold.layout.tp


class Search:
    """One search over cards; keeps what was worked out, so that a second one over other formats starts from it."""

    def __init__(
        self,
        workload: Workload,
        use: ExpertUse,
        cell: Callable[[Card, str, Format], Cell | None],
        *,
        heeds_limits: bool = True,
        writes_alone: bool = False,
        after: Search | None = None,
    ) -> None:
        """Without heeding limits nothing is left aside for them, so that what comes nearest is found (`closest`).

        `writes_alone` looks for layouts that decode while others read the prompts: a token takes a step of decode, and the
        limit on first tokens is not theirs. `after` is a search of the same workload, whose memory is shared.
        """
        self.workload = workload
        self._writes_alone = writes_alone
        self._heeds = heeds_limits
        # Where requests are of several classes, each keeps its limit at its own lengths.
        alone = heeds_limits and len(workload.classes) == 1
        limit_s = workload.tpot_limit_s(workload.classes[0]) if alone else None
        self._limit_s = float("inf") if limit_s is None else limit_s
        self.use = use
        self.evaluated = 0
        self.reached: dict[str, Reached] = {}
        """By profile, the farthest that any option came."""
        self.unmeasured: dict[str, tuple[float, Option, Cell]] = {}
        """By profile, the cheapest that fits where no speed is known."""
        self.closest: Candidate | None = None
        """What fits and comes nearest to the limits, where these are not heeded."""
        self._cell = cell
        self._placed: dict[str, dict[Hashable, tuple[Cell, Floor | MoeplanError] | None]] = {}
        self.memory: Memory = Memory({}, {}) if after is None else after.memory

    def frontier(
        self,
        cards: Sequence[tuple[Card, float]],
        by_gpus: dict[int, list[Option]],
        better_than: Sequence[tuple[float, float]] = (),
    ) -> list[Candidate]:
        """Plans of which none is dearer and slower than another, the cheapest first.

        `cards` come with what one of their devices costs on the axis; `better_than` are the costs and
        times of plans that each must beat.
        """
        kept: list[Candidate] = []
        for axis, card, count in _groups(cards, by_gpus):
            known = (*better_than, *((each.axis, each.tpot_s) for each in kept))
            worth_s = WORTH * min((tpot_s for cost, tpot_s in known if cost <= axis), default=float("inf"))
            bar = Bar(self._limit_s, "tpot") if self._limit_s < worth_s else Bar(worth_s, "beaten")
            found = self._best(card, by_gpus[count], axis, bar)
            if found is not None:
                kept = [each for each in kept if not (each.axis >= axis and each.tpot_s >= found.tpot_s)]
                kept.append(found)
        for each in kept:
            self._came(each.cell.card, "kept", "")
        return kept

    def _best(self, card: Card, ranked: list[Option], axis: float, bar: Bar) -> Candidate | None:
        """The fastest option of a card and number of GPUs, if it is below the bar.

        Best first: of all options the one with the least bound is worked out one step further, until what is worked out in
        full has the least. Its bounds are its floor, a step of one sequence, a step of decode, and its time.
        """
        heap = [
            (least_s, number, 0, option, cell)
            for number, (least_s, option, cell) in enumerate(self._could_be(card, ranked, axis, bar))
        ]
        heapify(heap)
        full: dict[int, Candidate] = {}
        while heap:
            bound_s, number, known, option, cell = heappop(heap)
            if bound_s >= bar.below_s:
                self._came(card, bar.term, "")
                break
            if number in full:
                if self._fits(cell, option):
                    return full[number]
                continue
            further: float | None
            if known < len(self._BOUNDS):
                further = self._BOUNDS[known](self, cell, option)
            else:
                found = self._in_full(cell, option, axis, bar)
                further = None if found is None else found.tpot_s
                if found is not None:
                    full[number] = found
            if further is not None:
                heappush(heap, (max(bound_s, further), number, known + 1, option, cell))
        return None

    def _could_be(
        self, card: Card, ranked: list[Option], axis: float, bar: Bar
    ) -> Iterator[tuple[float, Option, Cell]]:
        """Options that comparing leaves, with the least that a step takes."""
        placed = self._placed.setdefault(card.hardware.profile, {})
        for option in ranked:
            bytes_s = option.read_bytes / card.bandwidth_bytes_per_s
            if bytes_s >= bar.below_s:
                if option.needed_bytes <= card.memory.high_bytes:
                    self._came(card, bar.term, "")
                break
            if option.needed_bytes > card.memory.high_bytes:
                continue
            if option.placed not in placed:
                cell = self._cell(card, option.engine, option.format) if lies_on(card, option) else None
                placed[option.placed] = None if cell is None else (cell, cell.floor(option.fold))
            known = placed[option.placed]
            if known is None:
                continue
            cell, floor = known
            if isinstance(floor, MoeplanError):
                self._silent(cell, option, axis, floor.message)
            else:
                yield max(bytes_s, floor.at(option.reads)), option, cell

    def _silent(self, cell: Cell, option: Option, axis: float, why: str) -> None:
        """Times are not known: the cheapest option of the card that fits is kept all the same."""
        name = cell.hardware.profile
        if name not in self.unmeasured and self._fits(cell, option):
            self._came(cell.card, "speed", why)
            self.unmeasured[name] = axis, option, cell

    def _first_bound(self, cell: Cell, option: Option) -> float:
        """A step of one sequence, and the bytes that the others add."""
        floor = cell.floor(option.fold)
        assert isinstance(floor, Floor)
        return self._decode_s(cell, option, 1) + floor.at(option.reads) - floor.at(option.first)

    def _decode_bound(self, cell: Cell, option: Option) -> float:
        """A step of decode with no prompt beside it."""
        return self._decode_s(cell, option, option.sequences)

    _BOUNDS = (_first_bound, _decode_bound)

    def _in_full(self, cell: Cell, option: Option, axis: float, bar: Bar) -> Candidate | None:
        """The option with its speed, if that keeps the bar and all limits."""
        self.evaluated += 1
        speeds = cell.speeds(option.fold, option.sequences, self.workload, self.use)
        speeds = written_alone(speeds) if self._writes_alone else keeping_up(speeds, option.serving, self.workload)
        if speeds.speed.tpot_s.value >= bar.below_s:
            self._came(cell.card, bar.term, "")
            return None
        found = Candidate(axis, option, cell, speeds)
        if speeds.misses:
            self._late(found)
            return None
        return found

    def _late(self, found: Candidate) -> None:
        """It misses a limit."""
        missed = {each.rpartition(" ")[2] for each in found.speeds.misses}
        term: Term = "tpot" if "tpot" in missed else "ttft" if "ttft" in missed else "rate"
        self._came(found.cell.card, term, "")
        if self._heeds or (self.closest is not None and found.speeds.over >= self.closest.speeds.over):
            return
        if self._fits(found.cell, found.option):
            self.closest = found

    def _decode_s(self, cell: Cell, option: Option, sequences: int) -> float:
        """Seconds of a step of decode of so many sequences, remembered."""
        key = (*_key(cell, option), sequences)
        if key not in self.memory.decoding:
            self.memory.decoding[key] = cell.decode_s(option.fold, sequences, self.workload, self.use)
        return self.memory.decoding[key]

    def _fits(self, cell: Cell, option: Option) -> bool:
        """Whether an option fits by the ledger of `estimate`, remembered."""
        key = (*_key(cell, option), option.sequences)
        if key not in self.memory.fitting:
            verdict = cell.verdict(option.fold, option.sequences)
            self.memory.fitting[key] = verdict.fits is True
            if not verdict.fits:
                reason = verdict.reasons[0]
                memory = reason.code in MEMORY_REASONS
                self._came(cell.card, "memory" if memory else "engine", reason.message)
        return self.memory.fitting[key]

    def _came(self, card: Card, stage: Term, told: str) -> None:
        mine, known = STAGES.index(stage), self.reached.get(card.hardware.profile)
        if known is None or mine > known.stage:
            self.reached[card.hardware.profile] = Reached(mine, told)


def _key(cell: Cell, option: Option) -> tuple[Hashable, ...]:
    return cell.hardware.profile, option.engine, option.format.name, option.fold.asked


def _groups(cards: Sequence[tuple[Card, float]], by_gpus: dict[int, list[Option]]) -> Iterator[tuple[float, Card, int]]:
    """Cards with numbers of GPUs, the cheapest first."""
    groups = [
        (each * count, count, card.hardware.profile, card)
        for card, each in cards
        for count in by_gpus
        if count <= card.max_gpus
    ]
    # Of equal cost the fastest memory first: what it does leaves little to work out for the others.
    for axis, count, _, card in sorted(
        groups, key=lambda group: (group[0], -group[3].bandwidth_bytes_per_s, *group[1:3])
    ):
        yield axis, card, count
