"""Drift of routing as Markdown: the verdict, where it moved, a row per layer."""

from __future__ import annotations

from moeplan.report.markdown import columns_table, escaped, quoted_notes
from moeplan.report.printable import printable_record
from moeplan.report.routing_drift_words import (
    LEGEND,
    beyond_words,
    head_words,
    layer_columns,
    told_words,
    verdict_words,
)
from moeplan.report.routing_words import legend_words
from moeplan.routing.result import Drift


def routing_drift_markdown(drift: Drift) -> str:
    """The drift as GitHub-flavoured Markdown with a final newline."""
    drift = printable_record(drift)
    beyond, columns = beyond_words(drift), layer_columns(drift)
    told = ([beyond] if beyond else []) + list(told_words(drift))
    blocks = [
        f"## {escaped(drift.a.model)}",
        "  \n".join(map(escaped, head_words(drift))),
        f"**{escaped(verdict_words(drift))}**",
        "\n".join(f"- {escaped(words)}" for words in told),
        columns_table(columns),
        escaped(legend_words(LEGEND, columns)),
        *quoted_notes(drift.notes),
    ]
    return "\n\n".join(blocks) + "\n"
