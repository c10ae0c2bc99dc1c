"""Figures of a log paired with figures of an estimate."""

from __future__ import annotations

from collections.abc import Callable

from moeplan.core.engine_log import EngineLog, LogRank, Reading
from moeplan.estimate import Estimate
from moeplan.estimate.result import Rank
from moeplan.validate.pairs import PAIRINGS, PARTS, TOKENS_OF_POOL, pool_of, row
from moeplan.validate.result import Comparison

__all__ = ["compare", "pool_of", "rank_of", "row"]


def compare(
    told: EngineLog, found: Estimate, tolerance: float, with_pool: Callable[[int], Estimate | None]
) -> tuple[Comparison, ...]:
    """All figures of the log that are worth a line, in its order; what moeplan has no figure for says why."""
    if told.engine == "llamacpp":
        from moeplan.validate.buffers import compare_buffers

        return compare_buffers(told, found, tolerance)
    rows = [each for reading in told.readings for each in _rows(reading, told, found, tolerance)]
    pools = told.told("kv_pool_bytes")
    tokens = told.told("kv_tokens")
    if pools and tokens and found.ranks:
        least = min(pools, key=lambda reading: reading.value)
        again = with_pool(int(least.value))
        prints = again.capacity.engine_prints if again is not None else None
        if prints is not None and prints.kv_tokens is not None:
            # A printed pool hides half a step of its rounding, and tokens come in blocks.
            hidden = least.resolution / 2 / max(least.value, 1) * tokens[-1].value
            reading = tokens[-1]._replace(resolution=2 * hidden + tokens[-1].resolution)
            found_row = row(reading, TOKENS_OF_POOL, float(prints.kv_tokens), tolerance)
            rows.append(found_row._replace(quantity="kv_tokens_of_pool"))
    return tuple(rows)


def rank_of(found: Estimate, rank: LogRank | None) -> Rank | None:
    """The ranks of the estimate that a log's rank belongs to; the fullest where the log names none."""
    gpus = [each for each in found.ranks if each.device == "gpu"]
    if not gpus:
        return None
    number = _number(found, rank)
    mine = next((each for each in gpus if number in each.ranks), None)
    return mine or next((each for each in gpus if found.verdict.worst_rank in each.ranks), gpus[0])


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
    apart = PARTS.get((reading.part or "").partition(" ")[0])
    if reading.quantity == "kv_tokens" and reading.part == "full":
        apart = None  # what an engine with two pools prints as its tokens
    if rank is None or apart is not None:
        return [row(reading, pairing, None, tolerance)._replace(why_not=apart or "nothing was held against hardware")]
    return [row(reading, pairing, pairing.predict(found, rank, told), tolerance, rank)]
