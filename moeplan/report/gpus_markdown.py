"""Accelerators as Markdown: the listing, or one device with the source of every figure."""

from __future__ import annotations

from moeplan.inspect import Gpu, Gpus
from moeplan.report.gpus_words import (
    GPU_LEGEND,
    KERNELS_LEGEND,
    LEARNED,
    MEASURED_LEGEND,
    gpu_columns,
    gpu_figures,
    gpu_line,
    kernel_columns,
    learned_words,
    measured_columns,
    numbered_sources,
    references,
    runs,
)
from moeplan.report.markdown import columns_table, escaped, quoted_notes, table
from moeplan.report.printable import printable_record


def gpus_markdown(result: Gpus, *, detailed: bool) -> str:
    """The listing, or with `detailed` every figure of each device with its sources, with a final newline."""
    result = printable_record(result)
    if detailed:
        blocks = [block for gpu in result.gpus for block in _sheet(gpu)]
    else:
        blocks = [columns_table(gpu_columns(result.gpus)), escaped(GPU_LEGEND)]
    return "\n\n".join([*blocks, *quoted_notes(result.notes)]) + "\n"


def _sheet(gpu: Gpu) -> list[str]:
    figures = gpu_figures(gpu)
    sources = numbered_sources(figures)
    rows = [(escaped(each.label), escaped(each.value), references(each, sources)) for each in figures]
    blocks = [
        f"# {escaped(gpu.name)}",
        escaped(gpu_line(gpu)),
        table(("figure", "value", "source"), "<><", rows),
        "\n".join(f"{number}. {escaped(source)}" for source, number in sources.items()),
        "\n".join(f"- {escaped(remark)}" for remark in gpu.remarks),
    ]
    first = len(sources) + 1
    for columns, legend in (
        (measured_columns(gpu, first), MEASURED_LEGEND),
        (kernel_columns(gpu, first), KERNELS_LEGEND),
    ):
        blocks += [columns_table(columns), escaped(legend)] if columns else []
    blocks.append("\n".join(f"{number}. {escaped(words)}" for number, words in runs(gpu, first).items()))
    learned = learned_words(gpu)
    if learned:
        blocks += [f"{LEARNED}:", "\n".join(f"- {escaped(words)}" for words in learned)]
    return [block for block in blocks if block]
