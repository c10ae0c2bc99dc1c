"""A report of routing as Markdown: the verdict, the worst layers, a table per kind of figure; the map as it stands on a screen."""

from __future__ import annotations

from moeplan.report.heat_map import grid, heat_lines, map_words
from moeplan.report.markdown import columns_table, escaped, quoted_notes
from moeplan.report.printable import printable_record
from moeplan.report.routing_report_words import head_words, heat_rows, sections, verdict_words, worst_columns
from moeplan.report.routing_words import legend_words
from moeplan.routing.result import Report

MAP_COLUMNS = 100
"""Width of the map: a code block of a page does not wrap."""


def routing_report_markdown(report: Report) -> str:
    """The report as GitHub-flavoured Markdown with a final newline."""
    report = printable_record(report)
    rows = heat_rows(report)
    shape = grid(rows, MAP_COLUMNS)
    lines = "\n".join(line.plain.rstrip() for line in heat_lines(rows, shape))
    blocks = [
        f"## {escaped(report.source.model)}",
        "  \n".join(map(escaped, head_words(report))),
        f"**{escaped(verdict_words(report))}**",
        columns_table(worst_columns(report)),
        "### Map of the load",
        f"```text\n{lines}\n```",
        escaped(map_words("expert", "experts", shape)),
    ]
    for section in sections(report):
        blocks += [
            f"### {escaped(section.title)}",
            columns_table(section.columns),
            escaped(legend_words(section.told, section.columns)),
        ]
    return "\n\n".join([*blocks, *quoted_notes(report.notes)]) + "\n"
