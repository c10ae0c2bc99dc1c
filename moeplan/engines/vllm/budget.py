"""The share of a card that vLLM takes, or what a stated pool makes of it."""

from __future__ import annotations

from moeplan.core.deployment import Serving, Settings
from moeplan.core.ledger import Line, total_bytes
from moeplan.core.placement import RankView
from moeplan.engines.vllm.blocks import block_plan, stated_pool_bytes
from moeplan.engines.vllm.cache import cache_rules

GRAPHS_IN_BUDGET = "0.21"
"""Since this release the estimate of the graph pool is taken out of the share (v1/worker/gpu_worker.py)."""


def budget_bytes(
    serving: Serving, settings: Settings, memory_bytes: int, lines: tuple[Line, ...], rank: RankView | None = None
) -> int:
    """The share of the card's total; or all lines with the pool that `--kv-cache-memory-bytes` or
    `--num-gpu-blocks-override` states. That is never more than the card has: a pool beyond it counts whole in
    `managed_cache_bytes`, so that more is needed than there is.

    Until 0.21 graphs came on top of the share, as far as the card has room: they are a line here, so the budget grows by
    them. Sources: vLLM 0.33.0 v1/worker/gpu_worker.py:determine_available_memory, v1/worker/utils.py:request_memory,
    v1/core/kv_cache_planning.py:may_override_num_blocks.
    """
    pool = _pool_bytes(serving, settings, rank)
    if pool:
        return min(memory_bytes, total_bytes(lines) + pool)
    requested = -int(-memory_bytes * settings.share("--gpu-memory-utilization") // 1)
    if graphs_in_budget(serving, settings):
        return requested
    graphs = sum(entry.bytes for entry in lines if entry.code == "cuda_graphs")
    return min(memory_bytes, requested + graphs)


def graphs_in_budget(serving: Serving, settings: Settings) -> bool:
    """Whether the engine takes its graph pool out of the share."""
    stated = settings.text("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS")
    if stated is not None:
        return stated.lower() in ("1", "true")
    return serving.constants.at_least(GRAPHS_IN_BUDGET)


def _pool_bytes(serving: Serving, settings: Settings, rank: RankView | None) -> int:
    """Bytes of the stated pool; 0 where none is."""
    if rank is None or not settings.count("--num-gpu-blocks-override"):
        return settings.count("--kv-cache-memory-bytes")
    rules = cache_rules(
        serving.spec,
        asked=serving.deployment.kv_dtype,
        scheme=serving.quantisation.kv_cache_dtype,
        weight_dtype=serving.spec.dtype,
        capability=serving.hardware.compute_capability if serving.hardware else None,
    )
    return stated_pool_bytes(settings, block_plan(serving, settings, rank, rules))
