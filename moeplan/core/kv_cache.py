"""What attention remembers: cache rows per layer, and the fold to bytes under an engine's rules.

`cache_rows(spec)` says what each layer keeps, in elements, and no engine is in it. `CacheRules` says how one
engine stores and counts that. Widths are elements, windows are tokens.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple, assert_never

from moeplan.core.model import (
    CompressedAttention,
    CrossAttention,
    GatedDelta,
    GroupedAttention,
    KimiDelta,
    LatentAttention,
    LightningAttention,
    Mamba1,
    Mamba2,
    Mixer,
    ModelSpec,
    RoutedAttention,
    ShortConvolution,
)

CacheKind = Literal[
    "grouped",
    "sliding",
    "chunked",
    "latent",
    "indexer_keys",
    "compressed",
    "compressed_indexer_keys",
    "compressed_window",
    "recurrent",
    "cross",
    "shared",
]
CacheSplit = Literal["tp", "replicated", "dcp"]
Accounting = Literal["ideal", "hybrid_manager", "manager_off", "transformers"]

DTYPE_BITS: dict[str, float] = {
    "float32": 32, "bfloat16": 16, "float16": 16, "fp8": 8, "int8": 8, "nvfp4": 4.5,
    "q8_0": 8.5, "q5_1": 6, "q5_0": 5.5, "q4_1": 5, "q4_0": 4.5, "iq4_nl": 4.5,
}  # fmt: skip
"""Bits per cached element, block scales included (nvfp4: one byte per 16; llama.cpp's types: see `quant.GGUF_BLOCKS`)."""


class CacheRow(NamedTuple):
    """What `count` equal layers keep for one sequence."""

    kind: CacheKind
    count: int = 1  # type: ignore[assignment]  # hides tuple.count, which no record needs
    elements: int = 0
    """Elements per entry: keys and values of all heads together, or latent and rope key."""
    num_kv_heads: int = 1
    """Units that tensor parallelism can split; 1 for latents, which every rank holds whole."""
    tokens_per_entry: int = 1
    window_tokens: int | None = None
    conv_channels: int = 0
    conv_kernel: int = 0
    recurrent_elements: int = 0
    state_dtype: str | None = None
    """Dtype that the config asks for the recurrent state in, where it does."""
    pending_elements: int = 0
    """Elements kept for each token that waits for its compressed entry to fill."""
    key_is_value: bool = False
    """True where keys and values are one tensor that some engines store twice."""
    shares_cache_of: int | None = None
    split: CacheSplit = "tp"


class CacheRules(NamedTuple):
    """How one engine stores and counts; made by `engines`."""

    kv_dtype: str
    state_dtype: str
    """Dtype of recurrent state where the config does not ask for one."""
    conv_dtype: str
    accounting: Accounting = "ideal"
    records: Mapping[str, int] = {}
    """Bytes of one whole entry, by kind, where the engine's record is no plain multiple of a dtype."""
    record_dtypes: Mapping[str, str] = {}
    """Name of the dtype of such a record."""
    window_delta_tokens: int = 0
    """Added to the window: -1 where the engine drops the token that is about to leave."""
    conv_columns_delta: int = -1
    """Added to the kernel width: a causal convolution needs kernel - 1 past columns; some keep all."""
    stores_shared_key_twice: bool = False
    honours_stated_state_dtype: bool = True
    block_tokens: int = 1
    """Block size that window layers are rounded up to, with one block more for a sliding window that straddles."""


def storage_key(rules: CacheRules) -> tuple[object, ...]:
    """What bytes of entries and states hang on, to look up answers by: rules alike in this store alike."""
    return (
        rules.kv_dtype, rules.state_dtype, rules.conv_dtype, tuple(sorted(rules.records.items())),
        tuple(sorted(rules.record_dtypes.items())), rules.conv_columns_delta, rules.stores_shared_key_twice,
        rules.honours_stated_state_dtype,
    )  # fmt: skip


def cache_rows(spec: ModelSpec) -> tuple[CacheRow, ...]:
    """What every decoder layer keeps, equal layers counted together, in order of first appearance."""
    counts: dict[CacheRow, int] = {}
    for mixer, times in Counter(mixer for layer in spec.layers for mixer in layer.mixers).items():
        for row in mixer_cache(mixer, spec.hidden_size):
            counts[row] = counts.get(row, 0) + times
    return tuple(row._replace(count=count) for row, count in counts.items())


def mixer_cache(mixer: Mixer, hidden: int) -> tuple[CacheRow, ...]:
    """What one layer's mixer keeps for one sequence."""
    match mixer:
        case GroupedAttention():
            return (_grouped(mixer),)
        case CrossAttention():
            heads = 2 * mixer.num_heads * mixer.head_dim
            return (CacheRow("cross", elements=heads, num_kv_heads=mixer.num_heads),)
        case RoutedAttention():
            # Keys and values are shared by the chosen query experts, and kept once.
            return (
                CacheRow("grouped", elements=2 * mixer.num_kv_heads * mixer.head_dim, num_kv_heads=mixer.num_kv_heads),
            )
        case LatentAttention():
            latent = CacheRow("latent", elements=mixer.kv_lora_rank + mixer.qk_rope_head_dim, split="dcp")
            if mixer.shares_cache_of is not None:
                latent = CacheRow("shared", shares_cache_of=mixer.shares_cache_of)
            if mixer.indexer is None:
                return (latent,)
            return (latent, CacheRow("indexer_keys", elements=mixer.indexer.cached_elements, split="replicated"))
        case CompressedAttention():
            return _compressed(mixer)
        case GatedDelta():
            key = mixer.num_key_heads * mixer.key_head_dim
            return (
                CacheRow(
                    "recurrent",
                    num_kv_heads=mixer.num_value_heads,
                    conv_channels=2 * key + mixer.num_value_heads * mixer.value_head_dim,
                    conv_kernel=mixer.conv_kernel,
                    recurrent_elements=mixer.num_value_heads * mixer.key_head_dim * mixer.value_head_dim,
                    state_dtype=mixer.state_dtype,
                ),
            )
        case KimiDelta():
            return (
                CacheRow(
                    "recurrent",
                    num_kv_heads=mixer.num_heads,
                    conv_channels=3 * mixer.num_heads * mixer.head_dim,
                    conv_kernel=mixer.conv_kernel,
                    recurrent_elements=mixer.num_heads * mixer.head_dim**2,
                ),
            )
        case LightningAttention():
            state = mixer.num_heads * mixer.head_dim**2
            return (CacheRow("recurrent", num_kv_heads=mixer.num_heads, recurrent_elements=state),)
        case Mamba1():
            return (
                CacheRow(
                    "recurrent",
                    num_kv_heads=mixer.inner_size,
                    conv_channels=mixer.inner_size,
                    conv_kernel=mixer.conv_kernel,
                    recurrent_elements=mixer.inner_size * mixer.state_size,
                ),
            )
        case Mamba2():
            inner = mixer.num_heads * mixer.head_dim
            return (
                CacheRow(
                    "recurrent",
                    num_kv_heads=mixer.num_heads,
                    conv_channels=inner + 2 * mixer.num_groups * mixer.state_size,
                    conv_kernel=mixer.conv_kernel,
                    recurrent_elements=inner * mixer.state_size,
                    state_dtype=mixer.state_dtype,
                ),
            )
        case ShortConvolution():
            return (
                CacheRow(
                    "recurrent",
                    num_kv_heads=mixer.channels,
                    conv_channels=mixer.channels,
                    conv_kernel=mixer.conv_kernel,
                ),
            )
        case _:
            assert_never(mixer)


def owning(mixer: Mixer) -> Mixer:
    """A layer that reads another's cache reads as much as if it were its own."""
    if isinstance(mixer, GroupedAttention | LatentAttention):
        return mixer._replace(shares_cache_of=None)
    return mixer


def _grouped(a: GroupedAttention) -> CacheRow:
    if a.shares_cache_of is not None:
        return CacheRow("shared", shares_cache_of=a.shares_cache_of)
    kind: CacheKind = "grouped" if a.window_tokens is None else "chunked" if a.chunked else "sliding"
    elements = a.num_kv_heads * (a.key_head_dim + a.value_head_dim)
    return CacheRow(kind, elements=elements, num_kv_heads=a.num_kv_heads, window_tokens=a.window_tokens)


def _compressed(a: CompressedAttention) -> tuple[CacheRow, ...]:
    # One key/value head whose keys are its values; beside the window one entry per `tokens_per_entry` tokens.
    # Source: transformers 5.23.0 DeepseekV4HCACache and DeepseekV4CSACache.
    window = CacheRow(
        "compressed_window",
        elements=a.head_dim,
        window_tokens=a.window_tokens,
        key_is_value=not a.tokens_per_entry,
        split="replicated",
    )
    if not a.tokens_per_entry:
        return (window,)
    overlap = a.indexer is not None
    width = 2 * a.head_dim if overlap else a.head_dim
    rows = (
        window,
        CacheRow(
            "compressed",
            elements=a.head_dim,
            tokens_per_entry=a.tokens_per_entry,
            # Overlapping windows carry the previous window's half, values and gates, to the next entry.
            recurrent_elements=2 * a.tokens_per_entry * a.head_dim if overlap else 0,
            pending_elements=2 * width,
            split="replicated",
        ),
    )
    if a.indexer is None:
        return rows
    x = a.indexer
    keys = CacheRow(
        "compressed_indexer_keys",
        elements=x.head_dim,
        tokens_per_entry=a.tokens_per_entry,
        recurrent_elements=2 * a.tokens_per_entry * x.head_dim,
        pending_elements=4 * x.head_dim,
        split="replicated",
    )
    return (*rows, keys)


# Bytes -----------------------------------------------------------------------------------------------------


class StoredRow(NamedTuple):
    """One row under an engine's rules; the rows of `kv_cache.layers` in JSON."""

    kind: CacheKind
    count: int  # type: ignore[assignment]  # the name of the JSON contract
    dtype: str | None
    entry_bytes: int
    tokens_per_entry: int
    window_tokens: int | None
    state_bytes: int
    encoder_tokens: int | None
    shares_cache_of: int | None
    split: CacheSplit


def stored_rows(
    rows: tuple[CacheRow, ...], rules: CacheRules, encoder_tokens: int | None = None
) -> tuple[StoredRow, ...]:
    """The rows as an engine stores them: bytes per entry and per state."""
    return tuple(_stored(row, rules, encoder_tokens) for row in rows)


def entry_bytes(row: CacheRow, rules: CacheRules, num_ranks: int = 1) -> int:
    """Bytes of one entry of one layer on one of `num_ranks` tensor-parallel ranks.

    Key/value heads are shared out, and replicated once ranks outnumber them; latents are whole on every rank.
    Source: vLLM 0.33.0 v1/kv_cache_interface.py.
    """
    if row.kind in rules.records:
        return rules.records[row.kind]
    elements = row.elements * (2 if row.key_is_value and rules.stores_shared_key_twice else 1)
    if row.split == "tp" and row.num_kv_heads:
        elements = elements * max(1, -(-row.num_kv_heads // num_ranks)) // row.num_kv_heads
    return _bytes(elements, rules.kv_dtype)


def value_bytes(row: CacheRow, rules: CacheRules) -> float:
    """Bytes of one element of a row's entries, scales and whatever else a record holds shared out among them."""
    return entry_bytes(row, rules) / row.elements


def state_bytes(row: CacheRow, rules: CacheRules, num_ranks: int = 1) -> int:
    """Bytes of the state of one layer for one sequence on one rank: convolution columns and recurrent state."""
    share = num_ranks if row.split == "tp" else 1
    columns = max(0, row.conv_kernel + rules.conv_columns_delta) if row.conv_kernel else 0
    stated = row.state_dtype if rules.honours_stated_state_dtype else None
    return _bytes(-(-row.conv_channels * columns // share), rules.conv_dtype) + _bytes(
        -(-row.recurrent_elements // share), stated or rules.state_dtype
    )


def window_kept_tokens(row: CacheRow, rules: CacheRules, context_tokens: int) -> int:
    """Tokens that a window row keeps for a sequence of `context_tokens`."""
    if row.window_tokens is None or rules.accounting == "manager_off":
        return context_tokens
    kept = min(row.window_tokens + rules.window_delta_tokens, context_tokens)
    if rules.block_tokens == 1:
        return kept
    # A chunk begins where a block begins; a sliding window may straddle.
    blocks = -(-kept // rules.block_tokens) + (row.kind != "chunked")
    return min(blocks * rules.block_tokens, -(-context_tokens // rules.block_tokens) * rules.block_tokens)


class CacheCost(NamedTuple):
    """Cost of the cache of one sequence on one rank."""

    bytes_per_token: float
    """Marginal bytes of one more token beyond every window; a fraction where an entry spans several tokens."""
    bytes_per_sequence: int
    """Bytes that do not grow: recurrent state, cross-attention, and window layers at the asked context."""
    bytes_at_context: int
    """All bytes of one sequence at the asked context."""


def held_tokens(row: CacheRow, rules: CacheRules, context_tokens: int, token_ranks: int = 1) -> int:
    """Tokens of a sequence that a row keeps on one of `token_ranks` ranks that share its tokens.

    Decode context parallelism shares out what grows with the sequence; what every rank holds whole (indexer keys,
    windows) it does not. Source: vLLM 0.33.0 v1/kv_cache_interface.py, dcp_world_size in max_memory_usage_bytes.
    """
    shared = row.split in ("tp", "dcp") and (row.window_tokens is None or rules.accounting == "manager_off")
    return -(-context_tokens // token_ranks) if shared and row.kind != "cross" else context_tokens


def cache_cost(
    rows: tuple[CacheRow, ...],
    rules: CacheRules,
    context_tokens: int,
    encoder_tokens: int = 0,
    num_ranks: int = 1,
    token_ranks: int = 1,
) -> CacheCost:
    """Fold the rows into bytes for one sequence of `context_tokens`, on one rank: of `num_ranks` that share heads and
    `token_ranks` that share tokens."""
    per_token, fixed, grown = 0.0, 0, 0
    for row in rows:
        entry = entry_bytes(row, rules, num_ranks)
        fixed += row.count * state_bytes(row, rules, num_ranks)
        if row.kind == "cross":
            fixed += row.count * entry * encoder_tokens
        elif row.window_tokens is not None and rules.accounting != "manager_off":
            fixed += row.count * entry * window_kept_tokens(row, rules, context_tokens)
        elif row.elements:
            kept = held_tokens(row, rules, context_tokens, token_ranks)
            spread = row.count * entry / row.tokens_per_entry
            per_token += spread if kept == context_tokens else spread / token_ranks
            grown += row.count * entry * (kept // row.tokens_per_entry)
            pending = context_tokens % row.tokens_per_entry * row.pending_elements
            fixed += row.count * _bytes(pending, rules.conv_dtype)
    tidy = int(per_token) if per_token == int(per_token) else per_token
    return CacheCost(tidy, fixed, fixed + grown)


def _stored(row: CacheRow, rules: CacheRules, encoder_tokens: int | None) -> StoredRow:
    dtype = None
    if row.elements:
        dtype = rules.record_dtypes.get(row.kind, rules.kv_dtype)
    elif row.kind == "recurrent":
        stated = row.state_dtype if rules.honours_stated_state_dtype else None
        dtype = stated or rules.state_dtype
    return StoredRow(
        kind=row.kind,
        count=row.count,
        dtype=dtype,
        entry_bytes=entry_bytes(row, rules) if row.elements else 0,
        tokens_per_entry=row.tokens_per_entry,
        window_tokens=row.window_tokens,
        state_bytes=state_bytes(row, rules),
        encoder_tokens=encoder_tokens if row.kind == "cross" else None,
        shares_cache_of=row.shares_cache_of,
        split=row.split,
    )


def _bytes(elements: int, dtype: str) -> int:
    bits = elements * DTYPE_BITS[dtype]
    return -int(-bits // 8)
