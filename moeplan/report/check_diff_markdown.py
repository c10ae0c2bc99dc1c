"""What a change does to each deployment, as one comment on a pull request that can be updated."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.check.diff import Changed, Diff, Figure
from moeplan.check.result import Finding
from moeplan.core.units import gib
from moeplan.report.markdown import code, escaped, table
from moeplan.report.printable import printable_record

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
WORDS = {"pass": "pass", "fail": "**fail**", "cannot-verify": "**cannot verify**", None: "–"}
MOST_FINDINGS = 30


def check_diff_markdown(diff: Diff) -> str:
    """The comment: a table of deployments, figures that moved, findings that came and went."""
    diff = printable_record(diff)
    changed = [each for each in diff.deployments if each.change != "same" or each.base_verdict != each.head_verdict]
    blocks = [MARK, f"### moeplan check, against {code(diff.base)}"]
    if not changed:
        blocks.append(f"Nothing changes for {len(diff.deployments)} deployments.")
    else:
        rows = [
            (_name(each), each.change, f"{WORDS[each.base_verdict]} → {WORDS[each.head_verdict]}") for each in changed
        ]
        blocks.append(table(["deployment", "change", "verdict"], "<<<", rows))
        same = len(diff.deployments) - len(changed)
        if same:
            blocks.append(f"{same} other deployments stay as they were.")
    for each in changed:
        figures = [row for figure in each.figures if (row := _row(figure, each))]
        figures += [(moved.name, escaped(moved.base or "–"), escaped(moved.head or "–"), "") for moved in each.moved]
        if figures:
            blocks += [f"**{_name(each)}**", table(["", "before", "after", "change"], "<>>>", figures)]
    blocks += _findings("New findings", diff.findings) + _findings("Findings that are gone", diff.gone)
    return "\n\n".join(blocks) + "\n"


def _name(each: Changed) -> str:
    return f"{code(each.name)} ({escaped(each.file)})"


def _row(figure: Figure, each: Changed) -> tuple[str, str, str, str] | None:
    """A figure that moved; of what is new or gone, every figure that is known."""
    base, head = figure.base, figure.head
    if base == head or (base is None and head is None):
        return None
    change = ""
    if base is not None and head is not None:
        more = head - base
        change = f"{'+' if more > 0 else '−'}{_shown(figure.name, abs(more))}"
    return NAMES[figure.name], _shown(figure.name, base), _shown(figure.name, head), change


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name.endswith("_bytes"):
        return gib(int(value))
    return f"{value:,.2f}" if name == "usd_per_hour" else f"{value:,}"


def _findings(title: str, findings: tuple[Finding, ...]) -> list[str]:
    if not findings:
        return []
    lines = list(_lines(findings))
    more = [f"- and {len(lines) - MOST_FINDINGS} more"] if len(lines) > MOST_FINDINGS else []
    return [f"#### {title}", "\n".join([*lines[:MOST_FINDINGS], *more])]


def _lines(findings: tuple[Finding, ...]) -> Iterator[str]:
    for each in findings:
        yield f"- {code(each.code)} {escaped(each.file)}:{each.line}: {escaped(each.message)}"
