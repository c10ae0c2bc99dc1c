"""A comparison as Markdown: one table per group of figures, then where the order turns, and notes."""

from __future__ import annotations

from moeplan.compare.result import Comparison
from moeplan.report.compare_words import (
    LEGEND,
    Line,
    Section,
    asked_words,
    beside_words,
    notes_words,
    price_words,
    sections,
    speed_words,
    unknown_words,
)
from moeplan.report.markdown import escaped, table
from moeplan.report.printable import printable_record


def compare_markdown(result: Comparison) -> str:
    """The comparison as GitHub-flavoured Markdown with a final newline; the least of each row is bold."""
    result = printable_record(result)
    labels = [model.label for model in result.models]
    blocks = [f"## {escaped(' beside '.join(labels))}", escaped(" · ".join(asked_words(result)))]
    blocks.append(_table(sections(result), labels))
    blocks.append(escaped(LEGEND.replace("* ", "bold: ")))
    price = price_words(result)
    told = [*beside_words(result), *speed_words(result), *unknown_words(result), *([price] if price else [])]
    blocks.append("\n".join(f"- {escaped(words)}" for words in told))
    marks = {"warning": "**Warning:** ", "info": ""}
    notes = (f"- {marks[note.severity]}{escaped(note.message)}" for note in notes_words(result))
    blocks.append("### Notes\n\n" + "\n".join(notes))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _table(found: list[Section], labels: list[str]) -> str:
    rows = []
    for section in found:
        if section.title:
            rows.append([f"**{escaped(section.title)}**", *("" for _ in labels)])
        rows += [[_label(line), *_cells(line)] for line in section.lines]
    return table(["", *map(escaped, labels)], "<" + ">" * len(labels), rows)


def _label(line: Line) -> str:
    return f"{'– ' if line.part else ''}{escaped(line.label)}"


def _cells(line: Line) -> list[str]:
    return [f"**{escaped(cell)}**" if place in line.marked else escaped(cell) for place, cell in enumerate(line.cells)]
