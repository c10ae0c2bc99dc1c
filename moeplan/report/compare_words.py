"""A comparison in words: rows of figures with their marks, where the order of two models turns, and what is not known."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from moeplan.compare.result import Compared, Comparison, Mark, Needed, Pair, Row
from moeplan.core.model import Remark
from moeplan.core.units import GIB, gib, gib_floor, params
from moeplan.estimate.result import MEMORY_REASONS, LayoutUsed
from moeplan.estimate.speed_result import Rate, Time
from moeplan.report.page import UNKNOWN

BESIDE = "moe-beside-dense"
"""The note on total parameters beside bytes of a step; it stands with the figures, not among the notes."""
NO_SPEED = "speed-unknown"
"""The note that the line on unknown figures stands for."""
LEGEND = "* least of its row; of tokens per second, most"


class Line(NamedTuple):
    """One figure of all models."""

    label: str
    cells: tuple[str, ...]
    marked: tuple[int, ...] = ()
    """Places of the models with the least."""
    part: bool = False
    """True for a part of the line above."""


class Section(NamedTuple):
    """Lines that belong together."""

    title: str
    lines: tuple[Line, ...]


def asked_words(result: Comparison) -> list[str]:
    """The workload and the engine, in parts."""
    asked, card = result.request, result.hardware
    sequences = "1 sequence" if asked.concurrency == 1 else f"{asked.concurrency:,} sequences"
    parts = [f"{sequences} of {asked.context_tokens:,} tokens"]
    if card is not None:
        parts.append(f"{asked.input_tokens:,.0f} in and {asked.output_tokens:,.0f} out")
        number = "" if card.num_devices is None else f"up to {card.num_devices} x "
        parts.append(f"{number}{card.name}")
    return [*parts, f"{asked.engine} {asked.engine_version}"]


def sections(result: Comparison) -> list[Section]:
    """All figures; without a card those of memory and bytes alone."""
    found = [_model(result), _memory(result), _reads(result)]
    if result.hardware is not None:
        found += [_card(result), _operations(result)]
    # What nobody has is told once below, and takes no line.
    known = [section._replace(lines=tuple(filter(_is_known, section.lines))) for section in [*found, _facts(result)]]
    return [section for section in known if section.lines]


def turn_words(result: Comparison) -> Iterator[str]:
    """Where the order of two models turns, by the bytes of a step and by what is resident.

    Of more than two models, pairs whose order never turns are told of together: the table has their order.
    """
    alone = len(result.pairs) == 1
    shown = 0
    for pair in result.pairs:
        for turns, words in ((pair.turns, _step_words), (pair.resident.context_tokens, _resident_words)):
            if alone or turns:
                shown += 1
                yield words(result, pair)
    if not alone and shown < 2 * len(result.pairs):
        rest = "the other pairs keep" if shown else "every pair keeps"
        yield f"{rest} one order at every batch up to {result.pairs[0].most_batch:,} and at every length"


def unknown_words(result: Comparison) -> Iterator[str]:
    """Why a model does not fit, why a figure is a dash, and what is extrapolated: one sentence for all with the same reason."""
    reasons: dict[str, list[str]] = {}
    for model in result.models:
        if model.gpus is None:
            continue
        if model.gpus.fits is not True:
            yield f"{model.label}: {_no_fit_words(model.gpus)}"
            continue
        for what, why in (("speed", model.speed_unknown), ("cost", model.cost_unknown)):
            if why is not None:
                reasons.setdefault(f"{what} is not known: {why}", []).append(model.label)
    for model in result.models:
        if model.speed is not None and model.speed.extrapolated:
            outside = "; ".join(model.speed.extrapolated)
            reasons.setdefault(f"speed is extrapolated beyond what was measured: {outside}", []).append(model.label)
    for why, labels in reasons.items():
        of = "" if len(labels) == len(result.models) else f"{', '.join(labels)}: "
        yield f"{of}{why}"


def speed_words(result: Comparison) -> Iterator[str]:
    """What binds each model's steps."""
    for model in result.models:
        if model.speed is not None:
            yield f"{model.label} is bound by {model.speed.binding}: {model.speed.regime}"


def beside_words(result: Comparison) -> Iterator[str]:
    """What total parameters hide, and where the order of two models turns."""
    yield from (note.message for note in result.notes if note.code == BESIDE)
    yield from turn_words(result)


def notes_words(result: Comparison) -> list[Remark]:
    """The other notes, and warnings of single models, which `estimate` tells of them too."""
    notes = [note for note in result.notes if note.code != BESIDE]
    for model in result.models:
        for note in model.notes:
            if note.severity == "warning" and note.code != NO_SPEED:
                lead = "" if note.message.startswith(model.id) else f"{model.label}: "
                notes.append(note._replace(message=f"{lead}{note.message}"))
    return list(dict.fromkeys(notes))


def price_words(result: Comparison) -> str | None:
    """Whose prices they are, and of when."""
    price = result.hardware.price if result.hardware else None
    if price is None or all(model.cost is None for model in result.models):
        return None
    sources = "; ".join(price.sources)
    low, high = price.low_usd_per_hour, price.high_usd_per_hour
    return (
        f"prices: {low:.2f} to {high:.2f} USD per GPU and hour as of {price.as_of} ({sources}); an example, prices move"
    )


def degree_words(layout: LayoutUsed) -> str:
    """`TP 8, PP 2, EP 16`; `one GPU` where nothing is shared out."""
    degrees = (("TP", layout.tp), ("PP", layout.pp), ("DP", layout.dp), ("EP", layout.ep), ("DCP", layout.dcp))
    return ", ".join(f"{name} {degree}" for name, degree in degrees if degree > 1) or "one GPU"


# Sections --------------------------------------------------------------------------------------------------


def _model(result: Comparison) -> Section:
    models = result.models
    by_card = [model.parameters.active_by_card for model in models]
    lines = [
        _line(result, "kind", _kind),
        _line(result, "weights", lambda model: model.format),
        _line(result, "parameters", lambda model: params(model.parameters.total)),
        _line(result, "active per token", lambda model: params(model.parameters.active), part=True),
    ]
    if any(known is not None and known.convention != "active" for known in by_card):
        cells = tuple(UNKNOWN if known is None else params(known.count) for known in by_card)
        lines.append(Line("active by its card", cells, part=True))
    return Section("", tuple(lines))


def _memory(result: Comparison) -> Section:
    asked = result.request
    held = [model.resident_bytes + asked.concurrency * model.kv_cache.bytes_at_context for model in result.models]
    sequences = "1 sequence" if asked.concurrency == 1 else f"{asked.concurrency:,} sequences"
    return Section(
        "resident, whole model",
        (
            _line(result, "weights", lambda model: gib(model.resident_bytes), "resident_bytes"),
            _line(result, "cache per token", lambda model: gib(model.kv_cache.bytes_per_token), "kv_bytes_per_token"),
            _line(
                result,
                f"cache at {asked.context_tokens:,}",
                lambda model: gib(model.kv_cache.bytes_at_context, 2),
                "kv_bytes_at_context",
            ),
            Line(f"all, {sequences}", tuple(map(gib, held)), _least(held)),
        ),
    )


def _reads(result: Comparison) -> Section:
    asked, lines = result.request, []
    for number, batch in enumerate(asked.batches):
        reads = [model.reads[number] for model in result.models]
        cells = tuple(size_words(each.bytes_per_token) for each in reads)
        lines.append(Line(f"batch {batch:,}", cells, _marked(result, "bytes_per_token", batch)))
        if batch == asked.concurrency:
            for label, parts in (
                ("dense weights", [each.dense_bytes for each in reads]),
                ("experts", [each.expert_bytes for each in reads]),
                ("cache", [each.cache_bytes for each in reads]),
            ):
                lines.append(Line(label, tuple(map(size_words, parts)), part=True))
    return Section(f"read per token, at {asked.context_tokens:,}", tuple(lines))


def _card(result: Comparison) -> Section:
    card = result.hardware
    assert card is not None
    lines = [
        _line(result, "GPUs", _count_cell, "num_gpus"),
        _line(result, "layout", _layout_cell, part=True),
        _line(result, "left on fullest", _left_cell, part=True),
        _line(result, "room for sequences", _room_cell, part=True),
        _line(result, "first token", lambda model: _time(model.speed and model.speed.ttft), "ttft"),
        _line(result, "each further token", lambda model: _time(model.speed and model.speed.tpot), "tpot"),
        _line(
            result,
            "tokens/s per user",
            lambda model: _rate(model.speed and model.speed.output_tokens_per_s.per_user),
            "tokens_per_s_per_user",
        ),
        _line(
            result,
            "tokens/s per GPU",
            lambda model: _rate(model.speed and model.speed.output_tokens_per_s.per_gpu),
            "tokens_per_s_per_gpu",
        ),
        _line(
            result,
            "USD per hour",
            lambda model: _usd(model.cost and (model.cost.usd_per_hour_low, model.cost.usd_per_hour_high)),
            "usd_per_hour",
        ),
        _line(
            result,
            "USD per M tokens out",
            lambda model: _usd(
                model.cost
                and (model.cost.usd_per_million_output_tokens_low, model.cost.usd_per_million_output_tokens_high)
            ),
            "usd_per_million_output_tokens",
        ),
    ]
    return Section(f"on {card.name}", tuple(lines))


def _operations(result: Comparison) -> Section:
    card = result.hardware
    assert card is not None
    budget = card.budget_gpus
    gpus = "GPUs" if budget is None else _gpus_words(budget)
    return Section(
        "running it",
        (
            _line(
                result, "ranks of a replica", lambda model: str(model.operations.ranks) if model.operations else UNKNOWN
            ),
            _line(result, f"replicas on {gpus}", _replicas_cell),
            _line(result, "lost with one GPU", _lost_cell),
            _line(
                result,
                "host memory, loading",
                lambda model: gib(model.operations.host_bytes) if model.operations else UNKNOWN,
            ),
        ),
    )


def _facts(result: Comparison) -> Section:
    return Section(
        "facts",
        (
            _line(result, "vocabulary", lambda model: f"{model.vocabulary:,}"),
            _line(
                result,
                "longest context",
                lambda model: UNKNOWN if model.max_context_tokens is None else f"{model.max_context_tokens:,}",
            ),
            _line(result, "licence", lambda model: model.license or "unknown"),
        ),
    )


def _is_known(line: Line) -> bool:
    return any(cell != UNKNOWN for cell in line.cells)


def _line(
    result: Comparison, label: str, cell: Callable[[Compared], str], row: Row | None = None, *, part: bool = False
) -> Line:
    marked = () if row is None else _marked(result, row, None)
    return Line(label, tuple(map(cell, result.models)), marked, part)


def _marked(result: Comparison, row: Row, batch: int | None) -> tuple[int, ...]:
    found: Iterator[Mark] = (mark for mark in result.marks if mark.row == row and mark.batch == batch)
    mark = next(found, None)
    return () if mark is None else mark.models


def _least(figures: Sequence[float]) -> tuple[int, ...]:
    if len(set(figures)) == 1:
        return ()
    return tuple(place for place, figure in enumerate(figures) if figure == min(figures))


# Cells -----------------------------------------------------------------------------------------------------


def _kind(model: Compared) -> str:
    if model.kind == "dense":
        return "dense"
    return "MoE" if model.num_experts is None else f"MoE, {model.experts_per_token} of {model.num_experts}"


def size_words(size_bytes: float) -> str:
    """Figures of a row in one unit where that can be; 0 is a dash, for what a model does not have."""
    if size_bytes == 0:
        return UNKNOWN
    return gib(size_bytes, 2) if abs(size_bytes) < 10 * GIB else gib(size_bytes)


def _count_cell(model: Compared) -> str:
    needed = model.gpus
    if needed is None or needed.fits is None:
        return UNKNOWN
    if needed.num_gpus is None:
        return f"none up to {needed.tried[-1]}" if _lacks_memory(needed) else "refused"
    return str(needed.num_gpus) if needed.certain else f"{needed.num_gpus}, probably"


def _layout_cell(model: Compared) -> str:
    layout = model.gpus and model.gpus.layout
    return UNKNOWN if not layout else degree_words(layout)


def _left_cell(model: Compared) -> str:
    left = model.gpus and model.gpus.headroom_bytes
    if model.gpus is None or left is None:
        return UNKNOWN
    if model.gpus.fits is False and left >= 0:
        return "refused"
    return gib_floor(left) if left >= 0 else f"-{gib(-left)}"


def _room_cell(model: Compared) -> str:
    needed = model.gpus
    return UNKNOWN if needed is None or needed.max_concurrency is None else f"{needed.max_concurrency:,}"


def _replicas_cell(model: Compared) -> str:
    run = model.operations
    if run is None:
        return UNKNOWN
    return f"{run.replicas}, {run.idle_gpus} idle" if run.idle_gpus else str(run.replicas)


def _lost_cell(model: Compared) -> str:
    run = model.operations
    if run is None:
        return UNKNOWN
    return "all of it" if run.replicas == 1 else f"1 of {run.replicas}"


def _time(time: Time | None) -> str:
    """`18 ms (15–24)`, `1.2 s (0.9–1.6)`: two digits, for it is a guess."""
    if time is None:
        return UNKNOWN
    scale, unit = (1, "s") if time.value_s >= 1 else (1e3, "ms")
    value, low, high = (_short(each * scale) for each in (time.value_s, time.low_s, time.high_s))
    return f"{value} {unit} ({low}–{high})"


def _rate(figure: Rate | None) -> str:
    return UNKNOWN if figure is None else _short(figure.value)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"


def _usd(band: tuple[float | None, float | None] | None) -> str:
    if band is None or band[0] is None or band[1] is None:
        return UNKNOWN
    return f"{band[0]:,.2f}" if band[0] == band[1] else f"{band[0]:,.2f}–{band[1]:,.2f}"


# Sentences -------------------------------------------------------------------------------------------------


def _step_words(result: Comparison, pair: Pair) -> str:
    other = {pair.first: pair.second, pair.second: pair.first}
    less = result.models[pair.less_at_one].label
    if not pair.turns:
        more = result.models[other[pair.less_at_one]].label
        return f"bytes of a step: {less} reads less than {more} at every batch up to {pair.most_batch:,}"
    told = f"bytes of a step: {less} reads less at batch 1"
    for number, turn in enumerate(pair.turns):
        again = " again" if number else ""
        told += f", {result.models[turn.less].label}{again} from batch {turn.batch:,} on"
    return f"{told} (looked at up to {pair.most_batch:,})"


def _resident_words(result: Comparison, pair: Pair) -> str:
    turn, many = pair.resident, result.request.concurrency
    other = pair.second if turn.less_when_short == pair.first else pair.first
    less, more = result.models[turn.less_when_short].label, result.models[other].label
    sequences = "1 sequence" if many == 1 else f"{many:,} sequences"
    lead = f"weights and cache of {sequences}:"
    if turn.context_tokens is None:
        return f"{lead} {less} holds less than {more} at every length up to {turn.most_context_tokens:,} tokens"
    return f"{lead} {less} holds less when they are short, {more} from {turn.context_tokens:,} tokens on"


def _no_fit_words(needed: Needed) -> str:
    first, layout = needed.reasons[0], needed.layout
    if needed.fits is None or layout is None:
        return first.message
    counts = ", ".join(map(str, needed.tried))
    on = f"{_gpus_words(layout.num_gpus)} ({degree_words(layout)})" if layout.num_gpus > 1 else "1 GPU"
    if _lacks_memory(needed):
        missing = gib(-(needed.headroom_bytes or 0))
        return f"does not fit on {counts} GPUs; on {on} {missing} are missing on the fullest"
    return f"would not start; on {on}: {first.message}"


def _lacks_memory(needed: Needed) -> bool:
    """True where memory is all that is missing."""
    by_memory = all(reason.code in MEMORY_REASONS for reason in needed.reasons)
    return by_memory and needed.headroom_bytes is not None and needed.headroom_bytes < 0


def _gpus_words(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"
