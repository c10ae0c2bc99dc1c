"""A record as Markdown: what it is of, its figures, what they rest on."""

from __future__ import annotations

from moeplan.core.record import Record
from moeplan.report.markdown import columns_table, escaped, quoted_notes
from moeplan.report.printable import printable_record
from moeplan.report.record_words import figure_columns, head_words, told_words, verdict_words
from moeplan.report.workflow_commands import harmless


def record_markdown(record: Record) -> str:
    """The record as GitHub-flavoured Markdown with a final newline."""
    record = printable_record(record)
    blocks = [
        f"## {escaped(record.model.id)}",
        "  \n".join(map(escaped, head_words(record))),
        f"**{escaped(verdict_words(record))}**",
        columns_table(figure_columns(record)),
        "\n".join(f"- {escaped(words)}" for words in told_words(record)),
        *quoted_notes([note for note in record.notes if note.code != "quality-not-measured"]),
    ]
    return harmless("\n\n".join(blocks) + "\n")
