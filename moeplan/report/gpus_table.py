"""Accelerators as a person reads them: the listing, or one device with the source of every figure."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from moeplan.inspect import Gpu, Gpus
from moeplan.report.gpus_words import (
    GPU_LEGEND,
    LEARNED,
    Figure,
    gpu_columns,
    gpu_figures,
    gpu_line,
    learned_words,
    numbered_sources,
    references,
)
from moeplan.report.page import (
    GAP,
    LEAST_NAME_COLUMNS,
    Column,
    blank_page,
    page_text,
    print_listing,
    print_notes,
    print_prose,
)
from moeplan.report.printable import printable_record

if TYPE_CHECKING:
    from rich.console import Console


def gpus_table(result: Gpus, *, width: int, color: bool, unicode: bool, detailed: bool) -> str:
    """The listing, or with `detailed` every figure of each device with its sources, at most `width` columns wide."""
    result = printable_record(result)
    page = blank_page(width, color=color)
    if detailed:
        for gpu in result.gpus:
            _sheet(page, gpu)
    else:
        print_listing(page, gpu_columns(result.gpus))
        page.print()
        print_prose(page, GPU_LEGEND)
    print_notes(page, result.notes)
    return page_text(page, unicode=unicode)


def _sheet(page: Console, gpu: Gpu) -> None:
    figures = gpu_figures(gpu)
    sources = numbered_sources(figures)
    page.print(gpu.name, style="bold", overflow="fold")
    print_prose(page, gpu_line(gpu))
    page.print()
    print_listing(page, _sheet_columns(page.width, figures, sources))
    page.print()
    for source, number in sources.items():
        print_prose(page, source, f"[{number}] ")
    for names, lead in ((gpu.aliases, "also: "), (gpu.shared_names, "one of several: ")):
        if names:
            page.print()
            print_prose(page, ", ".join(names), lead)
    if gpu.usable_why is not None:
        page.print()
        print_prose(page, gpu.usable_why.formula, "as engines find it: ")
    for remark in gpu.remarks:
        print_prose(page, remark, "· ")
    learned = learned_words(gpu)
    if learned:
        page.print()
        page.print(f"{LEARNED}:", overflow="fold")
    for words in learned:
        print_prose(page, words, "· ")


def _sheet_columns(width: int, figures: Sequence[Figure], sources: dict[str, int]) -> list[Column]:
    """Label, value and sources; words that are too long for the page take further rows of their own."""
    marks = [references(each, sources) for each in figures]
    taken = max(len(each.label) for each in figures) + max(map(len, ("source", *marks))) + 2 * GAP
    rows: list[tuple[str, str, str]] = []
    for figure, mark in zip(figures, marks, strict=True):
        first, *others = wrap(figure.value, max(LEAST_NAME_COLUMNS, width - taken)) or [""]
        rows += [(figure.label, first, mark), *(("", other, "") for other in others)]
    cells = zip(*rows, strict=True)
    return [Column(title, column, right=False) for title, column in zip(("", "", "source"), cells, strict=True)]
