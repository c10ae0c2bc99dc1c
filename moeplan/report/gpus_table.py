"""Accelerators as a person reads them: the listing, or one device with the source of every figure."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from moeplan.inspect import Gpu, Gpus
from moeplan.report.gpus_words import (
    GPU_LEGEND,
    KERNELS_LEGEND,
    LEARNED,
    MEASURED_LEGEND,
    Figure,
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
from moeplan.report.page import (
    GAP,
    LEAST_NAME_COLUMNS,
    Column,
    blank_page,
    needed_columns,
    page_text,
    print_listing,
    print_notes,
    print_prose,
)
from moeplan.report.printable import printable_record

if TYPE_CHECKING:
    from rich.console import Console


LEAST_NAME_OF_FIGURE = 28
"""Names of measured figures are not broken into narrower columns."""


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
    _measured(page, gpu, len(sources) + 1)
    learned = learned_words(gpu)
    if learned:
        page.print()
        page.print(f"{LEARNED}:", overflow="fold")
    for words in learned:
        print_prose(page, words, "· ")


def _measured(page: Console, gpu: Gpu, first: int) -> None:
    """What `moeplan profile` left, and the runs that it is of, numbered on from `first`."""
    for columns, legend in (
        (measured_columns(gpu, first), MEASURED_LEGEND),
        (kernel_columns(gpu, first), KERNELS_LEGEND),
    ):
        if columns:
            page.print()
            _rows(page, columns)
            page.print()
            print_prose(page, legend)
    for number, words in runs(gpu, first).items():
        print_prose(page, words, f"[{number}] ")


def _rows(page: Console, columns: Sequence[Column]) -> None:
    """A listing whose long names take several rows; on a narrow page names one by one, with their cells below."""
    names, *others = columns
    room = page.width - needed_columns(others) - GAP
    rows = list(zip(*(column.cells for column in columns), strict=True))
    if room >= min(LEAST_NAME_OF_FIGURE, needed_columns([names])):
        parts = [(wrap(name, room), cells) for name, *cells in rows]
        blank = [""] * len(others)
        whole = [
            row for (first, *more), cells in parts for row in ([first, *cells], *([part, *blank] for part in more))
        ]
        page_columns = (tuple(cells) for cells in zip(*whole, strict=True))
        print_listing(page, [each._replace(cells=cells) for each, cells in zip(columns, page_columns, strict=True)])
        return
    print_prose(page, names.title, style="bold")
    for name, *cells in rows:
        print_prose(page, name)
        told = [f"{column.title} {cell}".strip() for column, cell in zip(others, cells, strict=True) if cell]
        print_prose(page, ", ".join(told), "  ")


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
