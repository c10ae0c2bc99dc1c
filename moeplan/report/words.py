"""Sentences that several reports share: the shape of a model, what was asked, the verdict, how far the memory reaches."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.core.ledger import total_bytes
from moeplan.core.units import GIB, KIB, MIB, gib, gib_floor, params
from moeplan.core.weights import Parameters
from moeplan.estimate.judge import ranks_words
from moeplan.estimate.result import MEMORY_REASONS, Estimate, ModelFacts, Rank

NOTHING_HELPS = (
    "Nothing that was tried helps: other layouts, a larger share, other numbers of GPUs, smaller formats, less context, "
    "fewer sequences."
)
NAIVE = "naive-active"
"""The note on what the sum over active parameters would give; it stands beside the ledger, not among the notes."""

_ACCOUNTINGS = {"ideal": "ideal", "hybrid_manager": "engine's hybrid manager", "manager_off": "manager off"}


def shape_words(model: ModelFacts) -> str:
    """`32 layers, all MoE: 8 experts, 2 per token · mixtral · from the catalogue`."""
    layers = f"{model.num_layers} layers"
    if model.num_encoder_layers:
        layers = f"{model.num_encoder_layers} encoder and {model.num_layers} decoder layers"
    if model.num_experts is None:
        shape = f"{layers}, dense"
    else:
        all_layers = model.num_layers + model.num_encoder_layers
        sparse = "all MoE" if model.num_moe_layers == all_layers else f"{model.num_moe_layers} of them MoE"
        shape = f"{layers}, {sparse}: {model.num_experts} experts, {model.experts_per_token} per token"
        if model.num_zero_experts:
            shape += f", {model.num_zero_experts} that compute nothing"
        if model.num_shared_experts:
            shape += f", {model.num_shared_experts} shared"
    places = {
        "catalogue": "the catalogue",
        "config": "its config",
        "headers": "checkpoint headers",
        "gguf": "a GGUF file",
    }
    return f"{shape} · {model.family} · from {places[model.source_kind]}"


def active_words(counts: Parameters) -> str:
    """`12.9B active per token`, with the bounds where the router may choose experts that compute nothing."""
    if counts.active == counts.text_total:
        return "all of them active per token"
    active = f"{params(counts.active)} active per token"
    if counts.active_low != counts.active_high:
        active += f" ({params(counts.active_low)} to {params(counts.active_high)})"
    return active


def parameter_rows(counts: Parameters) -> list[tuple[str, str, int]]:
    """Name in JSON, label and count under each convention that says something of this model; the card's own is named."""
    conventions = {
        "total": "total",
        "text_total": "text model alone",
        "active": "active per token",
        "active_without_embedding": "active, without the embedding table",
        "active_without_embedding_and_head": "active, without table and head",
        "mtp_unique": "MTP layers, beside the total",
    }
    if counts.text_total == counts.total:
        del conventions["text_total"]
    if not counts.mtp_unique:
        del conventions["mtp_unique"]
    card = " (what the model's card counts)"
    return [
        (name, f"{label}{card if name == counts.card_convention else ''}", getattr(counts, name))
        for name, label in conventions.items()
    ]


def setting_words(estimate: Estimate) -> list[str]:
    """What was asked, in parts: devices, engine, formats, sequences."""
    layout, asked = estimate.layout, estimate.request
    formats = sorted(estimate.weights.by_format.items(), key=lambda item: -item[1])
    parts = [f"{layout.engine} {layout.engine_version}", f"weights {formats[0][0]}", f"cache {estimate.kv_cache.dtype}"]
    if estimate.hardware is not None:
        parts.insert(0, f"{estimate.hardware.num_devices} x {estimate.hardware.name}")
    spread = layout_words(estimate)
    if spread is not None:
        parts.insert(1, spread)
    sequences = "1 sequence" if asked.concurrency == 1 else f"{asked.concurrency:,} sequences"
    return [*parts, f"{sequences} of {asked.context_tokens:,} tokens"]


def reach_words(estimate: Estimate) -> list[str]:
    """What the cache costs, under each way of counting windows, and how many sequences and tokens there is room for."""
    cache, capacity, asked = estimate.kv_cache, estimate.capacity, estimate.request
    fixed = f", and {gib(cache.bytes_per_sequence)} per sequence that do not grow" if cache.bytes_per_sequence else ""
    told = [f"cache: {cache.bytes_per_token:,.10g} B per token{fixed}"]
    if len(cache.alternatives) > 1:
        ways = ", ".join(
            f"{_ACCOUNTINGS.get(name, name)} {cost.bytes_per_token:,.10g} B per token + {gib(cost.bytes_per_sequence)}"
            for name, cost in cache.alternatives.items()
        )
        used = _ACCOUNTINGS.get(cache.accounting, cache.accounting)
        told.append(f"window layers, per sequence: {ways}; the line KV cache is: {used}")
    if capacity.max_concurrency is not None and estimate.verdict.fits is not None:
        sequences, tokens = capacity.max_concurrency, capacity.max_context_tokens or 0
        most = estimate.model.max_context_tokens
        capped = ", the model's maximum" if most is not None and tokens >= most else ""
        if not sequences and not tokens:
            told.append(f"room: for no sequence, of {asked.context_tokens:,} tokens or shorter")
        else:
            per = " per data-parallel rank" if capacity.per == "attention_dp_rank" else ""
            held = -(-asked.concurrency // estimate.layout.dp)
            told.append(
                f"room{per}: {sequences:,} {'sequence' if sequences == 1 else 'sequences'} of {asked.context_tokens:,} "
                f"tokens, or {held:,} of {tokens:,} tokens{capped}"
            )
    prints = capacity.engine_prints
    if prints is not None and prints.kv_tokens:
        times = (
            "" if prints.concurrency is None else f", {prints.concurrency:,.2f} sequences of {asked.context_tokens:,}"
        )
        told.append(f"{estimate.layout.engine} would print: {prints.kv_tokens:,} tokens{times} ({prints.rule})")
    host = host_words(estimate)
    return told if host is None else [*told, host]


def verdict_words(estimate: Estimate) -> str:
    """The verdict in one sentence, in words that need no colour."""
    verdict = estimate.verdict
    if verdict.fits is None:
        return f"NOT JUDGED: {verdict.reasons[0].message}"
    if not verdict.fits:
        first, *others = verdict.reasons
        more = f" (and {len(others)} more {'reason' if len(others) == 1 else 'reasons'})" if others else ""
        # What the engine refuses comes before any question of fitting.
        lead = "DOES NOT FIT" if first.code in MEMORY_REASONS else "WOULD NOT START"
        return f"{lead}: {first.message}{more}"
    worst = worst_rank(estimate)
    assert worst is not None
    assert worst.free_bytes is not None
    each = _where(estimate, worst)
    if verdict.certain:
        return f"FITS: {gib_floor(worst.free_bytes)} left{each}"
    low, high = gib_signed(worst.free_low_bytes or 0), gib_signed(worst.free_high_bytes or 0)
    if low == high:
        return f"FITS, PROBABLY: about {gib_floor(worst.free_bytes)} left{each}"
    return f"FITS, PROBABLY: {gib_floor(worst.free_bytes)} left{each} (between {low} and {high})"


def further_reasons(estimate: Estimate) -> list[str]:
    """The reasons behind the first, each a sentence."""
    return [reason.message for reason in estimate.verdict.reasons[1:]]


def worst_rank(estimate: Estimate) -> Rank | None:
    """The ranks that decide; None where nothing was held against hardware."""
    asked = estimate.verdict.worst_rank
    return next((rank for rank in estimate.ranks if rank.device == "gpu" and asked in rank.ranks), None)


def ledger_words(estimate: Estimate, rank: Rank) -> str:
    """What a ledger is of: `memory`, `per GPU, 8 alike`, `ranks 0-7, the fullest`, `host memory`."""
    if rank.device == "host":
        return "host memory"
    if estimate.layout.num_gpus == 1:
        return "memory"
    if len(rank.ranks) == estimate.layout.num_gpus:
        return f"per GPU, {len(rank.ranks)} alike"
    return f"{ranks_words(rank.ranks)}, the fullest"


def rank_rows(estimate: Estimate) -> Iterator[tuple[str, str, str, str]]:
    """Ranks, weights, all that they need, and what is left, in the order of the ranks."""
    for rank in estimate.ranks:
        if rank.device == "gpu":
            left = gib_signed(rank.free_bytes or 0, floor=True)
            yield ranks_words(rank.ranks), gib(rank.weights_bytes), gib(total_bytes(rank.lines)), left


def host_words(estimate: Estimate) -> str | None:
    """`host memory, all ranks: 20.0 GiB (weights kept in host memory); 100 GiB left`; None where none is counted."""
    host = next((rank for rank in estimate.ranks if rank.device == "host"), None)
    if host is None:
        return None
    lines = [entry for entry in host.lines if entry.bytes] or list(host.lines)
    parts = [f"{entry.label} {gib(entry.bytes)}" for entry in lines]
    shown = f" ({', '.join(parts)})" if len(parts) > 1 else f" ({lines[0].label})"
    left = "" if host.free_bytes is None else f"; {gib_signed(host.free_bytes, floor=True)} left"
    return f"host memory, all ranks: {gib(total_bytes(host.lines))}{shown}{left}"


def explained_ranks(estimate: Estimate) -> Iterator[Rank]:
    """The ranks whose lines are worth explaining: the fullest, and the host."""
    worst = worst_rank(estimate)
    if worst is not None:
        yield worst
    yield from (rank for rank in estimate.ranks if rank.device == "host")


def _where(estimate: Estimate, rank: Rank) -> str:
    if estimate.layout.num_gpus == 1:
        return ""
    if len(rank.ranks) == estimate.layout.num_gpus:
        return " on each GPU"
    return f" on {ranks_words(rank.ranks)}, the fullest"


def layout_words(estimate: Estimate) -> str | None:
    """`TP 8 x PP 2 (30 and 31 layers), EP 8, 2 nodes`; None for one GPU."""
    layout = estimate.layout
    if layout.num_gpus == 1:
        return None
    parts = [f"TP {layout.tp}"]
    if layout.pp > 1:
        layers = " or ".join(str(count) for count in dict.fromkeys(layout.pp_layers or ()))
        parts.append(f"PP {layout.pp} ({layers} layers)")
    if layout.dp > 1:
        parts.append(f"DP {layout.dp}{' attention' if layout.dp_attention else ''}")
    told = " x ".join(parts)
    if layout.ep > 1:
        spare = f" + {layout.redundant_experts} redundant" if layout.redundant_experts else ""
        told += f", experts whole on {layout.ep} ranks{spare}"
    if layout.dcp > 1:
        told += f", DCP {layout.dcp}"
    if layout.num_nodes > 1:
        told += f", {layout.num_nodes} nodes"
    return told


def band_words(low_bytes: int, high_bytes: int) -> str:
    """`0.5 – 1.8 GiB`, both in the unit of the higher, or `about 0.7 GiB` where they read alike; empty where the figure is
    no guess."""
    if low_bytes == high_bytes:
        return ""
    figure, unit = gib(high_bytes).split()
    size = {"GiB": GIB, "MiB": MIB, "KiB": KIB, "B": 1}[unit]
    low = f"{low_bytes / size:,.1f}"
    return f"about {figure} {unit}" if low == figure else f"{low} – {figure} {unit}"


def gib_signed(size_bytes: int, *, floor: bool = False) -> str:
    """Bytes as GiB; a negative size as that much missing. `floor` for headroom, which must not be flattered."""
    if size_bytes < 0:
        return f"{gib(-size_bytes)} missing"
    return gib_floor(size_bytes) if floor else gib(size_bytes)
