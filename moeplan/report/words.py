"""Sentences that several reports share: the shape of a model, what was asked, the verdict, how far the memory reaches."""

from __future__ import annotations

from moeplan.core.units import GIB, KIB, MIB, gib, gib_floor, params
from moeplan.core.weights import Parameters
from moeplan.estimate.result import Estimate, ModelFacts

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


def setting_words(estimate: Estimate) -> list[str]:
    """What was asked, in parts: devices, engine, formats, sequences."""
    layout, asked = estimate.layout, estimate.request
    formats = sorted(estimate.weights.by_format.items(), key=lambda item: -item[1])
    parts = [f"{layout.engine} {layout.engine_version}", f"weights {formats[0][0]}", f"cache {estimate.kv_cache.dtype}"]
    if estimate.hardware is not None:
        parts.insert(0, f"{estimate.hardware.num_devices} x {estimate.hardware.name}")
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
            told.append(
                f"room: {sequences:,} {'sequence' if sequences == 1 else 'sequences'} of {asked.context_tokens:,} tokens, "
                f"or {asked.concurrency:,} of {tokens:,} tokens{capped}"
            )
    return told


def verdict_words(estimate: Estimate) -> str:
    """The verdict in one sentence, in words that need no colour."""
    verdict, ranks = estimate.verdict, estimate.ranks
    if verdict.fits is None:
        return f"NOT JUDGED: {verdict.reasons[0].message}"
    each = " on each GPU" if estimate.layout.num_gpus > 1 else ""
    worst = ranks[verdict.worst_rank or 0]
    if not verdict.fits:
        # Memory may suffice where the engine refuses for another reason: that is no matter of fitting.
        lead = "DOES NOT FIT" if worst.free_bytes < 0 else "WOULD NOT START"
        return f"{lead}: " + "; ".join(reason.message for reason in verdict.reasons)
    sure = "FITS" if verdict.certain else "FITS, PROBABLY"
    spread = (
        ""
        if verdict.certain
        else f" (between {gib_signed(worst.free_low_bytes)} and {gib_signed(worst.free_high_bytes)})"
    )
    return f"{sure}: {gib_floor(worst.free_bytes)} left{each}{spread}"


def band_words(low_bytes: int, high_bytes: int) -> str:
    """`0.5 – 1.8 GiB`, both in the unit of the higher; empty where the figure is no guess."""
    if low_bytes == high_bytes:
        return ""
    figure, unit = gib(high_bytes).split()
    size = {"GiB": GIB, "MiB": MIB, "KiB": KIB, "B": 1}[unit]
    return f"{low_bytes / size:,.1f} – {figure} {unit}"


def gib_signed(size_bytes: int) -> str:
    """Bytes as GiB; a negative size as that much missing."""
    return gib(size_bytes) if size_bytes >= 0 else f"{gib(-size_bytes)} missing"
