"""How long a dense matrix product m x n x k takes: a sum of named parts.

    total = fixed + (memory ** q + compute ** q) ** (1 / q) + cast, q = 1 + overlap

fixed    a call that has nothing to do: a launch, one kernel waiting for the one before it
memory   weights, rows and results once, at the share of the bandwidth that the kernel achieves, and a start-up amount of
         bytes until the memory is busy; less what the cache still holds where the product is replayed
compute  2 k operations for each result, rows and columns padded by half a tile, and as many tiles more as a machine that
         is not full leaves idle, at the share of the peak rate that the kernel achieves
cast     rows made narrow where the format has narrow operands: read in 16 bit, written in the operands' bytes

Constants belong to one kernel on one device and format; they are seconds and shares of the specification.
"""

from typing import NamedTuple

from moeplan.core.latency import SMALLEST_TILE_ROWS
from moeplan.core.op_device import OpDevice, bytes_from_memory, smooth_maximum

TILE_COLUMNS = 128
"""Columns of a tile in the kernels of the field: 64 to 256 (facts on kernels, section 2)."""

RESULT_BYTES = 2
"""Results, and rows before they are cast, have 16 bit."""


class MatmulConstants(NamedTuple):
    """What a kernel makes of its device. All are positive."""

    fixed_s: float
    """Time of a call whose work is nothing."""
    memory_fraction: float
    """Achieved share of the memory bandwidth."""
    startup_bytes: float
    """Bytes that could have been read until the memory is busy."""
    cache_speedup: float
    """How many times faster bytes come from the cache than from memory."""
    cache_fraction: float
    """Share of the cache up to which bytes stay in it."""
    compute_fraction: float
    """Achieved share of the peak matrix rate on full tiles."""
    tile_rows: float
    """Rows of the largest tile; smaller ones are used for fewer rows."""
    overlap: float
    """0: memory and compute one after the other; large: the slower one hides the other."""
    fill_tiles: float
    """Tiles that could be computed by what stays idle: the last round over the machine is not full."""
    cast_factor: float
    """Time of casting rows, in units of their bytes at full bandwidth."""


def matmul_s(
    constants: MatmulConstants,
    device: OpDevice,
    weight_bytes: float,
    operand_bytes: float,
    m: float,
    n: float,
    k: float,
) -> float:
    """Seconds of rows (m x k) times weights (k x n); bytes are those of one value, scales included.

    Without rows it is the fixed time.
    """
    fixed_s, memory, startup_bytes, speedup, cache, compute, tile_rows, overlap, fill_tiles, cast_factor = constants
    if m <= 0:
        return fixed_s
    moved = bytes_from_memory(
        n * k * weight_bytes + m * k * operand_bytes + RESULT_BYTES * m * n, device.cache_bytes, speedup, cache
    )
    memory_s = (moved + startup_bytes) / (device.bandwidth_bytes_per_s * memory)
    tile = max(SMALLEST_TILE_ROWS, min(tile_rows, m))
    padded = (m + tile / 2) * (n + TILE_COLUMNS / 2) + fill_tiles * tile * TILE_COLUMNS
    compute_s = 2 * k * padded / (device.flops_per_s * compute)
    total = fixed_s + smooth_maximum(memory_s, compute_s, overlap)
    if operand_bytes < RESULT_BYTES:
        total += cast_factor * m * k * (RESULT_BYTES + operand_bytes) / device.bandwidth_bytes_per_s
    return total
