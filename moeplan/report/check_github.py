"""A check as commands of GitHub Actions: annotations on the lines of a change, then the counts as text.

GitHub shows ten annotations of each level for a step. Where there are more, the most severe nine are written, and a last
one with the number of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from moeplan.check.result import Check, Finding, Level
from moeplan.report.check_words import (
    LEVELS,
    by_severity,
    codes_words,
    count,
    further_words,
    outcome_words,
    path_in_repository,
    summary_words,
    titles,
)
from moeplan.report.printable import printable_record
from moeplan.report.workflow_commands import command, harmless

MOST_SHOWN = 10
COMMANDS: Mapping[Level, str] = {"error": "error", "unknown": "warning", "warning": "warning", "info": "notice"}


def check_github(check: Check) -> str:
    """Lines for the log of a step; known and suppressed findings are counted alone."""
    check = printable_record(check)
    named = titles()
    new = by_severity([finding for finding in check.findings if finding.state == "new"])
    lines: list[str] = []
    for name in dict.fromkeys(COMMANDS.values()):
        mine = [finding for finding in new if COMMANDS[finding.level] == name]
        lines += _annotations(name, mine, named, check.folder)
    told = [f"moeplan check: {outcome_words(check)}", *summary_words(check), *(note.message for note in check.notes)]
    return "\n".join((*lines, *map(harmless, told))) + "\n"


def _annotations(name: str, findings: Sequence[Finding], named: Mapping[str, str], folder: str) -> Iterator[str]:
    """At most ten of one command."""
    shown = findings if len(findings) <= MOST_SHOWN else findings[: MOST_SHOWN - 1]
    for finding in shown:
        yield command(name, _properties(finding, named, folder), _text(finding))
    rest = findings[len(shown) :]
    if rest:
        title = f"moeplan: {count(len(findings), name)} in all"
        yield command(name, {"title": title}, f"{len(rest):,} more: {codes_words(rest)}; --format json lists all")


def _properties(finding: Finding, named: Mapping[str, str], folder: str) -> dict[str, str | int]:
    title = f"{finding.code} {named.get(finding.code, '')}".rstrip()
    if finding.level == "unknown":
        title = f"{LEVELS['unknown']}: {title}"
    file = path_in_repository(finding.file, folder)
    place: dict[str, str | int] = {"file": file, "line": finding.line, "col": finding.column}
    # Standard input is no file of the repository.
    return {"title": title, **({} if finding.file == "-" else place)}


def _text(finding: Finding) -> str:
    about = "" if finding.deployment is None else f"{finding.deployment}: "
    return "\n".join((f"{about}{finding.message}", *further_words(finding)))
