"""What was locked, as Markdown."""

from __future__ import annotations

from moeplan.lock import Lock
from moeplan.report.lock_words import lock_lines
from moeplan.report.markdown import escaped
from moeplan.report.printable import printable_record


def lock_markdown(lock: Lock) -> str:
    """One item for each line of the text."""
    return "\n".join(f"- {escaped(line)}" for line in lock_lines(printable_record(lock))) + "\n"
