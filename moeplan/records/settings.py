"""What was chosen in a record, apart from what follows from it.

One change of a command line moves many fields: `--gpu 2xh100` moves the layout, an option of the engine and the number of
devices. A setting is what somebody chose; what an engine infers from it, or has as its default, only follows. Where that
cannot be told, it is taken as a setting, so that no cause is named that may be none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from moeplan.core.deployment import Option, Value
from moeplan.core.record import Record, RecordedSkew, Run
from moeplan.core.workload import LoadAsked
from moeplan.records.result import Change, Of
from moeplan.sources.bench_results.repeats import LENGTHS_DIFFER

if TYPE_CHECKING:
    from moeplan.engines.command_line.flag import Flag

HELD_ELSEWHERE = (
    "context_tokens", "concurrency", "kv_dtype", "dtype", "quantization", "revision", "model", "tp", "pp", "dp", "ep",
    "expert_parallel", "dp_attention", "dcp", "redundant_experts", "pp_layers", "num_nodes",
)  # fmt: skip
"""Fields of the engines' flags that a record holds under names of its own."""
OF_CACHE_DTYPE = ("--cache-type-k", "--cache-type-v")
"""llama.cpp's two flags for the dtype of the cache; where keys and values differ, each is a setting."""
ASKED_ELSEWHERE = (
    "gpu", "engine", "engine_version", "tp", "pp", "dp", "ep", "dp_attention", "dcp", "redundant_experts", "pp_layers",
    "nodes", "utilization", "context", "concurrency", "encoder_tokens", "input", "output", "ttft", "tpot", "arrival",
    "workload", "routing", "skew", "speed", "dtype", "quant", "kv_dtype", "revision", "headers", "file", "strict",
    "draft_tokens", "acceptance", "accept_length",
)  # fmt: skip
"""moeplan's own options that a record holds under names of its own; any other is a setting as it was typed."""


class Changes(NamedTuple):
    """All that is not the same in two records, by what it means."""

    settings: tuple[Change, ...]
    follows: tuple[Change, ...]
    unknown: tuple[Change, ...]
    estimated_otherwise: tuple[Change, ...]


def changes(a: Record, b: Record) -> Changes:
    """What is not the same from A to B."""
    found = _Found()
    _model(found, a, b)
    _load(found, a, b)
    _precision(found, a, b)
    _engine(found, a, b)
    _devices(found, a, b)
    _options(found, a, b)
    _runs(found, a, b)
    _method(found, a, b)
    return Changes(tuple(found.settings), tuple(found.follows), tuple(found.unknown), tuple(found.estimated))


class _Found:
    def __init__(self) -> None:
        self.settings: list[Change] = []
        self.follows: list[Change] = []
        self.unknown: list[Change] = []
        self.estimated: list[Change] = []

    def compare(
        self,
        path: str,
        label: str,
        before: object,
        after: object,
        of: Of = "run",
        *,
        follows: bool = False,
        open_: bool = False,
    ) -> None:
        """Note a difference; `open_` where None is unknown and not a choice."""
        if before == after:
            return
        change = Change(path, label, of, _words(before), _words(after))
        if open_ and (before is None or after is None):
            self.unknown.append(change)
        elif follows:
            self.follows.append(change)
        else:
            self.settings.append(change)

    def changed(self, *paths: str) -> bool:
        """True where one of these settings changed."""
        return any(change.path in paths for change in self.settings)


def _words(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.10g}"
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value)
    return str(value)


def _model(found: _Found, a: Record, b: Record) -> None:
    found.compare("model.id", "model", a.model.id, b.model.id, "model")
    if not found.changed("model.id"):
        found.compare("model.revision", "revision", a.model.revision, b.model.revision, open_=True)


def _load(found: _Found, a: Record, b: Record) -> None:
    for name, label in (("input_tokens", "prompts"), ("output_tokens", "answers")):
        before, after = (_lengths(record.workload, name) for record in (a, b))
        found.compare(f"workload.{name}", label, before, after, "load")
    rate, other_rate = (_arrival(record.workload) for record in (a, b))
    found.compare("workload.arrival_per_s", "requests per second", rate, other_rate, "load")
    mine, theirs = a.request, b.request
    # A context that nobody stated is as long as the lengths need; a concurrency that nobody stated comes of the rate.
    for name, label, driven in (
        ("context_tokens", "context", found.changed("workload.input_tokens", "workload.output_tokens", "model.id")),
        ("concurrency", "concurrency", found.changed("workload.arrival_per_s")),
    ):
        unsaid = "stated" not in (mine.origins.get(name), theirs.origins.get(name))
        found.compare(
            f"request.{name}", label, getattr(mine, name), getattr(theirs, name), "load", follows=unsaid and driven
        )
    found.compare("request.encoder_tokens", "encoder length", mine.encoder_tokens, theirs.encoder_tokens, "load")


def _arrival(load: LoadAsked | None) -> float | None:
    return None if load is None else load.arrival_per_s


def _lengths(load: LoadAsked | None, name: str) -> str | None:
    """All classes with their shares and percentiles."""
    if load is None:
        return None
    told = []
    for each in load.classes:
        lengths = getattr(each, name)
        tokens = (
            f"{lengths.p50:,}" if lengths.p50 == lengths.p99 else f"{lengths.p50:,}/{lengths.p95:,}/{lengths.p99:,}"
        )
        told.append(tokens if len(load.classes) == 1 else f"{each.name} {each.share_fraction:.4g}: {tokens}")
    return ", ".join(told)


def _precision(found: _Found, a: Record, b: Record) -> None:
    mine, theirs = a.precision, b.precision
    other = found.changed("model.id", "model.revision")
    found.compare(
        "precision.weights", "weights", mine.weights, theirs.weights, follows=other and mine.quant == theirs.quant
    )
    inferred = all(record.request.origins.get("kv_dtype") == "inferred" for record in (a, b))
    driven = (
        other
        or found.changed("precision.weights")
        or a.engine.name != b.engine.name
        or a.engine.version != b.engine.version
    )
    found.compare("precision.kv_cache", "cache dtype", mine.kv_cache, theirs.kv_cache, follows=inferred and driven)
    stated = "stated" in (mine.activations_origin, theirs.activations_origin)
    found.compare(
        "precision.activations", "activations", mine.activations, theirs.activations, follows=not stated, open_=stated
    )


def _engine(found: _Found, a: Record, b: Record) -> None:
    mine, theirs = a.engine, b.engine
    found.compare("engine.name", "engine", mine.name, theirs.name)
    other = mine.name != theirs.name
    found.compare("engine.version", "engine version", mine.version, theirs.version, follows=other)
    defaults = [engine.version_origin == "default" for engine in (mine, theirs)]
    if not other and mine.version == theirs.version and any(defaults) and not all(defaults):
        # A default is what moeplan estimates with: the one that ran may be another.
        before, after = (None if engine.version_origin == "default" else engine.version for engine in (mine, theirs))
        found.compare("engine.version", "engine version", before, after, open_=True)
    # Kernels follow from engine, version, card, format and options, which are compared by themselves.
    found.compare("engine.expert_backend", "expert kernels", mine.expert_backend, theirs.expert_backend, follows=True)


def _profile(record: Record) -> str | None:
    return None if record.hardware is None else record.hardware.profile


def _devices(found: _Found, a: Record, b: Record) -> None:
    found.compare("hardware.profile", "GPU", _profile(a), _profile(b))
    mine, theirs = a.layout, b.layout
    chosen = _chosen(a) | _chosen(b)
    # Of as many GPUs, those that stages and replicas leave are the tensor-parallel ones, unless somebody says so.
    shared_out = mine.num_gpus == theirs.num_gpus and (mine.pp, mine.dp) != (theirs.pp, theirs.dp)
    shared_degrees = {
        "tp": "tp" not in chosen and shared_out,
        "dp_attention": "dp_attention" not in chosen and mine.dp != theirs.dp and not _has_flag(a, b, "dp_attention"),
    }
    for name, label in (("pp", "PP"), ("dp", "DP"), ("tp", "TP"), ("dcp", "DCP"), ("dp_attention", "DP attention")):
        found.compare(
            f"layout.{name}", label, getattr(mine, name), getattr(theirs, name), follows=shared_degrees.get(name, False)
        )
    found.compare("layout.ep", "EP", _experts(a), _experts(b))
    found.compare("layout.redundant_experts", "redundant experts", mine.redundant_experts, theirs.redundant_experts)
    found.compare(
        "layout.pp_layers", "layers of stages", mine.pp_layers, theirs.pp_layers, follows=mine.pp != theirs.pp
    )
    resized = mine.num_gpus != theirs.num_gpus or found.changed("hardware.profile")
    found.compare("layout.num_nodes", "nodes", mine.num_nodes, theirs.num_nodes, follows=resized)
    before, after = (None if record.hardware is None else record.hardware.num_devices for record in (a, b))
    driven = before is None or after is None or mine.num_gpus != theirs.num_gpus
    found.compare("hardware.num_devices", "GPUs", before, after, follows=driven)
    found.compare("software.driver", "driver", a.software.driver, b.software.driver, open_=True)
    found.compare("software.torch", "torch", a.software.torch, b.software.torch, open_=True)


def _chosen(record: Record) -> set[str]:
    """Degrees that somebody stated, in moeplan's words or the engine's."""
    stated = {option.flag for option in record.engine.options if option.origin == "stated"}
    return {*record.request.asked, *(str(flag.field) for flag in _flags(record.engine.name) if flag.name in stated)}


def _has_flag(a: Record, b: Record, field: str) -> bool:
    """Whether one of their engines has a flag for it, which a record does not tell."""
    return any(flag.field == field for record in (a, b) for flag in _flags(record.engine.name))


def _experts(record: Record) -> str:
    """Expert parallel as somebody chooses it: off, over all ranks, or over so many."""
    layout = record.layout
    if layout.ep == 1:
        return "off"
    ranks = max(layout.tp, 1) * max(layout.dp, 1)
    return "over all ranks" if layout.ep in (ranks, layout.num_gpus) else f"over {layout.ep} ranks"


def _options(found: _Found, a: Record, b: Record) -> None:
    other_engine = a.engine.name != b.engine.name
    shared = {record.engine.name: _shared_flags(record.engine.name) for record in (a, b)}
    before, after = ({option.flag: option for option in record.engine.options} for record in (a, b))
    for flag in sorted(before.keys() | after.keys()):
        if flag in shared[a.engine.name] | shared[b.engine.name]:
            continue
        mine, theirs = before.get(flag), after.get(flag)
        stated = "stated" in [option.origin for option in (mine, theirs) if option is not None]
        if flag in OF_CACHE_DTYPE and found.changed("precision.kv_cache"):
            stated = False  # the same, said by the engine
        if other_engine and not stated:
            continue  # defaults of two engines
        found.compare(f"engine.options.{flag}", flag, _value(mine), _value(theirs), follows=not stated)
    flags = [{each.flag: _shown(each.value) for each in record.engine.other_flags} for record in (a, b)]
    for flag in sorted(flags[0].keys() | flags[1].keys()):
        found.compare(f"engine.other_flags.{flag}", flag, flags[0].get(flag), flags[1].get(flag))
    asked = [record.request.asked for record in (a, b)]
    for name in sorted(asked[0].keys() | asked[1].keys()):
        if name not in ASKED_ELSEWHERE:
            found.compare(
                f"request.asked.{name}", f"--{name.replace('_', '-')}", asked[0].get(name), asked[1].get(name)
            )


def _value(option: Option | None) -> Value:
    return None if option is None else option.value


def _shown(value: str | None) -> str:
    return "on" if value is None else value


def _shared_flags(engine: str) -> frozenset[str]:
    """Flags whose value a record holds under another name."""
    return frozenset(flag.name for flag in _flags(engine) if flag.field in HELD_ELSEWHERE)


def _flags(engine: str) -> Sequence[Flag]:
    """Those of an engine; none of one that moeplan does not know."""
    from moeplan.engines import ENGINES, flags_of

    return flags_of(engine) if engine in ENGINES else ()


def _runs(found: _Found, a: Record, b: Record) -> None:
    """The load that was measured under: of the benchmark, or where figures were given by hand that of the record."""
    mine, theirs = (_measured_under(record) for record in (a, b))
    if mine is None or theirs is None or not (a.measured.runs or b.measured.runs):
        return
    if a.measured.runs and b.measured.runs:
        found.compare("measured.runs.kind", "benchmark", mine.kind, theirs.kind)
        found.compare(
            "measured.runs.request_rate_per_s",
            "requests per second of the run",
            mine.request_rate_per_s,
            theirs.request_rate_per_s,
            "load",
        )
    # A run without a bound is none of a bound; beside figures by hand it may only be that nobody said.
    if (a.measured.runs and b.measured.runs) or None not in (mine.concurrency, theirs.concurrency):
        found.compare(
            "measured.runs.concurrency", "requests in flight of the run", mine.concurrency, theirs.concurrency, "load"
        )
    for name, label in (("input_tokens", "prompts of the run"), ("output_tokens", "answers of the run")):
        before: float | None = getattr(mine, name)
        after: float | None = getattr(theirs, name)
        if before is None or after is None:
            found.compare(f"measured.runs.{name}", label, before, after, "load", open_=True)
        elif abs(before - after) > LENGTHS_DIFFER * max(before, after):
            found.compare(f"measured.runs.{name}", label, round(before), round(after), "load")


def _measured_under(record: Record) -> Run | None:
    """The first run, or a run as the record's own load has it; None where nothing was measured."""
    if record.measured.runs:
        return record.measured.runs[0]
    if not record.measured.figures:
        return None
    load = record.workload
    lengths = (None, None) if load is None else (load.input_tokens, load.output_tokens)
    rate = None if load is None else load.arrival_per_s
    return Run("", "", "", None, None, record.request.concurrency, rate, None, None, None, *lengths)


def _method(found: _Found, a: Record, b: Record) -> None:
    """What moves estimates and costs, and no run."""
    for path, label, before, after in _ways(a, b):
        if before != after:
            found.estimated.append(Change(path, label, "estimate", _words(before), _words(after)))


def _ways(a: Record, b: Record) -> Iterator[tuple[str, str, object, object]]:
    yield "tool_version", "moeplan", a.tool_version, b.tool_version
    yield "model.source_kind", "shape read from", a.model.source_kind, b.model.source_kind
    if a.skew is not None and b.skew is not None:
        yield "skew", "skew of the experts", _skew(a.skew), _skew(b.skew)
    if a.speculation is not None and b.speculation is not None:
        yield "speculation.acceptance", "acceptance of drafts", a.speculation.acceptance, b.speculation.acceptance
    if a.hardware is not None and b.hardware is not None and a.hardware.profile == b.hardware.profile:
        yield "price", "price of a GPU", _price(a), _price(b)
        yield "hardware.usable_bytes", "bytes of a GPU", a.hardware.usable_bytes, b.hardware.usable_bytes


def _skew(skew: RecordedSkew) -> str:
    return f"{skew.exponent:g} ({skew.basis})"


def _price(record: Record) -> str | None:
    price = record.price
    if price is None:
        return None
    return f"{price.low_usd_per_hour:g} to {price.high_usd_per_hour:g} USD per hour as of {price.as_of}"
