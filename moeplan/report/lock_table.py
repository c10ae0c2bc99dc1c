"""What was locked, for people."""

from __future__ import annotations

from textwrap import wrap

from moeplan.lock import Lock
from moeplan.report.lock_words import NOT_READ, lock_lines
from moeplan.report.page import blank_page, page_text
from moeplan.report.printable import printable_record
from moeplan.report.workflow_commands import harmless

FURTHER = " " * 9


def lock_table(lock: Lock, *, width: int, color: bool, unicode: bool) -> str:
    """One line for each model, then what could not be read, then how the file stands."""
    page = blank_page(width, color=color)
    *lines, last = lock_lines(printable_record(lock))
    for line in lines:
        for row in wrap(line, page.width, subsequent_indent=FURTHER, break_on_hyphens=False):
            page.print(row, style="yellow" if line.startswith(NOT_READ) else "", overflow="fold")
    for row in wrap(last, page.width, break_on_hyphens=False):
        page.print(row, style="bold yellow" if lock.stale or lock.unlocked else "bold green", overflow="fold")
    return harmless(page_text(page, unicode=unicode))
