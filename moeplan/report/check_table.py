"""A check as a person reads it: one line for what passes, everything for what fails, then the counts.

Two hundred deployments that lack the same thing say so a handful of times; after that one line each, then a number.
Failures are never cut short.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from moeplan.check.result import Check, Finding, Level, Verdict
from moeplan.check.summary import fails
from moeplan.report.check_words import (
    FITS_WITH,
    LEVELS,
    VERDICTS,
    Entry,
    borrowed_words,
    by_severity,
    codes_words,
    count,
    entries,
    gap_words,
    left_words,
    memory_words,
    nothing_helps,
    outcome_words,
    place_words,
    settings_words,
    state_words,
    summary_words,
    titles,
    ways_words,
    what_words,
)
from moeplan.report.page import NO_BREAK, blank_page, page_text, print_notes
from moeplan.report.printable import printable_record
from moeplan.report.words import NOTHING_HELPS
from moeplan.report.workflow_commands import harmless

if TYPE_CHECKING:
    from rich.console import Console

MOST_ALIKE = 5
"""So often a rule that fails nothing is told in full."""
MOST_SHORT = 20
"""So many lines of deployments with nothing new to tell, for each verdict; the rest is a number."""
LEAST_COLUMNS = 16
DOT = f"{NO_BREAK}· "
"""Stands between parts; a row may end with it and never begins with it."""

_STYLES: dict[Verdict, str] = {"pass": "green", "fail": "bold red", "cannot-verify": "bold yellow"}
_LEVELS: dict[Level, str] = {"error": "red", "warning": "yellow", "info": "", "unknown": "yellow"}


def check_table(check: Check, *, width: int, color: bool, unicode: bool) -> str:
    """The check as text of at most `width` columns; ASCII alone where `unicode` is False."""
    check = printable_record(check)
    page = blank_page(width, color=color)
    told: Counter[str] = Counter()
    short: Counter[Verdict] = Counter()
    folded: dict[Verdict, list[Entry]] = {}
    apart = False
    for entry in entries(check):
        news = _news(entry, told, check.fail_on)
        told.update(finding.code for finding in news)
        whole = entry.verdict == "fail" or bool(news) or (entry.verdict == "cannot-verify" and not entry.findings)
        if not whole and short[entry.verdict] == MOST_SHORT:
            folded.setdefault(entry.verdict, []).append(entry)
            continue
        short[entry.verdict] += not whole
        block = whole and entry.verdict != "pass"
        if apart or block:
            _blank(page)
        apart = block
        _block(page, entry, news) if block else _line(page, entry, news)
    if folded and apart:
        _blank(page)
    for verdict, more in folded.items():
        _fold(page, verdict, more)
    _blank(page)
    _summary(page, check)
    print_notes(page, check.notes)
    return harmless(page_text(page, unicode=unicode))


def _blank(page: Console) -> None:
    """A blank line, unless the page begins here."""
    if page.file.tell():
        page.print()


def _news(entry: Entry, told: Counter[str], fail_on: Level) -> list[Finding]:
    """Findings to tell in full: those that fail, and the first few of each other rule."""
    return [
        finding
        for finding in by_severity(entry.findings)
        if fails(finding.level, fail_on) or told[finding.code] < MOST_ALIKE
    ]


def _line(page: Console, entry: Entry, news: Sequence[Finding]) -> None:
    """One deployment in a line, with fewer parts where the page is narrow; below it what was found for the first time."""
    codes = _codes(entry, news)
    told: list[list[str]] = [[]]
    if entry.judged is not None:
        model, engine, gpus = what_words(entry.judged)[:3]
        left = [left_words(entry.judged)] if left_words(entry.judged) else []
        told = [[model, engine, gpus, *left], [model, gpus, *left], [model, *left], left]
    rows = [f"{VERDICTS[entry.verdict]}  {entry.where}  {DOT.join([entry.name, *parts, *codes])}" for parts in told]
    _hang(page, next((row for row in rows if len(row) <= page.width), rows[-1]), style=_STYLES[entry.verdict])
    for finding in news:
        _finding(page, finding)


def _block(page: Console, entry: Entry, news: Sequence[Finding]) -> None:
    """One deployment with all that there is to tell."""
    _hang(page, f"{VERDICTS[entry.verdict]}  {entry.where}  {entry.name}", style=_STYLES[entry.verdict])
    judged = entry.judged
    if judged is not None:
        role = [] if judged.role == "aggregate" else [judged.role]
        _hang(page, DOT.join([*what_words(judged), *role]), 2)
        _hang(page, DOT.join(memory_words(judged)), 2)
    _hang(page, borrowed_words(entry), 2)
    for finding in (*news, *entry.reasons):
        _finding(page, finding)
    _hang(page, "; ".join(_codes(entry, news)), 2)
    if entry.verdict == "fail" and judged is not None and judged.settings:
        _hang(page, f"stands on: {', '.join(settings_words(judged))}", 2)


def _codes(entry: Entry, news: Sequence[Finding]) -> list[str]:
    """Codes of what is not told in full: seen often enough, known, suppressed."""
    parts = []
    more = [finding for finding in entry.findings if finding not in news]
    if more:
        parts.append(f"as above: {codes_words(more)}" if news else codes_words(more))
    for state in ("known", "suppressed"):
        quiet = [finding for finding in entry.quiet if finding.state == state and finding not in entry.reasons]
        if quiet:
            parts.append(f"{state}: {codes_words(quiet)}")
    return parts


def _finding(page: Console, finding: Finding) -> None:
    place = f"{place_words(finding)} {finding.code} {LEVELS[finding.level]}"
    state = state_words(finding)
    _hang(page, f"{place}: {finding.message}{f' ({state})' if state else ''}", 2, style=_LEVELS[finding.level])
    gap, ways = gap_words(finding), ways_words(finding)
    _hang(page, "; ".join(part for part in (gap, FITS_WITH if ways else "") if part), 4)
    for change, left in ways:
        _hang(page, f"{change}  {left}", 6)
    _hang(page, NOTHING_HELPS if nothing_helps(finding) else "", 4)
    _hang(page, finding.hint, 4)


def _fold(page: Console, verdict: Verdict, more: Sequence[Entry]) -> None:
    """Many with nothing new to tell, as a number."""
    files = len({entry.file for entry in more})
    codes = codes_words([finding for entry in more for finding in entry.findings])
    told = f"{VERDICTS[verdict]}  {len(more):,} more in {count(files, 'file')}{f': {codes}' if codes else ''}"
    _hang(page, told, style=_STYLES[verdict])


def _summary(page: Console, check: Check) -> None:
    first, *others = summary_words(check)
    style = {"PASSES": "bold green", "FAILS": "bold red"}.get(outcome_words(check), "bold yellow")
    _hang(page, f"{outcome_words(check)} · {first}", style=style)
    for sentence in others:
        _hang(page, sentence)
    often = Counter(finding.code for finding in check.findings if finding.state == "new")
    many = {code: number for code, number in sorted(often.items()) if number > MOST_ALIKE}
    if many:
        named = titles()
        told = ", ".join(f"{number:,} {code} ({named.get(code, 'unknown rule')})" for code, number in many.items())
        _hang(page, f"often: {told}; --format json lists all")


def _hang(page: Console, text: str, indent: int = 0, style: str = "") -> None:
    """Text wrapped between words, further rows four columns further in; nothing where there is none."""
    further = " " * min(indent + 4, page.width - LEAST_COLUMNS)
    rows = wrap(text, page.width, initial_indent=" " * indent, subsequent_indent=further, break_on_hyphens=False)
    for row in rows:
        page.print(row.replace(NO_BREAK, " "), style=style, overflow="fold")
