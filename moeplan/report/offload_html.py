"""An offload as a page: does it go and with which command, speed over layers in host memory, what would help, other engines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moeplan.core.units import gib, gib_floor, params, per_second
from moeplan.offload.result import HotExperts, Offload, Offloaded
from moeplan.report import offload_words as words
from moeplan.report.page import Column
from moeplan.report.pages.charts import COLOURS, FREE, INK, figure
from moeplan.report.pages.markup import Html, element, listed, paragraph, shown
from moeplan.report.pages.shell import Section, State, Tile, headline, page_html, tiles
from moeplan.report.pages.tables import columns_table, notes_list
from moeplan.report.printable import printable_record

LIKELY, BOUND = "likely", "bound"
FITS, TOO_LITTLE = "fits", "too little memory"


def offload_html(result: Offload) -> str:
    """The answer as one HTML file. UnknownError where the library that draws its charts is not installed."""
    whole, result = result, printable_record(result)
    state: State = "bad" if result.best is None else "good" if words.is_sure(result.best) else "open"
    further = [] if result.way_out is None else [f"Way out: {result.way_out}"]
    asked = (words.model_words(result), words.machine_words(result), words.asked_words(result))
    return page_html(
        title=f"{result.model.id} with experts in host memory",
        lead=[*map(paragraph, asked), headline(words.verdict_words(result), state, further), tiles(list(_tiles(result)))],
        sections=[
            Section("best", "How it runs", list(_best(result))),
            Section("layers", "Layers in host memory", list(_layers(result))),
            Section("helps", "What would help most", [_leads(words.help_rows(result))]),
            Section("formats", "Formats", _formats(result)),
            Section("hot", "Placed by frequency", list(_hot(result.hot_experts)) if result.hot_experts else []),
            Section("others", "Other engines' own ways", [_leads(words.other_rows(result))]),
            Section("notes", "Notes", [notes_list(result.notes)]),
        ],
        result=whole,
    )  # fmt: skip


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
            "decode, at most",
            shown(result, "best.speed.tokens_per_s.high", _rate),
            f"likely {per_second(rate.value)}, at worst {per_second(rate.low)}",
        )
        prompt = best.speed.prompt_tokens_per_s
        if prompt is not None:
            yield Tile(
                "prompts, at most",
                shown(result, "best.speed.prompt_tokens_per_s.high", _rate),
                f"likely {per_second(prompt.value)}",
            )
    yield Tile("layers in host memory", shown(result, "best.host_layers", str), f"of {best.of_layers}")
    yield Tile("free on the fullest card", shown(result, "best.headroom_bytes", gib_floor))
    yield Tile("stays in host memory", shown(result, "best.host_bytes", gib), f"{gib_floor(best.host_free_bytes)} free")  # fmt: skip


def _rate(value: float) -> str:
    return f"{per_second(value)} tokens/s"


def _best(result: Offload) -> Iterator[Html]:
    yield _leads(words.detail_words(result))
    launch = words.launch_words(result)
    if launch is not None:
        yield element("h3", launch[0][:1].upper() + launch[0][1:])
        yield element("pre", element("code", launch[1]))
    if result.best is not None and result.best.speed is not None:
        yield _memory(result, result.best)


def _leads(rows: Iterator[tuple[str, str]]) -> Html:
    return listed(element("span", element("strong", lead), told) for lead, told in rows)


def _memory(result: Offload, best: Offloaded) -> Html:
    """What the fullest card and the host hold."""
    host = result.host
    # The card's budget is what is used there and what is left of it.
    places = {
        "the fullest card": (("taken", best.device_bytes), ("free", max(0, best.headroom_bytes))),
        "host memory": (
            ("taken", best.host_bytes),
            ("the system", host.system_bytes),
            ("free", max(0, best.host_free_bytes)),
        ),
    }
    parts = ["taken", "the system", "free"]
    rows = [
        (place, part, size, f"{place}, {part}: {gib_floor(size) if part == 'free' else gib(size)}")
        for place, sizes in places.items()
        for part, size in sizes
    ]
    spec: dict[str, Any] = {
        "data": {"values": [
            {"place": place, "part": part, "order": parts.index(part), "size": size / 2**30, "told": told}
            for place, part, size, told in rows
        ]},
        "height": 80,
        "width": 620,
        "mark": "bar",
        "encoding": {
            "y": {"field": "place", "type": "nominal", "title": None, "sort": list(places), "scale": {"paddingInner": 0.35}},
            "x": {"field": "size", "type": "quantitative", "title": "GiB", "axis": {"tickCount": 8}},
            "color": {"field": "part", "title": None, "scale": {"domain": parts, "range": [COLOURS[0], COLOURS[1], FREE]}},
            "order": {"field": "order"},
            "description": {"field": "told"},
        },
    }  # fmt: skip
    told = (
        f"{gib(best.device_bytes)} on the fullest card and {gib_floor(best.headroom_bytes)} free; {gib(best.host_bytes)} in host "
        f"memory and {gib_floor(best.host_free_bytes)} free."
    )
    table = [
        Column("memory", tuple(place for place, _, _, _ in rows), right=False),
        Column("part", tuple(part for _, part, _, _ in rows), right=False),
        Column("size", tuple(gib_floor(size) if part == "free" else gib(size) for _, part, size, _ in rows)),
    ]
    return figure(spec, title="Memory of the card and the host", description=told, table=table)


def _layers(result: Offload) -> Iterator[Html]:
    best, points = result.best, result.layers
    if best is None or len(points) < 2:
        return
    values = [
        {
            "layers": point.host_layers, "likely": point.tokens_per_s.value, "low": point.tokens_per_s.low,
            "high": point.tokens_per_s.high, "kind": FITS if point.fits else TOO_LITTLE,
            "told": f"{point.host_layers} layers in host memory: at most {_rate(point.tokens_per_s.high)}, likely "
            f"{per_second(point.tokens_per_s.value)}{'' if point.fits else '; too little memory'}",
        }
        for point in points
    ]  # fmt: skip
    kinds = [FITS, TOO_LITTLE]
    spec = {
        "data": {"values": values},
        "height": 300,
        "encoding": {
            "x": {
                "field": "layers", "type": "quantitative", "title": f"layers of {best.of_layers} in host memory",
                "scale": {"zero": False, "padding": 16}, "axis": {"format": "d", "grid": False, "tickMinStep": 1},
            },
            "y": {"type": "quantitative", "title": "tokens/s of all sequences", "scale": {"zero": True}},
        },
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.16, "color": COLOURS[0], "aria": False},
                "encoding": {"y": {"field": "low"}, "y2": {"field": "high"}},
            },
            {"mark": {"type": "line", "aria": False, "color": COLOURS[0]}, "encoding": {"y": {"field": "likely"}}},
            {
                "mark": {"type": "line", "aria": False, "strokeDash": [5, 4], "color": INK, "strokeWidth": 1.5},
                "encoding": {"y": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "size": 90, "opacity": 1},
                "encoding": {
                    "y": {"field": "likely"},
                    "color": {"field": "kind", "title": None, "scale": {"domain": kinds, "range": [COLOURS[0], COLOURS[1]]}},
                    "shape": {"field": "kind", "title": None, "scale": {"domain": kinds, "range": ["circle", "cross"]}},
                    "description": {"field": "told"},
                },
            },
        ],
    }  # fmt: skip
    fewest = next((point for point in points if point.fits), points[0])
    told = (
        f"The dashed line is the bound, points are what is likely, the band reaches to the worst. {fewest.host_layers} layers are the "
        f"fewest that leave room on the card: at most {_rate(fewest.tokens_per_s.high)}. Each one more is slower."
    )
    yield figure(
        spec, title="Tokens per second over layers in host memory", description=told, table=words.layer_columns(result)
    )


def _formats(result: Offload) -> list[Html]:
    title = "Formats (what they do to quality is not known here)"
    return [columns_table(words.format_columns(result), title)] if result.formats else []


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
