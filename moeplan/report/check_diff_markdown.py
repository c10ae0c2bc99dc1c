"""What a change does to each deployment, as one comment on a pull request that can be updated.

The page stays below what a comment may hold, and no name in it calls anybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moeplan.check.diff import Changed, Diff, Figure
from moeplan.check.result import Finding
from moeplan.core.units import gib
from moeplan.report.check_markdown import MOST_CHARACTERS, Room, sentence, text_cell
from moeplan.report.check_words import LEVELS, VERDICTS, by_severity, count, outcome_words, shown_path
from moeplan.report.markdown import code, table
from moeplan.report.printable import printable_record
from moeplan.report.words import gib_signed
from moeplan.report.workflow_commands import harmless

MARK = "<!-- moeplan-check-diff -->"
"""The first line: who posts the comment finds the old one by it."""

NAMES = {
    "weights_bytes": "weights, fullest GPU",
    "needed_bytes": "memory, fullest GPU",
    "headroom_bytes": "headroom, fullest GPU",
    "context_tokens": "length, tokens",
    "kv_tokens": "cache, tokens",
    "max_concurrency": "sequences of full length",
    "gpus_per_engine": "GPUs per engine",
    "replicas": "copies",
    "total_gpus": "GPUs in all",
    "usd_per_hour": "USD per hour",
}
MOVED = {"engine_version": "engine's version", "gpu": "GPU"}
NOTHING = "–"
MOST_FINDINGS = 30


def check_diff_markdown(diff: Diff) -> str:
    """The comment: a table of deployments, figures that moved, findings that came and went."""
    diff = printable_record(diff)
    changed = [each for each in diff.deployments if each.change != "same" or each.base_verdict != each.head_verdict]
    blocks = [MARK, f"## moeplan check: {outcome_words(diff.head).lower()}, against {code(diff.base)}"]
    blocks.append(_counts(diff, changed))
    findings = [*_findings("New findings", diff.findings), *_findings("Findings that are gone", diff.gone)]
    room = Room(MOST_CHARACTERS - sum(len(block) + 2 for block in (*blocks, *findings)))
    rows = room.fitting([_row(each) for each in changed], 0.5)
    if rows:
        blocks.append(table(["deployment", "change", "verdict"], "<<<", rows))
    blocks += _left_out(len(changed) - len(rows))
    blocks += findings
    tables = [block for each in changed if (block := _table(each))]
    kept = [block for (block,) in room.fitting([(block,) for block in tables])]
    blocks += kept
    blocks += _left_out(len(tables) - len(kept))
    return harmless("\n\n".join(blocks) + "\n")


def _counts(diff: Diff, changed: Sequence[Changed]) -> str:
    if not changed:
        return f"Nothing changes for {count(len(diff.deployments), 'deployment')}."
    same = len(diff.deployments) - len(changed)
    told = ", ".join(
        f"{number:,} {word}"
        for word in ("added", "removed", "changed")
        if (number := sum(each.change == word for each in changed))
    )
    other = sum(each.change == "same" for each in changed)
    parts = [told, f"{other:,} with another verdict" if other else "", f"{same:,} as before" if same else ""]
    return f"{count(len(diff.deployments), 'deployment')}: {', '.join(part for part in parts if part)}."


def _left_out(number: int) -> list[str]:
    return [f"{number:,} more are left out here; `--format json` lists all."] if number else []


def _row(each: Changed) -> tuple[str, str, str]:
    verdicts = [
        NOTHING if verdict is None else VERDICTS[verdict] if verdict == "pass" else f"**{VERDICTS[verdict]}**"
        for verdict in (each.base_verdict, each.head_verdict)
    ]
    return _name(each), each.change, " → ".join(verdicts)


def _name(each: Changed) -> str:
    return f"{text_cell(each.name)} ({text_cell(shown_path(each.file))})"


def _table(each: Changed) -> str:
    """What is another than it was; of a deployment that is new or gone, every figure that is known."""
    rows = [row for figure in each.figures if (row := _figure(figure))]
    rows += [
        (MOVED.get(moved.name, moved.name), text_cell(moved.base or NOTHING), text_cell(moved.head or NOTHING), "")
        for moved in each.moved
    ]
    return f"**{_name(each)}**\n\n{table(['', 'before', 'after', 'change'], '<>>>', rows)}" if rows else ""


def _figure(figure: Figure) -> tuple[str, str, str, str] | None:
    base, head = figure.base, figure.head
    if base == head:
        return None
    change = ""
    if base is not None and head is not None:
        more = head - base
        change = f"{'+' if more > 0 else '−'}{_size(figure.name, abs(more))}"
    return NAMES[figure.name], _shown(figure.name, base), _shown(figure.name, head), change


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return NOTHING
    # As in the other reports: what is left is rounded down, and what is missing is said so.
    return gib_signed(int(value), floor=True) if name == "headroom_bytes" else _size(name, value)


def _size(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return gib(int(value))
    return f"{value:,.2f}" if name == "usd_per_hour" else f"{value:,}"


def _findings(title: str, findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return []
    lines = list(_lines(findings[:MOST_FINDINGS]))
    more = [f"- and {len(findings) - MOST_FINDINGS:,} more"] if len(findings) > MOST_FINDINGS else []
    return [f"### {title}", "\n".join([*lines, *more])]


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    for each in by_severity(findings):
        about = "" if each.deployment is None else f" {text_cell(each.deployment)}:"
        place = code(f"{shown_path(each.file)}:{each.line}")
        yield f"- **{each.code} {LEVELS[each.level]}** {place}{about} {sentence(each.message)}"
