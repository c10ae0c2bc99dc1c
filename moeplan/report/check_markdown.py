"""A check as Markdown, for comments on pull requests and the summary of a CI job.

What does not pass stands in front, what passes is folded where it is much. The page stays below what a comment may hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from moeplan.check.result import Check, Finding, Judged
from moeplan.report.check_words import (
    FITS_WITH,
    LEVELS,
    VERDICTS,
    Entry,
    by_severity,
    count,
    entries,
    gap_words,
    gpus_words,
    headroom_words,
    layout_words,
    nothing_helps,
    outcome_words,
    settings_words,
    shown_path,
    summary_words,
    ways_words,
)
from moeplan.report.markdown import code, escaped, table
from moeplan.report.printable import printable_record
from moeplan.report.words import NOTHING_HELPS
from moeplan.report.workflow_commands import harmless

MARKER = "<!-- moeplan check -->"
"""By this a comment is found again, to be updated and not repeated."""
MOST_CHARACTERS = 60_000
"""A comment on GitHub holds 65,536."""
TABLE_SHARE = 0.5
"""Of the room: more it does not take from the findings behind it."""
MOST_OPEN = 10
"""Passing deployments, and findings, beyond this are folded."""
HEADS = ("verdict", "deployment", "file", "model", "GPUs", "headroom", "tokens", "sequences")
_SPAN = re.compile(r"(`[^`]+`)")
_MENTION = re.compile(r"(?<!\w)@(?=\w)")


class Room:
    """Characters that the page still has room for."""

    def __init__(self, characters: int) -> None:
        self.characters = characters

    def fitting(self, rows: Sequence[tuple[str, ...]], share: float = 1) -> list[tuple[str, ...]]:
        """As many rows of cells as go into a share of the room; what they take is gone."""
        kept, left = [], int(self.characters * share)
        for row in rows:
            taken = sum(map(len, row)) + 3 * len(row) + 2
            if taken > left:
                break
            left -= taken
            self.characters -= taken
            kept.append(row)
        return kept


def check_markdown(check: Check) -> str:
    """GitHub-flavoured Markdown with a final newline."""
    check = printable_record(check)
    first, *others = summary_words(check)
    blocks = [
        MARKER,
        f"## moeplan check: {outcome_words(check).lower()}",
        "\n".join([f"- {first}", *map("- {}".format, others)]),
    ]
    room = Room(MOST_CHARACTERS - len("\n\n".join(blocks)))
    found = [entry for entry in entries(check) if entry.judged is not None]
    open_ones = [entry for entry in found if entry.verdict != "pass"]
    passing = [entry for entry in found if entry.verdict == "pass"]
    open_ones.sort(key=lambda entry: entry.verdict != "fail")
    blocks += _deployments(open_ones, room, folded=False)
    blocks += _findings(check, room)
    blocks += _deployments(passing, room, folded=len(passing) > MOST_OPEN)
    if check.notes:
        blocks.append("\n".join(f"> {text_cell(note.message)}" for note in check.notes))
    return harmless("\n\n".join(blocks) + "\n")


def text_cell(text: str) -> str:
    """Escaped, and so that a name calls nobody."""
    return _MENTION.sub("@<!-- -->", escaped(text))


def sentence(text: str) -> str:
    """As a cell, but for what stands between backticks: that stays code. Not for tables."""
    parts = _SPAN.split(text)
    return "".join(code(part[1:-1]) if _SPAN.fullmatch(part) else text_cell(part) for part in parts)


def _deployments(found: Sequence[Entry], room: Room, *, folded: bool) -> Iterator[str]:
    """The table, as long as there is room for its rows; what does not pass leaves room for why."""
    rows = room.fitting(
        [_row(entry, entry.judged) for entry in found if entry.judged is not None], 1 if folded else TABLE_SHARE
    )
    if not found:
        return
    made = "\n\n".join([*([table(HEADS, "<<<<<>>>", rows)] if rows else []), *_left_out(len(found) - len(rows))])
    yield _folded(count(len(found), "deployment") + " that pass", made) if folded else made


def _left_out(number: int) -> list[str]:
    return [f"{number:,} more are left out here; `--format json` lists all."] if number else []


def _row(entry: Entry, judged: Judged) -> tuple[str, ...]:
    memory = judged.memory
    layout = layout_words(judged)
    gpus = gpus_words(judged) + (f", {layout}" if layout else "")
    if judged.total_gpus is not None and judged.replicas not in (None, 1):
        gpus += f", {judged.total_gpus:,} in all"
    verdict = VERDICTS[entry.verdict]
    if entry.verdict != "pass":
        verdict = f"**{verdict}**"
    elif any(finding.state == "known" for finding in entry.quiet):
        verdict += ", with known findings"
    return (
        verdict,
        text_cell(judged.name),
        text_cell(entry.where),
        text_cell(judged.model or "not known"),
        text_cell(gpus),
        headroom_words(judged),
        "" if memory is None or memory.kv_tokens is None else f"{memory.kv_tokens:,}",
        "" if memory is None or memory.max_concurrency is None else f"{memory.max_concurrency:,}",
    )


def _findings(check: Check, room: Room) -> Iterator[str]:
    """New findings, most severe first; behind a fold where they are many."""
    new = by_severity([finding for finding in check.findings if finding.state == "new"])
    if not new:
        return
    standing = {(each.file, each.name): each for each in check.deployments if each.verdict == "fail"}
    told: set[tuple[str, str]] = set()
    items = []
    for finding in new:
        where = (finding.file, finding.deployment or "")
        items.append("\n".join(_item(finding, None if where in told else standing.get(where))))
        told.add(where)
    kept = room.fitting([(item,) for item in items])
    listed = ["\n".join(item for (item,) in kept)] if kept else []
    text = "\n\n".join([*listed, *_left_out(len(items) - len(kept))])
    yield _folded(count(len(new), "finding"), text) if len(new) > MOST_OPEN else text


def _item(finding: Finding, judged: Judged | None) -> Iterator[str]:
    """One finding as an item of a list, with what stands behind it below; a failing deployment's settings once."""
    place = code(f"{shown_path(finding.file)}:{finding.line}")
    about = "" if finding.deployment is None else f" {text_cell(finding.deployment)}:"
    yield f"- **{finding.code} {LEVELS[finding.level]}** {place}{about} {text_cell(finding.message)}"
    gap, ways = gap_words(finding), ways_words(finding)
    if gap or ways:
        yield f"  - {'; '.join(part for part in (gap, FITS_WITH if ways else '') if part)}"
    for change, left in ways:
        yield f"    - {code(change)}, which {left}"
    if nothing_helps(finding):
        yield f"  - {NOTHING_HELPS}"
    if finding.hint:
        yield f"  - way out: {sentence(finding.hint)}"
    if judged is not None and judged.settings:
        yield f"  - stands on: {text_cell(', '.join(settings_words(judged)))}"


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"
