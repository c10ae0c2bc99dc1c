"""Sentences that several reports share: the shape of a model, the verdict."""

from __future__ import annotations

from moeplan.core.units import gib, gib_floor
from moeplan.estimate.result import Estimate, ModelFacts


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
    places = {"catalogue": "the catalogue", "config": "its config", "headers": "checkpoint headers", "gguf": "a GGUF file"}
    return f"{shape} · {model.family} · from {places[model.source_kind]}"


def verdict_words(estimate: Estimate) -> str:
    """The verdict in one sentence, in words that need no colour."""
    verdict, ranks = estimate.verdict, estimate.ranks
    if verdict.fits is None:
        return f"NOT JUDGED: {verdict.reasons[0].message}"
    each = " on each GPU" if estimate.layout.num_gpus > 1 else ""
    worst = ranks[verdict.worst_rank or 0]
    if not verdict.fits:
        return "DOES NOT FIT: " + "; ".join(reason.message for reason in verdict.reasons)
    sure = "FITS" if verdict.certain else "FITS, PROBABLY"
    spread = "" if verdict.certain else f" (between {gib_signed(worst.free_low_bytes)} and {gib_signed(worst.free_high_bytes)})"
    return f"{sure}: {gib_floor(worst.free_bytes)} left{each}{spread}"


def gib_signed(size_bytes: int) -> str:
    """Bytes as GiB; a negative size as that much missing."""
    return gib(size_bytes) if size_bytes >= 0 else f"{gib(-size_bytes)} missing"
