"""What each figure of a log is held against: the label of its line, and the estimate's figure for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from moeplan.core.engine_log import EngineLog, Quantity, Reading
from moeplan.core.ledger import band_bytes, total_bytes
from moeplan.estimate import Estimate
from moeplan.estimate.result import Rank
from moeplan.validate.result import Comparison

PARTS = {
    "draft": "the draft model is not estimated apart",
    "vision": "the vision tower is not estimated apart",
    "window": "moeplan does not tell the window's cache apart",
    "full": "moeplan does not tell the full cache apart",
}
"""Parts of a figure that have none of their own in an estimate, by their first word."""

Predict = Callable[[Estimate, Rank, EngineLog], float | None]
Band = Callable[[Rank], tuple[float, float] | None]


class Pairing(NamedTuple):
    """How one quantity of a log is predicted."""

    label: str
    """Short: a table of 80 columns has room for some 25."""
    unit: str
    judged: bool
    predict: Predict
    band: Band = lambda _: None
    """Low and high end of what is predicted; None for what is no guess."""


def pool_of(rank: Rank) -> int:
    """What the estimate leaves for the cache on a rank."""
    return rank.kv_cache_bytes + (rank.free_bytes or 0)


def lines_of(*codes: str) -> Predict:
    """The sum of these lines of the ledger; None where there is none of them."""

    def total(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
        sizes = [entry for entry in rank.lines if entry.code in codes]
        return total_bytes(sizes) if sizes else None

    return total


def band_of(*codes: str) -> Band:
    """The band of these lines of the ledger together."""
    return lambda rank: band_bytes(entry for entry in rank.lines if entry.code in codes)


def weights_of(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
    """All that counts as weights on a rank."""
    return rank.weights_bytes


def cache_of(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
    """The cache of all sequences of a rank, states included."""
    return rank.kv_cache_bytes


def _pool(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
    return pool_of(rank)


def _pool_band(rank: Rank) -> tuple[float, float] | None:
    if rank.free_low_bytes is None or rank.free_high_bytes is None:
        return None
    return rank.kv_cache_bytes + rank.free_low_bytes, rank.kv_cache_bytes + rank.free_high_bytes


def _total_memory(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
    return found.hardware.usable_bytes if found.hardware else None


def _budget(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
    return total_bytes(rank.lines) + (rank.free_bytes or 0)


def _tokens(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
    prints = found.capacity.engine_prints
    return prints.kv_tokens if prints is not None else None


def _concurrency(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
    prints = found.capacity.engine_prints
    return prints.concurrency if prints is not None else None


def _of_tokens(share: float) -> Predict:
    """Bytes of as many tokens as the log says were allocated."""

    def size(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
        tokens = [each for each in told.told("kv_tokens") if each.part is None]
        return rank.kv_bytes_per_token * tokens[-1].value * share if tokens else None

    return size


def _one_request(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
    return rank.kv_cache_bytes if found.request.concurrency == 1 else None


ACTIVATIONS = ("activations", "expert_workspace")


def _shown(label: str, *codes: str) -> Pairing:
    """Lines of the ledger whose band is too wide to be judged."""
    return Pairing(label, "bytes", False, lines_of(*codes), band_of(*codes))


PAIRINGS: dict[Quantity, Pairing] = {
    "weights_bytes": Pairing("weights", "bytes", True, weights_of),
    "total_memory_bytes": Pairing("memory of the card", "bytes", False, _total_memory),
    "budget_bytes": Pairing("the engine's share", "bytes", False, _budget),
    "activation_peak_bytes": _shown("activations", *ACTIVATIONS),
    "activation_and_graphs_bytes": _shown("activations, graphs", *ACTIVATIONS, "cuda_graphs"),
    "non_torch_bytes": _shown("outside torch", "device_context", "deepep_buffers"),
    "cuda_graphs_bytes": _shown("CUDA graphs", "cuda_graphs"),
    "cuda_graphs_estimate_bytes": _shown("CUDA graphs, forecast", "cuda_graphs"),
    "kv_pool_bytes": Pairing("left for the cache", "bytes", True, _pool, _pool_band),
    "kv_tokens": Pairing("tokens of the cache", "tokens", True, _tokens),
    "max_concurrency": Pairing("full-length sequences", "sequences", True, _concurrency),
    "kv_bytes": Pairing("cache of its tokens", "bytes", True, _of_tokens(1)),
    "kv_key_bytes": Pairing("keys of its tokens", "bytes", True, _of_tokens(0.5)),
    "kv_value_bytes": Pairing("values of its tokens", "bytes", True, _of_tokens(0.5)),
    "kv_needed_bytes": Pairing("one full request", "bytes", True, _one_request),
}
"""By quantity; figures that are not here are not shown. Small fixed costs with a wide band are shown, not judged."""

TOKENS_OF_POOL = Pairing("tokens of that pool", "tokens", True, lambda *_: None)
"""Of the pool that the log names: what the engine's rule makes of it, apart from the rest."""


def row(
    reading: Reading, pairing: Pairing, predicted: float | None, tolerance: float, rank: Rank | None = None
) -> Comparison:
    """One figure beside its prediction, which is of `rank` where it has a band."""
    band = pairing.band(rank) if rank is not None and predicted is not None else None
    low, high = band if band is not None and band[0] != band[1] else (None, None)
    observed = float(reading.value)
    error = None
    if predicted is not None and observed:
        off = predicted - observed
        hidden = min(abs(off), reading.resolution / 2)
        error = (off - hidden if off > 0 else off + hidden) / observed
    judged = pairing.judged and error is not None
    return Comparison(
        quantity=reading.quantity,
        label=pairing.label if reading.part is None else f"{pairing.label} ({reading.part})",
        unit=pairing.unit,
        rank=reading.rank.label if reading.rank is not None else None,
        device=reading.device,
        observed=observed,
        predicted=predicted,
        predicted_low=low,
        predicted_high=high,
        error=error,
        judged=judged,
        tolerance=tolerance if judged else None,
        within=abs(error) <= tolerance if judged and error is not None else None,
        line_number=reading.line_number,
        why_not=None if predicted is not None else "moeplan has no figure for it here",
    )
