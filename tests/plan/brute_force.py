"""Every option of a search worked out in full, with no bound and nothing left aside: what the search is held against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from moeplan.core.errors import MoeplanError
from moeplan.core.expert_use import LIGHT
from moeplan.core.workload import Workload
from moeplan.estimate.workload import make_workload
from moeplan.plan import PLANNED
from moeplan.plan.cards import find_cards
from moeplan.plan.cells import Cell, Speeds
from moeplan.plan.folds import Folder
from moeplan.plan.formats import Format, formats, runs
from moeplan.plan.layouts import layouts
from moeplan.plan.questions import Questions
from moeplan.plan.result import Plan, PlannedLayout
from moeplan.plan.search import WORTH, Option, options
from moeplan.sources.loaded import Asked
from moeplan.sources.models import find_model


class Worked(NamedTuple):
    """An option on a card that fits and keeps all limits."""

    axis: float
    """What it costs: US dollars per hour."""
    tpot_s: float
    profile: str
    engine: str
    format: str
    layout: str
    replicas: int


class Everything(NamedTuple):
    """All that a search could find."""

    stored: tuple[Worked, ...]
    others: tuple[Worked, ...]
    num_options: int


def everything(
    model: str | Path, *, gpus: Sequence[str], max_gpus: int, engines: Sequence[str] = PLANNED, **load: str | int
) -> Everything:
    """All options of a model on cards with a price, by the public parts of the search and none of its shortcuts."""
    loaded = find_model(str(model), Asked(None, True, False, None, (), None))
    workload = make_workload(loaded.spec, [], **load)  # type: ignore[arg-type]
    cards, left = find_cards(gpus, max_gpus, (), priced=True)
    assert not left
    questions = Questions(loaded, workload, None)
    folds = []
    for engine in engines:
        for form in formats(engine, loaded, questions.owned(loaded.spec), None):
            folder = Folder(
                questions.question(engine, form),
                round(workload.mean_input_tokens + workload.mean_output_tokens / 2),
                LIGHT.exponent,
                {},
            )
            for layout in layouts(engine, max_gpus, sparse=questions.sparse):
                try:
                    folds.append((engine, form, folder.fold(layout)))
                except MoeplanError:
                    continue  # degrees that do not go together
    stored: list[Worked] = []
    others: list[Worked] = []
    count = 0
    for card in cards:
        assert card.hardware.price is not None
        for num_gpus, found in options(folds, workload.concurrency or 1, max_gpus).items():
            for option in found:
                if option.fold.layout.tp > card.node_gpus or not runs(card.hardware, option.format.name):
                    continue
                cell = questions.cell(card, option.engine, option.format)
                if cell is None:
                    continue
                count += 1
                speeds = _kept(cell, option, workload)
                if speeds is not None:
                    axis = num_gpus * card.hardware.price.high_usd_per_hour
                    of = stored if option.format.origin == "stored" else others
                    of.append(_worked(axis, cell, option, option.format, speeds))
    return Everything(tuple(stored), tuple(others), count)


def _kept(cell: Cell, option: Option, workload: Workload) -> Speeds | None:
    """How fast, where it fits and misses nothing."""
    try:
        speeds = cell.speeds(option.fold, option.sequences, workload, LIGHT)
    except MoeplanError:
        return None
    if speeds.misses or cell.verdict(option.fold, option.sequences).fits is not True:
        return None
    return speeds


def _worked(axis: float, cell: Cell, option: Option, form: Format, speeds: Speeds) -> Worked:
    layout = option.fold.layout
    told = f"tp {layout.tp} pp {layout.pp} dp {layout.dp} ep {layout.ep}"
    return Worked(
        axis, speeds.speed.tpot_s.value, cell.hardware.profile, option.engine, form.name, told, option.replicas
    )


def point(plan: Plan) -> tuple[float, float]:
    """What a plan costs and how long its tokens take."""
    assert plan.cost is not None
    assert plan.speed is not None
    return plan.cost.usd_per_hour, plan.speed.tpot.value_s


def layout_told(layout: PlannedLayout) -> str:
    """As `Worked` tells it."""
    return f"tp {layout.tp} pp {layout.pp} dp {layout.dp} ep {layout.ep}"


def missed(found: Iterable[Worked], shown: Iterable[Plan]) -> list[Worked]:
    """Options that are faster than all that is shown for as little money, by more than `WORTH` leaves open."""
    known = [point(plan) for plan in shown]
    return [
        each
        for each in found
        if not any(
            cost <= each.axis * (1 + 1e-9) and tpot_s * WORTH <= each.tpot_s * (1 + 1e-9) for cost, tpot_s in known
        )
    ]
