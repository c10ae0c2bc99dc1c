"""Two records as Markdown, made for a pull request: the outcome first, then settings, then figures."""

from __future__ import annotations

from moeplan.records.result import RecordDiff
from moeplan.report.markdown import columns_table, escaped, quoted_notes
from moeplan.report.printable import printable_record
from moeplan.report.record_diff_words import (
    HEADS,
    NONE,
    cause_words,
    change,
    columns,
    reasons,
    setting_rows,
    side_words,
    unknown_change,
    verdict_words,
)
from moeplan.report.workflow_commands import harmless


def record_diff_markdown(diff: RecordDiff) -> str:
    """The comparison as GitHub-flavoured Markdown with a final newline."""
    diff = printable_record(diff)
    blocks = [
        f"## {escaped(diff.b.model)}",
        f"**{escaped(verdict_words(diff))}**",
        "  \n".join(escaped(side_words(letter, side)) for letter, side in (("A", diff.a), ("B", diff.b))),
        escaped(cause_words(diff)),
    ]
    rows = [
        f"- {title}: {escaped(unknown_change(each) if found is diff.unknown else change(each))}"
        for title, found in setting_rows(diff)
        for each in found
    ]
    if rows:
        blocks.append("\n".join(rows))
    for head in HEADS:
        table = columns(diff, head)
        blocks.append(columns_table(table) if table[0].cells else f"{head}: {NONE}")
    blocks += [f"not comparable: {escaped(words)}" for words in reasons(diff)]
    return harmless("\n\n".join([*blocks, *quoted_notes(diff.notes)]) + "\n")
