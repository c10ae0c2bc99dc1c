"""Figures of a log paired with figures of an estimate."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from moeplan.core.engine_log import EngineLog, LogRank, Reading
from moeplan.core.ledger import total_bytes
from moeplan.estimate import Estimate
from moeplan.estimate.result import Rank
from moeplan.validate.result import Comparison

Predict = Callable[[Estimate, Rank, EngineLog], float | None]


class Pairing(NamedTuple):
    """How one quantity of a log is predicted."""

    label: str
    unit: str
    judged: bool
    predict: Predict


def compare(
    told: EngineLog, found: Estimate, tolerance: float, with_pool: Callable[[int], Estimate | None]
) -> tuple[Comparison, ...]:
    """All figures of the log that are worth a line, in its order; what moeplan has no figure for says why."""
    rows = [row for reading in told.readings for row in _rows(reading, told, found, tolerance)]
    pools = told.told("kv_pool_bytes")
    tokens = told.told("kv_tokens")
    if pools and tokens and found.ranks:
        least = min(pools, key=lambda reading: reading.value)
        again = with_pool(int(least.value))
        prints = again.capacity.engine_prints if again is not None else None
        if prints is not None and prints.kv_tokens is not None:
            # A printed pool hides half a step of its rounding, and tokens come in blocks.
            hidden = least.resolution / 2 / max(least.value, 1) * tokens[-1].value
            row = _row(
                tokens[-1]._replace(resolution=2 * hidden + tokens[-1].resolution),
                Pairing("tokens of the pool that the log names", "tokens", True, lambda *_: None),
                float(prints.kv_tokens),
                tolerance,
            )
            rows.append(row._replace(quantity="kv_tokens_of_pool"))
    return tuple(rows)


def rank_of(found: Estimate, rank: LogRank | None) -> Rank | None:
    """The ranks of the estimate that a log's rank belongs to; the fullest where the log names none."""
    gpus = [each for each in found.ranks if each.device == "gpu"]
    if not gpus:
        return None
    number = _number(found, rank)
    mine = next((each for each in gpus if number in each.ranks), None)
    return mine or next((each for each in gpus if found.verdict.worst_rank in each.ranks), gpus[0])


def pool_of(rank: Rank) -> int:
    """What the estimate leaves for the cache on a rank."""
    return rank.kv_cache_bytes + (rank.free_bytes or 0)


def _number(found: Estimate, rank: LogRank | None) -> int | None:
    layout = found.layout
    if rank is None:
        return None
    if rank.world is not None:
        return rank.world
    if rank.dp is None and rank.pp is None and rank.tp is None:
        return None
    # Data-parallel ranks inside the tensor-parallel ones (SGLang's attention) do not count once more.
    outer = layout.num_gpus // (layout.tp * layout.pp)
    copy = (rank.dp or 0) if outer > 1 else 0
    return copy * layout.pp * layout.tp + (rank.pp or 0) * layout.tp + (rank.tp or 0)


def _rows(reading: Reading, told: EngineLog, found: Estimate, tolerance: float) -> list[Comparison]:
    pairing = PAIRINGS.get(reading.quantity)
    if pairing is None:
        return []
    rank = rank_of(found, reading.rank)
    if rank is None or reading.part in ("draft", "vision"):
        why = (
            "nothing was held against hardware" if rank is None else f"the {reading.part} model is not estimated apart"
        )
        return [_row(reading, pairing, None, tolerance)._replace(why_not=why)]
    return [_row(reading, pairing, pairing.predict(found, rank, told), tolerance)]


def _row(reading: Reading, pairing: Pairing, predicted: float | None, tolerance: float) -> Comparison:
    observed = float(reading.value)
    error = None
    if predicted is not None and observed:
        off = predicted - observed
        hidden = min(abs(off), reading.resolution / 2)
        error = (off - hidden if off > 0 else off + hidden) / observed
    judged = pairing.judged and error is not None
    return Comparison(
        quantity=reading.quantity,
        label=pairing.label,
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


# What each figure is held against ---------------------------------------------------------------------------


def _lines(*codes: str) -> Predict:
    def total(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
        sizes = [entry for entry in rank.lines if entry.code in codes]
        return total_bytes(sizes) if sizes else None

    return total


def _weights(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
    return rank.weights_bytes


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
        tokens = told.told("kv_tokens")
        return rank.kv_bytes_per_token * tokens[-1].value * share if tokens else None

    return size


def _one_request(found: Estimate, rank: Rank, told: EngineLog) -> float | None:
    return rank.kv_cache_bytes if found.request.concurrency == 1 else None


PAIRINGS: dict[str, Pairing] = {
    "weights_bytes": Pairing("weights", "bytes", True, _weights),
    "total_memory_bytes": Pairing("memory of the card", "bytes", False, _total_memory),
    "budget_bytes": Pairing("share that the engine may use", "bytes", False, _budget),
    "activation_peak_bytes": Pairing("activations", "bytes", False, _lines("activations", "expert_workspace")),
    "activation_and_graphs_bytes": Pairing(
        "activations with graphs", "bytes", False, _lines("activations", "expert_workspace", "cuda_graphs")
    ),
    "non_torch_bytes": Pairing("outside torch", "bytes", False, _lines("device_context", "deepep_buffers")),
    "cuda_graphs_bytes": Pairing("CUDA graphs", "bytes", False, _lines("cuda_graphs")),
    "cuda_graphs_estimate_bytes": Pairing("CUDA graphs, the engine's estimate", "bytes", False, _lines("cuda_graphs")),
    "kv_pool_bytes": Pairing("left for the cache", "bytes", True, _pool),
    "kv_tokens": Pairing("tokens of the cache", "tokens", True, _tokens),
    "max_concurrency": Pairing("sequences of full length", "sequences", True, _concurrency),
    "kv_bytes": Pairing("cache as allocated, for its tokens", "bytes", True, _of_tokens(1)),
    "kv_key_bytes": Pairing("keys as allocated, for their tokens", "bytes", True, _of_tokens(0.5)),
    "kv_value_bytes": Pairing("values as allocated, for their tokens", "bytes", True, _of_tokens(0.5)),
    "kv_needed_bytes": Pairing("cache of one request of full length", "bytes", True, _one_request),
}
"""By quantity; figures that are not here are not shown. Small fixed costs with a wide band are shown, not judged."""
