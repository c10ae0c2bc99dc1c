"""What each figure of a log is held against: the label of its line, and the estimate's figure for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from moeplan.core.engine_log import EngineLog, Quantity, Reading
from moeplan.core.ledger import total_bytes
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


class Pairing(NamedTuple):
    """How one quantity of a log is predicted."""

    label: str
    """Short: a table of 80 columns has room for some 25."""
    unit: str
    judged: bool
    predict: Predict


def pool_of(rank: Rank) -> int:
    """What the estimate leaves for the cache on a rank."""
    return rank.kv_cache_bytes + (rank.free_bytes or 0)


def lines_of(*codes: str) -> Predict:
    """The sum of these lines of the ledger; None where there is none of them."""

    def total(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
        sizes = [entry for entry in rank.lines if entry.code in codes]
        return total_bytes(sizes) if sizes else None

    return total


def weights_of(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
    """All that counts as weights on a rank."""
    return rank.weights_bytes


def cache_of(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
    """The cache of all sequences of a rank, states included."""
    return rank.kv_cache_bytes


def _pool(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
    return pool_of(rank)


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

PAIRINGS: dict[Quantity, Pairing] = {
    "weights_bytes": Pairing("weights", "bytes", True, weights_of),
    "total_memory_bytes": Pairing("memory of the card", "bytes", False, _total_memory),
    "budget_bytes": Pairing("the engine's share", "bytes", False, _budget),
    "activation_peak_bytes": Pairing("activations", "bytes", False, lines_of(*ACTIVATIONS)),
    "activation_and_graphs_bytes": Pairing(
        "activations, graphs", "bytes", False, lines_of(*ACTIVATIONS, "cuda_graphs")
    ),
    "non_torch_bytes": Pairing("outside torch", "bytes", False, lines_of("device_context", "deepep_buffers")),
    "cuda_graphs_bytes": Pairing("CUDA graphs", "bytes", False, lines_of("cuda_graphs")),
    "cuda_graphs_estimate_bytes": Pairing("CUDA graphs, forecast", "bytes", False, lines_of("cuda_graphs")),
    "kv_pool_bytes": Pairing("left for the cache", "bytes", True, _pool),
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


def row(reading: Reading, pairing: Pairing, predicted: float | None, tolerance: float) -> Comparison:
    """One figure beside its prediction."""
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
        error=error,
        judged=judged,
        within=abs(error) <= tolerance if judged and error is not None else None,
        line_number=reading.line_number,
        why_not=None if predicted is not None else "moeplan has no figure for it here",
    )
