"""vLLM's block manager: what it holds for sequences, and what the engine prints of a pool.

Layers of one sort (full, window, recurrent) share block tables in groups of equal size, padded to whole groups; all
groups draw blocks of one size from one pool.
Sources: vLLM 0.33.0 v1/core/kv_cache_planning.py, v1/core/kv_cache_utils.py, v1/kv_cache_interface.py, config/vllm.py,
platforms/interface.py:_align_hybrid_block_size.
"""

from typing import Literal, NamedTuple

from moeplan.core.capacity import EnginePrints
from moeplan.core.deployment import Constants, Serving, Settings
from moeplan.core.kv_cache import CacheRow, CacheRules, entry_bytes, state_bytes
from moeplan.core.placement import RankView
from moeplan.engines.vllm.settings import draft_tokens

LATENT_STEP_TOKENS = 128
"""Blocks of latent attention beside recurrent layers are whole multiples of this."""
PREFIX_STATES = 2
"""Recurrent states per sequence with prefix caching, on by default (`mamba_cache_mode` align); one without."""
BATCHES_IN_FLIGHT = 2
"""Asynchronous scheduling, on by default, prepares one batch while another runs (config/vllm.py max_in_flight_tokens)."""


class Group(NamedTuple):
    """`count` block tables that grow alike."""

    sort: Literal["full", "sliding", "chunked", "recurrent"]
    count: int  # type: ignore[assignment]  # hides tuple.count, which no record needs
    block_tokens: int
    window_tokens: int = 0
    states: int = 0
    """Blocks of one sequence, for recurrent layers."""


class Blocks(NamedTuple):
    """The pool's block, and the groups that draw from it."""

    block_bytes: int
    """Bytes of one block on this rank: a page of every layer of a group."""
    groups: tuple[Group, ...]
    fixed_bytes: int
    """Per sequence, outside the pool's growth: cross-attention over the encoder."""
    token_ranks: int
    in_flight_tokens: int

    def one_request(self, context_tokens: int) -> int:
        """Blocks that the engine counts for one request of that length."""
        return sum(group.count * self._of(group, context_tokens, 1) for group in self.groups)

    def held(self, context_tokens: int, sequences: int) -> int:
        """Blocks that `sequences` hold together; batches in flight are theirs together."""
        return sum(group.count * self._of(group, context_tokens, sequences) for group in self.groups)

    def _of(self, group: Group, context: int, sequences: int) -> int:
        size = group.block_tokens
        if group.sort == "recurrent":
            return sequences * group.states
        if group.sort == "full":
            mine = -(-context // self.token_ranks)
            return sequences * -(-mine // size)
        # A sliding window may straddle a block more; a chunk begins where a block begins.
        straddling = int(group.sort == "sliding")
        window = group.window_tokens - straddling
        most = sequences * (-(-context // size) + straddling)
        if sequences == 1:
            return min(-(-min(window + self.in_flight_tokens, context) // size) + straddling, most)
        kept = -(-min(group.window_tokens, context) // size) + straddling
        in_flight = -(-min(self.in_flight_tokens, sequences * context) // size)
        return min(sequences * kept + in_flight, most)


def block_plan(serving: Serving, settings: Settings, rank: RankView, rules: CacheRules) -> Blocks:
    """The groups of one rank's layers.

    Beside recurrent layers the block of full attention grows until its page holds a state, in steps of 16 tokens, or
    of 128 for latents. Rows of unequal width share pages of the widest: narrower rows take more tokens per block where
    that divides, else their page is padded.
    """
    tp = rank.division.attention
    base = settings.count("--block-size") or int(serving.constants.of("block_tokens").value)
    asynchronous = settings.value("--async-scheduling") is not False
    batches = BATCHES_IN_FLIGHT if asynchronous else 1
    windowed = rules.accounting != "manager_off" and not settings.on("--disable-hybrid-kv-cache-manager")
    full = [row for row in rank.rows if row.elements and row.kind != "cross" and not (row.window_tokens and windowed)]
    windows = [row for row in rank.rows if row.window_tokens and windowed]
    states = [row for row in rank.rows if row.kind == "recurrent"]
    fixed = sum(
        row.count * entry_bytes(row, rules, tp) * serving.deployment.encoder_tokens
        for row in rank.rows
        if row.kind == "cross"
    )
    common = {
        "fixed_bytes": fixed,
        "token_ranks": rank.division.cache_tokens,
        "in_flight_tokens": batches * settings.count("--max-num-batched-tokens"),
    }
    if not windows and not states:
        # One table for all layers, whatever the width of their pages.
        page = base * sum(row.count * entry_bytes(row, rules, tp) for row in full)
        return Blocks(page, (Group("full", 1, base),) if full else (), **common)
    widest = max((entry_bytes(row, rules, tp) for row in full), default=0)
    block = base
    if states and full:
        state = max(state_bytes(row, rules, tp) for row in states)
        step = max(base, LATENT_STEP_TOKENS) if any(row.kind == "latent" for row in full) else base
        block = -(-state // (widest * step)) * step
    pages = [widest * block, *(state_bytes(row, rules, tp) for row in states)]
    pages += [entry_bytes(row, rules, tp) * block for row in windows]
    page = max(pages)
    sorts = [sort for sort in (full, *_by_window(windows), states) if sort]
    size = _group_size([_layers(sort) for sort in sorts])
    groups = [_group(sort, size, page, block, rules, tp, settings) for sort in sorts]
    return Blocks(size * page, tuple(groups), **common)


def managed_cache_bytes(
    serving: Serving, settings: Settings, rank: RankView, rules: CacheRules, context_tokens: int, sequences: int
) -> int:
    """Bytes of all blocks that `sequences` of `context_tokens` hold on this rank."""
    if any(row.tokens_per_entry > 1 for row in rank.rows):
        return _compressed_bytes(serving.constants, settings, rank, rules, context_tokens, sequences)
    plan = block_plan(serving, settings, rank, rules)
    return plan.held(context_tokens, sequences) * plan.block_bytes + sequences * plan.fixed_bytes


def prints(
    serving: Serving, settings: Settings, rank: RankView, rules: CacheRules, pool_bytes: int
) -> EnginePrints | None:
    """`GPU KV cache size` and `Maximum concurrency` of a pool.

    Now tokens are concurrency x max_model_len; before, blocks over groups x the smallest block. Both agree where all
    layers are of one sort. Sources: vLLM 0.33.0 v1/core/kv_cache_utils.py:get_kv_cache_capacity; pull request 38364
    and issue 40691 for the older rule.
    """
    if any(row.tokens_per_entry > 1 for row in rank.rows):
        return None
    plan = block_plan(serving, settings, rank, rules)
    context = settings.count("--max-model-len")
    if not plan.block_bytes or not plan.groups or not context:
        return None
    num_blocks = settings.count("--num-gpu-blocks-override") or max(0, pool_bytes) // plan.block_bytes
    concurrency = num_blocks / plan.one_request(context)
    if serving.constants.of("tokens_by_concurrency").value:
        rule = "blocks / blocks of one request x its length"
        return EnginePrints(int(concurrency * context), round(concurrency, 2), rule)
    tables = sum(group.count for group in plan.groups)
    smallest = min(group.block_tokens for group in plan.groups)
    rule = "blocks // block tables x tokens of a block, before 0.20"
    return EnginePrints(num_blocks // tables * smallest * plan.token_ranks, round(concurrency, 2), rule)


def _by_window(rows: list[CacheRow]) -> list[list[CacheRow]]:
    """Window layers by kind and width: each has tables of its own."""
    found: dict[tuple[str, int | None], list[CacheRow]] = {}
    for row in rows:
        found.setdefault((row.kind, row.window_tokens), []).append(row)
    return list(found.values())


def _group(
    rows: list[CacheRow], size: int, page: int, block: int, rules: CacheRules, tp: int, settings: Settings
) -> Group:
    tables = -(-_layers(rows) // size)
    if rows[0].kind == "recurrent":
        cached = settings.value("--enable-prefix-caching") is not False
        return Group("recurrent", tables, block, states=(PREFIX_STATES if cached else 1) + draft_tokens(settings))
    mine = block * max(entry_bytes(row, rules, tp) for row in rows)
    tokens = block * (page // mine) if page % mine == 0 else block
    window = rows[0].window_tokens
    if window is None or (rules.accounting == "manager_off") or settings.on("--disable-hybrid-kv-cache-manager"):
        return Group("full", tables, tokens)
    return Group("chunked" if rows[0].kind == "chunked" else "sliding", tables, tokens, window)


def _group_size(counts: list[int]) -> int:
    """Layers per group: the rarest sort's count, or the commonest's where it is less than half as many again."""
    if len(counts) < 2:
        return max(counts, default=1)
    return max(counts) if max(counts) < 1.5 * min(counts) else min(counts)


def _layers(rows: list[CacheRow]) -> int:
    return sum(row.count for row in rows)


def _compressed_bytes(
    constants: Constants, settings: Settings, rank: RankView, rules: CacheRules, context: int, sequences: int
) -> int:
    """DeepSeek-V4: windows in blocks of 64, entries in blocks of 256 tokens, and the compressors' fp32 states, which are
    windows of 8 or 128 tokens of their own (models/deepseek_v4/compressor.py). That all groups take blocks as wide
    as the widest is not modelled."""
    tp, base = rank.division.attention, int(constants.of("block_tokens").value)
    in_flight = min(BATCHES_IN_FLIGHT * settings.count("--max-num-batched-tokens"), sequences * context)
    total = 0
    for row in rank.rows:
        entry = entry_bytes(row, rules, tp)
        if row.window_tokens:
            tokens = min(sequences * min(row.window_tokens, context) + in_flight, sequences * context)
            kept = -(-(tokens + sequences * 64) // 64) * 64
            total += row.count * entry * kept
            continue
        total += row.count * entry * sequences * (-(-context // 256) * 256 // row.tokens_per_entry)
        # Overlapping entries (4 tokens) look back over two windows, the others over one.
        window = 2 * row.tokens_per_entry if row.recurrent_elements else row.tokens_per_entry
        kept = min(sequences * min(window, context) + in_flight, sequences * context) + sequences * base
        total += row.count * 4 * row.pending_elements * kept
    return total
