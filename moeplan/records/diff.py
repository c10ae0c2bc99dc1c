"""`moeplan record diff`: which settings changed from A to B, and what each figure did.

A percentile at the tail that gets worse fails, whatever the mean does; so does a score of quality. A cause is named only
where one setting changed and none may have: what differs then goes with it.
"""

from __future__ import annotations

from pathlib import Path

from moeplan.core.errors import InputError
from moeplan.core.model import Remark
from moeplan.core.record import Record, figure_of
from moeplan.records.comparing import compared
from moeplan.records.given import BY_HAND
from moeplan.records.result import SCHEMA, Change, Compared, Known, RecordDiff, Sided
from moeplan.records.settings import Changes, changes
from moeplan.sources.records import read_record

DEFAULT_TOLERANCE = 0.02
"""Share by which a figure may change and still count as the same: repeats of serving benchmarks are about that far apart. Where
records hold several runs, these decide beside it."""

COST = "usd_per_million_output_tokens"
OF_ONE_ENGINE = ("kv_pool_bytes", "kv_tokens", "max_concurrency")
"""Figures that engines tell of each data-parallel rank, and estimates too."""


def record_diff(
    a: str | Path | Record,
    b: str | Path | Record,
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    quality_tolerance: float = 0.0,
) -> RecordDiff:
    """Hold record B against record A; both are files, or records as `moeplan.record` makes them.

    `tolerance` is the largest share by which a figure may change and count as the same, `quality_tolerance` that of scores.
    Raises InputError for what is no record.
    """
    for name, share in (("--tolerance", tolerance), ("--quality-tolerance", quality_tolerance)):
        if not 0 <= share < 1:
            raise InputError(f"{name} {share:g} must be at least 0 and below 1", hint=f"for instance {name} 2%")
    before, after = (each if isinstance(each, Record) else read_record(each) for each in (a, b))
    found = changes(before, after)
    other_model = _named(found.settings, "model")
    other_load = _named(found.settings, "load") or _named(found.unknown, "load")

    def reason(name: str, head: str, known: Known) -> str | None:
        if other_model:
            return f"another model: {other_model}"
        if other_load and head != "quality":
            return f"another load: {other_load}"
        if name in OF_ONE_ENGINE and before.layout.dp != after.layout.dp:
            return f"room of one data-parallel rank: DP {before.layout.dp} -> {after.layout.dp}"
        if name == COST and known == "measured" and _priced(before) != _priced(after):
            return f"cost {_priced(before)} -> {_priced(after)}"
        return None

    figures = tuple(compared(before, after, reason, tolerance, quality_tolerance))
    lost = before.estimates.fits is True and after.estimates.fits is False and not other_model
    open_ = tuple(_not_judged(figures, other_model, other_load))
    failed = lost or any(each.fails for each in figures)
    return RecordDiff(
        schema=SCHEMA,
        a=_sided(a, before),
        b=_sided(b, after),
        tolerance=tolerance,
        quality_tolerance=quality_tolerance,
        settings=found.settings,
        follows=found.follows,
        unknown=found.unknown,
        estimated_otherwise=found.estimated_otherwise,
        cause=found.settings[0].path if len(found.settings) == 1 and not found.unknown else None,
        figures=figures,
        passed=False if failed else None if open_ else True,
        fits_before=before.estimates.fits,
        fits_after=after.estimates.fits,
        not_judged=open_,
        notes=tuple(_notes(before, after, found, figures)),
    )


def _named(found: tuple[Change, ...], of: str) -> str | None:
    """The first change of that part, in words."""
    change = next((each for each in found if each.of == of), None)
    if change is None:
        return None
    return f"{change.label} {change.before or 'not told'} -> {change.after or 'not told'}"


def _priced(record: Record) -> str:
    """What the measured cost of tokens is at."""
    cost = figure_of(record.measured.figures, COST)
    if cost is not None and cost.source == BY_HAND:
        return BY_HAND
    stated = figure_of(record.measured.figures, "usd_per_hour")
    return "at the list price" if stated is None else "at a price given by hand"


def _sided(given: str | Path | Record, record: Record) -> Sided:
    used = record.hardware
    return Sided(
        file="" if isinstance(given, Record) else str(given),
        model=record.model.id,
        engine=f"{record.engine.name} {record.engine.version}",
        hardware=None if used is None else f"{used.num_devices} x {used.name}",
        date=record.date,
        tool_version=record.tool_version,
    )


def _not_judged(figures: tuple[Compared, ...], other_model: str | None, other_load: str | None) -> list[str]:
    """What keeps a verdict open: no comparison at all, or a gated figure that one side lacks or measured otherwise."""
    if other_model:
        return [f"the records are of two models ({other_model}): their figures are not comparable"]
    told = []
    if other_load:
        told.append(f"the records are of two loads ({other_load}): all but quality is not comparable")
    for each in figures:
        if not each.gated:
            continue
        if each.verdict == "not in B":
            told.append(f"{each.label} is in A and not in B")
        elif each.verdict == "not comparable" and not (other_load and each.head != "quality"):
            told.append(f"{each.label} is not comparable ({each.why})")
    return told


def _notes(a: Record, b: Record, found: Changes, figures: tuple[Compared, ...]) -> list[Remark]:
    notes = []
    estimated = [each for each in figures if each.known == "estimated" and each.counted]
    if found.estimated_otherwise and any(each.change_fraction for each in estimated):
        told = ", ".join(
            f"{each.label} {each.before or 'none'} -> {each.after or 'none'}" for each in found.estimated_otherwise
        )
        message = f"the estimates were made otherwise ({told}): where they differ, that may be why"
        notes.append(Remark("estimated-otherwise", "warning", message))
    single = [
        each for each in figures if each.known == "measured" and each.counted and each.verdict in ("better", "worse")
    ]
    if any(each.before_low is None or each.after_low is None for each in single):
        message = "of one run each, so that noise is not excluded; several runs of one load (--measured FILE --measured FILE) tell it"
        notes.append(Remark("one-run", "info", f"measured figures are {message}"))
    absent = [
        label for label, get in (("driver", 0), ("torch", 1)) if a.software[get] is None and b.software[get] is None
    ]
    if a.engine.version_origin == b.engine.version_origin == "default":
        absent.append("engine's version")  # the one that stands there is what estimates go by
    if absent and single:
        message = f"neither record tells the {' nor the '.join(absent)}: it may have changed unseen"
        notes.append(Remark("not-recorded", "info", message))
    return notes
