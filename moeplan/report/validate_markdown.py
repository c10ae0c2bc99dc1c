"""A validation as Markdown, for a ticket or a page."""

from __future__ import annotations

from moeplan.report.markdown import code, escaped, table
from moeplan.report.printable import printable_record
from moeplan.report.validate_words import (
    command_words,
    heads,
    learned_words,
    legend,
    outcome_words,
    rows,
    shown_columns,
    subject_words,
)
from moeplan.validate.result import Validation


def validate_markdown(validation: Validation) -> str:
    """GitHub-flavoured Markdown with a final newline."""
    validation = printable_record(validation)
    blocks = [f"## {escaped(validation.log.name)}", f"**{escaped(outcome_words(validation))}**"]
    blocks.append(escaped(subject_words(validation)))
    lead = command_words(validation)
    if lead is not None:
        blocks.append(f"{escaped(lead)} {code(validation.command)}")
    shown = shown_columns(validation)
    cells = [[escaped(row[place]) for place in shown] for row in rows(validation)]
    if cells:
        titles = [*heads(validation)[:-1], "judged"]
        sides = "".join("<<>>>>><"[place] for place in shown)
        blocks.append(table([titles[place] for place in shown], sides, cells))
        blocks += [escaped(words) for words in legend(validation)]
    learned = learned_words(validation)
    if learned is not None:
        blocks.append(escaped(learned))
    marks = {"warning": "**Warning:** ", "info": ""}
    if validation.notes:
        blocks.append("\n".join(f"- {marks[note.severity]}{escaped(note.message)}" for note in validation.notes))
    return "\n\n".join(blocks) + "\n"
