"""The search: from all that could be run to the few plans of which none is dearer and slower than another.

Layouts are folded once per format and engine (`folds`). What is left for a card and a number of GPUs is to compare: the
bytes that a rank needs with its memory, and the bytes that a token waits for, over its bandwidth, with the best time that
is known for as little money. That quotient is the least that a step can take, so options behind it need not be worked out;
those before it are, with the latency model and the ledger (`cells`), the most promising first.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from math import log2
from typing import NamedTuple

from moeplan.core.errors import InputError, UnknownError
from moeplan.core.workload import Workload
from moeplan.estimate.result import MEMORY_REASONS
from moeplan.plan.cards import Card
from moeplan.plan.cells import Cell, Speeds
from moeplan.plan.folds import Fold
from moeplan.plan.formats import Format, runs
from moeplan.plan.result import Term

WORTH = 0.95
"""A plan that costs more is worth showing where its tokens come in less than this share of the time."""
MOST_TRIES = 48
"""Options of one card and number of GPUs that are worked out, the fewest bytes first."""


SLACK, LEARNED_FROM = 0.85, 4
"""An option is left aside where it could be fast enough only if it came nearer to its bytes over bandwidth than this share
of the nearest of so many that were worked out on the same card, engine and format."""


class Option(NamedTuple):
    """A layout with a number of replicas, on any card."""

    read_bytes: float
    needed_bytes: int
    num_gpus: int
    replicas: int
    sequences: int
    """Of one replica."""
    engine: str
    format: Format
    fold: Fold


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


class Reached(NamedTuple):
    """How far a card came."""

    stage: int
    """Index in `STAGES`."""
    told: str


STAGES: tuple[Term, ...] = ("engine", "weights", "cache", "memory", "speed", "ttft", "tpot", "beaten", "kept")


def options(
    folds: Iterable[tuple[str, Format, Fold]], concurrency: int, max_gpus: int, spare: int = 0
) -> dict[int, list[Option]]:
    """All options by their number of GPUs, the fewest bytes first. Replicas that leave each as many sequences add nothing.

    `spare` replicas are there and serve nobody.
    """
    found: dict[int, list[Option]] = {}
    for engine, form, fold in folds:
        each_gpus, last = fold.layout.num_gpus, 0
        for replicas in range(1 + spare, max_gpus // each_gpus + 1):
            sequences = -(-concurrency // (replicas - spare))
            if sequences == last:
                continue
            last = sequences
            in_group = -(-sequences // fold.groups)
            option = Option(
                fold.read_bytes(in_group), fold.needed_bytes(in_group), each_gpus * replicas, replicas, sequences,
                engine, form, fold,
            )  # fmt: skip
            found.setdefault(option.num_gpus, []).append(option)
    for each in found.values():
        each.sort(key=lambda option: (option.read_bytes, option.needed_bytes, option.num_gpus, option.engine))
    return found


class Search:
    """One search over cards; keeps what was worked out, so that a second one over other formats starts from it."""

    def __init__(self, workload: Workload, skew: float, cell: Callable[[Card, str, Format], Cell | None]) -> None:
        self.workload = workload
        self.skew = skew
        self.evaluated = 0
        self.out_of_tries = 0
        """How often options were left unlooked at."""
        self.reached: dict[str, Reached] = {}
        """By profile, the farthest that any option came."""
        self.unmeasured: dict[str, tuple[float, Option, Cell]] = {}
        """By profile, the cheapest that fits where no speed is known."""
        self.closest: Candidate | None = None
        """What fits and comes nearest to the limits."""
        self._cell = cell
        self._decoding: dict[Hashable, float | None] = {}
        self._fitting: dict[Hashable, bool] = {}
        self._ratios: dict[Hashable, list[float]] = {}
        """By card, engine, format and size: seconds of decode over the least that the bytes take."""

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
            best_s = min((tpot_s for cost, tpot_s in known if cost <= axis), default=float("inf"))
            found = self._best(card, by_gpus[count], axis, best_s * WORTH)
            if found is not None:
                kept = [each for each in kept if not (each.axis >= axis and each.tpot_s >= found.tpot_s)]
                kept.append(found)
        for each in kept:
            self._came(each.cell.card, "kept", "")
        return kept

    def _best(self, card: Card, ranked: list[Option], axis: float, below_s: float) -> Candidate | None:
        """The fastest option of a card and number of GPUs, if it is below so many seconds per token."""
        best: Candidate | None = None
        for decode_s, option, cell in sorted(self._promising(card, ranked, axis, below_s), key=lambda each: each[0]):
            if decode_s >= below_s:
                break
            speeds = cell.speeds(option.fold, option.sequences, self.workload, self.skew)
            self.evaluated += 1
            if speeds.speed.tpot_s.value >= below_s or not self._fits(cell, option):
                continue
            found = Candidate(axis, option, cell, speeds)
            if speeds.misses:
                self._late(found)
            else:
                best, below_s = found, found.tpot_s
        return best

    def _promising(
        self, card: Card, ranked: list[Option], axis: float, below_s: float
    ) -> Iterator[tuple[float, Option, Cell]]:
        """Options that may be fast enough, with the seconds of a step of decode alone."""
        tries = 0
        for option in ranked:
            least_s = option.read_bytes / card.bandwidth_bytes_per_s
            if least_s >= below_s:
                if option.needed_bytes <= card.memory.high_bytes:
                    self._came(card, "beaten", "")
                break
            if not self._could(card, option):
                continue
            if least_s * self._slowest_known(card, option) >= below_s:
                self._came(card, "beaten", "")
                continue
            cell = self._cell(card, option.engine, option.format)
            if cell is None:
                continue
            tries += 1
            if tries > MOST_TRIES:
                self.out_of_tries += 1
                break
            decode_s = self._decode_s(cell, option, axis)
            if decode_s is None:
                continue
            self._learn(card, option, decode_s / least_s)
            if decode_s < below_s:
                yield decode_s, option, cell
            else:
                self._came(card, "beaten", "")

    def _slowest_known(self, card: Card, option: Option) -> float:
        """How many times its least time an option takes at the best, by others of its sort; 1 where none is known."""
        known = self._ratios.get(_sort(card, option), ())
        return max(1.0, min(known) * SLACK) if len(known) >= LEARNED_FROM else 1.0

    def _learn(self, card: Card, option: Option, ratio: float) -> None:
        self._ratios.setdefault(_sort(card, option), []).append(ratio)

    def _late(self, found: Candidate) -> None:
        """It fits and misses a limit."""
        term: Term = "ttft" if all(each.endswith("ttft") for each in found.speeds.misses) else "tpot"
        self._came(found.cell.card, term, "")
        if self.closest is None or found.speeds.over < self.closest.speeds.over:
            self.closest = found

    def _could(self, card: Card, option: Option) -> bool:
        """The comparisons that need no more than a fold."""
        fold = option.fold
        if fold.layout.tp > card.node_gpus or not runs(card.hardware, option.format.name):
            return False
        return option.needed_bytes <= card.memory.high_bytes

    def _decode_s(self, cell: Cell, option: Option, axis: float) -> float | None:
        """Seconds of a step of decode, remembered; None where they are not known."""
        key = _key(cell, option)
        if key in self._decoding:
            return self._decoding[key]
        try:
            seconds = cell.decode_s(option.fold, option.sequences, self.workload, self.skew)
        except (UnknownError, InputError) as error:
            self._decoding[key] = None
            name = cell.hardware.profile
            known = self.unmeasured.get(name)
            if (known is None or axis < known[0]) and self._fits(cell, option):
                self._came(cell.card, "speed", error.message)
                self.unmeasured[name] = axis, option, cell
            return None
        self._decoding[key] = seconds
        return seconds

    def _fits(self, cell: Cell, option: Option) -> bool:
        """Whether an option fits by the ledger of `estimate`, remembered."""
        key = _key(cell, option)
        if key not in self._fitting:
            verdict = cell.verdict(option.fold, option.sequences)
            self._fitting[key] = verdict.fits is True
            if not verdict.fits:
                reason = verdict.reasons[0]
                memory = reason.code in MEMORY_REASONS
                self._came(cell.card, "memory" if memory else "engine", reason.message)
        return self._fitting[key]

    def _came(self, card: Card, stage: Term, told: str) -> None:
        mine, known = STAGES.index(stage), self.reached.get(card.hardware.profile)
        if known is None or mine > known.stage:
            self.reached[card.hardware.profile] = Reached(mine, told)


def _sort(card: Card, option: Option) -> Hashable:
    """Options that come about as near to the bandwidth: the fewer bytes, the more all other times count."""
    return card.hardware.profile, option.engine, option.format.name, round(2 * log2(option.read_bytes))


def _key(cell: Cell, option: Option) -> Hashable:
    return cell.hardware.profile, option.engine, option.format.name, option.fold.asked, option.sequences


def _groups(cards: Sequence[tuple[Card, float]], by_gpus: dict[int, list[Option]]) -> Iterator[tuple[float, Card, int]]:
    """Cards with numbers of GPUs, the cheapest first."""
    groups = [
        (each * count, count, card.hardware.profile, card)
        for card, each in cards
        for count in by_gpus
        if count <= card.max_gpus
    ]
    for axis, count, _, card in sorted(groups, key=lambda group: group[:3]):
        yield axis, card, count
