"""A record of an estimate: what was asked and resolved, every assumption with its basis, what was measured beside it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from moeplan.core.deployment import Origin
from moeplan.core.errors import InputError
from moeplan.core.hardware import Price
from moeplan.core.ledger import Basis, Line, band_bytes, total_bytes
from moeplan.core.model import ModelSpec, Remark
from moeplan.core.price import usd_per_hour, usd_per_million_tokens
from moeplan.core.quant import BY_DTYPE
from moeplan.core.record import (
    SCHEMA,
    Assumption,
    Estimates,
    Figure,
    FigureBasis,
    Measured,
    Precision,
    Record,
    RecordedEngine,
    RecordedHardware,
    RecordedLayout,
    RecordedModel,
    RecordedRequest,
    RecordedSkew,
    RecordedSpeculation,
    Run,
    Software,
    VersionOrigin,
    figure_of,
)
from moeplan.core.record_figures import below_a_lower_percentile, order_of
from moeplan.core.units import duration
from moeplan.core.workload import LoadAsked
from moeplan.engines import ALSO_CALLED
from moeplan.estimate import Estimate, estimate
from moeplan.estimate.result import Rank
from moeplan.estimate.stated import engine_of
from moeplan.records.dates import day_of
from moeplan.records.flags import other_flags
from moeplan.records.given import figures_of, scores_of
from moeplan.records.loads import load_of
from moeplan.records.places import is_place, name_of, without_folders
from moeplan.records.public import without_secrets
from moeplan.sources.loaded import Asked, LoadedModel
from moeplan.sources.models import find_model
from moeplan.version import __version__

NOT_ASKED = ("engine_args", "engine_files", "profiles", "offline", "progress", "find", "curves")
"""Options that say nothing of what is recorded, or that stand elsewhere in it."""
FILES = ("workload", "routing")
"""Options that name a file."""
LENGTHS_DIFFER = 0.1
"""Mean lengths of a run that differ by more than this from the workload's are told."""
MOST_LETTERS = 200


def record(
    model: str | Path | None = None,
    *,
    measured: str | Path | Sequence[str | Path] = (),
    figures: Mapping[str, str | float] | Iterable[str] = (),
    quality: Mapping[str, str | float] | Iterable[str] = (),
    quality_how: str | None = None,
    quality_by: str | None = None,
    log: str | Path | None = None,
    driver: str | None = None,
    torch: str | None = None,
    activations: str | None = None,
    date: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    **asked: Any,
) -> Record:
    """A record of the estimate of `model`: `asked` is all that `moeplan.estimate` takes.

    `measured` are result files of serving benchmarks (`sources/bench_results`), `figures` further ones by hand
    (`{"ttft_p95_s": 0.18}` or `["ttft_p95=180ms"]`), `quality` scores (`["mmlu=0.712+-0.004"]`) with how they were measured and by
    whom, `log` what the engine printed at start. `driver`, `torch`, `activations` and `date` are as stated; None is unknown, and of
    the date that of SOURCE_DATE_EPOCH, else today. Raises the errors of `moeplan.core.errors`.
    """
    day, date_origin = day_of(date)
    by_hand = figures_of(figures)
    scores = scores_of(quality, _text(quality_how, "--quality-how"), _text(quality_by, "--quality-by"))
    runs, of_runs, left_out = _read_runs(measured)
    version_origin: VersionOrigin | None = None
    logged: tuple[Figure, ...] = ()
    notes: list[Remark] = []
    words = _words(asked.get("engine_args", ()))
    if log is not None:
        from moeplan.records.logged import read_figures

        named = asked.get("engine") or engine_of(words)
        told, logged = read_figures(log, None if named is None else ALSO_CALLED.get(str(named).lower(), str(named)))
        asked.setdefault("engine", None)
        asked["engine"] = asked["engine"] or told.engine
        if asked.get("engine_version") is None and told.version is not None:
            asked["engine_version"], version_origin = told.version, "log"
        elif told.version is not None and told.version.removeprefix("v") != str(asked["engine_version"]).removeprefix(
            "v"
        ):
            message = f"the log is of {told.engine} {told.version}, and the record says {asked['engine_version']}"
            notes.append(Remark("log-version", "warning", message))
    read: list[ModelSpec] = []
    ways = {"find": _kept(asked.get("find", find_model), read), "curves": False}  # only pages draw them
    found = estimate(model, progress=progress, **asked | ways)
    load = load_of(found, read[0] if read else None, asked)
    price = _price(found, asked.get("profiles", ()))
    parts = _merged(by_hand, of_runs, logged)
    parts = _with_costs(parts, price, found)
    precision = _precision(found, _text(activations, "--activations"))
    notes += [*found.notes, *_run_notes(found, load, runs)]
    notes += [Remark("measured-not-taken", "warning", told) for told in left_out]
    if not scores:
        notes.append(
            Remark("quality-not-measured", "info", "quality: not yet measured; --quality NAME=VALUE records a score")
        )
    usual = [score.name for score in scores if score.better_origin == "default"]
    if usual:
        told_usual = ", ".join(f"{score.name} {score.better}" for score in scores if score.name in usual)
        notes.append(
            Remark("quality-direction", "info", f"better when: {told_usual}, as scores of such names usually are")
        )
    layout = found.layout
    resolved = [option.flag for option in layout.options]
    made = Record(
        schema=SCHEMA,
        tool_version=__version__,
        date=day,
        date_origin=date_origin,
        model=_model(found),
        precision=precision,
        engine=RecordedEngine(
            name=layout.engine,
            version=layout.engine_version,
            version_origin=version_origin or layout.version_origin,
            expert_backend=layout.expert_backend,
            options=tuple(sorted(layout.options, key=lambda option: option.flag)),
            other_flags=other_flags(layout.engine, words, resolved),
        ),
        hardware=_hardware(found),
        layout=RecordedLayout(**{name: getattr(layout, name) for name in RecordedLayout._fields}),
        software=Software(_text(driver, "--driver"), _text(torch, "--torch")),
        request=RecordedRequest(
            context_tokens=found.request.context_tokens,
            concurrency=found.request.concurrency,
            encoder_tokens=found.request.encoder_tokens,
            origins=dict(sorted(found.request.origins.items())),
            asked=_asked(asked),
        ),
        workload=load,
        skew=_skew(found),
        speculation=_speculation(found),
        price=price,
        estimates=_estimates(found, price),
        measured=Measured(runs, parts),
        quality=scores,
        assumptions=_assumptions(found),
        notes=tuple(dict.fromkeys(_of_no_place(note, (model, *(asked.get(name) for name in FILES))) for note in notes)),
    )
    return without_secrets(made)


def _kept(find: Callable[[str, Asked], LoadedModel], read: list[ModelSpec]) -> Callable[[str, Asked], LoadedModel]:
    """`find`, which leaves in `read` what it found."""

    def found(model: str, asked: Asked) -> LoadedModel:
        loaded = find(model, asked)
        read.append(loaded.spec)
        return loaded

    return found


def _read_runs(
    measured: str | Path | Sequence[str | Path],
) -> tuple[tuple[Run, ...], tuple[Figure, ...], tuple[str, ...]]:
    """Runs, figures, and what was not taken of the files."""
    files = [measured] if isinstance(measured, str | Path) else list(measured)
    if not files:
        return (), (), ()
    from moeplan.sources.bench_results import read_results

    runs, figures, left_out = read_results([Path(file) for file in files])
    return tuple(run._replace(model=name_of(run.model)) for run in runs), figures, left_out


def _merged(*sources: tuple[Figure, ...]) -> tuple[Figure, ...]:
    """All figures, each once. InputError where one is given by hand and measured by a file too, and for a percentile that is below
    a lower one."""
    found: dict[str, Figure] = {}
    for figures in sources:
        for figure in figures:
            before = found.get(figure.name)
            if before is not None:
                raise InputError(
                    f"{figure.name} is told by {before.source} and by {figure.source}", hint="leave one of the two out"
                )
            found[figure.name] = figure
    out_of_order = below_a_lower_percentile({name: figure.value for name, figure in found.items()})
    if out_of_order is not None:
        higher, lower = (f"{name} {duration(found[name].value)} ({found[name].source})" for name in out_of_order)
        raise InputError(
            f"{higher} is below {lower}, which cannot be",
            hint="look at the units, and whether both are of the same runs",
        )
    return tuple(sorted(found.values(), key=lambda figure: order_of(figure.name)))


def _with_costs(figures: tuple[Figure, ...], price: Price | None, found: Estimate) -> tuple[Figure, ...]:
    """The same with the cost of the measured rate, at the price given by hand, else at the highest list price."""
    rate, name = figure_of(figures, "output_tokens_per_s"), "usd_per_million_output_tokens"
    stated = figure_of(figures, "usd_per_hour")
    if rate is None or not rate.value or figure_of(figures, name) is not None:
        return figures
    if stated is not None:
        hourly, source = stated.value, f"rate of {rate.source}, at the price {stated.source}"
    elif price is not None and found.hardware is not None:
        hourly = usd_per_hour(price, _num_priced(found))[1]
        source = f"rate of {rate.source}, at the highest list price of {found.hardware.profile} as of {price.as_of}"
    else:
        return figures
    cost = Figure(name, usd_per_million_tokens(hourly, rate.value), None, None, rate.basis, source)
    return tuple(sorted([*figures, cost], key=lambda figure: order_of(figure.name)))


def _num_priced(found: Estimate) -> int:
    """Devices that are paid for: all that were named, idle ones too."""
    return found.layout.num_gpus if found.hardware is None else max(found.hardware.num_devices, found.layout.num_gpus)


def _words(engine_args: str | Sequence[str]) -> list[str]:
    return shlex.split(engine_args) if isinstance(engine_args, str) else list(engine_args)


def _text(value: str | None, option: str) -> str | None:
    """A short text that says something. InputError for an empty or a long one."""
    if value is None:
        return None
    if not value.strip() or len(value) > MOST_LETTERS:
        raise InputError(
            f"{option} {value[:40]!r} says nothing, or too much", hint=f"give up to {MOST_LETTERS} letters"
        )
    return value.strip()


def _asked(asked: Mapping[str, Any]) -> dict[str, str]:
    """Options as typed, without those that nobody gave; files without their folders."""
    found: dict[str, str] = {}
    for name, value in sorted(asked.items()):
        if name in NOT_ASKED or value in (None, False, (), []):
            continue
        found[name] = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        if name in FILES:
            found[name] = Path(found[name]).name
    return found


def _of_no_place(note: Remark, known: Sequence[object]) -> Remark:
    where = None if note.where is None else without_folders(note.where, known)
    return note._replace(message=without_folders(note.message, known), where=where)


def _model(found: Estimate) -> RecordedModel:
    """The model without places of the machine that it was read on: the same from whatever folder it is named."""
    told = found.model
    source, name = told.source, told.id
    if told.revision is not None and told.source_kind in ("config", "headers"):
        source = f"hf://{told.id}@{told.revision}"
    elif is_place(source):
        source = f"local file {Path(source).name}"
    if is_place(name) or Path(name).name == "config.json":
        path = Path(name).resolve()
        name = path.parent.name if path.name == "config.json" else path.name
    return RecordedModel(name, told.revision, source, told.source_kind)


def _hardware(found: Estimate) -> RecordedHardware | None:
    used = found.hardware
    if used is None:
        return None
    return RecordedHardware(used.name, used.profile, used.num_devices, used.usable_bytes, used.usable_basis)


def _precision(found: Estimate, stated: str | None) -> Precision:
    formats = dict(sorted(found.weights.by_format.items(), key=lambda item: (-item[1], item[0])))
    # Weights of one plain dtype are multiplied in it; of quantised ones the config does not say what is.
    plain = [each.name for each in BY_DTYPE.values()]
    name = next(iter(formats)) if len(formats) == 1 and next(iter(formats)) in plain else None
    origin: Origin = "stated" if stated else "inferred" if name else "unresolved"
    return Precision(
        weights=tuple(formats),
        weights_by_format_bytes=dict(sorted(formats.items())),
        quant=found.request.quant,
        kv_cache=found.kv_cache.dtype,
        activations=stated or name,
        activations_origin=origin,
    )


def _skew(found: Estimate) -> RecordedSkew | None:
    skew = found.speed.skew if found.speed is not None else None
    return None if skew is None else RecordedSkew(skew.exponent, skew.growth, skew.basis, skew.why)


def _speculation(found: Estimate) -> RecordedSpeculation | None:
    told = found.speed.speculation if found.speed is not None else None
    if told is None:
        return None
    return RecordedSpeculation(**{name: getattr(told, name) for name in RecordedSpeculation._fields})


def _price(found: Estimate, profiles: Any) -> Price | None:
    if found.hardware is None:
        return None
    from moeplan.sources.hardware_profiles import find_hardware

    folders = [profiles] if isinstance(profiles, str | Path) else profiles
    return find_hardware(found.hardware.profile, tuple(Path(folder) for folder in folders))[0].price


def _worst(found: Estimate) -> Rank | None:
    """The fullest GPU: the one that decides, or where nothing was held against hardware, the one that needs most."""
    gpus = [rank for rank in found.ranks if rank.device == "gpu"]
    decides = [rank for rank in gpus if found.verdict.worst_rank in rank.ranks]
    return max(decides or gpus, key=lambda rank: total_bytes(rank.lines), default=None)


def _estimates(found: Estimate, price: Price | None) -> Estimates:
    figures: list[Figure] = []

    def add(
        name: str, value: float | None, basis: FigureBasis, low: float | None = None, high: float | None = None
    ) -> None:
        if value is not None:
            banded = low is not None and high is not None and low < high
            figures.append(Figure(name, value, low if banded else None, high if banded else None, basis, None))

    worst = _worst(found)
    if worst is not None:
        basis = _weakest(worst.lines)
        add("weights_bytes", worst.weights_bytes, _known(found.weights.basis))
        add("kv_cache_bytes", worst.kv_cache_bytes, "derived")
        add("needed_bytes", total_bytes(worst.lines), basis, *band_bytes(worst.lines))
        add("headroom_bytes", worst.free_bytes, basis, worst.free_low_bytes, worst.free_high_bytes)
        add("load_peak_bytes", worst.load_peak_bytes, basis)
        capacity = found.capacity
        for name in ("kv_pool_bytes", "kv_tokens", "max_concurrency", "max_context_tokens"):
            add(name, getattr(capacity, name), basis)
    host = [entry for rank in found.ranks if rank.device == "host" for entry in rank.lines]
    if host:
        add("host_bytes", total_bytes(host), _weakest(host), *band_bytes(host))
    speed = found.speed
    if speed is not None:
        for name, time in (("ttft_mean_s", speed.ttft), ("tpot_mean_s", speed.tpot)):
            add(name, time.value_s, time.basis, time.low_s, time.high_s)
        rates = speed.output_tokens_per_s
        for name, rate in (
            ("output_tokens_per_s", rates.total),
            ("output_tokens_per_s_per_user", rates.per_user),
            ("output_tokens_per_s_per_gpu", rates.per_gpu),
        ):
            add(name, rate.value, rate.basis, rate.low, rate.high)
    if price is not None:
        low, high = usd_per_hour(price, _num_priced(found))
        add("usd_per_hour", high, "listed", low, high)
        if speed is not None:
            tokens_per_s = speed.output_tokens_per_s.total.value
            low, high = (usd_per_million_tokens(usd, tokens_per_s) for usd in (low, high))
            add("usd_per_million_output_tokens", high, speed.output_tokens_per_s.total.basis, low, high)
    return Estimates(
        fits=found.verdict.fits,
        certain=found.verdict.certain,
        worst_rank=found.verdict.worst_rank,
        binding=None if speed is None else speed.binding,
        regime=None if speed is None else speed.regime,
        extrapolated=() if speed is None else speed.extrapolated,
        figures=tuple(sorted(figures, key=lambda figure: order_of(figure.name))),
    )


_WEAKER: tuple[Basis, ...] = ("exact", "measured", "derived", "assumed")


def _weakest(lines: Iterable[Line]) -> Basis:
    """How a sum is known: as the least known of its lines that has any bytes."""
    return max((entry.basis for entry in lines if entry.bytes), key=_WEAKER.index, default="derived")


def _known(basis: str) -> FigureBasis:
    return next((name for name in get_args(FigureBasis) if name == basis), "derived")


def _assumptions(found: Estimate) -> tuple[Assumption, ...]:
    worst = _worst(found)
    ranks = [rank for rank in found.ranks if rank is worst or rank.device == "host"]
    return tuple(
        Assumption(
            rank.device,
            entry.code,
            entry.label,
            entry.bytes,
            entry.low_bytes,
            entry.high_bytes,
            entry.basis,
            without_folders(entry.why.source),
        )
        for rank in ranks
        for entry in rank.lines
    )


def _run_notes(found: Estimate, load: LoadAsked | None, runs: tuple[Run, ...]) -> list[Remark]:
    """Where a run was under another load than the record's, or with a model of another name."""
    notes: list[Remark] = []
    if not runs:
        return notes
    run = runs[0]
    notes += _other_load(run, found.request.concurrency, load)
    names = {name.rstrip("/").rpartition("/")[2].lower() for name in (found.model.id, run.model or found.model.id)}
    if len(names) > 1:
        message = f"the run says that its model is {run.model}; the record is of {found.model.id}"
        notes.append(Remark("measured-other-model", "warning", message))
    failed = sum(each.failed or 0 for each in runs)
    if failed:
        message = f"{failed:,} requests of the run failed; its times are those of the others alone"
        notes.append(Remark("measured-failures", "warning", message))
    return notes


def _other_load(run: Run, concurrency: int, load: LoadAsked | None) -> list[Remark]:
    """What the run had, what the record has in its place, and the options that make them one."""
    had, has, say = [], [], []
    if run.concurrency is not None and run.concurrency != concurrency:
        had.append(_in_flight(run.concurrency))
        has.append(_in_flight(concurrency))
        say.append(f"--concurrency {run.concurrency}")
    unknown = []
    for told, mean, mine, option in (
        ("prompts", run.input_tokens, None if load is None else load.input_tokens, "--input"),
        ("answers", run.output_tokens, None if load is None else load.output_tokens, "--output"),
    ):
        if mean is None or (mine is not None and abs(mine - mean) <= LENGTHS_DIFFER * mean):
            continue
        had.append(f"{told} of {mean:,.0f} tokens")
        say.append(f"{option} {mean:.0f}")
        if mine is None:
            unknown.append(told)
        else:
            has.append(f"{told} of {mine:,.0f}")
    if not had:
        return []
    if unknown:
        has.append(f"{' and '.join(unknown)} of no stated length")
    message = (
        f"the run had {_listed(had)}; the record is of {_listed(has)}, and so are its estimates; "
        f"{' '.join(say)} {'makes' if len(say) == 1 else 'make'} both the same"
    )
    return [Remark("measured-other-load", "warning", message)]


def _in_flight(number: int) -> str:
    return "1 request in flight" if number == 1 else f"{number:,} requests in flight"


def _listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
