"""A record in words: what it is of, its figures in rows, what is assumed; and amounts in people's units."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.core.record import Figure, Record, Run, Score, figure_of
from moeplan.core.record_figures import FIGURES, Unit
from moeplan.core.units import duration, gib, gib_floor, per_second
from moeplan.report.page import UNKNOWN, Column

NOT_MEASURED = "quality: not yet measured; --quality NAME=VALUE records a score"
_VERSIONS = {"default": "moeplan's default", "log": "as its log says", "stated": "as stated"}
_NAMED_ASSUMPTIONS = 6


def amount(unit: Unit, value: float | None, *, floor: bool = False) -> str:
    """A figure with its unit: `180 ms`, `41.2 GiB`, `1,400`; a dash for None. `floor` rounds bytes down: for headroom."""
    if value is None:
        return UNKNOWN
    match unit:
        case "s":
            return duration(value) if value else "0 s"
        case "bytes":
            if value < 0:
                return f"{gib(-value)} missing"
            return gib_floor(int(value)) if floor else gib(value)
        case "per_s":
            return per_second(value)
        case "tokens" | "sequences":
            return f"{value:,.10g}"
        case "fraction":
            return f"{value * 100:.3g} %"
        case "usd":
            return f"{value:,.2f}" if value >= 0.1 else f"{value:.3g}"
        case "score":
            return f"{value:,.6g}"


def head_words(record: Record) -> list[str]:
    """What was run on what, by which engine, in which formats, under which load: a line each."""
    model, engine, precision, layout = record.model, record.engine, record.precision, record.layout
    revision = f"revision {model.revision}" if model.revision else "revision not known"
    when = {"stated": "", "source-date-epoch": " (SOURCE_DATE_EPOCH)", "clock": ""}[record.date_origin]
    lines = [f"record of {record.date}{when} · moeplan {record.tool_version} · {revision} · read from {model.source}"]
    version = _VERSIONS.get(engine.version_origin, engine.version_origin)
    on = "no GPU named" if record.hardware is None else f"{record.hardware.num_devices} x {record.hardware.name}"
    degrees = [f"TP {layout.tp}"]
    degrees += [
        f"{name} {size}"
        for name, size in (("PP", layout.pp), ("DP", layout.dp), ("EP", layout.ep), ("DCP", layout.dcp))
        if size > 1
    ]
    degrees += ["DP attention"] if layout.dp_attention else []
    degrees += [f"{layout.redundant_experts} redundant experts"] if layout.redundant_experts else []
    degrees += [f"{layout.num_nodes} nodes"] if layout.num_nodes > 1 else []
    lines.append(f"{on} · {' x '.join(degrees)} · {engine.name} {engine.version} ({version})")
    activations = precision.activations or "not known"
    lines.append(f"weights {', '.join(precision.weights)} · cache {precision.kv_cache} · activations {activations}")
    lines.append(f"driver {record.software.driver or 'not told'} · torch {record.software.torch or 'not told'}")
    lines.append(f"load: {' · '.join(_load(record))}")
    stated = [f"{option.flag} {_shown(option.value)}" for option in engine.options if option.origin == "stated"]
    stated += [each.flag if each.value is None else f"{each.flag} {each.value}" for each in engine.other_flags]
    if stated:
        lines.append(f"flags: {', '.join(stated)}")
    return lines


def _load(record: Record) -> Iterator[str]:
    asked = record.request
    many = "1 sequence" if asked.concurrency == 1 else f"{asked.concurrency:,} sequences"
    yield f"{many} of {asked.context_tokens:,} tokens"
    load = record.workload
    if load is not None:
        yield f"prompts of {load.input_tokens:,.0f} and answers of {load.output_tokens:,.0f} tokens"
        if load.arrival_per_s is not None:
            yield f"{load.arrival_per_s:g} requests per second"
        if len(load.classes) > 1:
            yield f"{len(load.classes)} classes"


def _shown(value: object) -> str:
    return "on" if value is True else "off" if value is False else str(value)


def verdict_words(record: Record) -> str:
    """Whether it fits, in a word that needs no colour."""
    estimates = record.estimates
    if estimates.fits is None:
        return "NOT JUDGED: whether it fits is not known"
    headroom = figure_of(estimates.figures, "headroom_bytes")
    left = (
        ""
        if headroom is None
        else f": {amount('bytes', headroom.value, floor=True)}{' left' if headroom.value >= 0 else ''}"
    )
    if not estimates.fits:
        return f"DOES NOT FIT{left}"
    return f"{'FITS' if estimates.certain else 'FITS, PROBABLY'}{left}"


def label(name: str, *, short: bool = False) -> str:
    """What a figure is called; its own name where it is a score."""
    kind = FIGURES.get(name)
    return name if kind is None else kind.short if short else kind.label


def figure_columns(record: Record, *, short: bool = False) -> list[Column]:
    """A row per figure: the estimate with its band and basis, and what was measured beside it; `short` is for a narrow page."""
    names = [name for name in FIGURES if _either(record, name)]
    estimated = [figure_of(record.estimates.figures, name) for name in names]
    measured = [figure_of(record.measured.figures, name) for name in names]
    columns = [Column("figure", tuple(label(name, short=short) for name in names), right=False)]
    columns.append(
        Column("estimate", tuple(_cell(name, figure) for name, figure in zip(names, estimated, strict=True)))
    )
    columns.append(Column("band", tuple(_band(name, figure) for name, figure in zip(names, estimated, strict=True)), 2))
    columns.append(Column("basis", tuple(figure.basis if figure else "" for figure in estimated), 1, right=False))
    if any(measured):
        columns.append(
            Column("measured", tuple(_cell(name, figure) for name, figure in zip(names, measured, strict=True)))
        )
        spans = tuple(_band(name, figure) for name, figure in zip(names, measured, strict=True))
        if any(spans):
            columns.append(Column("least – most", spans, 2))
    return columns


def _either(record: Record, name: str) -> bool:
    return any(figure_of(figures, name) is not None for figures in (record.estimates.figures, record.measured.figures))


def _cell(name: str, figure: Figure | None) -> str:
    if figure is None:
        return ""
    return amount(FIGURES[name].unit, figure.value, floor=name == "headroom_bytes")


def _band(name: str, figure: Figure | None) -> str:
    if figure is None or figure.low is None or figure.high is None:
        return ""
    return f"{amount(FIGURES[name].unit, figure.low)} – {amount(FIGURES[name].unit, figure.high)}"


def told_words(record: Record) -> Iterator[str]:
    """What was measured by what, quality, what binds, and which figures of memory are assumed."""
    for run in record.measured.runs:
        yield _run_words(run)
    stated = [
        figure for figure in record.measured.figures if figure.basis == "stated" and figure.source == "given by hand"
    ]
    if stated:
        yield f"given by hand: {'; '.join(label(figure.name) for figure in stated)}"
    if not record.quality:
        yield NOT_MEASURED
    for score in record.quality:
        yield score_words(score)
    if record.estimates.binding is not None:
        yield f"binding: {record.estimates.binding}; {record.estimates.regime}"
    for told in record.estimates.extrapolated:
        yield f"outside of what was measured: {told}"
    if record.price is not None and record.hardware is not None:
        price = record.price
        yield (
            f"prices: {price.low_usd_per_hour:.2f} to {price.high_usd_per_hour:.2f} USD per GPU and hour as of {price.as_of}; "
            "an example, prices move"
        )
    assumed = sorted((each for each in record.assumptions if each.basis == "assumed"), key=lambda each: -each.bytes)
    named = ", ".join(f"{each.label} {gib(each.bytes)}" for each in assumed[:_NAMED_ASSUMPTIONS])
    if named:
        rest = len(assumed) - _NAMED_ASSUMPTIONS
        yield f"assumed of memory: {named}{f', and {rest} more' if rest > 0 else ''}; the record holds each line's source"


def _run_words(run: Run) -> str:
    parts = [f"{run.kind}, {run.file}"]
    if run.concurrency is not None:
        parts.append(f"{run.concurrency:,} requests in flight")
    if run.request_rate_per_s is not None:
        parts.append(f"{run.request_rate_per_s:g} per second")
    if run.completed is not None:
        failed = "" if run.failed is None else f", {run.failed:,} failed"
        parts.append(f"{run.completed:,} answered{failed}")
    if run.input_tokens is not None and run.output_tokens is not None:
        parts.append(f"{run.input_tokens:,.0f} + {run.output_tokens:,.0f} tokens")
    return f"run: {' · '.join(parts)}"


def score_words(score: Score) -> str:
    """`quality: mmlu 0.712 ± 0.004 (better when higher), 5-shot, by A. Person`."""
    spread = "" if score.spread is None else f" ± {score.spread:g}"
    how = "" if score.how is None else f", {score.how}"
    by = "" if score.by is None else f", by {score.by}"
    return f"quality: {score.name} {amount('score', score.value)}{spread}{score.unit or ''} (better when {score.better}){how}{by}"
