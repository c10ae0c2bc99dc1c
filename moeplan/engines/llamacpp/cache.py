"""llama.cpp's cache: cells of keys and values by layer, and recurrent states.

Sources: llama.cpp b11312 src/llama-kv-cache*.cpp, src/llama-memory-*.cpp, src/llama-hparams.cpp, src/llama-context.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from moeplan.core.capacity import EnginePrints
from moeplan.core.deployment import Serving, Settings, Value
from moeplan.core.errors import InputError
from moeplan.core.kv_cache import Accounting, CacheRow, CacheRules, cache_rows, mixer_cache, state_bytes
from moeplan.core.model import GroupedAttention, LatentAttention, Layer, Mixer, ModelSpec
from moeplan.core.placement import RankView
from moeplan.engines.llamacpp.cache_types import CACHE_TYPES, TYPE_NAMES, row_bytes
from moeplan.engines.llamacpp.layout import kv_on_host, placed
from moeplan.engines.llamacpp.settings import chosen, flash_attention, is_on, ubatch_tokens

CELL_STEP = 256
"""Cells are a multiple of this (llama-context.cpp, llama-kv-cache-iswa.cpp)."""
WINDOWED = (
    "afmoe", "cohere2_moe", "deepseek_v4", "exaone_moe", "gemma", "general", "gpt_oss", "granitemoe_swa", "laguna",
    "lfm2_moe", "llama4", "mellum", "mimo_v2_flash", "olmo", "step3p5", "step3p7",
)  # fmt: skip
"""Families whose windows llama.cpp keeps apart (`swa_type` in src/models); of others every layer caches the context."""
POOLED_PARTS = 3
"""A pooled indexer caches key, gate and pooled values (llama-memory-hybrid-idx.cpp)."""
DRAFT_FAMILIES = ("cohere2_moe", "glm4_moe", "glm4v_moe")
"""Families whose draft layers had a cache of their own in older builds (ggml-org/llama.cpp issue 28626)."""


def cache_rules(
    spec: ModelSpec,
    *,
    asked: str | None,
    scheme: str | None,
    weight_dtype: str,
    capability: str | None,
    stated: Mapping[str, Value] | None = None,
) -> CacheRules:
    """16-bit floats whatever the weights are in; states and convolutions in 32 bit. Latents and their indexer keys have
    no values beside them.

    The checkpoint's own scheme is not looked at. Raises InputError for a dtype that no cache of llama.cpp has.
    """
    if asked is not None and asked not in CACHE_TYPES and asked not in TYPE_NAMES:
        raise InputError(
            f"llama.cpp has no cache dtype {asked!r}", hint=f"its cache dtypes: auto, {', '.join(CACHE_TYPES)}"
        )
    by_name = {name: ours for ours, name in TYPE_NAMES.items()}
    name = TYPE_NAMES.get(asked, asked) if asked else "f16"
    pooled = [m.indexer for m in _mixers(spec) if isinstance(m, LatentAttention) and m.indexer and m.indexer.pooled]
    records = {"indexer_keys": row_bytes(name, POOLED_PARTS * pooled[0].head_dim)} if pooled else {}
    return CacheRules(
        kv_dtype=by_name.get(name, name),
        state_dtype="float32",
        conv_dtype="float32",
        accounting="ideal" if spec.family in WINDOWED else "manager_off",
        records=records,
        honours_stated_state_dtype=False,
    )


def window_accountings(serving: Serving, rules: CacheRules) -> dict[Accounting, CacheRules]:
    """Windows alone, and `--swa-full`; families whose windows llama.cpp does not keep have the second way only."""
    full = rules._replace(accounting="manager_off")
    if serving.spec.family not in WINDOWED:
        return {"manager_off": full}
    return {"ideal": rules._replace(accounting="ideal"), "manager_off": full}


# Cells -----------------------------------------------------------------------------------------------------


class Cells(NamedTuple):
    """Sizes of the caches: cells of one stream, and how many streams there are."""

    full: int
    window: int
    streams: int
    sequences: int
    key_type: str
    value_type: str

    def of(self, row: CacheRow, *, windowed: bool) -> int:
        """Cells of a row, of all streams together."""
        return self.streams * (self.window if row.window_tokens is not None and windowed else self.full)


def cells(settings: Settings, window_tokens: int, context_tokens: int, sequences: int) -> Cells:
    """One stream per sequence, each padded; with `--kv-unified` one stream for all.

    A window keeps `window + ubatch` cells, with unified streams a window per sequence; `--swa-full` all.
    """
    values = chosen(settings)
    unified = is_on(values, "--kv-unified")
    full = _padded(context_tokens * (sequences if unified else 1))
    batch = ubatch_tokens(settings, context_tokens, sequences)
    kept = window_tokens * (sequences if unified else 1) + batch
    window = full if is_on(values, "--swa-full") else _padded(min(full, kept))
    return Cells(
        full, window, 1 if unified else sequences, sequences,
        str(settings.value("--cache-type-k")), str(settings.value("--cache-type-v")),
    )  # fmt: skip


def window_of(spec: ModelSpec) -> int:
    """The window of the model's window layers; llama.cpp has one size for all of them."""
    return max((row.window_tokens or 0 for row in cache_rows(spec)), default=0)


def managed_cache_bytes(
    serving: Serving,
    settings: Settings,
    rank: RankView,
    rules: CacheRules,
    context_tokens: int,
    sequences: int,
) -> int:
    """All cells of the layers on this device: they are allocated at start, used or not."""
    values = chosen(settings)
    if kv_on_host(values):
        return 0
    skipped = max(0, placed(serving, values).host_layers - rank.place.stage.first_layer)
    layers = rank.spec.layers[skipped:]
    if rank.place.stage.is_last:
        layers += old_drafts(serving)
    return layers_bytes(serving, settings, layers, context_tokens, sequences, rank.division.attention)


def old_drafts(serving: Serving) -> tuple[Layer, ...]:
    """Draft layers that a build caches for though nothing runs them."""
    mtp = serving.spec.mtp
    if mtp is None or serving.spec.family not in DRAFT_FAMILIES:
        return ()
    return mtp.layers if serving.constants.of("unused_draft_layers_cached").value else ()


def layers_bytes(
    serving: Serving,
    settings: Settings,
    layers: tuple[Layer, ...],
    context_tokens: int,
    sequences: int,
    num_ranks: int = 1,
) -> int:
    """Bytes of the caches of `layers` for `sequences` of `context_tokens`."""
    spec = serving.spec
    windowed = spec.family in WINDOWED
    sizes = cells(settings, window_of(spec), context_tokens, sequences)
    widest = 0 if flash_attention(spec, settings) else _widest_values(spec)
    rules = cache_rules(spec, asked=None, scheme=None, weight_dtype=spec.dtype, capability=None)
    total = 0
    for layer, count in _counted(layers).items():
        for mixer in layer.mixers:
            for row in mixer_cache(mixer, spec.hidden_size):
                total += count * _row_bytes(mixer, row, sizes, rules, widest, num_ranks, windowed=windowed)
    return total


def _row_bytes(
    mixer: Mixer, row: CacheRow, sizes: Cells, rules: CacheRules, widest: int, num_ranks: int, *, windowed: bool
) -> int:
    if row.kind in ("compressed", "compressed_indexer_keys", "compressed_window"):
        return _compressed_bytes(row, sizes)
    if row.kind == "recurrent":
        return sizes.sequences * state_bytes(row, rules, num_ranks)
    if not row.elements:
        return 0
    keys, values = row.elements, 0
    if isinstance(mixer, GroupedAttention):
        heads = -(-mixer.num_kv_heads // num_ranks)
        # Without flash attention values lie transposed, all as wide as the widest layer's.
        keys, values = heads * mixer.key_head_dim, max(heads * mixer.value_head_dim, -(-widest // num_ranks))
    elif row.kind in ("grouped", "cross"):
        keys = values = row.elements // 2
    elif isinstance(mixer, LatentAttention) and row.kind == "indexer_keys" and mixer.indexer and mixer.indexer.pooled:
        keys = POOLED_PARTS * mixer.indexer.head_dim
    of_cell = row_bytes(sizes.key_type, keys) + (row_bytes(sizes.value_type, values) if values else 0)
    return sizes.of(row, windowed=windowed) * of_cell


def _compressed_bytes(row: CacheRow, sizes: Cells) -> int:
    """DeepSeek-V4: keys alone, streams per sequence even where they are unified; compressors' states in 32 bit.

    Source: llama.cpp b11312 src/llama-kv-cache-dsv4.cpp.
    """
    key = row_bytes(sizes.key_type, row.elements)
    if row.window_tokens is not None:
        return sizes.sequences * sizes.window * key
    entries = _padded(-(-sizes.full // row.tokens_per_entry))
    looked_at = row.tokens_per_entry * (2 if row.recurrent_elements else 1)
    return sizes.sequences * (entries * key + 4 * row.pending_elements * looked_at)


def prints(
    serving: Serving, settings: Settings, rank: RankView, rules: CacheRules, pool_bytes: int
) -> EnginePrints | None:
    """Cells that llama.cpp prints (`n_ctx`): what was asked for, padded; it never asks how many would fit."""
    deployment = serving.deployment
    sizes = cells(settings, window_of(serving.spec), deployment.context_tokens, deployment.sequences_per_rank)
    return EnginePrints(sizes.full * sizes.streams, None, "n_ctx: context x sequences, padded to 256 per stream")


def scratch_types(values: Mapping[str, Value]) -> tuple[bool, bool]:
    """Whether keys and values are converted to 16-bit floats for flash attention, which reads nothing else."""
    return values.get("--cache-type-k") != "f16", values.get("--cache-type-v") != "f16"


def _widest_values(spec: ModelSpec) -> int:
    grouped = [m for m in _mixers(spec) if isinstance(m, GroupedAttention)]
    return max((m.num_kv_heads * m.value_head_dim for m in grouped), default=0)


def _mixers(spec: ModelSpec) -> tuple[Mixer, ...]:
    return tuple(dict.fromkeys(mixer for layer in dict.fromkeys(spec.layers) for mixer in layer.mixers))


def _counted(layers: tuple[Layer, ...]) -> dict[Layer, int]:
    counts: dict[Layer, int] = {}
    for layer in layers:
        counts[layer] = counts.get(layer, 0) + 1
    return counts


def _padded(tokens: int) -> int:
    return -(-tokens // CELL_STEP) * CELL_STEP
