"""A capture as Markdown."""

from __future__ import annotations

from moeplan.report.markdown import escaped, quoted_notes
from moeplan.report.printable import printable_record
from moeplan.report.routing_captured_words import file_words, notes_words, run_words, verdict_words
from moeplan.routing.result import Captured


def routing_captured_markdown(result: Captured) -> str:
    """What was captured as GitHub-flavoured Markdown with a final newline."""
    result = printable_record(result)
    told = "\n".join(f"- {escaped(words)}" for words in (run_words(result), *file_words(result)))
    return "\n\n".join([f"**{escaped(verdict_words(result))}**", told, *quoted_notes(notes_words(result))]) + "\n"
