"""What weights, runtime and cache may take together under SGLang's rule.

`--mem-fraction-static` is of the memory that is free before weights are loaded, context and communicators already out;
weights and cache come out of it, everything else out of the rest.
Sources: SGLang 0.5.23 srt/model_executor/pool_configurator.py, srt/mem_cache/kv_cache_configurator.py.
"""

from __future__ import annotations

from moeplan.core.deployment import Serving, Settings
from moeplan.core.kv_cache import cache_rows
from moeplan.core.layout import Place
from moeplan.core.ledger import Line, total_bytes
from moeplan.core.placement import RankView, stage_spec, stages
from moeplan.engines.sglang.cache import cache_rules
from moeplan.engines.sglang.copies import CODES
from moeplan.engines.sglang.fraction import taken_off
from moeplan.engines.sglang.layout import division
from moeplan.engines.sglang.pools import pool_bytes_of
from moeplan.engines.sglang.registry import is_recurrent
from moeplan.engines.sglang.settings import FRACTION, loads_drafts

BEFORE_WEIGHTS = ("device_context", "collectives", "symmetric_memory")
"""Lines of what is allocated before the free memory is measured."""
WITHIN_SHARE = ("multimodal_cache", "measured_residual", *CODES)
"""Lines of what comes out of the share itself, beside the checkpoint's weights and the cache."""
MOST_TOKENS = "--max-total-tokens"


def budget_bytes(
    serving: Serving, settings: Settings, memory_bytes: int, lines: tuple[Line, ...], rank: RankView | None = None
) -> int:
    """The share of what is free at first, and all that lies outside of it; never more than the card has.

    `--max-total-tokens` makes the pool smaller. (Recurrent states are sized before it is heeded, so with these it is not.)
    """
    before = sum(entry.bytes for entry in lines if entry.code in BEFORE_WEIGHTS)
    outside = sum(entry.bytes for entry in lines if not _within_share(entry.code))
    share = settings.share(FRACTION) * taken_off(serving)
    budget = min(memory_bytes, int(share * (memory_bytes - before)) + outside)
    most = settings.count(MOST_TOKENS)
    if most and not is_recurrent(serving.spec):
        budget = min(budget, total_bytes(lines) + _pool_of_tokens(serving, settings, most))
    return budget


def _within_share(code: str) -> bool:
    return code.startswith("weights.") or code in WITHIN_SHARE


def _pool_of_tokens(serving: Serving, settings: Settings, tokens: int) -> int:
    """Bytes of a pool of so many tokens, on the stage whose layers cache most."""
    spec, hardware, split = serving.spec, serving.hardware, division(serving, settings)
    rules = cache_rules(
        spec,
        asked=serving.deployment.kv_dtype,
        scheme=serving.quantisation.kv_cache_dtype,
        weight_dtype=spec.dtype,
        capability=hardware.compute_capability if hardware else None,
    )
    drafts = loads_drafts(serving.deployment.stated)
    sizes = []
    for stage in stages(serving.layout, len(spec.layers)):
        mine = stage_spec(spec, stage, drafts=drafts)
        rank = RankView(Place((0,), stage), split, mine, cache_rows(mine))
        sizes.append(pool_bytes_of(serving, settings, rank, rules, tokens))
    return max(sizes)
