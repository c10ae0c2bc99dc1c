"""An offload as a page: does it go and with which command, speed over layers in host memory, what would help, other engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from moeplan.core.units import duration, gib, gib_floor, params, per_second
from moeplan.offload.result import HotExperts, Offload, Offloaded, OffloadSpeed
from moeplan.report import offload_words as words
from moeplan.report.page import Column
from moeplan.report.pages.charts import COLOURS, FREE, INK, QUIET, figure
from moeplan.report.pages.markup import Html, element, listed, paragraph, shown
from moeplan.report.pages.memory_stack import Stack, memory_figure
from moeplan.report.pages.shell import Section, State, Tile, headline, page_html, tiles
from moeplan.report.pages.tables import columns_table, notes_list
from moeplan.report.printable import printable_record

CHOSEN, OTHER = "the answer", "others that fit"
MEMORIES = {"gpu": "GPU", "host": "host"}


def offload_html(result: Offload) -> str:
    """The answer as one HTML file. UnknownError where the library that draws its charts is not installed."""
    whole, result = result, printable_record(result)
    state: State = "bad" if result.best is None else "good" if words.is_sure(result.best) else "open"
    further = [] if result.way_out is None else [f"Way out: {result.way_out}"]
    asked = (words.model_words(result), words.machine_words(result), words.asked_words(result))
    return page_html(
        title=f"{result.model.id} with {_what(result)} in host memory",
        lead=[*map(paragraph, asked), headline(words.verdict_words(result), state, further), tiles(list(_tiles(result)))],
        sections=[
            Section("best", "How it runs", list(_best(result))),
            Section("layers", "Layers in host memory", list(_layers(result))),
            Section("helps", "What would help most", _helps(result)),
            Section("formats", "Formats", list(_formats(result))),
            Section("hot", words.HOT, list(_hot(result.hot_experts)) if result.hot_experts else []),
            Section("others", words.OTHERS, [_leads(words.other_rows(result))]),
            Section("notes", "Notes", [notes_list(result.notes)]),
        ],
        result=whole,
    )  # fmt: skip


def _what(result: Offload) -> str:
    return words.WHAT[result.formats[0].sort] if result.formats else "weights"


def _tiles(result: Offload) -> Iterator[Tile]:
    best = result.best
    if best is None:
        yield Tile("host memory", shown(result, "host.ram_bytes", lambda size: gib(size, 0)))
        yield Tile("cards", shown(result, "hardware.num_devices", str), result.hardware.name)
        yield Tile("usable on a card", shown(result, "hardware.usable_bytes", gib_floor))
        yield Tile("parameters", shown(result, "model.total_params", params))
        return
    if best.speed is not None:
        rate = best.speed.tokens_per_s
        yield Tile(
            "decode, likely",
            shown(result, "best.speed.tokens_per_s.value", _rate),
            f"at most {per_second(rate.high)}, perhaps as few as {per_second(rate.low)}",
        )
        prompt = best.speed.prompt_tokens_per_s
        if prompt is not None:
            yield Tile(
                "prompts, likely",
                shown(result, "best.speed.prompt_tokens_per_s.value", _rate),
                f"at most {per_second(prompt.high)}",
            )
    yield Tile("layers in host memory", shown(result, "best.host_layers", str), f"of {best.of_layers}")
    least = f"{words.at_least(best.headroom_low_bytes)}"
    card = "the card" if result.hardware.num_devices == 1 else "the fullest card"
    yield Tile(f"free on {card}", shown(result, "best.headroom_bytes", gib_floor), least)
    free = f"{gib_floor(best.host_free_bytes)} free"
    yield Tile("stays in host memory", shown(result, "best.host_bytes", gib), free)


def _rate(value: float) -> str:
    return f"{per_second(value)} tokens/s"


def _best(result: Offload) -> Iterator[Html]:
    yield _leads(words.detail_words(result))
    launch = words.launch_words(result)
    if launch is not None:
        yield element("h3", launch[0][:1].upper() + launch[0][1:])
        yield element("pre", element("code", launch[1]))
    best = result.best
    if best is not None and best.speed is not None:
        yield from _memory(result, best)
        yield _time(best, best.speed)


def _leads(rows: Iterator[tuple[str, str]]) -> Html:
    return listed(element("span", element("strong", lead), told) for lead, told in rows)


def _helps(result: Offload) -> list[Html]:
    told = _leads(words.help_rows(result))
    return [paragraph("In the same format unless one is named.", "quiet"), told] if told else []


def _memory(result: Offload, best: Offloaded) -> Iterator[Html]:
    """What the fullest card and the host hold, line by line: each at its own scale."""
    card = "the card" if result.hardware.num_devices == 1 else "the fullest card"
    on_card = (
        f"{gib(best.device_bytes)} of {result.hardware.name} are taken, {gib_floor(best.headroom_bytes)} are free, "
        f"{words.at_least(best.headroom_low_bytes)}."
    )
    on_host = (
        f"{gib(best.host_bytes)} stay there, the system keeps some {gib(result.host.system_bytes)}, "
        f"{gib_floor(best.host_free_bytes)} are free."
    )
    told = {"gpu": (f"Memory of {card}", on_card, "usable:"), "host": ("Host memory", on_host, "all of it:")}
    for memory in result.memory:
        title, description, whose = told[memory.device]
        stack = Stack(MEMORIES[memory.device], memory.lines, memory.free_bytes)
        yield memory_figure([stack], title=title, description=description, may_use=whose)


def _time(best: Offloaded, speed: OffloadSpeed) -> Html:
    """Where the time of a step goes, as it is likely and as the bound has it."""
    host = "copying host memory" if speed.host_copied else "reading host memory"
    parts = ["reading GPU memory", "calling kernels", host, "handing over"]
    steps = {
        f"likely: {duration(speed.likely.seconds)}": speed.likely,
        f"at best: {duration(speed.bound.seconds)}": speed.bound,
    }
    rows = [
        (label, part, seconds)
        for label, step in steps.items()
        for part, seconds in zip(
            parts, (step.device_s - step.calls_s, step.calls_s, step.host_s, step.wait_s), strict=True
        )
        if seconds
    ]
    values = [
        {
            "step": label,
            "part": part,
            "order": parts.index(part),
            "ms": 1e3 * seconds,
            "told": f"{label}; {part} {duration(seconds)}",
        }
        for label, part, seconds in rows
    ]
    spec: dict[str, Any] = {
        "data": {"values": values},
        "height": {"step": 42},
        "mark": {"type": "bar", "stroke": "var(--page)", "strokeWidth": 1},
        "encoding": {
            "y": {
                "field": "step", "type": "nominal", "title": None, "sort": list(steps),
                "axis": {"labelLimit": 300}, "scale": {"paddingInner": 0.35, "paddingOuter": 0.2},
            },
            "x": {"field": "ms", "type": "quantitative", "title": "ms of a step", "axis": {"format": ",~f"}},
            "color": {"field": "part", "title": None, "scale": {"domain": parts, "range": list(COLOURS[:4])}},
            "order": {"field": "order"},
            "description": {"field": "told"},
        },
    }  # fmt: skip
    table = [
        Column("step", tuple(label for label, _, _ in rows), right=False),
        Column("part", tuple(part for _, part, _ in rows), right=False),
        Column("time", tuple(duration(seconds) for _, _, seconds in rows)),
    ]
    told = f"What binds: {words.binding_words(best, speed)}."
    return figure(spec, title="Where the time of a token goes", description=told, table=table)


def _layers(result: Offload) -> Iterator[Html]:
    """Tokens per second over layers in host memory with their band, and where the card ends."""
    best, points = result.best, result.layers
    if best is None or len(points) < 2:
        return
    marks = words.layer_marks(result)
    values: list[dict[str, Any]] = [
        {
            "layers": point.host_layers, "likely": point.tokens_per_s.value, "low": point.tokens_per_s.low,
            "high": point.tokens_per_s.high,
            "told": f"{point.host_layers} layers in host memory: likely {_rate(point.tokens_per_s.value)}, at most "
            f"{per_second(point.tokens_per_s.high)}, {words.signed(point.headroom_bytes)} of GPU memory free"
            f"{f'; {mark}' if mark else ''}",
        }
        for point, mark in zip(points, marks, strict=True)
    ]  # fmt: skip
    first, last = points[0].host_layers, points[-1].host_layers
    at = best.host_layers
    here = next(value for value in values if value["layers"] == at)
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "area", "opacity": 0.16, "color": COLOURS[0], "aria": False},
            "encoding": {"y": {"field": "low"}, "y2": {"field": "high"}},
        },
        {"mark": {"type": "line", "aria": False, "color": COLOURS[0]}, "encoding": {"y": {"field": "likely"}}},
        {
            "mark": {"type": "line", "aria": False, "strokeDash": [5, 4], "color": INK, "strokeWidth": 1.5},
            "encoding": {"y": {"field": "high"}},
        },
        {"mark": "point", "encoding": {"y": {"field": "likely"}, "description": {"field": "told"}}},
        {
            "data": {"values": [here]},
            "mark": {"type": "point", "shape": "diamond", "size": 170, "fill": COLOURS[1], "stroke": INK, "aria": False},
            "encoding": {"y": {"field": "likely"}},
        },
        {
            "data": {"values": [{**here, "words": f"the answer: {at} layers"}]},
            "mark": {"type": "text", "align": "left", "dx": 12, "dy": -12, "fontWeight": "bold", "aria": False},
            "encoding": {"y": {"field": "likely"}, "text": {"field": "words"}},
        },
    ]  # fmt: skip
    if first < at:
        edge = {"from": first - 0.5, "layers": at - 0.5, "words": "the card ends"}
        layers = [
            {
                "data": {"values": [edge]},
                "mark": {"type": "rect", "color": FREE, "opacity": 0.55, "aria": False},
                "encoding": {
                    "x": {"field": "from"},
                    "x2": {"field": "layers"},
                    "y": {"value": 0},
                    "y2": {"value": 300},
                },
            },
            {"data": {"values": [edge]}, "mark": {"type": "rule", "strokeDash": [6, 4], "color": INK, "aria": False}},
            {
                "data": {"values": [edge]},
                "mark": {"type": "text", "align": "left", "dx": 6, "fontSize": 11, "aria": False},
                "encoding": {"y": {"value": 288}, "text": {"field": "words"}},
            },
            *layers,
        ]
    spec = {
        "data": {"values": values},
        "height": 300,
        "encoding": {
            "x": {
                "field": "layers", "type": "quantitative", "title": f"layers of {best.of_layers} in host memory",
                "scale": {"domain": [max(0, first - 0.5) if first else 0, last + 0.5], "nice": False},
                "axis": {"format": "d", "grid": False, "tickMinStep": 1},
            },
            "y": {"type": "quantitative", "title": "tokens/s of all sequences", "scale": {"zero": True}},
        },
        "layer": layers,
    }  # fmt: skip
    beyond = "With fewer the card has no margin, or too little memory. " if first < at else ""
    told = (
        f"The line is what is likely, the band reaches from the low end to the bound, which is dashed. {at} layers are the fewest that "
        f"leave room on the card: likely {per_second(here['likely'])} tokens/s, at most {per_second(here['high'])}. {beyond}"
        f"{words.layers_title(result)}."
    )
    yield figure(
        spec, title="Tokens per second over layers in host memory", description=told, table=words.layer_columns(result)
    )


def _formats(result: Offload) -> Iterator[Html]:
    """What was tried: how fast each format is, where several fit, and the table of all."""
    fitting = [row for row in result.formats if row.speed is not None]
    if len(fitting) > 1:
        yield _by_format(result, fitting)
    if result.formats:
        yield columns_table(words.format_columns(result), words.FORMATS)


def _by_format(result: Offload, fitting: Sequence[Offloaded]) -> Html:
    values: list[dict[str, Any]] = []
    for row in fitting:
        assert row.speed is not None
        rate = row.speed.tokens_per_s
        values.append({
            "format": row.format, "low": rate.low, "likely": rate.value, "high": rate.high,
            "kind": CHOSEN if row == result.best else OTHER,
            "told": f"{row.format}: likely {_rate(rate.value)}, at most {per_second(rate.high)}; {row.host_layers} of {row.of_layers} "
            "layers in host memory",
        })  # fmt: skip
    kinds = [CHOSEN, OTHER]
    spec: dict[str, Any] = {
        "data": {"values": values},
        "height": {"step": 30},
        "encoding": {
            "y": {"field": "format", "type": "nominal", "title": None, "sort": None},
            "x": {
                "type": "quantitative", "title": "tokens/s of all sequences (logarithmic)",
                "scale": {"type": "log", "nice": False, "padding": 16}, "axis": {"format": ",", "labelOverlap": "greedy"},
            },
        },
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2, "color": QUIET, "aria": False},
                "encoding": {"x": {"field": "low"}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "tick", "color": INK, "thickness": 2, "size": 14, "aria": False},
                "encoding": {"x": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "size": 90, "opacity": 1},
                "encoding": {
                    "x": {"field": "likely"},
                    "color": {"field": "kind", "title": None, "scale": {"domain": kinds, "range": [COLOURS[1], COLOURS[0]]}},
                    "shape": {"field": "kind", "title": None, "scale": {"domain": kinds, "range": ["diamond", "circle"]}},
                    "description": {"field": "told"},
                },
            },
        ],
    }  # fmt: skip
    quickest = max(values, key=lambda value: value["likely"])
    told = (
        "Points are what is likely, lines reach from the low end to the bound, the upright stroke. The answer takes the most bits that "
        f"fit; the fastest of those that fit is {quickest['format']}. What formats do to quality is not known here."
    )
    table = [
        Column("format", tuple(value["format"] for value in values), right=False),
        *(
            Column(title, tuple(per_second(value[end]) for value in values))
            for title, end in (("likely", "likely"), ("at most", "high"), ("low", "low"))
        ),
    ]
    return figure(spec, title="Tokens per second of each format that fits", description=told, table=table)


def _hot(hot: HotExperts) -> Iterator[Html]:
    """What shares of all visits the cards serve."""
    yield paragraph(words.hot_words(hot))
    ways = ("the most chosen experts of each layer", "any experts", "whole layers")
    values = [
        {"way": way, "share": 100 * point.device_fraction, "visits": 100 * visits,
         "told": f"{point.device_fraction:.0%} of the experts on the card, {way}: {visits:.0%} of the visits"}
        for point in hot.curve
        for way, visits in zip(
            ways, (point.traffic_hottest_fraction, point.traffic_any_fraction, point.traffic_layers_fraction), strict=True
        )
    ]  # fmt: skip
    look = {
        channel: {
            "field": "way",
            "title": None,
            "scale": {"domain": ways, "range": looks},
            "legend": {"labelLimit": 300},
        }
        for channel, looks in (("color", list(COLOURS[:3])), ("shape", ["circle", "diamond", "square"]))
    }
    spec = {
        "data": {"values": values},
        "height": 300,
        "encoding": {
            "x": {"field": "share", "type": "quantitative", "title": "experts on the card (%)"},
            "y": {"field": "visits", "type": "quantitative", "title": "visits that it serves (%)", "scale": {"domain": [0, 100]}},
        },
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5, "aria": False}, "encoding": {"color": look["color"]}},
            {"mark": {"type": "point", "size": 60, "opacity": 1}, "encoding": {**look, "description": {"field": "told"}}},
        ],
    }  # fmt: skip
    here = hot.here
    told = (
        f"With {here.device_fraction:.0%} of the experts on the card whole layers serve {here.traffic_layers_fraction:.0%} of all visits, "
        f"the most chosen experts {here.traffic_hottest_fraction:.0%}. Counted in {hot.source}."
    )
    yield figure(spec, title="Visits that the card serves", description=told, table=words.hot_columns(hot))
