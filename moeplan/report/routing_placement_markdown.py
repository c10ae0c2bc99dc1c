"""A placement of experts as Markdown: what it is worth, what it costs, numbers of spare slots, a row per layer."""

from __future__ import annotations

from moeplan.report.markdown import columns_table, escaped, quoted_notes
from moeplan.report.printable import printable_record
from moeplan.report.routing_placement_words import (
    LEGEND,
    advice_words,
    head_words,
    layer_columns,
    spare_columns,
    spare_legend,
    summary_columns,
    told_words,
    verdict_words,
)
from moeplan.routing.result import PlacementReport


def routing_placement_markdown(report: PlacementReport) -> str:
    """The placement as GitHub-flavoured Markdown with a final newline."""
    report = printable_record(report)
    blocks = [
        f"## {escaped(report.model)}",
        "  \n".join(map(escaped, head_words(report))),
        f"**{escaped(verdict_words(report))}**",
        columns_table(summary_columns(report)),
        "\n".join(f"- {escaped(words)}" for words in told_words(report)),
        "### Spare slots",
        columns_table(spare_columns(report)),
        escaped(spare_legend(report)),
        "\n".join(f"- {escaped(words)}" for words in advice_words(report)),
        *(["### Layers", columns_table(layer_columns(report)), escaped(LEGEND)] if report.layers else []),
        *quoted_notes(report.notes),
    ]
    return "\n\n".join(blocks) + "\n"
