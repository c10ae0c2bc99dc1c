"""Accelerators and models as a person reads them, on a screen or in Markdown.

No cell wraps: a narrow page loses the columns that matter least, then ends of names. What is unknown is a dash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from io import StringIO
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

from moeplan.core.hardware import pcie_bytes_per_s
from moeplan.core.model import Remark
from moeplan.core.units import gib, params
from moeplan.inspect import Gpu, Gpus, Model, Models
from moeplan.report.printable import printable_record

if TYPE_CHECKING:
    from rich.console import Console

UNKNOWN = "–"
GAP = 2
LEAST_NAME_COLUMNS = 16


class Column(NamedTuple):
    """One column of a listing."""

    title: str
    cells: tuple[str, ...]
    rank: int = 0
    """Columns of the highest rank go first where the page is narrow; 0 stays."""
    right: bool = True


class Figure(NamedTuple):
    """One figure of a device and where it is from."""

    label: str
    value: str
    sources: tuple[str, ...]


# Accelerators -----------------------------------------------------------------------------------------------

GPU_LEGEND = (
    "memory: nominal GiB; usable: GiB that an engine finds, ~ assumed; TB/s: of memory; bf16, fp8, fp4: dense TFLOPS; "
    "link: GB/s of one device in one direction. `moeplan gpus NAME` shows every figure with its source."
)


def gpus_table(result: Gpus, *, width: int, color: bool, unicode: bool, detailed: bool) -> str:
    """The listing, or with `detailed` every figure of each device with its sources, at most `width` columns wide."""
    page, console = _page(width, color=color)
    result = printable_record(result)
    if detailed:
        for gpu in result.gpus:
            _gpu_sheet(console, gpu)
    else:
        _print_table(console, _gpu_columns(result.gpus))
        console.print()
        _prose(console, GPU_LEGEND)
    _notes(console, result.notes)
    return _finished(page, unicode=unicode)


def gpus_markdown(result: Gpus, *, detailed: bool) -> str:
    """The same as GitHub Markdown."""
    result = printable_record(result)
    lines: list[str] = []
    if detailed:
        for gpu in result.gpus:
            lines += [f"# {_md(gpu.name)}", "", _md(_gpu_line(gpu)), ""]
            figures, sources = gpu_figures(gpu), _numbered(gpu_figures(gpu))
            cells = [(each.label, each.value, _references(each, sources)) for each in figures]
            lines += _md_table(("figure", "value", "source"), cells, left=(0, 2))
            lines += ["", *(f"{number}. {_md(source)}" for source, number in sources.items())]
            lines += [""] * bool(gpu.remarks) + [f"- {_md(remark)}" for remark in gpu.remarks]
    else:
        columns = _gpu_columns(result.gpus)
        lines += [*_md_columns(columns), "", _md(GPU_LEGEND)]
    return "\n".join(lines + _md_notes(result.notes)) + "\n"


def _gpu_columns(gpus: Sequence[Gpu]) -> list[Column]:
    def column(title: str, cell: Callable[[Gpu], str], rank: int = 0, *, right: bool = True) -> Column:
        return Column(title, tuple(cell(gpu) for gpu in gpus), rank, right)

    return [
        column("GPU", lambda gpu: gpu.profile, right=False),
        column("memory", lambda gpu: _in_gib(gpu.nominal_bytes)),
        column("usable", _usable_cell),
        column("TB/s", lambda gpu: _scaled(gpu.memory_bandwidth_bytes_per_s, 1e12, 2)),
        column("bf16", lambda gpu: _scaled(gpu.dense_flops_per_s.bf16, 1e12), 1),
        column("fp8", lambda gpu: _scaled(gpu.dense_flops_per_s.fp8, 1e12), 2),
        column("fp4", lambda gpu: _scaled(gpu.dense_flops_per_s.fp4, 1e12), 4),
        column("link", lambda gpu: _scaled(gpu.scale_up and gpu.scale_up.bytes_per_s_per_direction, 1e9), 3),
    ]


def _usable_cell(gpu: Gpu) -> str:
    mark = "~" if gpu.usable_basis == "assumed" else ""
    return f"{mark}{_in_gib(gpu.usable_bytes)}"


def _in_gib(size_bytes: int | None) -> str:
    return UNKNOWN if size_bytes is None else gib(size_bytes).split()[0]


def _scaled(value: float | None, unit: float, digits: int = 0) -> str:
    return UNKNOWN if value is None else f"{value / unit:,.{digits}f}"


def _gpu_line(gpu: Gpu) -> str:
    capability = gpu.compute_capability and f"compute capability {gpu.compute_capability}"
    known = [gpu.vendor, gpu.architecture, capability, f"--gpu {gpu.profile}"]
    return " · ".join(part for part in known if part)


def gpu_figures(gpu: Gpu) -> list[Figure]:
    """Every figure of a device as words, unknown ones included, with its sources."""
    file: tuple[str, ...] = (gpu.path or f"profiles/hardware/{gpu.profile}.yaml",)
    stated = gpu.sources.get("specification") or file
    shown = gpu.sources.get("memory_visible") or stated
    found = file
    if gpu.usable_basis == "measured":
        found = gpu.sources.get("memory_usable") or file
    elif gpu.usable_why is not None:
        found = shown if gpu.usable_why.inputs.keys() & {"visible_bytes"} else stated
    figures = [
        Figure("memory, nominal", _size(gpu.nominal_bytes, gpu.memory_kind), stated),
        Figure("memory, shown by the driver", _size(gpu.visible_bytes), shown if gpu.visible_bytes else ()),
        Figure("memory, as engines find it", _usable_words(gpu), found if gpu.usable_bytes else ()),
        Figure("memory bandwidth", _rate(gpu.memory_bandwidth_bytes_per_s), stated),
        Figure("L2 cache", _size(gpu.l2_bytes), stated),
    ]
    for kind, rate in gpu.dense_flops_per_s._asdict().items():
        unit = "TOPS" if kind == "int8" else "TFLOPS"
        value = "unknown" if rate is None else f"{_scaled(rate, 1e12, 1 if rate < 1e14 else 0)} {unit}"
        figures.append(Figure(f"dense {kind}", value, stated))
    figures += [
        Figure("link to its peers", "unknown" if gpu.scale_up is None else gpu.scale_up.kind, stated),
        Figure("rate of that link, each way", _rate(gpu.scale_up and gpu.scale_up.bytes_per_s_per_direction), stated),
        Figure("devices linked by it", str((gpu.scale_up and gpu.scale_up.domain_devices) or "unknown"), stated),
        Figure("link to the host", _pcie(gpu), stated),
        Figure("power", "unknown" if gpu.power_w is None else f"{gpu.power_w} W", stated),
        Figure("devices in a node", " or ".join(map(str, gpu.node_sizes)) or "unknown", stated),
    ]
    if gpu.devices_per_card > 1:
        figures.append(Figure("devices on a card", str(gpu.devices_per_card), stated))
    if gpu.host_bytes is not None:
        figures.append(Figure("memory of the host", _size(gpu.host_bytes), stated))
    if gpu.price is None:
        figures.append(Figure("price per hour", "unknown", ()))
    else:
        low, high = gpu.price.low_usd_per_hour, gpu.price.high_usd_per_hour
        figures.append(Figure("price per hour", f"{low:.2f} to {high:.2f} USD ({gpu.price.as_of})", gpu.price.sources))
    return [each if each.value != "unknown" else each._replace(sources=()) for each in figures]


def _size(size_bytes: int | None, kind: str | None = None) -> str:
    return "unknown" if size_bytes is None else f"{gib(size_bytes)}{f' {kind}' if kind else ''}"


def _usable_words(gpu: Gpu) -> str:
    if gpu.usable_bytes is None or gpu.usable_low_bytes is None or gpu.usable_high_bytes is None:
        return "unknown"
    band = f"{gib(gpu.usable_low_bytes).split()[0]} to {gib(gpu.usable_high_bytes).split()[0]}"
    return f"{gib(gpu.usable_bytes)} ({band}), {gpu.usable_basis}"


def _rate(bytes_per_s: int | None) -> str:
    if bytes_per_s is None:
        return "unknown"
    return f"{bytes_per_s / 1e12:,.4g} TB/s" if bytes_per_s >= 10**12 else f"{bytes_per_s / 1e9:,.4g} GB/s"


def _pcie(gpu: Gpu) -> str:
    if gpu.pcie is None:
        return "unknown"
    return f"PCIe {gpu.pcie.generation} x{gpu.pcie.lanes}, {_rate(pcie_bytes_per_s(gpu.pcie))} each way"


def _gpu_sheet(console: Console, gpu: Gpu) -> None:
    figures = gpu_figures(gpu)
    sources = _numbered(figures)
    console.print(gpu.name, style="bold", overflow="fold")
    _prose(console, _gpu_line(gpu))
    console.print()
    _print_table(console, _sheet_columns(console.width, figures, sources))
    console.print()
    for source, number in sources.items():
        _prose(console, source, f"[{number}] ")
    for names, lead in ((gpu.aliases, "also: "), (gpu.shared_names, "one of several: ")):
        if names:
            console.print()
            _prose(console, ", ".join(names), lead)
    if gpu.usable_why is not None:
        console.print()
        _prose(console, gpu.usable_why.formula, "as engines find it: ")
    for remark in gpu.remarks:
        _prose(console, remark, "· ")


def _sheet_columns(width: int, figures: Sequence[Figure], sources: dict[str, int]) -> list[Column]:
    """Label, value and sources; words that are too long for the page take further rows of their own."""
    references = [_references(each, sources) for each in figures]
    taken = max(len(each.label) for each in figures) + max(map(len, ("source", *references))) + 2 * GAP
    rows: list[tuple[str, str, str]] = []
    for figure, reference in zip(figures, references, strict=True):
        first, *others = wrap(figure.value, max(LEAST_NAME_COLUMNS, width - taken)) or [""]
        rows += [(figure.label, first, reference), *(("", other, "") for other in others)]
    labels, values, marks = zip(*rows, strict=True)
    return [Column("", labels, right=False), Column("", values, right=False), Column("source", marks, right=False)]


def _numbered(figures: Iterable[Figure]) -> dict[str, int]:
    """Each source once, numbered by first mention."""
    numbers: dict[str, int] = {}
    for figure in figures:
        for source in figure.sources:
            numbers.setdefault(source, len(numbers) + 1)
    return numbers


def _references(figure: Figure, numbers: dict[str, int]) -> str:
    return ", ".join(str(numbers[source]) for source in figure.sources) or UNKNOWN


# Models -----------------------------------------------------------------------------------------------------


def models_table(result: Models, *, width: int, color: bool, unicode: bool) -> str:
    """The listing, at most `width` columns wide."""
    page, console = _page(width, color=color)
    result = printable_record(result)
    columns = _model_columns(result.models, lambda model: model.id)
    if _needed(columns) > console.width:
        columns = _model_columns(result.models, lambda model: model.id.rpartition("/")[2])
    _print_table(console, columns)
    console.print()
    _prose(console, _models_legend(result))
    _notes(console, result.notes)
    return _finished(page, unicode=unicode)


def models_markdown(result: Models) -> str:
    """The same as GitHub Markdown."""
    result = printable_record(result)
    lines = _md_columns(_model_columns(result.models, lambda model: model.id))
    return "\n".join([*lines, "", _md(_models_legend(result)), *_md_notes(result.notes)]) + "\n"


def _models_legend(result: Models) -> str:
    count = f"{len(result.models)} model{'s' * (len(result.models) != 1)}"
    return (
        f"{count}. Active: parameters that one token uses. Experts: routed / visited per token + shared. Context in tokens, "
        "K is 1024. ~ stands before values that are not from the published config. "
        "`moeplan estimate NAME` takes a name with or without its organisation, in any case."
    )


def _model_columns(models: Sequence[Model], name: Callable[[Model], str]) -> list[Column]:
    def column(title: str, cell: Callable[[Model], str], rank: int = 0, *, right: bool = True) -> Column:
        return Column(title, tuple(cell(model) for model in models), rank, right)

    return [
        column("model", name, right=False),
        column("total", lambda model: f"{'' if model.provenance == 'published' else '~'}{params(model.total)}"),
        column("active", lambda model: params(model.active)),
        column("experts", _experts_cell, 1),
        column("context", lambda model: _context(model.max_context_tokens), 2),
        column("weights", lambda model: _formats(model.format), 3, right=False),
    ]


def _experts_cell(model: Model) -> str:
    if model.num_experts is None:
        return "dense"
    shared = f"+{model.num_shared_experts}" if model.num_shared_experts else ""
    return f"{model.num_experts}/{model.experts_per_token}{shared}"


def _context(tokens: int | None) -> str:
    if tokens is None:
        return UNKNOWN
    return f"{tokens // 1024}K" if tokens % 1024 == 0 else str(tokens)


def _formats(text: str) -> str:
    """`fp8 128x128 block, experts mxfp4` as `fp8+mxfp4`."""
    kinds = dict.fromkeys(re.findall(r"[a-z]*(?:fp|int|nf)\d+|bf16", text))
    return "+".join(kinds) or text


# The page ---------------------------------------------------------------------------------------------------


def _page(width: int, *, color: bool) -> tuple[StringIO, Console]:
    from rich.console import Console

    page = StringIO()
    console = Console(
        file=page,
        width=width,
        height=25,  # a console without a height takes 80 columns where TERM says dumb
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    return page, console


_ASCII = str.maketrans({"·": "-", "–": "-", "…": "~", "×": "x"})


def _finished(page: StringIO, *, unicode: bool) -> str:
    text = "\n".join(row.rstrip() for row in page.getvalue().splitlines()) + "\n"
    return text if unicode else text.translate(_ASCII)


def _widths(columns: Iterable[Column]) -> list[int]:
    return [max(map(len, (column.title, *column.cells))) for column in columns]


def _needed(columns: Sequence[Column]) -> int:
    return sum(_widths(columns)) + GAP * (len(columns) - 1)


def _print_table(console: Console, columns: list[Column]) -> None:
    from rich.table import Table

    while _needed(columns) > console.width and any(column.rank for column in columns):
        columns = [column for column in columns if column.rank < max(each.rank for each in columns)]
    first, *others = _widths(columns)
    room = console.width - sum(others) - GAP * len(others)
    widths = [max(LEAST_NAME_COLUMNS, min(first, room)), *others]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            column.title, justify="right" if column.right else "left", no_wrap=True, overflow="ellipsis", width=width
        )
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*cells)
    console.print(table)


def _notes(console: Console, notes: Sequence[Remark]) -> None:
    if notes:
        console.print()
    for note in notes:
        warning = note.severity == "warning"
        _prose(console, note.message, "! " if warning else "· ", style="yellow" if warning else "")


def _prose(console: Console, text: str, lead: str = "", style: str = "") -> None:
    rows = wrap(text, max(20, console.width - len(lead)), break_on_hyphens=False) or [""]
    for number, row in enumerate(rows):
        console.print(f"{lead if number == 0 else ' ' * len(lead)}{row}", style=style, overflow="fold")


# Markdown ---------------------------------------------------------------------------------------------------


def _md(text: Any) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|~])", r"\\\1", str(text))


def _md_columns(columns: Sequence[Column]) -> list[str]:
    left = tuple(number for number, column in enumerate(columns) if not column.right)
    rows = zip(*(column.cells for column in columns), strict=True)
    return _md_table(tuple(column.title for column in columns), rows, left)


def _md_table(titles: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[int]) -> list[str]:
    ruler = ["---" if number in left else "---:" for number in range(len(titles))]
    body = [list(map(_md, row)) for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in [list(titles), ruler, *body]]


def _md_notes(notes: Sequence[Remark]) -> list[str]:
    return ["", *(f"> {_md(note.message)}" for note in notes)] if notes else []
