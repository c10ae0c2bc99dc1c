"""Plans as a person reads them: the best one in full, the frontier in rows, what was rejected and why, what to fall back on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from moeplan.plan.result import Plan, PlanResult
from moeplan.report.page import blank_page, page_text, print_listing, print_notes, print_prose
from moeplan.report.plan_chart import FRONTIER_SIGNS, OTHER_SIGNS, plans_chart
from moeplan.report.plan_words import (
    asked_words,
    best_lead,
    detail_words,
    fallback_words,
    guessed_words,
    headline,
    launch_lines,
    model_words,
    more_words,
    nearest_words,
    plan_columns,
    plans_title,
    rejection_rows,
    searched_words,
    stored_words,
)
from moeplan.report.printable import printable_record
from moeplan.report.terminal_chart import print_chart, worth_a_chart

NARROW_COLUMNS = 50
"""Below this a table of plans in other formats loses their times."""

if TYPE_CHECKING:
    from rich.console import Console


def plan_table(result: PlanResult, *, width: int, color: bool, unicode: bool) -> str:
    """The plans as text of at most `width` columns but for commands, which stay whole; ASCII alone where `unicode` is False."""
    result = printable_record(result)
    page = blank_page(width, color=color)
    page.print(result.model.id, style="bold", overflow="fold")
    print_prose(page, model_words(result))
    print_prose(page, asked_words(result))
    print_prose(page, searched_words(result))
    page.print()
    if result.best is None:
        print_prose(page, nearest_words(result), style="bold red")
    else:
        _best(page, result.best, guessed_words(result))
        stored = stored_words(result)
        if stored is not None:
            print_prose(page, stored, "! ", style="yellow")
    charted = worth_a_chart(len(result.frontier) + len(result.smaller_formats), width)
    own, other = (FRONTIER_SIGNS, OTHER_SIGNS) if charted else ("", "")
    _plans(page, plans_title(result.request), result.frontier, result, own)
    _plans(page, "In other formats (what they do to quality is not known here)", result.smaller_formats, result, other)
    if charted:
        print_chart(page, plans_chart(result))
    _plans(page, "Fit, and their speed is not known", result.unmeasured, result)
    if result.fallback:
        page.print()
        page.print("If it fails", style="bold")
        for each in result.fallback:
            for lead, text in fallback_words(each):
                print_prose(page, text, lead)
    rejected = list(rejection_rows(result.rejected))
    if rejected:
        page.print()
        page.print("Not among them", style="bold")
        for lead, text in rejected:
            print_prose(page, text, lead)
    print_notes(page, result.notes)
    return page_text(page, unicode=unicode)


def _best(page: Console, best: Plan, guessed: str | None) -> None:
    print_prose(page, headline(best), best_lead(best), style="bold green" if best.certain else "bold yellow")
    if guessed is not None:
        print_prose(page, guessed, "  guessed: ")
    for lead, text in detail_words(best):
        print_prose(page, text, f"  {lead}")
    for lead, command in launch_lines(best):
        page.print(f"  {lead}:", overflow="fold")
        # A command is copied whole: no line of it is broken.
        page.print(f"    {command}", soft_wrap=True)


def _plans(page: Console, title: str, plans: Sequence[Plan], result: PlanResult, signs: str = "") -> None:
    if not plans:
        return
    page.print()
    page.print(title, style="bold", overflow="fold")
    print_listing(page, plan_columns(plans, result.request, signs, narrow=page.width < NARROW_COLUMNS))
    more = more_words(plans)
    if more is not None:
        print_prose(page, more)
