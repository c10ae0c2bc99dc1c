"""A profile as Markdown, for a ticket or a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from moeplan.profile.result import Profile
from moeplan.report.markdown import escaped, table
from moeplan.report.printable import printable_record
from moeplan.report.profile_words import (
    CHANGE_HEADS,
    FIGURE_HEADS,
    KERNEL_HEADS,
    against_words,
    change_rows,
    device_words,
    figure_rows,
    kept_words,
    kernel_rows,
    not_here_words,
    outcome_words,
    problem_words,
    unchanged_words,
)


def profile_markdown(profile: Profile) -> str:
    """GitHub-flavoured Markdown with a final newline."""
    profile = printable_record(profile)
    blocks = [f"## {escaped(profile.device.name)}", f"**{escaped(outcome_words(profile))}**"]
    blocks.append(escaped(device_words(profile)))
    blocks += _table(FIGURE_HEADS, "<>><", figure_rows(profile))
    blocks += _table(KERNEL_HEADS, "<<<<>>>", kernel_rows(profile))
    title, unchanged = against_words(profile), unchanged_words(profile)
    blocks += [f"**{escaped(title)}**"] if title is not None else []
    blocks += _table(CHANGE_HEADS, "<>>>", change_rows(profile))
    blocks += [escaped(unchanged)] if unchanged is not None else []
    reasons = problem_words(profile)
    if reasons:
        blocks.append("Without a figure:\n\n" + "\n".join(f"- {escaped(reason)}" for reason in reasons))
    blocks += [escaped(sentence) for sentence in not_here_words(profile)]
    blocks += [escaped(sentence) for sentence in kept_words(profile)]
    marks = {"warning": "**Warning:** ", "info": ""}
    if profile.notes:
        blocks.append("\n".join(f"- {marks[note.severity]}{escaped(note.message)}" for note in profile.notes))
    return "\n\n".join(blocks) + "\n"


def _table(heads: Sequence[str], right: str, rows: Iterable[tuple[str, ...]]) -> list[str]:
    """One block, or none without rows."""
    cells = [tuple(map(escaped, row)) for row in rows]
    return [table(heads, right, cells)] if cells else []
