"""A file of routing that was written, as Markdown."""

from __future__ import annotations

from moeplan.report.markdown import escaped, quoted_notes
from moeplan.report.printable import printable_record
from moeplan.report.routing_written_words import written_words
from moeplan.routing.result import Written


def routing_written_markdown(result: Written) -> str:
    """What was written as GitHub-flavoured Markdown with a final newline."""
    result = printable_record(result)
    lines = "\n".join(f"- {escaped(words)}" for words in written_words(result))
    return "\n\n".join([lines, *quoted_notes(result.notes)]) + "\n"
