"""The catalogue as Markdown."""

from __future__ import annotations

from moeplan.inspect import Models
from moeplan.report.markdown import columns_table, escaped, quoted_notes
from moeplan.report.models_words import model_columns, models_legend
from moeplan.report.printable import printable_record


def models_markdown(result: Models) -> str:
    """The listing with a final newline."""
    result = printable_record(result)
    blocks = [columns_table(model_columns(result.models, organisation=True)), escaped(models_legend(result))]
    return "\n\n".join([*blocks, *quoted_notes(result.notes)]) + "\n"
