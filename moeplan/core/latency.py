"""How long one rank's experts of one MoE layer take: a sum of named parts, each with a unit and a sentence.

    total = fixed + experts + weights + traffic + routing
    weights = (memory ** q + compute ** q) ** (1 / q), q = 1 + overlap

fixed    a layer call that has nothing to do: launches, one kernel waiting for the one before it
experts  what each touched expert costs by being there: its tiles to schedule, its scales to fetch
memory   weights of the touched experts, read at the share of the bandwidth that the kernel achieves, and a start-up
         amount of bytes until the memory is busy; less what the cache still holds when one layer is replayed
compute  operations on rows rounded up to tiles, at the share of the peak rate that the kernel achieves
traffic  rows moved: gathered by expert, written and read between the matrix products, combined
routing  scores of all experts for all tokens: read, searched for the best, counted

Neither a sharp maximum of memory and compute (q large) nor their sum (q = 1) fits: kernels overlap them in part.
Constants belong to one kernel on one device (`profiles/kernels`, read by `sources/kernel_constants`). They are shares of
the specification and seconds, so the same constants say something about another device too, with a wider band.
"""

from typing import Literal, NamedTuple

from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware

SMALLEST_TILE_ROWS = 16
"""Rows of the smallest tile of matrix units in the kernels measured (facts of the kernels: tiles of 16 to 128 rows)."""

CACHE_STEEPNESS = 8
"""How sharply weights fall out of the cache when they outgrow it. Replayed layers on an L40S run at cache speed up to
72 MiB of weights and at memory speed from 120 MiB on, around its 96 MiB; powers of 6 to 10 fit alike."""

Binding = Literal["fixed", "memory", "compute", "traffic", "routing"]


class KernelConstants(NamedTuple):
    """What a kernel makes of its device. All are positive."""

    fixed_s: float
    """Time of a layer call whose work is nothing."""
    expert_s: float
    """Time for each touched expert, beside its bytes."""
    memory_fraction: float
    """Achieved share of the memory bandwidth."""
    startup_bytes: float
    """Bytes that could have been read until the memory is busy."""
    cache_speedup: float
    """How many times faster weights come from the cache than from memory."""
    cache_fraction: float
    """Share of the cache up to which weights stay in it."""
    compute_fraction: float
    """Achieved share of the peak matrix rate on full tiles."""
    tile_rows: float
    """Rows of the largest tile; smaller ones are used where experts have fewer rows."""
    overlap: float
    """0: memory and compute one after the other; large: the slower one hides the other."""
    traffic_factor: float
    """Time of moving rows, in units of each row's bytes at full bandwidth."""
    remote_fraction: float
    """What a row that belongs to another rank still costs of that."""
    routing_factor: float
    """Time of routing, in units of four bytes per token and expert at full bandwidth."""


class Device(NamedTuple):
    """What the model needs to know of a device."""

    bandwidth_bytes_per_s: float
    flops_per_s: float
    """Dense peak of the operands' type."""
    warm_cache_bytes: float = 0.0
    """The last-level cache where one layer is replayed and finds its weights there; 0 in a model of many layers."""


class ValueBytes(NamedTuple):
    """Bytes of one value in a kernel, its share of scales included."""

    weight: float
    operand: float
    """Of a row, as both products read it."""
    result: float
    """Of a row, as it comes out of a product and as the layer takes and gives it."""


VALUE_BYTES = {
    "bfloat16": ValueBytes(2, 2, 2),
    "float16": ValueBytes(2, 2, 2),
    "float32": ValueBytes(4, 4, 4),
    "fp8": ValueBytes(1, 1, 2),
    "fp8_block": ValueBytes(1 + 4 / 128**2, 1 + 4 / 128, 2),
    "nvfp4": ValueBytes(0.5 + 1 / 16, 0.5 + 1 / 16, 2),
    "int4_wo": ValueBytes(0.5 + 2 / 128, 2, 2),
    "w4a16_mxfp4": ValueBytes(0.5 + 1 / 32, 2, 2),
}
"""By format, in the words of the collector of the public rows (facts on kernels, section 1). fp8 has one scale for a
tensor, fp8_block a float32 for 128 x 128 weights and for 128 values of a row (1 x 128, section 5), nvfp4 a byte for 16
values of either, int4_wo 16 bit for 128 weights, MXFP4 a byte for 32; these two leave rows in 16 bit. Results have 16 bit
except in float32."""


class ExpertShape(NamedTuple):
    """The routed experts of one layer, as one rank holds them."""

    hidden: int
    width: int
    """Columns of one expert on this rank."""
    experts: int
    """Of the layer, over all ranks of the expert group."""
    experts_on_rank: int
    experts_per_token: int
    value_bytes: ValueBytes
    gated: bool = True
    """Three matrices; two where False."""


class Load(NamedTuple):
    """What one step asks of one rank."""

    tokens: float
    """Of the whole expert group: every rank routes them all."""
    distinct: float
    """Experts of this rank with at least one row (`core/coverage`)."""
    rows: float
    """Pairs of token and expert on this rank: of the busiest one, since the others wait for it."""


class Work(NamedTuple):
    """A load in bytes and operations, free of any device."""

    distinct: float
    rows: float
    remote_rows: float
    weight_bytes: float
    flops_per_row: float
    row_bytes: float
    routing_bytes: float


class Parts(NamedTuple):
    """Seconds. `memory_s` and `compute_s` each stand alone; `weights_s` is what both together take."""

    fixed_s: float
    experts_s: float
    memory_s: float
    compute_s: float
    weights_s: float
    traffic_s: float
    routing_s: float

    @property
    def total_s(self) -> float:
        """The sum of the parts that follow one another."""
        return self.fixed_s + self.experts_s + self.weights_s + self.traffic_s + self.routing_s

    @property
    def binding(self) -> Binding:
        """The part that would have to shrink first. Time per expert counts as fixed: it has no device to buy."""
        slower: Binding = "memory" if self.memory_s >= self.compute_s else "compute"
        sizes: tuple[tuple[float, Binding], ...] = (
            (self.weights_s, slower),
            (self.fixed_s + self.experts_s, "fixed"),
            (self.traffic_s, "traffic"),
            (self.routing_s, "routing"),
        )
        return max(sizes, key=lambda each: each[0])[1]


class Band(NamedTuple):
    """Factors around a prediction between which nine of ten measurements lie, up to a number of tokens."""

    most_tokens: float
    low: float
    high: float


class Latency(NamedTuple):
    """A prediction."""

    seconds: float
    low_s: float
    high_s: float
    parts: Parts
    binding: Binding


def work(shape: ExpertShape, load: Load) -> Work:
    """Bytes and operations of a load.

    Weights: distinct x matrices x hidden x width x bytes of a weight. Operations: 2 per weight and row. A row moves
    hidden x (operand + 2 results) and width x (operand + 2 results; 1 without a gate): gathered, between the products,
    combined. In 16 bit that is 6 bytes of either, as measured kernels do (facts on kernels, section 2). On the public
    rows in fp8 and fp4 another share of operands among the three fits no better: their mean error on unseen shapes
    stays within 0.1 points. ValueError where the load does not fit the shape.
    """
    if not 0 <= load.distinct <= shape.experts_on_rank or load.rows < 0:
        raise ValueError(f"{load.distinct} distinct experts of {shape.experts_on_rank}, {load.rows} rows")
    matrices = 3 if shape.gated else 2
    weights = matrices * shape.hidden * shape.width
    value = shape.value_bytes
    return Work(
        distinct=load.distinct,
        rows=load.rows,
        remote_rows=max(0.0, load.tokens * shape.experts_per_token - load.rows),
        weight_bytes=load.distinct * weights * value.weight,
        flops_per_row=2 * weights,
        row_bytes=shape.hidden * (value.operand + 2 * value.result)
        + shape.width * (value.operand + (matrices - 1) * value.result),
        routing_bytes=4 * load.tokens * shape.experts,
    )


def parts(constants: KernelConstants, device: Device, asked: Work) -> Parts:
    """Seconds by part.

    A tile is half empty on average, so an expert pads its rows by half a tile, and tiles follow the mean rows of an
    expert from 16 up to `tile_rows`. The cache holds weights of `cache_fraction` of its size; beyond that a replay
    finds nothing in it.
    """
    (
        fixed_s, expert_s, memory_fraction, startup_bytes, cache_speedup, cache_fraction, compute_fraction, tile_rows,
        overlap, traffic_factor, remote_fraction, routing_factor,
    ) = constants  # fmt: skip
    bandwidth, flops_per_s, cache_bytes = device
    distinct, rows, remote_rows, weight_bytes, flops_per_row, row_bytes, routing_bytes = asked
    memory_s = compute_s = weights_s = 0.0
    if distinct > 0:
        read_bytes = weight_bytes
        if cache_bytes:
            found = 1 / (1 + (weight_bytes / (cache_fraction * cache_bytes)) ** CACHE_STEEPNESS)
            read_bytes *= 1 - found * (1 - 1 / cache_speedup)
        memory_s = (read_bytes + startup_bytes) / (bandwidth * memory_fraction)
        tile = max(SMALLEST_TILE_ROWS, min(tile_rows, rows / distinct))
        compute_s = flops_per_row * (rows + distinct * tile / 2) / (flops_per_s * compute_fraction)
        q = 1 + overlap
        # As (a^q + b^q)^(1/q), with the larger one in front so that no power runs out of range.
        more, less = (memory_s, compute_s) if memory_s > compute_s else (compute_s, memory_s)
        weights_s = more * (1 + (less / more) ** q) ** (1 / q)
    traffic_s = traffic_factor * row_bytes * (rows + remote_fraction * remote_rows) / bandwidth
    routing_s = routing_factor * routing_bytes / bandwidth
    return Parts(fixed_s, expert_s * distinct, memory_s, compute_s, weights_s, traffic_s, routing_s)


def seconds(constants: KernelConstants, device: Device, asked: Work) -> float:
    """The total alone."""
    return parts(constants, device, asked).total_s


def predict(
    constants: KernelConstants, bands: tuple[Band, ...], device: Device, shape: ExpertShape, load: Load
) -> Latency:
    """Seconds of one layer's routed experts on this rank, with the band of the kernel at this number of tokens."""
    found = parts(constants, device, work(shape, load))
    total = found.total_s
    band = band_at(bands, load.tokens)
    return Latency(total, total * band.low, total * band.high, found, found.binding)


def band_at(bands: tuple[Band, ...], tokens: float) -> Band:
    """The band of the first range that reaches to `tokens`; the last one beyond all of them."""
    for band in bands:
        if tokens <= band.most_tokens:
            return band
    return bands[-1]


def rate(hardware: Hardware, dtype: str) -> int | None:
    """Peak matrix rate at which experts of this format are multiplied; None where the profile knows none.

    4- and 8-bit weights are unpacked to 16 bit where the device has no such rate, or where the format keeps 16-bit
    activations (`int4_wo`, `w4a16_mxfp4`). The rate of vectors in 32 bit is for values of 32 bit alone: matrix units that a
    profile knows no rate of are several times as fast.
    """
    rates = hardware.dense_flops_per_s
    return _low_rate(hardware, dtype) or rates.bf16 or rates.fp16 or (rates.fp32 if dtype == "float32" else None)


def value_bytes(hardware: Hardware, dtype: str) -> ValueBytes:
    """Bytes of a format on a device: rows stay in 16 bit where it has no rate for their 4 or 8 bits (see `rate`)."""
    found = VALUE_BYTES[dtype]
    narrow = found.operand < 2 and not _low_rate(hardware, dtype)
    return found._replace(operand=2) if narrow else found


def _low_rate(hardware: Hardware, dtype: str) -> int | None:
    rates = hardware.dense_flops_per_s
    return {"nvfp4": rates.fp4, "fp8": rates.fp8, "fp8_block": rates.fp8}.get(dtype)


def device_of(hardware: Hardware, dtype: str, *, warm: bool = False) -> Device:
    """The device of a hardware profile; `warm` where one layer is replayed over and over.

    InputError names what the profile does not say. An unknown cache size counts as none.
    """
    bandwidth, flops_per_s = hardware.memory_bandwidth_bytes_per_s, rate(hardware, dtype)
    for key, value in (("memory_bandwidth_bytes_per_s", bandwidth), ("dense_flops_per_s.bf16", flops_per_s)):
        if value is None:
            raise InputError(
                f"{hardware.profile}: `{key}` is unknown, and times need it",
                hint="write it into a profile of your own, or take another device",
            )
    assert bandwidth is not None
    assert flops_per_s is not None
    return Device(bandwidth, flops_per_s, (hardware.l2_bytes or 0) if warm else 0)
