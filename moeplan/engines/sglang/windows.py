"""SGLang's second pool, for window layers: when there is one, and how many tokens requests hold in it.

Source: SGLang 0.5.23 srt/model_executor/pool_configurator.py:compute_swa_request_cap, HybridSWAPoolConfigurator,
SWARequestCapPoolConfigurator.
"""

from __future__ import annotations

from moeplan.core.deployment import Serving, Settings
from moeplan.core.kv_cache import CacheRules
from moeplan.engines.sglang.attention import page_tokens
from moeplan.engines.sglang.registry import SECOND_POOL_SINCE
from moeplan.engines.sglang.settings import CHUNK, REQUESTS, draft_tokens, requests_per_rank, step_tokens

EVICTION_TOKENS = 128
"""Tokens between two evictions of what fell out of the window (SGLANG_SWA_EVICTION_INTERVAL)."""
CAP_SINCE = "0.5.16"
RATIO_FLAG = "--swa-full-tokens-ratio"


def has_second_pool(serving: Serving, rules: CacheRules) -> bool:
    """Whether window layers have a pool of their own; else they hold every token."""
    since = SECOND_POOL_SINCE.get(serving.spec.model_type)
    if since is None or rules.accounting == "manager_off" or not serving.constants.at_least(since):
        return False
    return not serving.deployment.stated.get("--disable-hybrid-swa-memory")


def live_tokens(serving: Serving, settings: Settings, window_tokens: int, context_tokens: int, sequences: int) -> int:
    """Tokens of the window pool that `sequences` hold at once, prefill steps in flight included."""
    stated, page = serving.deployment.stated, page_tokens(serving)
    drafts = draft_tokens(stated)
    held = window_tokens + EVICTION_TOKENS * max(1, drafts) + page + max(page, 2 * drafts)
    each = min(held, -(-context_tokens // page) * page)
    in_turn = stated.get("--disable-overlap-schedule") or serving.layout.pp > 1  # stages turn overlap off
    in_flight = (1 if in_turn else 2) * step_tokens(serving, settings)
    most = sequences * (-(-context_tokens // page) * page)
    return min(sequences * each + in_flight + page, most)


def capped_tokens(serving: Serving, settings: Settings, window_tokens: int) -> int | None:
    """Tokens of the window pool where requests decide: `--max-running-requests` with the radix cache off; else None."""
    if not serving.constants.at_least(CAP_SINCE):
        return None
    if serving.deployment.stated.get(REQUESTS) is None or not settings.on("--disable-radix-cache"):
        return None
    return request_cap_tokens(serving, settings, window_tokens)


def request_cap_tokens(serving: Serving, settings: Settings, window_tokens: int) -> int | None:
    """Worst case of all requests that may run; None where prefill is not chunked."""
    chunk = settings.value(CHUNK)
    if not isinstance(chunk, int) or chunk <= 0:
        return None
    endless = 1 << 40
    page = page_tokens(serving)
    tokens = live_tokens(serving, settings, window_tokens, endless, requests_per_rank(serving, settings))
    return -(-tokens // page) * page
