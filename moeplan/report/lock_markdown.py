"""What was locked, as Markdown."""

from __future__ import annotations

from moeplan.lock import Lock
from moeplan.report.check_markdown import sentence
from moeplan.report.lock_words import lock_lines
from moeplan.report.printable import printable_record
from moeplan.report.workflow_commands import harmless


def lock_markdown(lock: Lock) -> str:
    """One item for each line of the text."""
    return harmless("\n".join(f"- {sentence(line)}" for line in lock_lines(printable_record(lock))) + "\n")
