"""An offload as Markdown: the verdict, the command, what would help, tables, notes."""

from __future__ import annotations

from moeplan.offload.result import Offload
from moeplan.report.markdown import code, columns_table, escaped, quoted_notes
from moeplan.report.offload_words import (
    FORMATS,
    HELPS,
    HOT,
    OTHERS,
    asked_words,
    detail_words,
    format_columns,
    help_rows,
    hot_columns,
    hot_words,
    launch_words,
    layer_columns,
    layers_title,
    machine_words,
    model_words,
    other_rows,
    verdict_words,
)
from moeplan.report.printable import printable_record


def offload_markdown(result: Offload) -> str:
    """The answer as GitHub-flavoured Markdown with a final newline."""
    result = printable_record(result)
    blocks = [
        f"## {escaped(result.model.id)}",
        "  \n".join(escaped(text) for text in (model_words(result), machine_words(result), asked_words(result))),
        f"**{escaped(verdict_words(result))}**",
    ]
    if result.way_out is not None:
        blocks.append(f"Way out: {escaped(result.way_out)}")
    details = [f"- {escaped(lead + text)}" for lead, text in detail_words(result)]
    blocks += ["\n".join(details)] if details else []
    launch = launch_words(result)
    blocks += [] if launch is None else [f"{escaped(launch[0])}: {code(launch[1])}"]
    blocks += _listed(HELPS, list(help_rows(result)))
    if len(result.layers) > 1:
        blocks += [f"### {layers_title(result)}", columns_table(layer_columns(result))]
    if len(result.formats) > 1:
        title = f"### {FORMATS}"
        blocks += [title, columns_table(format_columns(result))]
    if result.hot_experts is not None:
        hot = result.hot_experts
        blocks += [f"### {HOT}", escaped(hot_words(hot)), columns_table(hot_columns(hot))]
    blocks += _listed(OTHERS, list(other_rows(result)))
    blocks += quoted_notes(result.notes)
    return "\n\n".join(blocks) + "\n"


def _listed(title: str, pairs: list[tuple[str, str]]) -> list[str]:
    if not pairs:
        return []
    return [f"### {title}", "\n".join(f"- {escaped(lead + text)}" for lead, text in pairs)]
