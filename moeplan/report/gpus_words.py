"""Accelerators in words, as a table and as Markdown show them: columns of the listing, and one device figure by figure.

In a column what is unknown is a dash; on its own line it is the word.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from moeplan.core.hardware import pcie_bytes_per_s
from moeplan.core.profiled_figures import NewestFigure, NewestKernels
from moeplan.core.residual import KIND, residuals
from moeplan.core.units import gib
from moeplan.inspect import Gpu
from moeplan.report.amounts import amount
from moeplan.report.page import UNKNOWN, Column

LEARNED = "learned from logs on this machine"
MEASURED = "measured by moeplan profile"
MEASURED_LEGEND = "of spec: beside what the specification promises of the kind; spread: slow and fast repeats beside the median; run: below"
KERNELS = "fit of experts by"
KERNELS_LEGEND = "error: of the latency model, on cases that its fit had not seen; R²: of time over distinct experts"

GPU_LEGEND = (
    "memory: nominal GiB; usable: GiB that an engine finds, ~ assumed; TB/s: of memory; bf16, fp8, fp4: dense TFLOPS; "
    "link: GB/s of one device in one direction. `moeplan gpus NAME` shows every figure with its source."
)


class Figure(NamedTuple):
    """One figure of a device and where it is from."""

    label: str
    value: str
    sources: tuple[str, ...]


def gpu_columns(gpus: Sequence[Gpu]) -> list[Column]:
    """The listing: one row per device."""

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


def gpu_line(gpu: Gpu) -> str:
    """Who makes it, what it is, and how `--gpu` names it."""
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


def learned_words(gpu: Gpu) -> list[str]:
    """What engines' logs on this machine taught, one sentence per log, and how to undo it; empty where none did."""
    found = residuals(gpu.measured, gpu.path or gpu.profile)
    told = []
    for each in found:
        size = f"{gib(abs(each.residual_bytes), 2)} {'more' if each.residual_bytes >= 0 else 'less'}"
        what = f"{each.engine} {each.engine_version}, TP {each.tp}: holds {size} than was estimated"
        told.append(" · ".join(part for part in (what, each.model, each.source, each.date) if part))
    if told:
        path = gpu.path or f"profiles/hardware/{gpu.profile}.yaml"
        told.append(f"to undo one, delete its block (kind: {KIND}) under `measured` in {path}")
    return told


def measured_columns(gpu: Gpu, first: int) -> list[Column]:
    """What was measured, one row per figure; runs are numbered from `first`. Empty where nothing was."""
    numbers = _numbered_runs(gpu, first)
    rows = [
        (
            each.label,
            amount(each.value, each.unit),
            _of_spec(each.fraction_of_nominal),
            _spread(each),
            str(numbers[run_words(each)]),
        )
        for each in gpu.measured_figures
    ]
    return _columns((MEASURED, "", "of spec", "spread", "run"), rows, right=(1, 2, 3))


def kernel_columns(gpu: Gpu, first: int) -> list[Column]:
    """The latency model's fits, one row per backend and dtype, with the runs that they are of; empty where none is."""
    numbers = _numbered_runs(gpu, first)
    rows = [
        (
            each.backend,
            each.dtype,
            _percent(each.median_error),
            _percent(each.worst_error),
            UNKNOWN if each.r_squared_distinct is None else f"{each.r_squared_distinct:.3f}",
            str(numbers[run_words(each)]),
        )
        for each in gpu.measured_kernels
    ]
    return _columns((KERNELS, "dtype", "median error", "worst", "R²", "run"), rows, right=(2, 3, 4))


def runs(gpu: Gpu, first: int) -> dict[int, str]:
    """The runs that figures and fits are of, by number: `2026-11-25 - moeplan 0.1.0, effort default - torch 2.11.0`."""
    return {number: words for words, number in _numbered_runs(gpu, first).items()}


def run_words(each: NewestFigure | NewestKernels) -> str:
    """When, and with what."""
    software = [("torch", each.torch_version), ("driver", each.driver_version)]
    when = each.date if each.time is None else f"{each.date} {each.time}"
    parts = [when, each.tool, each.method.removeprefix("moeplan profile, ")]
    return " · ".join([*parts, *(f"{name} {version}" for name, version in software if version)])


def _numbered_runs(gpu: Gpu, first: int) -> dict[str, int]:
    figures, kernels = map(run_words, gpu.measured_figures), map(run_words, gpu.measured_kernels)
    return {words: number for number, words in enumerate(dict.fromkeys([*figures, *kernels]), first)}


def _columns(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int]) -> list[Column]:
    cells = zip(*rows, strict=True) if rows else ()
    return [Column(heads[place], tuple(column), right=place in right) for place, column in enumerate(cells)]


def _of_spec(share: float | None) -> str:
    return "" if share is None else f"{share * 100:.0f}%" if share >= 0.1 else f"{share * 100:.2g}%"


def _spread(figure: NewestFigure) -> str:
    """`-0.4 +1.2%`; blank for what was read once."""
    if figure.low == figure.high:
        return ""
    return f"{_signed(figure.low / figure.value - 1)} {_signed(figure.high / figure.value - 1)}%"


def _signed(share: float) -> str:
    return f"{share * 100:+.1f}" if abs(share) < 0.0995 else f"{share * 100:+.0f}"


def _percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{share * 100:.1f}%"


def numbered_sources(figures: Iterable[Figure]) -> dict[str, int]:
    """Each source once, numbered from 1 by first mention."""
    numbers: dict[str, int] = {}
    for figure in figures:
        for source in figure.sources:
            numbers.setdefault(source, len(numbers) + 1)
    return numbers


def references(figure: Figure, numbers: dict[str, int]) -> str:
    """The numbers of its sources."""
    return ", ".join(str(numbers[source]) for source in figure.sources) or UNKNOWN


def _usable_cell(gpu: Gpu) -> str:
    mark = "~" if gpu.usable_basis == "assumed" else ""
    return f"{mark}{_in_gib(gpu.usable_bytes)}"


def _in_gib(size_bytes: int | None) -> str:
    return UNKNOWN if size_bytes is None else gib(size_bytes).split()[0]


def _scaled(value: float | None, unit: float, digits: int = 0) -> str:
    return UNKNOWN if value is None else f"{value / unit:,.{digits}f}"


def _size(size_bytes: int | None, kind: str | None = None) -> str:
    return "unknown" if size_bytes is None else f"{gib(size_bytes)}{f' {kind}' if kind else ''}"


def _usable_words(gpu: Gpu) -> str:
    if gpu.usable_bytes is None or gpu.usable_low_bytes is None or gpu.usable_high_bytes is None:
        return "unknown"
    low, high = gib(gpu.usable_low_bytes).split()[0], gib(gpu.usable_high_bytes).split()[0]
    band = "" if low == high else f" ({low} to {high})"
    return f"{gib(gpu.usable_bytes)}{band}, {gpu.usable_basis}"


def _rate(bytes_per_s: int | None) -> str:
    if bytes_per_s is None:
        return "unknown"
    return f"{bytes_per_s / 1e12:,.4g} TB/s" if bytes_per_s >= 10**12 else f"{bytes_per_s / 1e9:,.4g} GB/s"


def _pcie(gpu: Gpu) -> str:
    if gpu.pcie is None:
        return "unknown"
    return f"PCIe {gpu.pcie.generation} x{gpu.pcie.lanes}, {_rate(pcie_bytes_per_s(gpu.pcie))} each way"
