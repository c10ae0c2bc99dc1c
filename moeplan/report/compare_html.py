"""Models side by side as a page: bytes that a step reads over its batch, what stays resident, all figures with their least."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moeplan.compare.result import Compared, Comparison
from moeplan.core.units import GIB, duration, gib, params
from moeplan.report import compare_words as words
from moeplan.report.page import Column
from moeplan.report.pages.charts import COLOURS, INK, figure, log_ticks, look_of
from moeplan.report.pages.markup import Html, element, joined, listed, paragraph, shown
from moeplan.report.pages.shell import Section, Tile, page_html, tiles
from moeplan.report.pages.tables import notes_list, rows_table
from moeplan.report.printable import printable_record

BAR = 36
"""Height of a bar with its gap."""
BARS: dict[str, Any] = {"width": 600, "padding": {"left": 40, "right": 40, "top": 4, "bottom": 4}}
"""Names of models stand before the bars and sums behind them: with room for a reader's wider letters."""


def compare_html(result: Comparison) -> str:
    """The comparison as one HTML file. UnknownError where the library that draws its charts is not installed."""
    whole, result = result, printable_record(result)
    labels = [model.label for model in result.models]
    return page_html(
        title=f"{', '.join(labels[:-1])} and {labels[-1]}",
        lead=[paragraph(" · ".join(words.asked_words(result))), _tiles(result)],
        sections=[
            Section("order", "Who needs less, and where that turns", [listed(words.beside_words(result))]),
            Section("reads", "What a step reads", [_over_batch(result), _parts(result)]),
            Section("memory", "What stays resident", [_resident(result)]),
            Section("speed", f"Speed on {result.hardware.name}" if result.hardware else "Speed", list(_speed(result))),
            Section("figures", "All figures", _figures(result)),
            Section("notes", "Notes", [_unknown(result), notes_list(words.notes_words(result)), *_price(result)]),
        ],
        result=whole,
    )  # fmt: skip


def _tiles(result: Comparison) -> Html:
    """Of each model what it keeps in memory, and how much of it a token passes."""
    return tiles(
        [
            Tile(
                model.label,
                shown(result, f"models.{place}.resident_bytes", lambda size: f"{gib(size)} of weights"),
                _parameters(result, model, place),
            )
            for place, model in enumerate(result.models)
        ]
    )


def _parameters(result: Comparison, model: Compared, place: int) -> Html:
    total, active = (shown(result, f"models.{place}.parameters.{name}", params) for name in ("total", "active"))
    if model.kind == "dense":
        return joined(["dense, ", total, f" parameters, {model.format}"])
    return joined(["MoE, ", active, " of ", total, f" parameters active, {model.format}"])


def _by_model(labels: Sequence[str]) -> dict[str, Any]:
    """Colour and shape of each model."""
    return {
        channel: {"field": "model", "title": None, "scale": {"domain": list(labels), "range": list(looks)}}
        for channel, looks in zip(("color", "shape"), zip(*map(look_of, range(len(labels))), strict=True), strict=True)
    }


def _scale(labels: Sequence[str], values: Sequence[str]) -> dict[str, Any]:
    return {"domain": list(labels), "range": [values[place % len(values)] for place in range(len(labels))]}


# Bytes of a step -------------------------------------------------------------------------------------------


def _over_batch(result: Comparison) -> Html:
    labels = [model.label for model in result.models]
    batches = result.request.batches
    values = [
        {
            "model": model.label,
            "batch": read.batch,
            "size": read.bytes_per_token / GIB,
            "told": f"{model.label}, batch {read.batch:,}: {words.size_words(read.bytes_per_token)} per token",
        }
        for model in result.models
        for read in model.reads
    ]
    sizes = [read.bytes_per_token / GIB for model in result.models for read in model.reads]
    look = _by_model(labels)
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "line", "aria": False}, "encoding": {"color": look["color"]}},
        {"mark": {"type": "point", "size": 90, "opacity": 1}, "encoding": {**look, "description": {"field": "told"}}},
        *_turns(result, labels),
    ]  # fmt: skip
    spec = {
        "data": {"values": values},
        "height": 320,
        "encoding": {
            "x": {
                "field": "batch", "type": "quantitative", "title": "sequences of a decode step (logarithmic)",
                "scale": {"type": "log", "nice": False, "padding": 16},
                "axis": {"values": list(batches), "format": ",d", "grid": False},
            },
            "y": {
                "field": "size", "type": "quantitative", "title": "GiB read per token (logarithmic)",
                "scale": {"type": "log", "nice": False, "padding": 12},
                "axis": {"format": ",~g", "values": log_ticks(sizes)},
            },
        },
        "layer": layers,
    }  # fmt: skip
    first, last = ([model.reads[place].bytes_per_token for model in result.models] for place in (0, -1))
    description = (
        f"At batch {batches[0]:,} a token reads {_each(labels, first)}; {labels[first.index(min(first))]} reads least. "
        f"At batch {batches[-1]:,} it reads {_each(labels, last)}; {labels[last.index(min(last))]} reads least."
    )
    table = [
        Column("sequences", tuple(f"{batch:,}" for batch in batches)),
        *(
            Column(model.label, tuple(words.size_words(read.bytes_per_token) for read in model.reads))
            for model in result.models
        ),
    ]
    title = f"Bytes that a step reads per token, over its batch, at {result.request.context_tokens:,} tokens of context"
    return figure(spec, title=title, description=description, table=table)


def _turns(result: Comparison, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Of two models: at every batch from which another one reads less, a line with its words."""
    batches = result.request.batches
    turns = [turn for pair in result.pairs for turn in pair.turns if len(result.pairs) == 1]
    for place, turn in enumerate(turn for turn in turns if batches[0] <= turn.batch <= batches[-1]):
        left = turn.batch**2 > batches[0] * batches[-1]
        told = f"from {turn.batch:,} on {labels[turn.less]} reads less"
        at = {"data": {"values": [{"batch": turn.batch, "told": told}]}}
        text = {
            "type": "text",
            "align": "right" if left else "left",
            "dx": -6 if left else 6,
            "y": 8 + 18 * place,
            "aria": False,
        }
        yield at | {
            "mark": {"type": "rule", "strokeDash": [6, 4], "color": INK, "aria": False},
            "encoding": {"y": None},
        }
        yield at | {"mark": text, "encoding": {"y": None, "text": {"field": "told"}}}


def _parts(result: Comparison) -> Html:
    batch = result.request.concurrency
    reads = [next(read for read in model.reads if read.batch == batch) for model in result.models]
    parts = {
        "dense weights": [read.dense_bytes for read in reads],
        "experts": [read.expert_bytes for read in reads],
        "cache": [read.cache_bytes for read in reads],
    }
    title = f"Of what these bytes are, at batch {batch:,}"
    most = ", ".join(
        f"{model.label} {max(parts, key=lambda name: parts[name][place])}" for place, model in enumerate(result.models)
    )
    return _bars(result, parts, title, f"What each token reads most: {most}.", "GiB read per token")


def _resident(result: Comparison) -> Html:
    many, length = result.request.concurrency, result.request.context_tokens
    sequences = "1 sequence" if many == 1 else f"{many:,} sequences"
    parts = {
        "weights": [model.resident_bytes for model in result.models],
        f"cache of {sequences}": [many * model.kv_cache.bytes_at_context for model in result.models],
    }
    totals = [sum(sizes) for sizes in zip(*parts.values(), strict=True)]
    labels = [model.label for model in result.models]
    title = f"Memory of the whole model with {sequences} of {length:,} tokens"
    return _bars(
        result, parts, title, f"Together {_each(labels, totals)}; what the engine takes beside comes on top.", "GiB"
    )


def _bars(result: Comparison, parts: Mapping[str, Sequence[float]], title: str, description: str, axis: str) -> Html:
    """A stacked bar for each model."""
    labels, names = [model.label for model in result.models], list(parts)
    values = [
        {"model": label, "part": name, "order": order, "size": parts[name][place] / GIB,
         "told": f"{label}, {name}: {words.size_words(parts[name][place])}"}
        for order, name in enumerate(names)
        for place, label in enumerate(labels)
        if parts[name][place]
    ]  # fmt: skip
    totals = [sum(sizes) for sizes in zip(*parts.values(), strict=True)]
    sums = [
        {"model": label, "size": total / GIB, "told": words.size_words(total)}
        for label, total in zip(labels, totals, strict=True)
    ]
    spec = {
        "height": BAR * len(labels),
        **BARS,
        "encoding": {
            "y": _rows(labels),
            "x": {"field": "size", "type": "quantitative", "title": axis, "axis": {"tickCount": 8}},
        },
        "layer": [
            {
                "data": {"values": values},
                "mark": "bar",
                "encoding": {
                    "color": {"field": "part", "title": None, "scale": _scale(names, COLOURS)},
                    "order": {"field": "order"},
                    "description": {"field": "told"},
                },
            },
            {
                "data": {"values": sums},
                "mark": {"type": "text", "align": "left", "dx": 6, "aria": False},
                "encoding": {"text": {"field": "told"}},
            },
        ],
    }
    table = [
        Column("model", tuple(labels), right=False),
        *(Column(name, tuple(map(words.size_words, sizes))) for name, sizes in parts.items()),
        Column("together", tuple(map(words.size_words, totals))),
    ]
    return figure(spec, title=title, description=description, table=table)


def _rows(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "field": "model", "type": "nominal", "title": None, "sort": list(labels), "axis": {"labelLimit": 260},
        "scale": {"paddingInner": 0.35},
    }  # fmt: skip


# Speed -----------------------------------------------------------------------------------------------------


def _speed(result: Comparison) -> Iterator[Html]:
    known = [(model.label, model.speed) for model in result.models if model.speed is not None]
    if not known:
        return
    labels = [label for label, _ in known]
    values = [
        {
            "model": label, "at": 1e3 * speed.tpot.value_s, "low": 1e3 * speed.tpot.low_s, "high": 1e3 * speed.tpot.high_s,
            "told": f"{label}: {duration(speed.tpot.value_s)} ({duration(speed.tpot.low_s)} to {duration(speed.tpot.high_s)})",
        }
        for label, speed in known
    ]  # fmt: skip
    spec = {
        "data": {"values": values},
        "height": BAR * len(known),
        **BARS,
        "encoding": {"y": _rows(labels)},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 6, "opacity": 0.35, "color": COLOURS[0], "aria": False},
                "encoding": {
                    "x": {"field": "low", "type": "quantitative", "title": "time per further token (ms)", "axis": {"tickCount": 8}},
                    "x2": {"field": "high"},
                },
            },
            {
                "mark": {"type": "point", "size": 110, "opacity": 1},
                "encoding": {"x": {"field": "at", "type": "quantitative"}, "description": {"field": "told"}},
            },
        ],
    }  # fmt: skip
    times = [speed.tpot for _, speed in known]
    table = [
        Column("model", tuple(labels), right=False),
        Column("time per token", tuple(duration(time.value_s) for time in times)),
        Column("at least", tuple(duration(time.low_s) for time in times)),
        Column("at most", tuple(duration(time.high_s) for time in times)),
        Column("basis", tuple(time.basis for time in times), right=False),
    ]
    told = ", ".join(f"{label} {duration(speed.tpot.value_s)}" for label, speed in known)
    gpus = ", ".join(
        f"{model.label} {model.gpus.num_gpus}"
        for model in result.models
        if model.speed is not None and model.gpus and model.gpus.num_gpus
    )
    description = f"{told}, each on the fewest GPUs that hold it ({gpus}). Bars are the bands of the estimate."
    yield figure(spec, title="Time per further token", description=description, table=table)
    yield listed(words.speed_words(result))


# Figures and notes -----------------------------------------------------------------------------------------


def _figures(result: Comparison) -> list[Html]:
    labels = [model.label for model in result.models]
    found = [paragraph(words.LEGEND, "quiet")]
    for section in words.sections(result):
        rows = [[line.label, *_cells(line)] for line in section.lines]
        found.append(rows_table(["", *labels], "<" + ">" * len(labels), rows, section.title or "the models"))
    return found


def _cells(line: words.Line) -> Iterator[str]:
    for place, cell in enumerate(line.cells):
        yield joined(["* ", element("strong", cell)]) if place in line.marked else cell


def _unknown(result: Comparison) -> Html:
    return listed(words.unknown_words(result))


def _price(result: Comparison) -> list[Html]:
    price = words.price_words(result)
    return [] if price is None else [paragraph(price, "quiet")]


def _each(labels: Sequence[str], sizes: Sequence[float]) -> str:
    return ", ".join(f"{words.size_words(size)} of {label}" for label, size in zip(labels, sizes, strict=True))
