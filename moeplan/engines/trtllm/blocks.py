"""TensorRT-LLM's cache manager: what it holds for sequences, and what the engine prints of a pool.

Sources: TensorRT-LLM _torch/pyexecutor/resource_manager.py, _torch/pyexecutor/kv_cache/kv_cache_manager_v2.py,
_torch/pyexecutor/kv_cache/mamba_cache_manager/common.py:_estimate_mamba_hybrid_cache_cost.
"""

from __future__ import annotations

from moeplan.core.capacity import EnginePrints
from moeplan.core.deployment import Serving, Settings
from moeplan.core.kv_cache import CacheRow, CacheRules, entry_bytes, state_bytes
from moeplan.core.placement import RankView
from moeplan.engines.trtllm.settings import BATCH, BLOCK, TOKENS

WINDOWS = "kv_cache_config.max_attention_window"
SECOND = "kv_cache_config.use_kv_cache_manager_v2"


def managed_cache_bytes(
    serving: Serving,
    settings: Settings,
    rank: RankView,
    rules: CacheRules,
    context_tokens: int,
    sequences: int,
) -> int:
    """Whole blocks of all layers for every sequence, and the recurrent states of a full batch.

    States are allocated for `--max_batch_size` sequences of every stage in flight whether they come or not, with one
    slot more for graphs and one for idle ranks of attention data parallelism. Where windows are honoured, a sequence
    keeps whole blocks of its window and one that straddles, and the tokens of the batch that is being read.
    """
    ranks, token_ranks = rank.division.attention, rank.division.cache_tokens
    size = settings.count(BLOCK) or rules.block_tokens
    windowed = _windowed(settings, rules)
    total = 0
    for row in rank.rows:
        entry = entry_bytes(row, rules, ranks)
        if row.kind == "recurrent":
            slots = max(sequences, settings.count(BATCH) * serving.layout.pp) + 1 + serving.layout.dp_attention
            total += row.count * slots * state_bytes(row, rules, ranks)
        elif row.kind == "cross":
            total += row.count * sequences * entry * serving.deployment.encoder_tokens
        elif row.window_tokens is not None and windowed:
            kept = _window_tokens(row, context_tokens, sequences, size, settings.count(TOKENS))
            total += row.count * entry * kept
        elif row.elements:
            held = -(-context_tokens // token_ranks) if row.split in ("tp", "dcp") else context_tokens
            blocks = -(-held // size)
            total += row.count * sequences * entry * (blocks * size // row.tokens_per_entry)
            total += row.count * sequences * state_bytes(row, rules, ranks)
    return total


def prints(
    serving: Serving, settings: Settings, rank: RankView, rules: CacheRules, pool_bytes: int
) -> EnginePrints | None:
    """Tokens of the line "Allocated ... for max tokens in paged KV cache (N)"; no concurrency is printed.

    The pool less recurrent states, by the bytes of one token, rounded up to whole blocks: a public log of 1.1.0rc3 has
    86,711 tokens become 86,720. None where windows are honoured: one number says little there, and the log has none.
    """
    if any(row.window_tokens is not None for row in rank.rows) and _windowed(settings, rules):
        return None
    fixed = managed_cache_bytes(serving, settings, rank, rules, 1, 0)  # no sequence: the states of a full batch
    size = settings.count(BLOCK) or rules.block_tokens
    per_block = managed_cache_bytes(serving, settings, rank, rules, size, 1) - fixed
    if per_block <= 0:
        return None
    tokens = max(0, pool_bytes - fixed) * size // per_block
    return EnginePrints(
        kv_tokens=-(-tokens // size) * size,
        concurrency=None,
        rule="pool / bytes of one token, rounded up to whole blocks",
    )


def _windowed(settings: Settings, rules: CacheRules) -> bool:
    """Windows are honoured by the second cache manager, or where `max_attention_window` says so."""
    if settings.value(WINDOWS) is not None:
        return True
    second = (settings.text(SECOND) or "auto").lower()
    return rules.accounting != "manager_off" if second == "auto" else second == "true"


def _window_tokens(row: CacheRow, context: int, sequences: int, size: int, batch: int) -> int:
    """Tokens that `sequences` keep of one window layer, those of one batch included."""
    straddling = int(row.kind != "chunked")
    most = -(-context // size)
    kept = min(-(-min(row.window_tokens or 0, context) // size) + straddling, most)
    in_flight = -(-min(batch, sequences * context) // size)
    return min(sequences * kept + in_flight, sequences * most) * size
