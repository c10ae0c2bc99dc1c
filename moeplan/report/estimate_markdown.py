"""An estimate as Markdown, for pull requests and wikis: verdict, parameters by convention, ledger, capacity, ways out, notes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from moeplan.core.ledger import band_bytes, total_bytes
from moeplan.core.units import gib, gib_floor, params
from moeplan.estimate.result import Estimate, Rank
from moeplan.report.markdown import code, columns_table, escaped, table
from moeplan.report.printable import printable_record
from moeplan.report.words import (
    NAIVE,
    NOTHING_HELPS,
    active_words,
    band_words,
    explained_ranks,
    further_reasons,
    ledger_words,
    parameter_rows,
    rank_rows,
    reach_words,
    setting_words,
    shape_words,
    verdict_words,
    worst_rank,
)

if TYPE_CHECKING:
    from moeplan.estimate.speed_result import Speculation, Speed


def estimate_markdown(estimate: Estimate, *, explain: bool = False) -> str:
    """The estimate as GitHub-flavoured Markdown with a final newline; `explain` adds formula, inputs and source."""
    estimate = printable_record(estimate)
    blocks = [
        f"## {escaped(estimate.model.id)}",
        f"**{escaped(verdict_words(estimate))}**",
        *(
            ["\n".join(f"- {escaped(reason)}" for reason in further_reasons(estimate))]
            if further_reasons(estimate)
            else []
        ),
        f"{escaped(shape_words(estimate.model))}. {params(estimate.parameters.total)} parameters, {active_words(estimate.parameters)}.",
        escaped(" · ".join(setting_words(estimate))),
        _parameters(estimate),
    ]
    worst = worst_rank(estimate)
    blocks.append(_needs(estimate) if worst is None else _ledger(estimate, worst))
    rows = list(rank_rows(estimate))
    if len(rows) > 1:
        blocks.append(table(["ranks", "weights", "needed", "left"], "<>>>", rows))
    blocks += [f"Not so: {escaped(note.message)}." for note in estimate.notes if note.code == NAIVE]
    blocks.append("\n".join(f"- {escaped(sentence)}" for sentence in reach_words(estimate)))
    if estimate.verdict.fits is False:
        blocks.append("\n".join(_ways_out(estimate)))
    if estimate.speed is not None:
        blocks += _speed(estimate, estimate.speed, explain=explain)
    if explain and estimate.ranks:
        blocks.append("\n".join(_explained(estimate)))
    notes = [note for note in estimate.notes if note.code != NAIVE]
    if notes:
        marks = {"warning": "**Warning:** ", "info": ""}
        blocks.append("### Notes\n\n" + "\n".join(f"- {marks[note.severity]}{escaped(note.message)}" for note in notes))
    return "\n\n".join(blocks) + "\n"


def _parameters(estimate: Estimate) -> str:
    rows = [(label, params(count), f"{count:,}") for _, label, count in parameter_rows(estimate.parameters)]
    return table(["parameters", "rounded", "exact count"], "<>>", rows)


def _ledger(estimate: Estimate, rank: Rank) -> str:
    used = total_bytes(rank.lines)
    low, high = band_bytes(rank.lines)
    free = rank.free_bytes or 0
    budget = used + free
    rows: list[tuple[str, str, str, str]] = [
        (escaped(entry.label), gib(entry.bytes), band_words(entry.low_bytes, entry.high_bytes), entry.basis)
        for entry in rank.lines
    ]
    rows.append(("**needed**", f"**{gib(used)}**", band_words(low, high), ""))
    basis = estimate.hardware.usable_basis if estimate.hardware else None
    rows.append((f"{escaped(estimate.layout.engine)} may use", gib(budget), "", basis or ""))
    if free >= 0:
        rows.append(("**free**", f"**{gib_floor(free)}**", "", ""))
    else:
        rows.append(("**missing**", f"**{gib(-free)}**", "", ""))
    return table([ledger_words(estimate, rank), "size", "band", "basis"], "<>><", rows)


def _needs(estimate: Estimate) -> str:
    rows = [
        ("weights", gib(estimate.weights.resident_bytes), estimate.weights.basis),
        ("KV cache", gib(estimate.kv_cache.bytes_total), "derived"),
    ]
    return table(["memory", "size", "basis"], "<><", rows)


def _ways_out(estimate: Estimate) -> Iterator[str]:
    ways = estimate.verdict.ways_out
    if not ways:
        yield NOTHING_HELPS
        return
    yield "It fits with any one of"
    yield ""
    for way in ways:
        less = "" if way.gives_up is None else f": {way.gives_up}"
        yield f"- {code(way.change)}, which leaves {gib_floor(way.headroom_bytes)} per GPU{less}"


def _speed(estimate: Estimate, speed: Speed, *, explain: bool) -> Iterator[str]:
    from moeplan.report.speed_words import (
        bound_words,
        class_columns,
        explained_steps,
        explained_words,
        figure_columns,
        load_words,
        reach_columns,
    )

    yield "### Speed, if it fitted" if estimate.verdict.fits is False else "### Speed"
    yield escaped(load_words(speed))
    yield columns_table(figure_columns(estimate, speed))
    yield "\n".join(f"- {lead}{escaped(text)}" for lead, text in bound_words(speed))
    for columns in (class_columns(speed), reach_columns(speed)):
        if columns:
            yield columns_table(columns)
    if speed.speculation is not None:
        yield from _speculation(speed, speed.speculation)
    if explain:
        for _, columns in explained_steps(speed):
            yield columns_table(columns)
        yield "\n".join(f"- {escaped(text)}" for text in explained_words(speed))


def _speculation(speed: Speed, found: Speculation) -> Iterator[str]:
    from moeplan.report.speculation_words import load_columns, speculation_columns, speculation_words, step_columns

    yield "### Speculation"
    yield "\n".join(f"- {escaped(text)}" for _, text in speculation_words(found))
    for columns in (load_columns(speed, found), step_columns(found), speculation_columns(speed, found)):
        if columns:
            yield columns_table(columns)


def _explained(estimate: Estimate) -> Iterator[str]:
    yield "### Why"
    yield ""
    for rank in explained_ranks(estimate):
        for entry in rank.lines:
            yield f"- {escaped(entry.label)}: {gib(entry.bytes, 3)} ({entry.bytes:,} B), {entry.basis}"
            yield f"  - {code(entry.why.formula)}"
            if entry.why.inputs:
                yield f"  - with {code(', '.join(f'{name} = {value}' for name, value in entry.why.inputs.items()))}"
            yield f"  - source: {escaped(entry.why.source)}"
