"""Plans as Markdown: the best one, tables of the others, fallbacks, rejections, notes."""

from __future__ import annotations

from collections.abc import Sequence

from moeplan.plan.result import Plan, PlanResult
from moeplan.report.markdown import code, columns_table, escaped, quoted_notes
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


def plan_markdown(result: PlanResult) -> str:
    """The plans as GitHub-flavoured Markdown with a final newline."""
    result = printable_record(result)
    blocks = [
        f"## {escaped(result.model.id)}",
        "  \n".join(escaped(text) for text in (model_words(result), asked_words(result), searched_words(result))),
    ]
    if result.best is None:
        blocks.append(f"**{escaped(nearest_words(result))}**")
    else:
        blocks += _best(result.best, guessed_words(result))
        stored = stored_words(result)
        blocks += [] if stored is None else [f"**{escaped(stored)}**"]
    blocks += _plans(plans_title(result.request), result.frontier, result)
    blocks += _plans("In other formats (what they do to quality is not known here)", result.smaller_formats, result)
    blocks += _plans("Fit, and their speed is not known", result.unmeasured, result)
    blocks += _listed("If it fails", [pair for each in result.fallback for pair in fallback_words(each)])
    blocks += _listed("Not among them", list(rejection_rows(result.rejected)))
    blocks += quoted_notes(result.notes)
    return "\n\n".join(blocks) + "\n"


def _best(best: Plan, guessed: str | None) -> list[str]:
    blocks = [f"**{escaped(best_lead(best) + headline(best))}**"]
    blocks += [] if guessed is None else [escaped(f"guessed: {guessed}")]
    blocks.append("\n".join(f"- {escaped(lead + text)}" for lead, text in detail_words(best)))
    blocks += [f"{escaped(lead)}: {code(command)}" for lead, command in launch_lines(best)]
    return blocks


def _plans(title: str, plans: Sequence[Plan], result: PlanResult) -> list[str]:
    if not plans:
        return []
    more = more_words(plans)
    blocks = [f"### {escaped(title)}", columns_table(plan_columns(plans, result.request))]
    return [*blocks, escaped(more)] if more is not None else blocks


def _listed(title: str, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """A list; leads that begin with blanks belong to the line above."""
    if not pairs:
        return []
    lines = [
        f"{'  ' if lead.startswith(' ') else ''}- {escaped((lead.strip() + ' ' + text).strip())}"
        for lead, text in pairs
    ]
    return [f"### {title}", "\n".join(lines)]
