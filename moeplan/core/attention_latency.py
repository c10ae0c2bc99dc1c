"""How long attention over a cache takes, without its projections: a sum of named parts.

Decode, one new token for each of `batch` sequences:

    total = fixed + (memory ** q + compute ** q) ** (1 / q) + pieces + blocks + traffic, q = 1 + overlap

memory   the cache of all sequences once, at the achieved share of the bandwidth; short sequences read a whole tile of
         tokens: t + tile^2 / (t + tile) of them, which is a tile for none and t for many
compute  2 (key + value) operations for each token and head; heads that share a KV head are padded up to `group_rows`. Above
         `WIDE_GROUP` heads for one KV head some kernels take a way that reads the cache once for each head: `wide_factor`
pieces   one block walks over a sequence token by token; beyond `split_tokens` the sequence is cut among more blocks
blocks   each pair of sequence and KV head is a block to schedule: the penalty of much little work
traffic  queries read and results written

Prefill, `new` tokens each, causal over themselves and `past` tokens before:

    total = fixed + fill + (compute ** q + traffic ** q) ** (1 / q) + rows + pieces

compute  2 (key + value) x heads x new x (past + new / 2) operations, rows and columns padded by half a tile; a query within
         a window, or with an indexer's choice, sees no more tokens than these
fill     as many blocks of 128 rows more as a machine that is not full leaves idle
traffic  queries, keys, values and results, found in the cache where they just were made and fit
rows     each new token: positions, pages
pieces   each new token of the longest sequence

The operation counts are those of two matrix products of (rows x key) and (rows x tokens), a causal half of them left out
(FlashAttention, arXiv 2205.14135, counts 4 n^2 d per head and half of it under a causal mask).
"""

import math
from typing import NamedTuple

from moeplan.core.op_device import OpDevice, bytes_from_memory, smooth_maximum

WIDE_GROUP = 32
"""Heads for one KV head up to which all kernels measured share what they read. TensorRT-LLM took 1.1 ms for 96 and 128
heads of 2 where it took 0.04 ms at 32 for each (public rows of facts on kernels, section 1)."""

LATENT_COMPUTE_FRACTION = 580 / 989
"""Assumed for every kernel of latent attention: what FlashMLA reaches where operations bind, of the peak of an H800 (580 Tflop/s;
deepseek-ai/FlashMLA, README of 2025-02). Public rows hold no such attention, and the kernels that were measured are made for
few heads that share a KV head."""

BLOCK_ROWS = 128
"""Rows of a block of queries."""

VALUE_BYTES = 2
"""Queries and results have 16 bit."""


class AttentionShape(NamedTuple):
    """Heads of one layer, as one rank holds them."""

    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    entry_values: int
    """What the cache holds for one token and KV head: key and value, or one latent that is both."""

    @property
    def latent(self) -> bool:
        """Whether keys and values share an entry: no rows of such attention were measured."""
        return self.entry_values != self.key_dim + self.value_dim


def grouped(heads: int, kv_heads: int, head_dim: int) -> AttentionShape:
    """Heads that share KV heads in groups."""
    return AttentionShape(heads, kv_heads, head_dim, head_dim, 2 * head_dim)


def latent(heads: int, latent_dim: int, rope_dim: int) -> AttentionShape:
    """Latent attention as decode runs it: all heads read one entry, the latent and the rotated part of the key."""
    return AttentionShape(heads, 1, latent_dim + rope_dim, latent_dim, latent_dim + rope_dim)


class DecodeConstants(NamedTuple):
    """What a decode kernel makes of its device. All are positive."""

    fixed_s: float
    memory_fraction: float
    cache_speedup: float
    cache_fraction: float
    compute_fraction: float
    token_s: float
    """Time of one token in a block."""
    split_tokens: float
    """Tokens of a sequence from which more blocks share it."""
    overlap: float
    traffic_factor: float
    """Time of queries and results, in units of their bytes at full bandwidth."""
    group_rows: float
    """Heads of one KV head up to which a tile is padded."""
    block_s: float
    """Time for each pair of sequence and KV head."""
    tile_tokens: float
    wide_factor: float
    """Time of cache bytes read once for each head, in units of them at full bandwidth."""


class PrefillConstants(NamedTuple):
    """What a prefill kernel makes of its device. All are positive."""

    fixed_s: float
    compute_fraction: float
    fill_blocks: float
    tile_tokens: float
    traffic_factor: float
    cache_speedup: float
    cache_fraction: float
    overlap: float
    row_s: float
    """Time for each new token of all sequences."""
    token_s: float
    """Time for each new token of one sequence."""


def decode_s(
    constants: DecodeConstants,
    device: OpDevice,
    value_bytes: float,
    batch: float,
    past: float,
    shape: AttentionShape,
    queries: float = 1,
) -> float:
    """Seconds of one step: each sequence reads `past` tokens and its new one; `value_bytes` of the cache.

    Several `queries` of a sequence, where drafts are verified, read its cache once and multiply heads by it, as many rows more;
    no such kernel was measured. Without sequences it is the fixed time.
    """
    (
        fixed_s, memory, speedup, cache, compute, token_s, split_tokens, overlap, traffic, group_rows, block_s, tile, wide,
    ) = constants  # fmt: skip
    if batch <= 0:
        return fixed_s
    heads, kv_heads, key_dim, value_dim, entry_values = shape
    tokens = past + 1
    padded = tokens + tile * tile / (tokens + tile)
    blocks = batch * kv_heads
    entry_bytes = entry_values * value_bytes
    bandwidth = device.bandwidth_bytes_per_s
    share = 1.0
    if device.cache_bytes:
        own = blocks * entry_bytes * tokens
        share = bytes_from_memory(own, device.cache_bytes, speedup, cache) / own
    memory_s = blocks * entry_bytes * padded * share / (bandwidth * memory)
    group = heads / kv_heads
    rows = max(group * queries, group_rows)
    reached = max(compute, LATENT_COMPUTE_FRACTION) if shape.latent else compute
    compute_s = 2 * (key_dim + value_dim) * blocks * rows * padded / (device.flops_per_s * reached)
    # Kernels of latent attention are made for all heads on one entry, whose rows are shared.
    if group > WIDE_GROUP and not shape.latent:
        compute_s += wide * batch * heads * entry_bytes * padded / bandwidth
    pieces_s = token_s * tokens * split_tokens / (tokens + split_tokens)
    traffic_s = traffic * batch * queries * heads * (key_dim + value_dim) * VALUE_BYTES / bandwidth
    return fixed_s + smooth_maximum(memory_s, compute_s, overlap) + pieces_s + block_s * blocks + traffic_s


def prefill_s(
    constants: PrefillConstants,
    device: OpDevice,
    value_bytes: float,
    batch: float,
    new: float,
    past: float,
    shape: AttentionShape,
    reach: float = math.inf,
) -> float:
    """Seconds of `new` tokens for each of `batch` sequences after `past` cached ones of `value_bytes` each value.

    `reach` are the tokens that a query sees at most: a window, or an indexer's choice. Without new tokens it is the fixed
    time. `past` above 0 and a reach below all extrapolate: all public rows begin a sequence, and none has a window.
    """
    fixed_s, compute, fill_blocks, tile, traffic, speedup, cache, overlap, row_s, token_s = constants
    if batch <= 0 or new <= 0:
        return fixed_s
    heads, kv_heads, key_dim, value_dim, entry_values = shape
    flops_per_row = 2 * (key_dim + value_dim) * (seen_tokens(new, past, reach) + tile / 2)
    reached = device.flops_per_s * compute
    compute_s = batch * heads * (new + tile / 2) * flops_per_row / reached
    fill_s = fill_blocks * BLOCK_ROWS * flops_per_row / reached
    fresh = batch * new * ((heads + kv_heads) * (key_dim + value_dim)) * VALUE_BYTES
    moved = bytes_from_memory(fresh, device.cache_bytes, speedup, cache)
    moved += batch * kv_heads * min(past, reach) * entry_values * value_bytes
    traffic_s = traffic * moved / device.bandwidth_bytes_per_s
    return fixed_s + fill_s + smooth_maximum(compute_s, traffic_s, overlap) + row_s * batch * new + token_s * new


def seen_tokens(new: float, past: float, reach: float) -> float:
    """Tokens that one of `new` queries sees on average, of `past` cached ones and those before it: at most `reach`."""
    if past >= reach:
        return reach
    rising = min(new, reach - past)
    return (rising * (past + rising / 2) + (new - rising) * reach) / new if rising < new else past + new / 2
