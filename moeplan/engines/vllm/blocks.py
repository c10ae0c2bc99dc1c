"""vLLM's block manager: what it holds for sequences, and what the engine prints of a pool.

Layers of one sort (full, window, recurrent) share block tables in groups of equal size, padded to whole groups; all
groups draw blocks of one size from one pool. Groups are those of the whole model; a pipeline stage holds its part of each.
Sources: vLLM 0.33.0 v1/core/kv_cache_planning.py, v1/core/kv_cache_utils.py, v1/kv_cache_interface.py, config/vllm.py,
platforms/interface.py:_align_hybrid_block_size.
"""

from math import lcm
from typing import Literal, NamedTuple

from moeplan.core.capacity import EnginePrints
from moeplan.core.deployment import Serving, Settings
from moeplan.core.kv_cache import CacheRow, CacheRules, entry_bytes, mixer_cache, state_bytes
from moeplan.core.ledger import total_bytes
from moeplan.core.model import Mixer
from moeplan.core.placement import RankView
from moeplan.engines.vllm.cache import checkpoint_step_tokens, draft_columns, keeps_windows, states_per_sequence
from moeplan.engines.vllm.copies import weight_lines
from moeplan.engines.vllm.runtime import runtime_lines
from moeplan.engines.vllm.settings import loads_drafts

LATENT_STEP_TOKENS = 128
"""Blocks of latent attention beside recurrent layers are whole multiples of this."""


class LayerRow(NamedTuple):
    """What one layer keeps, and whether the rank's stage has that layer."""

    row: CacheRow
    here: bool


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
    """Bytes of one block on this rank: a page of every layer of its widest group."""
    groups: tuple[Group, ...]
    fixed_bytes: int
    """Per sequence, outside the pool's growth: cross-attention over the encoder."""
    token_ranks: int
    in_flight_tokens: int
    reserved_blocks: int
    """Blocks that the admission check holds back: the null block."""

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
    """The groups of the whole model's layers, and what a block of them takes on this rank.

    A block holds a page of every layer that the rank's stage has of a group; the widest group says how much that is
    (_project_kv_cache_groups_to_worker, _get_kv_cache_bytes_per_block in v1/core/kv_cache_planning.py). All groups
    draw on every stage, even where it has none of their layers. Beside recurrent layers the block of full attention grows
    until its page holds a state, in steps of 16 tokens, of 128 for latents, or of what checkpoints ask for. Rows of
    unequal width share pages of the widest: narrower rows take more tokens per block where that divides, else their page
    is padded.
    """
    tp = rank.division.attention
    base = settings.count("--block-size") or int(serving.constants.of("block_tokens").value)
    rules = rules._replace(conv_columns_delta=rules.conv_columns_delta + draft_columns(serving, settings))
    layers = _layer_rows(serving, rank)
    cached = [each for each in layers if each.row.elements and each.row.kind != "cross"]
    # Windows that stand beside no full layers are kept even without the hybrid manager (_promote_local_kv_cache_specs).
    windowed = keeps_windows(settings, rules) or all(each.row.window_tokens for each in cached)
    full = [each for each in cached if not (each.row.window_tokens and windowed)]
    windows = [each for each in cached if each.row.window_tokens and windowed]
    states = [each for each in layers if each.row.kind == "recurrent"]
    fixed = sum(entry_bytes(each.row, rules, tp) for each in layers if each.row.kind == "cross" and each.here)
    common = {
        "fixed_bytes": fixed * serving.deployment.encoder_tokens,
        "token_ranks": rank.division.cache_tokens,
        "in_flight_tokens": _in_flight_tokens(serving, settings),
        "reserved_blocks": int(serving.constants.of("null_blocks_held_back").value),
    }
    if not windows and not states:
        # One table for all layers, whatever the width of their pages.
        page = base * sum(entry_bytes(each.row, rules, tp) for each in full if each.here)
        return Blocks(page, (Group("full", 1, base),) if full else (), **common)
    widest = max((entry_bytes(each.row, rules, tp) for each in full), default=0)
    block = base
    if states and full:
        state = max(state_bytes(each.row, rules, tp) for each in states)
        step = max(base, LATENT_STEP_TOKENS) if any(each.row.kind == "latent" for each in full) else base
        step = lcm(step, checkpoint_step_tokens(serving, settings))
        block = -(-state // (widest * step)) * step
    pages = [widest * block, *(state_bytes(each.row, rules, tp) for each in states)]
    pages += [entry_bytes(each.row, rules, tp) * block for each in windows]
    page = max(pages)
    sorts = [sort for sort in (full, *_by_window(windows), states) if sort]
    size = _group_size([len(sort) for sort in sorts])
    groups, layers_here = [], 0
    for sort in sorts:
        tables = -(-len(sort) // size)
        # Layer i of a sort is in its group i modulo the number of groups.
        layers_here = max(layers_here, *(sum(each.here for each in sort[table::tables]) for table in range(tables)))
        if sort is states:
            kept = states_per_sequence(serving, settings)
            groups.append(Group("recurrent", tables, block, states=kept))
        else:
            groups.append(_group([each.row for each in sort], tables, page, block, rules, tp, windowed=windowed))
    return Blocks(layers_here * page, tuple(groups), **common)


def managed_cache_bytes(
    serving: Serving, settings: Settings, rank: RankView, rules: CacheRules, context_tokens: int, sequences: int
) -> int:
    """Bytes of all blocks that `sequences` of `context_tokens` hold on this rank, with the block that is held back.

    A stated pool that the card has no room for counts as a whole: the engine asks for it, and dies.
    """
    if any(row.tokens_per_entry > 1 for row in rank.rows):
        return _compressed_bytes(serving, settings, rank, rules, context_tokens, sequences)
    plan = block_plan(serving, settings, rank, rules)
    blocks = plan.held(context_tokens, sequences) + plan.reserved_blocks
    held = blocks * plan.block_bytes + sequences * plan.fixed_bytes
    pool = stated_pool_bytes(settings, plan)
    if not pool or serving.memory is None:
        return held
    lines = rank.weights + weight_lines(serving, settings, rank) + runtime_lines(serving, settings, rank)
    return held if total_bytes(lines) + pool <= serving.memory.bytes else max(held, pool)


def stated_pool_bytes(settings: Settings, plan: Blocks) -> int:
    """Bytes of the pool that settings state, in blocks or else in bytes; 0 where none does.

    Source: vLLM 0.33.0 v1/core/kv_cache_planning.py:get_kv_cache_configs, where the number of blocks overrules.
    """
    return settings.count("--num-gpu-blocks-override") * plan.block_bytes or settings.count("--kv-cache-memory-bytes")


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


def _layer_rows(serving: Serving, rank: RankView) -> tuple[LayerRow, ...]:
    """What every layer of the whole model keeps, in order; draft layers that are loaded stand last, on the last stage."""
    spec, stage = serving.spec, rank.place.stage
    drafts = spec.mtp.layers if spec.mtp is not None and loads_drafts(serving.deployment.stated) else ()
    known: dict[Mixer, tuple[CacheRow, ...]] = {}
    found = []
    for number, layer in enumerate(spec.layers + drafts):
        here = stage.is_last if number >= len(spec.layers) else stage.first_layer <= number < stage.end_layer
        for mixer in layer.mixers:
            if mixer not in known:
                known[mixer] = mixer_cache(mixer, spec.hidden_size)
            found += [LayerRow(row, here) for row in known[mixer]]
    return tuple(found)


def _in_flight_tokens(serving: Serving, settings: Settings) -> int:
    """Tokens that are scheduled and not settled: a batch for every stage, and one that asynchronous scheduling (on by
    default) prepares meanwhile; in older versions windows make room for one batch alone.

    Source: vLLM 0.33.0 config/vllm.py:max_concurrent_batches under the second model runner, the default.
    """
    batches = 1
    if serving.constants.of("windows_hold_all_batches").value:
        batches = serving.layout.pp + (settings.value("--async-scheduling") is not False)
    return batches * settings.count("--max-num-batched-tokens")


def _by_window(layers: list[LayerRow]) -> list[list[LayerRow]]:
    """Window layers by kind and width: each has tables of its own."""
    found: dict[tuple[str, int | None], list[LayerRow]] = {}
    for each in layers:
        found.setdefault((each.row.kind, each.row.window_tokens), []).append(each)
    return list(found.values())


def _group(
    rows: list[CacheRow], tables: int, page: int, block: int, rules: CacheRules, tp: int, *, windowed: bool
) -> Group:
    mine = block * max(entry_bytes(row, rules, tp) for row in rows)
    tokens = block * (page // mine) if page % mine == 0 else block
    window = rows[0].window_tokens
    if window is None or not windowed:
        return Group("full", tables, tokens)
    return Group("chunked" if rows[0].kind == "chunked" else "sliding", tables, tokens, window)


def _group_size(counts: list[int]) -> int:
    """Layers per group: the rarest sort's count, or the commonest's where it is less than half as many again."""
    if len(counts) < 2:
        return max(counts, default=1)
    return max(counts) if max(counts) < 1.5 * min(counts) else min(counts)


def _compressed_bytes(
    serving: Serving, settings: Settings, rank: RankView, rules: CacheRules, context: int, sequences: int
) -> int:
    """DeepSeek-V4: windows in blocks of 64, entries in blocks of 256 tokens, and the compressors' fp32 states, which are
    windows of 8 or 128 tokens of their own (models/deepseek_v4/compressor.py). That all groups take blocks as wide
    as the widest is not modelled."""
    tp, base = rank.division.attention, int(serving.constants.of("block_tokens").value)
    in_flight = min(_in_flight_tokens(serving, settings), sequences * context)
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
