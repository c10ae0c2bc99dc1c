"""An estimate as a page that stands alone: the verdict, the memory of every rank, room, speed, and each figure with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from moeplan.core.ledger import band_bytes, total_bytes
from moeplan.core.units import duration, gib, gib_floor, params, per_second
from moeplan.estimate.judge import ranks_words
from moeplan.estimate.result import Estimate, Rank
from moeplan.report.pages.ledger import ledger_table
from moeplan.report.pages.markup import Html, element, joined, listed, paragraph, shown
from moeplan.report.pages.memory_stack import Stack, memory_figure
from moeplan.report.pages.room import room_figure
from moeplan.report.pages.shell import Section, State, Tile, headline, page_html, sentence, tiles
from moeplan.report.pages.tables import columns_table, notes_list, rows_table
from moeplan.report.words import (
    NAIVE,
    NOTHING_HELPS,
    active_words,
    further_reasons,
    gib_signed,
    host_words,
    ledger_words,
    rank_rows,
    reach_words,
    setting_words,
    shape_words,
    verdict_words,
    worst_rank,
)

if TYPE_CHECKING:
    from moeplan.estimate.speed_result import Speculation, Speed

STATES: dict[bool | None, State] = {True: "good", False: "bad", None: "open"}
MISSED = "limit-missed"
"""The notes on limits of the load that are not kept; they stand below the verdict."""

NO_GPU = "Nothing was held against a GPU, so there is no memory to fill: name one with --gpu."
NO_MEMORY = "Nobody knows how much memory the device has, so there is none to fill."


def estimate_html(estimate: Estimate, *, explain: bool = False) -> str:
    """The page; every line of the ledger has its formula, inputs and source, whether or not `explain` asks for them."""
    gpus = [rank for rank in estimate.ranks if rank.device == "gpu"]
    sections = [
        Section("memory", "Memory", list(_memory(estimate, gpus))),
        Section("room", "Room", list(_room(estimate))),
        Section("ways-out", "Ways out", list(_ways_out(estimate))),
        Section("speed", _speed_title(estimate), list(_speed(estimate))),
        Section("experts", "Experts", list(_experts(estimate))),
        Section("ledger", "Ledger", list(_ledger(estimate))),
        Section("model", "Parameters and weights", list(_model(estimate))),
        Section("cache", "Cache", list(_cache(estimate))),
        Section("asked", "What was asked", list(_asked(estimate))),
        Section("notes", "Notes", [notes_list([note for note in estimate.notes if note.code != NAIVE])]),
    ]
    lead = [
        paragraph(f"{shape_words(estimate.model)}. {' · '.join(setting_words(estimate))}.", class_="quiet"),
        headline(verdict_words(estimate), _state(estimate), [*further_reasons(estimate), *_missed(estimate)]),
        tiles(list(_tiles(estimate))),
    ]
    return page_html(title=estimate.model.id, lead=lead, sections=sections, result=estimate)


def _state(estimate: Estimate) -> State:
    """Good is what surely fits and keeps every limit."""
    verdict = estimate.verdict
    return "open" if verdict.fits and (not verdict.certain or _missed(estimate)) else STATES[verdict.fits]


def _missed(estimate: Estimate) -> list[str]:
    return [f"MISSED: {note.message}" for note in estimate.notes if note.code == MISSED]


def _tiles(estimate: Estimate) -> Iterator[Tile]:
    verdict, capacity, asked = estimate.verdict, estimate.capacity, estimate.request
    yield Tile("parameters", shown(estimate, "parameters.total", params), active_words(estimate.parameters))
    worst = worst_rank(estimate)
    if worst is None:
        yield Tile("weights", shown(estimate, "weights.resident_bytes", gib), "of the whole model")
        sequences = f"{asked.concurrency:,} x {asked.context_tokens:,} tokens"
        yield Tile("KV cache", shown(estimate, "kv_cache.bytes_total", gib), sequences)
    else:
        path = f"ranks.{estimate.ranks.index(worst)}"
        where = "" if estimate.layout.num_gpus == 1 else ledger_words(estimate, worst)
        yield Tile("weights", shown(estimate, f"{path}.weights_bytes", gib), where)
        word = "missing" if (worst.free_bytes or 0) < 0 else "left"
        yield Tile(
            word, shown(estimate, "verdict.headroom_bytes", _headroom), f"of what {estimate.layout.engine} may use"
        )
    if capacity.max_concurrency is not None and verdict.fits is not None:
        per = ", per data-parallel rank" if capacity.per == "attention_dp_rank" else ""
        sequences = f"sequences of {asked.context_tokens:,} tokens{per}"
        yield Tile("room for", shown(estimate, "capacity.max_concurrency", "{:,}".format), sequences)
        yield Tile("tokens in the cache", shown(estimate, "capacity.kv_tokens", _count), per.removeprefix(", "))
    if estimate.speed is not None:
        yield from _speed_tiles(estimate, estimate.speed)


def _speed_tiles(estimate: Estimate, speed: Speed) -> Iterator[Tile]:
    for label, path, time in (("first token", "ttft", speed.ttft), ("each further token", "tpot", speed.tpot)):
        band = f"{duration(time.low_s)} to {duration(time.high_s)}, {time.basis}"
        yield Tile(label, shown(estimate, f"speed.{path}.value_s", duration), band)
    rate = speed.output_tokens_per_s.per_gpu
    band = f"{per_second(rate.low)} to {per_second(rate.high)}, {rate.basis}"
    yield Tile("tokens/s per GPU", shown(estimate, "speed.output_tokens_per_s.per_gpu.value", per_second), band)


def _memory(estimate: Estimate, gpus: list[Rank]) -> Iterator[Html]:
    if not gpus:
        yield paragraph(NO_GPU if estimate.hardware is None else NO_MEMORY)
        yield rows_table(
            ("memory of the whole model", "size", "basis"),
            "<><",
            [
                ("weights", shown(estimate, "weights.resident_bytes", gib), estimate.weights.basis),
                ("KV cache", shown(estimate, "kv_cache.bytes_total", gib), "derived"),
            ],
            "What the model needs",
            hide_caption=True,
        )
        yield _not_so(estimate)
        return
    worst = worst_rank(estimate) or gpus[0]
    fullest = "" if len(gpus) == 1 else f" The fullest: {ranks_words(worst.ranks)}."
    engine, told = estimate.layout.engine, f"Needed: {_needed(worst)}"
    if worst.free_bytes is not None:
        told += f" of the {gib(total_bytes(worst.lines) + worst.free_bytes)} that {engine} may use, which the thick mark shows"
    yield memory_figure(
        [Stack(_stack_label(estimate, rank), rank.lines, rank.free_bytes) for rank in gpus],
        title="The memory of every GPU" if estimate.layout.num_gpus > 1 else "The memory of the GPU",
        description=f"{told}.{fullest}",
        may_use=f"{engine} may use",
    )
    rows = list(rank_rows(estimate))
    if len(rows) > 1:
        yield rows_table(("ranks", "weights", "needed", "left"), "<>>>", rows, "All ranks")
    yield _host(estimate)
    host = host_words(estimate)
    if host is not None:
        yield paragraph(f"{host[:1].upper()}{host[1:]}.")
    yield _not_so(estimate)


def _not_so(estimate: Estimate) -> Html:
    """What the sum over active parameters would give, where somebody might think so."""
    notes = (note for note in estimate.notes if note.code == NAIVE)
    return joined(sentence(element("strong", "Not so: "), f"{note.message}.") for note in notes)


def _host(estimate: Estimate) -> Html:
    """Weights that stay in host memory, where there are any."""
    host = next((rank for rank in estimate.ranks if rank.device == "host"), None)
    if host is None or not host.weights_bytes:
        return Html()
    return memory_figure(
        [Stack("host", host.lines, host.free_bytes)],
        title="Host memory of all ranks",
        description=f"{gib(host.weights_bytes)} of weights stay in host memory, of {_needed(host)} that are needed there.",
        may_use="the host has",
    )


def _needed(rank: Rank) -> str:
    low, high = band_bytes(rank.lines)
    band = "" if low == high else f" (between {gib(low)} and {gib(high)})"
    return f"{gib(total_bytes(rank.lines))}{band}"


def _room(estimate: Estimate) -> Iterator[Html]:
    yield room_figure(estimate)
    host = host_words(estimate)
    yield listed(told for told in reach_words(estimate) if told != host)


def _ways_out(estimate: Estimate) -> Iterator[Html]:
    if estimate.verdict.fits is not False:
        return
    ways = estimate.verdict.ways_out
    if not ways:
        yield paragraph(NOTHING_HELPS)
        return
    rows = [
        (
            element("code", way.change),
            shown(estimate, f"verdict.ways_out.{place}.headroom_bytes", gib_floor),
            way.gives_up or "",
        )
        for place, way in enumerate(ways)
    ]
    yield paragraph("It fits with any one of these.")
    yield rows_table(("change", "leaves per GPU", "gives up"), "<><", rows, "Ways out", hide_caption=True)


def _speed(estimate: Estimate) -> Iterator[Html]:
    speed = estimate.speed
    if speed is None:
        unknown = next((note for note in estimate.notes if note.code == "speed-unknown"), None)
        yield _no_load() if unknown is None else paragraph(f"{unknown.message[:1].upper()}{unknown.message[1:]}.")
        return
    from moeplan.report.pages.frontier import frontier_figure
    from moeplan.report.pages.step_parts import step_parts_figure
    from moeplan.report.speed_words import bound_words, class_columns, explained_words, figure_columns, load_words

    told = load_words(speed)
    yield paragraph(f"{told[:1].upper()}{told[1:]}.")
    yield columns_table(figure_columns(estimate, speed), "How fast", hide_caption=True)
    yield listed(f"{lead}{text}" for lead, text in bound_words(speed))
    columns = class_columns(speed)
    if columns:
        yield columns_table(columns, "Each class of requests, as if all were of its kind")
    if len(speed.over_concurrency) > 1:
        yield frontier_figure(speed)
    yield from _roofline(estimate, speed)
    yield step_parts_figure(speed)
    yield listed(explained_words(speed))
    if speed.speculation is not None:
        yield from _speculation(speed, speed.speculation)


def _speculation(speed: Speed, found: Speculation) -> Iterator[Html]:
    from moeplan.report.pages.speculation import speculation_figure
    from moeplan.report.speculation_words import load_columns, speculation_words, step_columns

    yield element("h3", "Speculation")
    yield listed(f"{lead}{told}" for lead, told in speculation_words(found))
    if columns := load_columns(speed, found):
        yield columns_table(columns, "This load with and without drafts")
    yield columns_table(step_columns(found), "Steps with and without drafts")
    yield speculation_figure(speed, found)


def _speed_title(estimate: Estimate) -> str:
    return "Speed, if it fitted" if estimate.verdict.fits is False and estimate.speed is not None else "Speed"


def _no_load() -> Html:
    return sentence(
        "No load was stated, so nothing about speed was computed. ",
        joined(
            [element("code", words, class_="words") for words in ("--concurrency 64", "--input 2k", "--output 500")],
            " ",
        ),
        " states one, ",
        element("code", "--speed", class_="words"),
        " takes the usual.",
    )


def _roofline(estimate: Estimate, speed: Speed) -> Iterator[Html]:
    if estimate.curves is None or estimate.curves.roofline is None:
        return
    from moeplan.report.pages.roofline import roofline_figure

    layout = estimate.layout
    where = "the GPU" if layout.num_gpus == 1 else "the busiest GPU"
    if layout.pp > 1:
        where += f" of the first of {layout.pp} stages"
    if speed.speculation is not None and speed.speculation.in_figures:
        where += ", without drafts"
    yield roofline_figure(estimate.curves.roofline, speed.concurrency, where=where)


def _experts(estimate: Estimate) -> Iterator[Html]:
    curves = estimate.curves
    if curves is None:
        return
    if curves.coverage is not None:
        from moeplan.report.pages.coverage import coverage_figure

        yield coverage_figure(curves.coverage, estimate.request.concurrency)
    if curves.loads:
        from moeplan.report.pages.loads_map import loads_figure

        yield loads_figure(
            [(str(each.layer), each.loads) for each in curves.loads],
            title="How often each expert is chosen",
            description="A row for each counted layer, a column for each expert: the stronger its colour, the more often it is chosen. "
            "The table has the busiest expert of each layer.",
        )


def _ledger(estimate: Estimate) -> Iterator[Html]:
    for place, rank in enumerate(estimate.ranks):
        yield ledger_table(estimate, place, _ledger_title(estimate, rank))
    if estimate.ranks:
        yield paragraph(
            "Basis: exact is read from checkpoint headers, derived is computed from the config, measured was measured on a device or "
            "read in an engine's log, assumed is a named constant. A band is how far a guess may be off. Each line opens to its "
            "formula.",
            class_="quiet",
        )


def _model(estimate: Estimate) -> Iterator[Html]:
    from moeplan.report.pages.model_parts import conventions_table, formats_table, roles_figure

    yield roles_figure(estimate)
    yield conventions_table(estimate)
    yield formats_table(estimate)


def _cache(estimate: Estimate) -> Iterator[Html]:
    from moeplan.report.pages.model_parts import cache_table

    yield cache_table(estimate)


def _asked(estimate: Estimate) -> Iterator[Html]:
    asked, layout, model = estimate.request, estimate.layout, estimate.model
    values = {name: value for name, value in asked._asdict().items() if name != "origins" and value is not None}
    rows = [(name.replace("_", " "), _said(value), asked.origins.get(name, "")) for name, value in values.items()]
    dtype = "as stated" if asked.origins.get("dtype") == "stated" else "none is stated"
    taken = {"quant": "as stored", "kv_dtype": estimate.kv_cache.dtype, "dtype": dtype}
    rows += [
        (name.replace("_", " "), taken[name], origin)
        for name, origin in asked.origins.items()
        if name in taken and name not in values
    ]
    rows.append(("engine", f"{layout.engine} {layout.engine_version}", layout.version_origin))
    yield rows_table(("setting", "value", "origin"), "<<<", rows, "The question, as it was read")
    yield rows_table(
        ("flag", "value", "origin"),
        "<<<",
        [(element("code", option.flag), _said(option.value), option.origin) for option in layout.options],
        f"Settings of {layout.engine}",
    )
    facts = [
        ("model", model.id), ("revision", model.revision or "unknown"), ("source", model.source), ("kind of source", model.source_kind),
        ("model type", model.model_type), ("family", model.family),
    ]  # fmt: skip
    hardware = estimate.hardware
    if hardware is not None:
        facts += [
            ("accelerator", hardware.name),
            ("profile", hardware.profile),
            ("devices", f"{hardware.num_devices:,}"),
        ]
        if hardware.usable_bytes is not None:
            basis = f", {hardware.usable_basis}" if hardware.usable_basis else ""
            facts.append(("memory of a device", f"{gib(hardware.usable_bytes)}{basis}"))
    yield rows_table(("fact", "value"), "<<", facts, "Model and hardware")


def _said(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _stack_label(estimate: Estimate, rank: Rank) -> str:
    if estimate.layout.num_gpus == 1:
        return "GPU"
    if len(rank.ranks) == estimate.layout.num_gpus:
        return f"each of {len(rank.ranks)} GPUs"
    return ranks_words(rank.ranks)


def _ledger_title(estimate: Estimate, rank: Rank) -> str:
    if rank.device == "host":
        return "Host memory of all ranks"
    if estimate.layout.num_gpus == 1:
        return "The GPU"
    return (
        f"Each of {len(rank.ranks)} GPUs"
        if len(rank.ranks) == estimate.layout.num_gpus
        else ranks_words(rank.ranks).capitalize()
    )


def _headroom(size_bytes: int) -> str:
    """As the verdict rounds it: what is left downwards, what is missing without its sign."""
    return gib(-size_bytes) if size_bytes < 0 else gib_signed(size_bytes, floor=True)


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"
