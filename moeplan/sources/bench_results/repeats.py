"""Several runs of one load as one: the median of each figure, with the least and the most."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from moeplan.core.errors import InputError
from moeplan.core.record import Figure, Run
from moeplan.core.record_figures import FIGURES
from moeplan.sources.bench_results.found import Found

LENGTHS_DIFFER = 0.05
"""Mean lengths of two runs of one load may differ by this share: prompts are drawn."""


def together(found: Sequence[Found]) -> tuple[Figure, ...]:
    """One figure for each name. InputError where the runs are not of one load and one program."""
    for each in found[1:]:
        told = other_load(found[0].run, each.run)
        if told is not None:
            raise InputError(
                f"{each.run.file} and {found[0].run.file} are runs of other loads: {told}",
                hint="a record is of one load: make a record for each, from files that hold one load",
            )
    figures = []
    for name in FIGURES:
        told_by = [each for each in found if name in each.figures]
        if not told_by:
            continue
        values = [each.figures[name] for each in told_by]
        files = ", ".join(dict.fromkeys(each.run.file for each in told_by))
        spread: tuple[float | None, float | None] = (None, None)
        if len(values) > 1:
            spread = (min(values), max(values))
        elif name in told_by[0].spreads:
            spread = told_by[0].spreads[name]
        figures.append(Figure(name, median(values), *spread, "measured", files))
    return tuple(figures)


def other_load(first: Run, second: Run) -> str | None:
    """What is not the same load in two runs, in words; None where it is."""
    if first.kind != second.kind:
        return f"{first.kind}, {second.kind}"
    for name, mine, theirs in (
        ("requests in flight", first.concurrency, second.concurrency),
        ("requests per second", first.request_rate_per_s, second.request_rate_per_s),
    ):
        if mine != theirs:
            return f"{'no bound' if mine is None else f'{mine:g}'} and {'no bound' if theirs is None else f'{theirs:g}'} {name}"
    for name, mine, theirs in (
        ("prompts", first.input_tokens, second.input_tokens),
        ("answers", first.output_tokens, second.output_tokens),
    ):
        if mine is not None and theirs is not None and abs(mine - theirs) > LENGTHS_DIFFER * max(mine, theirs):
            return f"{name} of {mine:,.0f} and {theirs:,.0f} tokens"
    return None
