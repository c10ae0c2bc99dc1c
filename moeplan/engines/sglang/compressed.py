"""SGLang's pools for DeepSeek-V4: windows, compressed entries of two widths, and the states of their compressors.

Source: SGLang 0.5.23 srt/model_executor/pool_configurator.py:DSV4PoolConfigurator,
srt/mem_cache/deepseek_v4_memory_pool.py.
"""

from typing import NamedTuple

from moeplan.core.deployment import Serving, Settings
from moeplan.core.kv_cache import CacheRow, cache_rows
from moeplan.core.placement import RankView, stage_spec
from moeplan.engines.sglang.attention import COMPRESSED_PAGE_TOKENS
from moeplan.engines.sglang.settings import requests_per_rank
from moeplan.engines.sglang.windows import RATIO_FLAG, live_tokens, request_cap_tokens

RECORD_BYTES, ALIGNED_BYTES = 584, 576
"""One record, and what a page of them is rounded up to."""
INDEX_BYTES = 132
STATE_ELEMENT_BYTES = 4
RINGS, DRAFT_RINGS = (8, 128), (16, 256)
"""States that are kept of compressors over 4 and over 128 tokens; with speculation."""
CAP_SINCE = "0.5.21"
"""Since then the requests that may run decide on the window pool, unless a ratio is stated."""
TAILS_PER_REQUEST = 4
"""Windows that the radix cache keeps beside, for each request that may run."""


class CompressedPools(NamedTuple):
    """Bytes on one rank."""

    token_bytes: float
    """Of one token of the whole context, without the window pool."""
    window_token_bytes: float
    window_tokens: int
    ratio: float
    """Slots of the window pool per token; 0 where requests decide."""
    cap_tokens: int
    fixed_bytes: int

    def slot_bytes(self) -> float:
        """Bytes that one more token costs in all pools."""
        return self.token_bytes + self.ratio * self.window_token_bytes


def compressed_pool(serving: Serving, settings: Settings, rank: RankView, context_tokens: int, sequences: int) -> int:
    """Bytes of the smallest pools in which `sequences` of `context_tokens` run at once."""
    found = _pools(serving, settings, rank)
    tokens = sequences * -(-context_tokens // COMPRESSED_PAGE_TOKENS) * COMPRESSED_PAGE_TOKENS
    if found.ratio:
        live = live_tokens(serving, settings, found.window_tokens, context_tokens, sequences)
        tokens = max(tokens, -int(-live / found.ratio // 1))
    return -int(-tokens * found.slot_bytes() // 1) + found.fixed_bytes


def compressed_tokens(serving: Serving, settings: Settings, rank: RankView, pool_bytes: int) -> int | None:
    """`max_total_num_tokens` of a pool; None on a stage without a layer that caches."""
    found = _pools(serving, settings, rank)
    if not found.slot_bytes():
        return None
    tokens = max(0, int((pool_bytes - found.fixed_bytes) // found.slot_bytes()))
    most = settings.count("--max-total-tokens")
    tokens = min(tokens, most) if most else tokens
    return tokens // COMPRESSED_PAGE_TOKENS * COMPRESSED_PAGE_TOKENS


def _pools(serving: Serving, settings: Settings, rank: RankView) -> CompressedPools:
    # The draft layer is counted as one more of the average layer.
    rows = cache_rows(stage_spec(serving.spec, rank.place.stage))
    windows = [row for row in rows if row.window_tokens]
    layers = sum(row.count for row in windows)
    drafting = bool(serving.deployment.stated.get("--speculative-algorithm"))
    growth = (layers + 1) / layers if drafting and layers else 1.0
    small_ring, large_ring = DRAFT_RINGS if drafting else RINGS
    token_bytes, window_bytes, fixed = 0.0, _page_bytes(COMPRESSED_PAGE_TOKENS) / COMPRESSED_PAGE_TOKENS * layers, 0
    for row in rows:
        if row.window_tokens:
            continue
        each = row.tokens_per_entry
        if row.kind == "compressed_indexer_keys":
            token_bytes += row.count * INDEX_BYTES / each
        else:
            entries = COMPRESSED_PAGE_TOKENS // each
            token_bytes += row.count * _page_bytes(entries) / entries / each
        state = STATE_ELEMENT_BYTES * row.pending_elements
        if _overlaps(row):
            window_bytes += row.count * state * small_ring / COMPRESSED_PAGE_TOKENS
        else:
            # One running state per request, whatever its length.
            slots = (requests_per_rank(serving, settings) + 1) * large_ring
            fixed += row.count * state * -(-(slots + large_ring + 1) // 128) * 128
    window = max((row.window_tokens or 0 for row in windows), default=0)
    ratio, cap = _window_share(serving, settings, window)
    return CompressedPools(
        token_bytes=token_bytes * growth,
        window_token_bytes=window_bytes * growth,
        window_tokens=window,
        ratio=ratio,
        cap_tokens=cap,
        fixed_bytes=fixed + -int(-cap * window_bytes * growth // 1),
    )


def _window_share(serving: Serving, settings: Settings, window: int) -> tuple[float, int]:
    """Ratio and 0; or 0 and the slots of all requests that may run."""
    stated = serving.deployment.stated
    ratio = stated.get(RATIO_FLAG)
    if isinstance(ratio, int | float):
        return float(ratio), 0
    cap = request_cap_tokens(serving, settings, window) if serving.constants.at_least(CAP_SINCE) else None
    if cap is None:
        return serving.constants.of("compressed_window_pool_ratio").value, 0
    tails = stated.get("--swa-prefix-tails")
    if not isinstance(tails, int):
        without = settings.on("--disable-radix-cache")
        tails = 0 if without else TAILS_PER_REQUEST * requests_per_rank(serving, settings)
    return 0.0, cap + tails * (window + COMPRESSED_PAGE_TOKENS)


def _page_bytes(records: int) -> int:
    return -(-records * RECORD_BYTES // ALIGNED_BYTES) * ALIGNED_BYTES


def _overlaps(row: CacheRow) -> bool:
    """Entries of 4 tokens look back over the entry before; those of 128 do not."""
    return bool(row.recurrent_elements)
