"""SGLang's settings that steer memory, with their defaults by card and release.

Sources: SGLang 0.5.23 srt/arg_groups/memory_hook.py, srt/model_executor/pool_configurator.py,
srt/mem_cache/kv_cache_configurator.py; srt/server_args.py of 0.4.6 to 0.5.19.
"""

from __future__ import annotations

from collections.abc import Mapping

from moeplan.core.deployment import Option, Origin, Serving, Settings, Value
from moeplan.engines.sglang.attention import attention_backend, page_tokens
from moeplan.engines.sglang.fraction import BY_CARD, BY_RESERVE, card_mib, default_fraction
from moeplan.engines.sglang.layout import attention_dp
from moeplan.engines.sglang.registry import is_compressed

FRACTION = "--mem-fraction-static"
CHUNK = "--chunked-prefill-size"
GRAPH_BATCH = "--cuda-graph-max-bs-decode"
OLD_GRAPH_BATCH = "--cuda-graph-max-bs"
"""Its name until 0.5.14, and an alias in some releases since."""
GRAPH_BATCHES = "--cuda-graph-bs-decode"
REQUESTS = "--max-running-requests"
RENAMED = "0.5.15"
MOST_PREFILL_TOKENS = 16384
MOST_REQUESTS, COMPRESSED_REQUESTS, DRAFTING_REQUESTS = 4096, 256, 48
"""Requests that run at once where nobody says: at most, of DeepSeek-V4, and with speculation."""
LARGER_SMALL_CARDS, GRAPHS_CAPPED_SINCE = "0.5.20", "0.5.23"
DRAFT_MODEL = "--speculative-draft-model-path"
OWN_DRAFTS = ("NEXTN", "EAGLE", "EAGLE3", "FROZEN_KV_MTP")


def settle(serving: Serving) -> Settings:
    """The settings; the share of the card follows from the others.

    More sequences than run by default are taken as asked for with `--max-running-requests`: else they would wait.
    """
    deployment, stated = serving.deployment, serving.deployment.stated
    chunk, batch = _card_defaults(serving)
    if isinstance(stated.get(CHUNK), int):
        chunk = int(stated[CHUNK] or 0)
    found = _largest(stated.get(GRAPH_BATCHES)) or stated.get(GRAPH_BATCH) or stated.get(OLD_GRAPH_BATCH)
    graph_batch = found if isinstance(found, int) else _capped(serving, batch)
    fraction = deployment.utilization_fraction
    working = prefill_tokens(stated, chunk)
    if stated.get("--disaggregation-mode") == "decode":
        running = stated.get(REQUESTS)
        working = (running if isinstance(running, int) else graph_batch) * (draft_tokens(stated) or 1)
    requests, origin = _requests(serving)
    renamed = serving.constants.at_least(RENAMED)
    options = [
        Option(
            FRACTION,
            default_fraction(serving, working, graph_batch) if fraction is None else fraction,
            "default" if fraction is None else "stated",
        ),
        Option("--context-length", deployment.context_tokens, "inferred"),
        Option(CHUNK, chunk, "default" if stated.get(CHUNK) is None else "stated"),
        Option(
            GRAPH_BATCH if renamed else OLD_GRAPH_BATCH,
            graph_batch,
            "stated" if isinstance(found, int) else "default",
        ),
        Option(REQUESTS, requests, origin),
        _settled("--page-size", page_tokens(serving), stated),
        Option("--tp-size", serving.layout.tp, "inferred"),
    ]
    backend = attention_backend(serving)
    if backend is not None and "--attention-backend" not in stated:
        options.append(Option("--attention-backend", backend, "inferred"))
    named = {option.flag for option in options} | {GRAPH_BATCH, OLD_GRAPH_BATCH}
    options += [Option(flag, value, "stated") for flag, value in stated.items() if flag not in named]
    return Settings(tuple(options))


def graph_batch_of(settings: Settings) -> int:
    """The largest batch that decode graphs are captured for."""
    return settings.count(GRAPH_BATCH) or settings.count(OLD_GRAPH_BATCH)


def prefill_tokens(stated: Mapping[str, Value], chunk_tokens: int) -> int:
    """Tokens of one prefill step: the chunk, or `--max-prefill-tokens` where chunking is off (-1)."""
    if chunk_tokens > 0:
        return chunk_tokens
    most = stated.get("--max-prefill-tokens")
    return most if isinstance(most, int) else MOST_PREFILL_TOKENS


def step_tokens(serving: Serving, settings: Settings) -> int:
    """Tokens of one prefill step of one data-parallel group: they share the chunk (arg_groups/parallel_hook.py)."""
    value = settings.value(CHUNK)
    chunk = prefill_tokens(serving.deployment.stated, value if isinstance(value, int) else -1)
    return max(1, chunk // attention_dp(serving.layout))


def requests_per_rank(serving: Serving, settings: Settings) -> int:
    """Requests that one rank may run at once: data-parallel groups share a limit, each has what there is without one."""
    limit = settings.count(REQUESTS)
    limited = limit != MOST_REQUESTS or serving.deployment.stated.get(REQUESTS) is not None
    return max(1, limit // attention_dp(serving.layout)) if limited else limit


def draft_tokens(stated: Mapping[str, Value]) -> int:
    """Tokens that a step drafts; 0 without speculation. Steps and their default: arg_groups/speculative_hook.py."""
    if not stated.get("--speculative-algorithm"):
        return 0
    for flag, more in (("--speculative-num-draft-tokens", 0), ("--speculative-num-steps", 1)):
        value = stated.get(flag)
        if isinstance(value, int) and value:
            return value + more
    return 4


def loads_drafts(stated: Mapping[str, Value]) -> bool:
    """True for speculation without a draft model of its own: it runs the checkpoint's draft layers."""
    algorithm = str(stated.get("--speculative-algorithm") or "").upper()
    return algorithm in OWN_DRAFTS and not stated.get(DRAFT_MODEL)


def loaded_dtype(dtype: str, capability: str | None) -> str:
    """float32 is loaded as float16; below compute capability 8.0 bfloat16 becomes float16.

    Source: SGLang 0.5.23 srt/configs/model_config.py:_get_and_verify_dtype, srt/model_executor/model_runner.py. (Gemma in
    float32 becomes bfloat16.)
    """
    loaded = "float16" if dtype == "float32" else dtype
    old = capability is not None and int(capability.split(".")[0]) < 8
    return "float16" if old and loaded == "bfloat16" else loaded


def _requests(serving: Serving) -> tuple[int, Origin]:
    deployment, stated = serving.deployment, serving.deployment.stated.get(REQUESTS)
    if isinstance(stated, int):
        return stated, "stated"
    most = MOST_REQUESTS
    if is_compressed(serving.spec):
        most = COMPRESSED_REQUESTS
    elif deployment.stated.get("--speculative-algorithm"):
        most = DRAFTING_REQUESTS
    wanted = deployment.sequences_per_rank * attention_dp(serving.layout)
    return (wanted, "inferred") if wanted > most else (most, "default")


def _capped(serving: Serving, batch: int) -> int:
    """The default batch of graphs is never beyond the requests that somebody stated."""
    requests = serving.deployment.stated.get(REQUESTS)
    capped = isinstance(requests, int) and requests < batch and serving.constants.at_least(GRAPHS_CAPPED_SINCE)
    return int(requests or batch) if capped else batch


def _card_defaults(serving: Serving) -> tuple[int, int]:
    """Tokens of a chunk of prefill, and sequences of the largest decode graph."""
    size, many, constants = card_mib(serving), serving.layout.tp >= 4, serving.constants
    if not constants.at_least(BY_RESERVE):
        return _older_defaults(serving, size, many)
    if size is None:
        return 4096, 160
    newest = constants.at_least(LARGER_SMALL_CARDS)
    if size < 20 * 1024:
        return 2048, 8
    if size < 35 * 1024:
        few = 48 if newest else 24 if constants.at_least("0.5.5") else 16
        return (4096 if newest else 2048), (160 if newest else 80) if many else few
    if size < 60 * 1024:
        return 4096, 160 if many else 32
    if size < 160 * 1024:
        return 8192, 512 if many else 256
    return 16384, 512


def _older_defaults(serving: Serving, size_mib: int | None, many: bool) -> tuple[int, int]:
    """Until 0.5.2 (srt/server_args.py and srt/model_executor/cuda_graph_runner.py)."""
    by_card, size = serving.constants.at_least(BY_CARD), size_mib or 0
    if 0 < size < (35 * 1024 if by_card else 25_000):
        return 2048, 80 if many else 8
    batch = 160
    if size > (90 if by_card else 96) * 1024:
        batch = 512 if size > (160 if by_card else 180) * 1000 else 256
    if by_card:
        large = size >= 160 * 1024
    else:
        large = size > 180_000 and serving.constants.at_least("0.4.7")
    return 16384 if large else 8192, batch


def _largest(sizes: Value) -> int | None:
    """The largest of sizes with commas between."""
    counts = [int(size) for size in str(sizes or "").split(",") if size.strip().isdigit()]
    return max(counts, default=None)


def _settled(flag: str, value: int, stated: Mapping[str, Value]) -> Option:
    return Option(flag, value, "stated" if stated.get(flag) == value else "default")
