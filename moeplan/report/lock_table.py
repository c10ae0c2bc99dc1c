"""What was locked, for people."""

from __future__ import annotations

from moeplan.lock import Lock
from moeplan.report.lock_words import lock_lines
from moeplan.report.printable import printable_record


def lock_table(lock: Lock, *, width: int, color: bool, unicode: bool) -> str:
    """One line for each model, then what could not be locked, then where it was written."""
    return "\n".join(lock_lines(printable_record(lock))) + "\n"
