"""SGLang's pools: what it holds for sequences, and what the engine prints of a pool.

Slots of tokens for layers that remember all of them, a second pool of a fixed share of these for window layers, and a
third one of whole states for recurrent layers. All slots are allocated at start; requests take pages of them.
Sources: SGLang 0.5.23 srt/model_executor/pool_configurator.py, srt/mem_cache/memory_pool.py;
srt/model_executor/model_runner_kv_cache_mixin.py of 0.5.10 to 0.5.15.
"""

from typing import NamedTuple

from moeplan.core.capacity import EnginePrints
from moeplan.core.deployment import Serving, Settings
from moeplan.core.kv_cache import CacheRules, entry_bytes
from moeplan.core.placement import RankView
from moeplan.engines.sglang.attention import page_tokens
from moeplan.engines.sglang.compressed import compressed_pool, compressed_tokens
from moeplan.engines.sglang.registry import is_compressed
from moeplan.engines.sglang.states import StatePool, state_pool
from moeplan.engines.sglang.windows import RATIO_FLAG, capped_tokens, has_second_pool, live_tokens


class Pools(NamedTuple):
    """Bytes of a slot on one rank, by pool."""

    token_bytes: int
    """Of all layers without a window, or of all layers where there is no second pool."""
    window_token_bytes: int
    """Of window layers with a pool of their own."""
    window_tokens: int
    ratio: float
    """Slots of the window pool per slot of the first; 0 without such a pool."""
    cap_tokens: int | None
    """Slots of the window pool where they do not follow the ratio."""
    page_tokens: int
    token_ranks: int
    most_tokens: int
    """`--max-total-tokens`; 0 where nobody states it."""
    states: StatePool

    def slot_bytes(self) -> float:
        """Bytes that one more slot of the first pool costs."""
        return self.token_bytes + (0 if self.cap_tokens is not None else self.ratio * self.window_token_bytes)

    def fixed_bytes(self) -> int:
        """Bytes of the window pool that do not follow the first."""
        return (self.cap_tokens or 0) * self.window_token_bytes

    def slots(self, pool_bytes: int) -> int:
        """Tokens of the pool that gets `pool_bytes`, states already taken off; whole pages."""
        if not self.slot_bytes():
            return 0
        tokens = max(0, int((pool_bytes - self.fixed_bytes()) // self.slot_bytes()))
        # Ranks that share tokens (decode context parallelism) hold a page of each.
        tokens = tokens // self.page_tokens * self.page_tokens * self.token_ranks
        return min(tokens, self.most_tokens // self.page_tokens * self.page_tokens) if self.most_tokens else tokens

    def bytes_of(self, tokens: int) -> int:
        """Bytes of a pool of `tokens`, states left out."""
        mine = -(-tokens // self.token_ranks)
        return -int(-(mine * self.slot_bytes()) // 1) + self.fixed_bytes()


def pools(serving: Serving, settings: Settings, rank: RankView, rules: CacheRules) -> Pools:
    """What a slot of each pool costs on one rank."""
    division = rank.division
    # Groups that share tokens share no heads (mem_cache/memory_pool.py: head number of attention ranks / dcp).
    heads_over = max(1, division.attention // division.cache_tokens)
    second = has_second_pool(serving, rules)
    windows = [row for row in rank.rows if second and row.window_tokens]
    window = max((row.window_tokens or 0 for row in windows), default=0)
    token_bytes = 0
    for row in rank.rows:
        if row.elements and row.kind != "cross" and row not in windows:
            copies = division.cache_tokens if row.kind == "indexer_keys" else 1
            token_bytes += copies * row.count * entry_bytes(row, rules, heads_over)
    ratio = serving.deployment.stated.get(RATIO_FLAG)
    default_ratio = serving.constants.of("window_pool_ratio").value
    return Pools(
        token_bytes=token_bytes,
        window_token_bytes=sum(row.count * entry_bytes(row, rules, heads_over) for row in windows),
        window_tokens=window,
        ratio=(float(ratio) if isinstance(ratio, int | float) else default_ratio) if windows else 0.0,
        cap_tokens=capped_tokens(serving, settings, window) if windows else None,
        page_tokens=page_tokens(serving),
        token_ranks=division.cache_tokens,
        most_tokens=settings.count("--max-total-tokens"),
        states=state_pool(serving, settings, rank, rules),
    )


def managed_cache_bytes(
    serving: Serving, settings: Settings, rank: RankView, rules: CacheRules, context_tokens: int, sequences: int
) -> int:
    """Bytes of the smallest pools in which `sequences` of `context_tokens` run at once on this rank."""
    if is_compressed(serving.spec):
        return compressed_pool(serving, settings, rank, context_tokens, sequences)
    found = pools(serving, settings, rank, rules)
    page = found.page_tokens * found.token_ranks
    tokens = sequences * -(-context_tokens // page) * page
    if found.ratio and found.cap_tokens is None:
        live = live_tokens(serving, settings, found.window_tokens, context_tokens, sequences)
        tokens = max(tokens, -int(-live / found.ratio // 1))
    return found.states.total_bytes(found.bytes_of(tokens), sequences)


def pool_bytes_of(serving: Serving, settings: Settings, rank: RankView, rules: CacheRules, tokens: int) -> int:
    """Bytes of the pools that `--max-total-tokens` makes; states are held for as many requests as may run."""
    if is_compressed(serving.spec):
        return compressed_pool(serving, settings, rank, tokens, 1)
    found = pools(serving, settings, rank, rules)
    return found.states.total_bytes(found.bytes_of(tokens), 1)


def prints(
    serving: Serving, settings: Settings, rank: RankView, rules: CacheRules, pool_bytes: int
) -> EnginePrints | None:
    """`max_total_num_tokens` of a pool; the engine prints no concurrency."""
    if is_compressed(serving.spec):
        tokens = compressed_tokens(serving, settings, rank, pool_bytes)
        if tokens is None:
            return None
        return EnginePrints(tokens, None, "pool less states // bytes of a token in all its pools, whole pages")
    found = pools(serving, settings, rank, rules)
    if not found.slot_bytes():
        return None
    rule = "pool // bytes of a token over all layers, whole pages"
    if found.states.state_bytes:
        rule = "pool less recurrent states // bytes of a token over all other layers, whole pages"
    elif found.ratio:
        rule = "pool // (full layers' token + ratio x window layers' token), whole pages"
    return EnginePrints(found.slots(found.states.left_bytes(pool_bytes)), None, rule)
