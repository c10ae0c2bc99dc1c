"""One run of the search for a model: stored formats, then smaller ones, then two pools; and again for each failure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Literal, NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.expert_use import ExpertUse
from moeplan.core.hardware import Hardware
from moeplan.core.model import Remark
from moeplan.core.step_bytes import StepReads
from moeplan.core.units import duration, gib, per_second
from moeplan.core.workload import Workload
from moeplan.plan.assembly import Assembly
from moeplan.plan.cards import Card, LeftOut
from moeplan.plan.cells import Cell
from moeplan.plan.failures import Conditions, Failure, conditions
from moeplan.plan.folds import Fold, Folder
from moeplan.plan.formats import STORED, Format, formats
from moeplan.plan.layouts import layouts
from moeplan.plan.pools import Apart, Prefill, apart, prefills
from moeplan.plan.questions import Questions
from moeplan.plan.rejections import rejections
from moeplan.plan.result import Fallback, Plan, RankBy, Rejected
from moeplan.plan.search import STAGES, WORTH, Candidate, Option, Search, lies_on, option_of, options

Folded = tuple[str, Format, Fold]


class Outcome(NamedTuple):
    """What a run found."""

    stored: tuple[Candidate | Apart, ...]
    smaller: tuple[Candidate | Apart, ...]
    unmeasured: tuple[tuple[Option, Cell], ...]


class Run:
    """A model, a workload, and where to look."""

    def __init__(
        self,
        questions: Questions,
        cards: Sequence[Card],
        left: Sequence[LeftOut],
        engines: Sequence[str],
        asked: Sequence[str] | None,
        max_gpus: int,
        rank: RankBy,
        pools: Literal["together", "apart", "both"],
        workload: Workload,
        use: ExpertUse,
        most_skew: float,
    ) -> None:
        """`most_skew` is the largest exponent that any search of this run is asked with: more skew reads fewer bytes."""
        self.questions = questions
        self.cards = cards
        self._left = left
        self._max_gpus = max_gpus
        self._rank = rank
        self._pools = pools
        self.workload = workload
        self.use = use
        self._most_skew = most_skew
        self._concurrency = workload.concurrency or 1
        self._problems: dict[str, str] = {}
        self._folds = list(self._folded(engines, asked))
        if not self._folds and self._problems:
            name, why = next(iter(self._problems.items()))
            raise InputError(f"{name}: {why}", hint="name another engine with --engine, or another model")
        self.search = Search(workload, use, questions.cell)
        self.num_layouts = len({(engine, fold.asked) for engine, _, fold in self._folds})
        self.num_formats = len({form.name for _, form, _ in self._folds})
        self._stored = [each for each in self._folds if each[1].name == STORED]
        self._smaller = [each for each in self._folds if each[1].name != STORED]
        self._by_gpus = options(self._folds, self._concurrency, max_gpus)
        self.num_plans = sum(
            len(found) for card in cards for count, found in self._by_gpus.items() if count <= card.max_gpus
        )

    # Looking -------------------------------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        """Everything that is shown but the fallbacks."""
        stored = self._found(self.search, self._stored)
        smaller = self._found(self.search, self._smaller, stored)
        silent = STAGES.index("speed")
        unmeasured = sorted(
            (found for name, found in self.search.unmeasured.items() if self.search.reached[name].stage == silent),
            key=lambda found: found[0],
        )
        return Outcome(tuple(stored), tuple(smaller), tuple((option, cell) for _, option, cell in unmeasured))

    def _found(
        self, search: Search, folds: Sequence[Folded], better_than: Sequence[Candidate | Apart] = (), spare: int = 0
    ) -> list[Candidate | Apart]:
        by_gpus = options(folds, search.workload.concurrency or 1, self._max_gpus, spare)
        beaten = [(self._axis_of(each), _tpot_s(each)) for each in better_than]
        together = search.frontier([(card, self._axis(card)) for card in self.cards], by_gpus, beaten)
        if self._pools == "together" or spare:
            return list(together)
        found: list[Candidate | Apart] = [] if self._pools == "apart" else list(together)
        for each in self._apart(search, by_gpus, folds):
            if each.misses:
                continue
            axis, tpot_s = self._axis_of(each), _tpot_s(each)
            known = [*beaten, *((self._axis_of(other), _tpot_s(other)) for other in found)]
            if any(cost <= axis and time_s * WORTH <= tpot_s for cost, time_s in known):
                continue
            found = [other for other in found if self._axis_of(other) < axis or _tpot_s(other) < tpot_s]
            found.append(each)
        return found

    def _apart(self, search: Search, by_gpus: dict[int, list[Option]], folds: Sequence[Folded]) -> Iterable[Apart]:
        """Two pools around the layouts that decode best, whatever they would make of prompts."""
        writers = Search(search.workload, search.use, self.questions.cell, writes_alone=True, after=search)
        readers: dict[Cell, tuple[Prefill, ...]] = {}
        for found in writers.frontier([(card, self._axis(card)) for card in self.cards], by_gpus):
            cell, option = found.cell, found.option
            if cell not in readers:
                mine = (fold for engine, form, fold in folds if (engine, form) == (cell.engine, cell.format))
                readers[cell] = prefills(cell, mine, search.workload, search.use)
            for each in apart(
                cell, readers[cell], option.fold, option.replicas, search.workload, self._concurrency, search.use
            ):
                if each.num_gpus <= min(self._max_gpus, cell.card.max_gpus):
                    yield each

    # Telling -------------------------------------------------------------------------------------------------

    def rejected(self) -> tuple[Rejected, ...]:
        """Why cards are not among the plans."""
        axis = "money" if self._rank == "cost" else "GPUs"
        return rejections(self.cards, self._left, self.search.reached, self._by_gpus, self.workload, axis)

    def notes(self) -> list[Remark]:
        """What somebody who reads the plans has to know."""
        return [Remark("engine-refuses", "info", f"{name}: {why}") for name, why in self._problems.items()]

    def nearest(self, assembly: Assembly) -> tuple[Plan | None, str | None]:
        """What comes nearest where nothing does all that is asked, and what it lacks."""
        if self._pools == "apart":
            return self._nearest_apart(assembly)
        search = Search(self.workload, self.use, self.questions.cell, heeds_limits=False, after=self.search)
        search.frontier([(card, self._axis(card)) for card in self.cards], self._by_gpus)
        closest = search.closest
        if closest is not None:
            plan = assembly.joined(closest)
            assert plan.speed is not None
            told = self._over(plan)
            if "rate" in closest.speeds.misses:
                answered = plan.speed.output_tokens_per_s.value / self.workload.mean_output_tokens
                come_in = per_second(self.workload.arrival_per_s or 0)
                told.append(f"{per_second(answered)} requests per second are answered, and {come_in} come in")
            missed = f"{closest.speeds.over:.2f} times over: {', '.join(closest.speeds.misses)}"
            return plan, "; ".join(told) or missed
        return self._fullest(assembly)

    def _nearest_apart(self, assembly: Assembly) -> tuple[Plan | None, str | None]:
        """The pair of pools that is nearest to the limits."""
        free = Search(self.workload, self.use, self.questions.cell, heeds_limits=False, after=self.search)
        pairs = list(self._apart(free, self._by_gpus, self._folds))
        if not pairs:
            return self._fullest(assembly)
        nearest = min(pairs, key=lambda each: (len(each.misses), _tpot_s(each), each.speed.ttft_s.value))
        plan = assembly.joined(nearest)
        return plan, "; ".join(self._over(plan)) or f"it misses {', '.join(nearest.misses)}"

    def _over(self, plan: Plan) -> list[str]:
        """Limits of all requests that a plan does not keep, and by how much."""
        told = []
        assert plan.speed is not None
        for name, figure, limit_s in (
            ("time to first token", plan.speed.ttft, self.workload.ttft_s),
            ("time per token", plan.speed.tpot, self.workload.tpot_s),
        ):
            if limit_s is not None and figure.value_s > limit_s:
                times = figure.value_s / limit_s
                told.append(f"{name} {duration(figure.value_s)}, {times:.2f} times the limit of {duration(limit_s)}")
        return told

    def _fullest(self, assembly: Assembly) -> tuple[Plan | None, str | None]:
        """Where nothing fits: the option that lacks the fewest bytes on a GPU."""
        least: tuple[float, Card, Option] | None = None
        for card in self.cards:
            for count, found in self._by_gpus.items():
                if count > card.max_gpus:
                    continue
                for option in found:
                    over = option.needed_bytes - card.memory.bytes
                    if lies_on(card, option) and (least is None or over < least[0]):
                        least = over, card, option
        if least is None:
            return None, None
        _, card, option = least
        cell = self.questions.cell(card, option.engine, option.format)
        if cell is None:
            return None, None
        plan = assembly.unmeasured(option, cell)
        short = -min(pool.headroom_bytes for pool in plan.pools)
        if short > 0:
            return plan, f"{gib(short)} on the fullest GPU"
        refused = cell.verdict(option.fold, option.sequences).reasons
        return plan, refused[0].message if refused else None

    def fallback(self, failure: Failure, best: Plan, assembly: Assembly) -> Fallback:
        """The next plan that survives a failure, or the best one itself."""
        what = conditions(failure, self.workload, self.use)
        if best.pooling == "apart":
            why = "plans of two pools are not held against failures"
            return Fallback(failure, what.told, None, why, self._survivor(what, assembly))
        search = Search(what.workload, what.use, self.questions.cell)
        mine = [self._card_of(best)]
        own = [each for each in self._folds if each[0] == best.engine and self._is(best, each)]
        replicas = best.pools[-1].replicas
        # Its own number of replicas, also where fewer would leave each of the others as many sequences.
        same = [option_of(*each, self._concurrency, replicas, what.spare) for each in own if replicas > what.spare]
        kept = search.frontier([(card, self._axis(card)) for card in mine], {best.num_gpus: same}) if same else []
        if kept:
            return Fallback(
                failure, what.told, True, "the best plan does all that is asked even so", assembly.joined(kept[0])
            )
        why = "its only replica is lost" if what.spare and replicas == 1 else _why(search)
        return Fallback(failure, what.told, False, why, self._survivor(what, assembly))

    def _survivor(self, what: Conditions, assembly: Assembly) -> Plan | None:
        """The cheapest plan that does all that is asked under these conditions."""
        for folds in (self._stored, self._smaller):
            others = self._found(Search(what.workload, what.use, self.questions.cell), folds, spare=what.spare)
            if others:
                return assembly.joined(min(others, key=self._place))
        return None

    # Parts ---------------------------------------------------------------------------------------------------

    def _folded(self, engines: Sequence[str], asked: Sequence[str] | None) -> Iterable[Folded]:
        shared: dict[Hashable, StepReads] = {}
        workload, loaded = self.workload, self.questions.loaded
        mean_context = round(workload.mean_input_tokens + workload.mean_output_tokens / 2)
        for engine in engines:
            for form in formats(engine, loaded, self.questions.owned(loaded.spec), asked):
                try:
                    folder = Folder(self.questions.question(engine, form), mean_context, self._most_skew, shared)
                except InputError as error:
                    self._problems.setdefault(engine, error.message)
                    continue
                for layout in layouts(engine, self._max_gpus, sparse=self.questions.sparse):
                    try:
                        yield engine, form, folder.fold(layout)
                    except InputError:
                        continue  # degrees that do not go together

    def _axis(self, card: Card) -> float:
        """What one device of a card costs where plans are compared."""
        price = card.hardware.price
        if self._rank == "cost" and price is not None:
            return price.high_usd_per_hour
        return 1.0

    def _place(self, each: Candidate | Apart) -> float:
        """What the ranking asked for goes by, the least first."""
        if self._rank == "latency":
            return _tpot_s(each)
        if self._rank == "throughput":
            gpus = each.num_gpus if isinstance(each, Apart) else each.option.num_gpus
            times = 1 if isinstance(each, Apart) else each.option.serving
            speed = each.speed if isinstance(each, Apart) else each.speeds.speed
            return -speed.output_tokens_per_s.value * times / gpus
        return self._axis_of(each)

    def _axis_of(self, each: Candidate | Apart) -> float:
        gpus = each.num_gpus if isinstance(each, Apart) else each.option.num_gpus
        return gpus * self._axis(each.cell.card)

    def card(self, plan: Plan) -> Hardware:
        """The device of a plan."""
        return self._card_of(plan).hardware

    def _card_of(self, best: Plan) -> Card:
        return next(card for card in self.cards if card.hardware.profile == best.profile)

    def _is(self, best: Plan, each: Folded) -> bool:
        """Whether a fold is the layout of a plan, in its format."""
        _, form, fold = each
        layout, used = fold.layout, best.pools[-1].layout
        stored = best.format_origin == "stored"
        return (form.name == STORED if stored else form.name == best.format) and (
            layout.tp, layout.pp, layout.dp, layout.ep, layout.dp_attention, layout.num_gpus,
        ) == (used.tp, used.pp, used.dp, used.ep, used.dp_attention, used.num_gpus)  # fmt: skip


def _tpot_s(each: Candidate | Apart) -> float:
    return each.speed.tpot_s.value if isinstance(each, Apart) else each.tpot_s


def _why(search: Search) -> str:
    """What ends the way of the one card that was asked."""
    found = next(iter(search.reached.values()), None)
    if found is None:
        return "it does not fit"
    late = {
        "ttft": "its first tokens come too late",
        "tpot": "its tokens come too slowly",
        "rate": "it answers fewer requests than come in",
    }
    return late.get(STAGES[found.stage]) or found.told or "it does not fit"
