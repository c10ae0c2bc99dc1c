"""A check as a page that stands alone: the outcome, what was found and the ways out, every deployment with what it stands on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from moeplan.check.result import Check, Finding, Judged
from moeplan.core.units import GIB, gib
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
    gpus_words,
    headroom_words,
    layout_words,
    left_words,
    memory_words,
    nothing_helps,
    outcome_words,
    place_words,
    state_words,
    summary_words,
    titles,
    ways_words,
    what_words,
)
from moeplan.report.page import Column
from moeplan.report.pages.charts import COLOURS, FREE, INK, figure
from moeplan.report.pages.markup import Html, element, joined, listed, paragraph, shown, text, unfolding
from moeplan.report.pages.shell import Section, State, Tile, headline, page_html, tiles
from moeplan.report.pages.tables import notes_list, rows_table
from moeplan.report.words import NOTHING_HELPS

STATES: dict[str, State] = {"PASSES": "good", "FAILS": "bad"}
"""Outcomes that are one or the other; the rest is open."""
MOST_BARS = 40
"""Deployments whose memory is drawn: those with least left."""
BAR_PIXELS = 26
MOST_ALIKE = 5
"""Findings of one rule, no errors, that are told one by one."""
HEADS = ("deployment", "verdict", "file", "model", "GPUs", "headroom", "tokens", "sequences")
_SPAN = re.compile(r"(`[^`]+`)")


def check_html(check: Check) -> str:
    """The page: findings that are new stand in front, known and ignored ones behind the deployments."""
    found = [entry for entry in entries(check) if entry.judged is not None]
    new = by_severity([finding for finding in check.findings if finding.state == "new"])
    quiet = by_severity([finding for finding in check.findings if finding.state != "new"])
    outcome = outcome_words(check)
    first, *others = summary_words(check)
    sections = [
        Section("findings", "Findings", _findings(new)),
        Section("memory", "Memory", _memory(check)),
        Section("deployments", "Deployments", _deployments(found)),
        Section("quiet", "Known and ignored", _findings(quiet)),
        Section("rules", "Rules", _rules(check.findings)),
        Section("files", "Files of other programs", [listed(check.passed_over)]),
        Section("notes", "Notes", [notes_list(check.notes)]),
    ]
    lead = [
        headline(
            f"{outcome}: {first}", STATES.get(outcome, "open"), [f"{told[:1].upper()}{told[1:]}." for told in others]
        ),
        tiles(list(_tiles(check))),
        _asked(check),
    ]
    return page_html(title="moeplan check", lead=lead, sections=sections, result=check)


def _tiles(check: Check) -> Iterator[Tile]:
    number, read = "{:,}".format, check.summary.files - check.summary.files_passed_over
    yield Tile("deployments", shown(check, "summary.deployments", number), f"in {count(read, 'file')}")
    yield Tile("pass", shown(check, "summary.passed", number))
    yield Tile("fail", shown(check, "summary.failed", number))
    yield Tile("cannot be verified", shown(check, "summary.cannot_verify", number))
    yield Tile(
        "errors",
        shown(check, "summary.errors", number),
        f"{count(check.summary.warnings, 'warning')}, {count(check.summary.infos, 'info')}",
    )


def _asked(check: Check) -> Html:
    told = [f"policy: {check.policy}" if check.policy else "no policy"]
    told += ["models from the lock file alone"] if check.locked else []
    told += [f"baseline: {check.baseline}"] if check.baseline else []
    return paragraph(" · ".join(told), class_="quiet")


def _findings(found: Sequence[Finding]) -> list[Html]:
    """One after the other; what a rule finds of many deployments is told once, and opens, unless they are errors."""
    many = Counter((finding.level, finding.code) for finding in found)
    parts, told = [], set()
    for finding in found:
        kind = (finding.level, finding.code)
        if finding.level == "error" or many[kind] <= MOST_ALIKE:
            parts.append(_finding(finding))
        elif kind not in told:
            told.add(kind)
            parts.append(_alike([each for each in found if (each.level, each.code) == kind]))
    return parts


def _alike(found: Sequence[Finding]) -> Html:
    first = found[0]
    rule = f"{first.code} {LEVELS[first.level]}: {titles().get(first.code, '')}"
    return unfolding(f"{rule} ({len(found):,} times)", *map(_finding, found), class_="alike")


def _finding(finding: Finding) -> Html:
    """Code, level and place, the message, and what to do."""
    about = [] if finding.deployment is None else [element("span", finding.deployment, class_="about")]
    head = element(
        "h3",
        joined(
            [element("span", f"{finding.code} {LEVELS[finding.level]}", class_=f"level {finding.level}"), *about], " "
        ),
    )
    place = element(
        "p",
        element("code", place_words(finding)),
        *([f" {finding.key_path}"] if finding.key_path else []),
        class_="quiet",
    )
    parts: list[str] = [head, place, element("p", spoken(finding.message))]
    gap, ways = gap_words(finding), ways_words(finding)
    if gap or ways:
        parts.append(paragraph("; ".join(part for part in (gap, FITS_WITH if ways else "") if part)))
    if ways:
        parts.append(listed(joined([element("code", change), f", which {left}"]) for change, left in ways))
    if nothing_helps(finding):
        parts.append(paragraph(NOTHING_HELPS))
    if finding.hint:
        parts.append(element("p", element("strong", "Way out: "), spoken(finding.hint)))
    state = state_words(finding)
    if state:
        parts.append(paragraph(state, class_="quiet"))
    return element("article", *parts, class_=f"finding {finding.level}")


def spoken(told: str) -> Html:
    """A sentence; what stands between backticks is code."""
    parts = _SPAN.split(told)
    return joined(element("code", part[1:-1]) if _SPAN.fullmatch(part) else text(part) for part in parts)


def _deployments(found: Sequence[Entry]) -> list[Html]:
    if not found:
        return []
    rows = [_row(entry, entry.judged) for entry in found if entry.judged is not None]
    each = [_settings(entry, entry.judged) for entry in found if entry.judged is not None]
    return [rows_table(HEADS, "<<<<<>>>", rows, "Every deployment", hide_caption=True), *each]


def _row(entry: Entry, judged: Judged) -> tuple[str, ...]:
    memory, layout = judged.memory, layout_words(judged)
    verdict = VERDICTS[entry.verdict]
    if entry.verdict == "pass" and any(finding.state == "known" for finding in entry.quiet):
        verdict += ", with known findings"
    return (
        judged.name,
        element("span", verdict, class_=f"verdict-word {entry.verdict}"),
        element("code", entry.where),
        judged.model or "not known",
        gpus_words(judged) + (f", {layout}" if layout else ""),
        headroom_words(judged),
        "" if memory is None or memory.kv_tokens is None else f"{memory.kv_tokens:,}",
        "" if memory is None or memory.max_concurrency is None else f"{memory.max_concurrency:,}",
    )


def _settings(entry: Entry, judged: Judged) -> Html:
    """What one verdict stands on, folded: values with their places, what follows for the memory, notes."""
    rows = [(each.name, each.value, each.origin, element("code", each.where)) for each in judged.settings]
    told = [*what_words(judged), *memory_words(judged)]
    borrowed = borrowed_words(entry)
    codes = codes_words((*entry.findings, *entry.quiet))
    return unfolding(
        f"{judged.name}, {entry.where}: {VERDICTS[entry.verdict]}{f' ({codes})' if codes else ''}",
        paragraph(" · ".join(told), class_="quiet"),
        *([paragraph(f"{borrowed[:1].upper()}{borrowed[1:]}.")] if borrowed else []),
        *(
            [rows_table(("setting", "value", "origin", "where"), "<<<<", rows, f"What {judged.name} stands on")]
            if rows
            else []
        ),
        notes_list(judged.notes),
    )


def _memory(check: Check) -> list[Html]:
    """The fullest GPU of every deployment that could be held against one, least left first."""
    known = [each for each in check.deployments if each.memory is not None and each.memory.headroom_bytes is not None]
    if not known:
        return []
    known.sort(key=lambda each: (_headroom(each), each.file, each.line, each.name))
    drawn = known[:MOST_BARS]
    labels = _labels(drawn)
    values = [segment for label, judged in zip(labels, drawn, strict=True) for segment in _segments(label, judged)]
    limits: list[dict[str, Any]] = [
        {
            "bar": label,
            "limit": (judged.memory.budget_bytes or 0) / GIB,
            "end": max(judged.memory.budget_bytes or 0, judged.memory.needed_bytes or 0) / GIB,
            "left": left_words(judged),
        }
        for label, judged in zip(labels, drawn, strict=True)
        if judged.memory is not None
    ]
    kinds = {_WEIGHTS: COLOURS[0], _OTHERS: COLOURS[1], _FREE: FREE}
    x = {"type": "quantitative", "title": "GiB of the fullest GPU", "axis": {"tickCount": 8},
         "scale": {"domain": [0, 1.2 * max(each["end"] for each in limits)], "nice": False}}  # fmt: skip
    spec: dict[str, Any] = {
        "height": {"step": BAR_PIXELS},
        "encoding": {"y": {"field": "bar", "type": "nominal", "title": None, "sort": labels}},
        "layer": [
            {
                "data": {"values": values},
                "mark": {"type": "bar", "stroke": "var(--page)", "strokeWidth": 1, "height": {"band": 0.7}},
                "encoding": {
                    "x": {**x, "field": "from"},
                    "x2": {"field": "to"},
                    "color": {
                        "field": "kind", "type": "nominal", "title": None,
                        "scale": {"domain": list(kinds), "range": list(kinds.values())},
                    },
                    "description": {"field": "told"},
                },
            },
            {
                "data": {"values": limits},
                "mark": {"type": "tick", "color": INK, "thickness": 2.5, "size": BAR_PIXELS * 0.9, "aria": False},
                "encoding": {"x": {**x, "field": "limit"}},
            },
            {
                "data": {"values": limits},
                "mark": {"type": "text", "align": "left", "dx": 8, "aria": False},
                "encoding": {"x": {**x, "field": "end"}, "text": {"field": "left"}},
            },
        ],
    }  # fmt: skip
    worst, others = drawn[0], len(known) - len(drawn)
    more = f" {others:,} with more left are in the table alone." if others else ""
    chart = figure(
        spec,
        title="The fullest GPU of every deployment",
        description=f"What each needs, up to the mark of what its engine may use. Least is left on {worst.name}: "
        f"{headroom_words(worst)}.{more}",
        table=_memory_table(known),
    )
    return [chart]


_WEIGHTS, _OTHERS, _FREE = "weights", "cache, activations, runtime", "free"


def _segments(label: str, judged: Judged) -> Iterator[dict[str, Any]]:
    memory = judged.memory
    assert memory is not None
    needed, weights = memory.needed_bytes or 0, memory.weights_bytes or 0
    ends = ((_WEIGHTS, 0, weights), (_OTHERS, weights, needed), (_FREE, needed, memory.budget_bytes or 0))
    for kind, start, end in ends:
        if end > start:
            size = headroom_words(judged) if kind == _FREE else gib(end - start)
            yield {
                "bar": label,
                "kind": kind,
                "from": start / GIB,
                "to": end / GIB,
                "told": f"{judged.name}: {kind} {size}",
            }


def _memory_table(known: Sequence[Judged]) -> list[Column]:
    memories = [(judged, judged.memory) for judged in known if judged.memory is not None]
    return [
        Column("deployment", tuple(judged.name for judged, _ in memories), right=False),
        Column("file", tuple(f"{judged.file}:{judged.line}" for judged, _ in memories), right=False),
        Column("weights", tuple(_size(memory.weights_bytes) for _, memory in memories)),
        Column("needed", tuple(_size(memory.needed_bytes) for _, memory in memories)),
        Column("the engine may use", tuple(_size(memory.budget_bytes) for _, memory in memories)),
        Column("left", tuple(headroom_words(judged) for judged, _ in memories)),
    ]


def _labels(drawn: Sequence[Judged]) -> list[str]:
    """A name of its own for each bar: several files may have a deployment of one name."""
    names = Counter(judged.name for judged in drawn)
    labels = [
        judged.name if names[judged.name] == 1 else f"{judged.name}, {judged.file}:{judged.line}" for judged in drawn
    ]
    # A list on one line has several of one name at one place.
    places = [labels[:place].count(label) for place, label in enumerate(labels)]
    return [f"{label} ({place + 1})" if place else label for label, place in zip(labels, places, strict=True)]


def _headroom(judged: Judged) -> int:
    assert judged.memory is not None
    return judged.memory.headroom_bytes or 0


def _size(size_bytes: int | None) -> str:
    return "" if size_bytes is None else gib(size_bytes)


def _rules(findings: Sequence[Finding]) -> list[Html]:
    """What the codes on this page stand for."""
    named = titles()
    codes = sorted({finding.code for finding in findings})
    if not codes:
        return []
    rows = [(code, named.get(code, "")) for code in codes]
    return [rows_table(("code", "rule"), "<<", rows, "Rules that found something", hide_caption=True)]
