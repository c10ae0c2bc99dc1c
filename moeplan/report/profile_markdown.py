"""A profile as Markdown, for a ticket or a page."""

from __future__ import annotations

from moeplan.profile.result import Profile
from moeplan.report.markdown import escaped, table
from moeplan.report.printable import printable_record
from moeplan.report.profile_words import (
    CHANGE_HEADS,
    FIGURE_HEADS,
    KERNEL_HEADS,
    change_rows,
    device_words,
    figure_rows,
    kept_words,
    kernel_rows,
    outcome_words,
    problem_words,
)


def profile_markdown(profile: Profile) -> str:
    """GitHub-flavoured Markdown with a final newline."""
    profile = printable_record(profile)
    blocks = [f"## {escaped(profile.device.name)}", f"**{escaped(outcome_words(profile))}**"]
    blocks.append(escaped(device_words(profile)))
    for heads, right, rows in (
        (FIGURE_HEADS, "<>><", figure_rows(profile)),
        (KERNEL_HEADS, "<<<<>>>", kernel_rows(profile)),
        ((*CHANGE_HEADS[:-1], "judged"), "<>>><", change_rows(profile)),
    ):
        cells = [tuple(map(escaped, row)) for row in rows]
        if cells:
            blocks.append(table(heads, right, cells))
    reasons = problem_words(profile)
    if reasons:
        blocks.append("Without a figure:\n\n" + "\n".join(f"- {escaped(reason)}" for reason in reasons))
    blocks += [escaped(sentence) for sentence in kept_words(profile)]
    marks = {"warning": "**Warning:** ", "info": ""}
    if profile.notes:
        blocks.append("\n".join(f"- {marks[note.severity]}{escaped(note.message)}" for note in profile.notes))
    return "\n\n".join(blocks) + "\n"
