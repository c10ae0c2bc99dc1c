"""The latency model, part by part, against arithmetic worked by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.errors import InputError
from moeplan.core.hardware import DenseRates, Hardware
from moeplan.core.latency import (
    VALUE_BYTES,
    Band,
    Device,
    ExpertShape,
    KernelConstants,
    Load,
    band_at,
    device_of,
    parts,
    predict,
    rate,
    value_bytes,
    work,
)
from moeplan.core.quant import BF16 as BF16_WEIGHT
from moeplan.core.quant import FP8_BLOCK, FP8_TENSOR, FP32, MXFP4, NVFP4, PACKED_INT4

CONSTANTS = KernelConstants(
    fixed_s=20e-6,
    expert_s=1e-7,
    memory_fraction=0.8,
    startup_bytes=4e6,
    cache_speedup=4.0,
    cache_fraction=0.8,
    compute_fraction=0.5,
    tile_rows=128.0,
    overlap=1.0,
    traffic_factor=2.0,
    remote_fraction=0.25,
    routing_factor=10.0,
)
DEVICE = Device(bandwidth_bytes_per_s=1e12, flops_per_s=100e12)
BF16 = VALUE_BYTES["bfloat16"]
SHAPE = ExpertShape(hidden=1000, width=500, experts=64, experts_on_rank=16, experts_per_token=4, value_bytes=BF16)
LOAD = Load(tokens=100, distinct=10, rows=80)


def test_bytes_and_operations_of_a_load() -> None:
    found = work(SHAPE, LOAD)
    # 3 matrices of 1000 x 500: 1.5 million weights an expert, 3 MB; 10 experts touched.
    assert found.weight_bytes == 10 * 3_000_000
    assert found.flops_per_row == 3_000_000
    # Six bytes for each of 1000 and of 500 values.
    assert found.row_bytes == 9000
    # 100 tokens choose 4 each; 80 of those are here.
    assert (found.rows, found.remote_rows) == (80, 320)
    # 64 scores of four bytes for each token.
    assert found.routing_bytes == 25_600


def test_without_a_gate_a_third_of_the_weights_is_missing() -> None:
    found = work(SHAPE._replace(gated=False), LOAD)
    assert found.weight_bytes == 10 * 2_000_000
    assert found.flops_per_row == 2_000_000
    assert found.row_bytes == 6 * 1000 + 4 * 500


def test_rows_of_other_formats_move_other_bytes() -> None:
    """1000 x (operand + 2 results) + 500 x (operand + gate and up)."""

    def row_bytes(dtype: str, *, gated: bool = True) -> float:
        return work(SHAPE._replace(value_bytes=VALUE_BYTES[dtype], gated=gated), LOAD).row_bytes

    assert row_bytes("float16") == row_bytes("bfloat16") == 9000
    assert row_bytes("float32") == 2 * 9000
    # One byte an operand, two a result: 1000 x (1 + 4) + 500 x (1 + 4); without a gate 500 x (1 + 2).
    assert row_bytes("fp8") == 7500
    assert row_bytes("fp8", gated=False) == 6500
    # A float32 for 128 values: 4 / 128 more for each of 1500 operands.
    assert row_bytes("fp8_block") == 7500 + 1500 / 32
    # Half a byte, and a byte for 16 values: 1000 x (0.5625 + 4) + 500 x (0.5625 + 4).
    assert row_bytes("nvfp4") == 6843.75
    # Weights alone are small.
    assert row_bytes("int4_wo") == row_bytes("w4a16_mxfp4") == 9000


def test_weights_take_what_checkpoints_of_their_format_take() -> None:
    stored = {
        "bfloat16": BF16_WEIGHT, "float32": FP32, "fp8": FP8_TENSOR, "fp8_block": FP8_BLOCK, "nvfp4": NVFP4,
        "int4_wo": PACKED_INT4, "w4a16_mxfp4": MXFP4,
    }  # fmt: skip
    for name, weight_format in stored.items():
        assert VALUE_BYTES[name].weight * 8 == weight_format.bits_per_weight, name


def test_every_part_by_hand() -> None:
    found = parts(CONSTANTS, DEVICE, work(SHAPE, LOAD))
    assert found.fixed_s == 20e-6
    assert found.experts_s == pytest.approx(10 * 1e-7)
    # (30 MB + 4 MB) / (0.8 x 1 TB/s) = 42.5 us
    assert found.memory_s == pytest.approx(42.5e-6)
    # 80 rows over 10 experts are 8 rows, below the smallest tile of 16: each pads by 8. 160 rows x 3e6 / 50e12 = 9.6 us
    assert found.compute_s == pytest.approx(9.6e-6)
    # q = 2: sqrt(42.5^2 + 9.6^2) = 43.5708...
    assert found.weights_s == pytest.approx(math.hypot(42.5, 9.6) * 1e-6)
    # 2 x 9000 bytes x (80 + 0.25 x 320) rows / 1 TB/s = 2.88 us
    assert found.traffic_s == pytest.approx(2.88e-6)
    # 10 x 25,600 bytes / 1 TB/s = 0.256 us
    assert found.routing_s == pytest.approx(0.256e-6)
    assert found.total_s == pytest.approx((20 + 1 + math.hypot(42.5, 9.6) + 2.88 + 0.256) * 1e-6)
    assert found.binding == "memory"


@pytest.mark.parametrize(
    ("rows", "padded"),
    [
        (10, 10 + 10 * 8),  # one row each: half of the smallest tile
        (640, 640 + 10 * 32),  # 64 rows each: tiles follow the rows, half of 64
        (5000, 5000 + 10 * 64),  # 500 rows each: half of the largest tile
    ],
)
def test_rows_are_padded_by_half_a_tile(rows: int, padded: int) -> None:
    found = parts(CONSTANTS, DEVICE, work(SHAPE, Load(100, 10, rows)))
    assert found.compute_s == pytest.approx(padded * 3e6 / 50e12)


def test_overlap_reaches_from_the_sum_to_the_larger() -> None:
    asked = work(SHAPE, Load(2000, 10, 1000))
    apart = parts(CONSTANTS._replace(overlap=1e-9), DEVICE, asked)
    assert apart.weights_s == pytest.approx(apart.memory_s + apart.compute_s)
    hidden = parts(CONSTANTS._replace(overlap=60.0), DEVICE, asked)
    assert hidden.weights_s == pytest.approx(max(hidden.memory_s, hidden.compute_s))


def test_weights_come_from_a_warm_cache_until_they_outgrow_it() -> None:
    asked = work(SHAPE, LOAD)
    cold = parts(CONSTANTS, DEVICE, asked)
    # 30 MB in 500 MB of cache: read four times as fast. (30 / 4 + 4) MB / 0.8 TB/s = 14.375 us
    assert parts(CONSTANTS, DEVICE._replace(warm_cache_bytes=500e6), asked).memory_s == pytest.approx(
        14.375e-6, rel=1e-4
    )
    assert parts(CONSTANTS, DEVICE._replace(warm_cache_bytes=10e6), asked).memory_s == pytest.approx(
        cold.memory_s, rel=0.01
    )
    # At the edge, 30 MB in 0.8 x 37.5 MB, half is found: (15 + 15 / 4 + 4) / 0.8
    edge = parts(CONSTANTS, DEVICE._replace(warm_cache_bytes=37.5e6), asked)
    assert edge.memory_s == pytest.approx((15 + 3.75 + 4) / 0.8 * 1e-6)


def test_a_rank_without_rows_still_routes() -> None:
    found = parts(CONSTANTS, DEVICE, work(SHAPE, Load(tokens=1, distinct=0, rows=0)))
    assert (found.experts_s, found.memory_s, found.compute_s, found.weights_s) == (0, 0, 0, 0)
    # One token's four rows are elsewhere: 2 x 9000 x 0.25 x 4 bytes; and 10 x 4 x 64 bytes of scores.
    assert found.total_s == pytest.approx(20e-6 + 18e-9 + 2.56e-9)
    assert found.binding == "fixed"


@pytest.mark.parametrize(
    ("load", "device", "binding"),
    [
        (Load(1, 1, 1), DEVICE, "fixed"),
        (Load(64, 16, 64), DEVICE, "memory"),
        (Load(100_000, 16, 100_000), DEVICE, "compute"),
        (Load(100_000, 16, 10_000), DEVICE._replace(flops_per_s=1e18), "traffic"),
        (Load(10**7, 1, 1), DEVICE, "traffic"),
    ],
)
def test_the_binding_part(load: Load, device: Device, binding: str) -> None:
    assert parts(CONSTANTS, device, work(SHAPE, load)).binding == binding


def test_routing_binds_where_experts_are_many_and_small() -> None:
    shape = ExpertShape(64, 16, experts=4096, experts_on_rank=4, experts_per_token=1, value_bytes=BF16)
    assert parts(CONSTANTS, DEVICE, work(shape, Load(50_000, 4, 50))).binding == "routing"


def test_a_load_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="17 distinct experts of 16"):
        work(SHAPE, Load(100, 17, 80))
    with pytest.raises(ValueError, match="-1 rows"):
        work(SHAPE, Load(100, 10, -1))


def test_the_band_is_that_of_the_tokens() -> None:
    bands = (Band(8, 0.5, 1.5), Band(64, 0.8, 1.2), Band(float("inf"), 0.9, 1.1))
    assert [band_at(bands, tokens).low for tokens in (1, 8, 9, 64, 65, 10**6)] == [0.5, 0.5, 0.8, 0.8, 0.9, 0.9]
    found = predict(CONSTANTS, bands, DEVICE, SHAPE, LOAD)
    assert found.seconds == found.parts.total_s
    assert (found.low_s, found.high_s) == (found.seconds * 0.9, found.seconds * 1.1)
    assert found.binding == "memory"


LOADS = st.builds(
    lambda tokens, share, rows: Load(tokens, 0.01 + 15.9 * share, 1 + rows * tokens),
    st.integers(1, 20_000),
    st.floats(0, 1),
    st.floats(0, 4),
)
FACTORS = st.floats(1, 10)


@given(LOADS, FACTORS)
def test_a_better_device_is_never_slower(load: Load, more: float) -> None:
    asked = work(SHAPE, load)
    base = parts(CONSTANTS, DEVICE, asked).total_s
    faster = (
        DEVICE._replace(bandwidth_bytes_per_s=DEVICE.bandwidth_bytes_per_s * more),
        DEVICE._replace(flops_per_s=DEVICE.flops_per_s * more),
        DEVICE._replace(warm_cache_bytes=1e7 * more),
    )
    for device in faster:
        assert parts(CONSTANTS, device, asked).total_s <= base * (1 + 1e-12)


@given(LOADS, FACTORS)
def test_more_work_is_never_quicker(load: Load, more: float) -> None:
    base = parts(CONSTANTS, DEVICE, work(SHAPE, load)).total_s
    for greater in (
        load._replace(distinct=min(16.0, load.distinct * more)),
        load._replace(tokens=load.tokens * more),
        load._replace(tokens=load.tokens * more, rows=load.rows * more),
    ):
        assert parts(CONSTANTS, DEVICE, work(SHAPE, greater)).total_s >= base * (1 - 1e-12)


@given(LOADS)
def test_the_smooth_maximum_lies_between_the_maximum_and_the_sum(load: Load) -> None:
    found = parts(CONSTANTS, DEVICE, work(SHAPE, load))
    larger = max(found.memory_s, found.compute_s)
    assert larger <= found.weights_s * (1 + 1e-12)
    assert found.weights_s <= (found.memory_s + found.compute_s) * (1 + 1e-12)


def test_rates_fall_back_to_16_bit_where_the_device_or_the_format_has_no_other() -> None:
    hopper = Hardware("h", "H", dense_flops_per_s=DenseRates(bf16=989, fp16=989, fp8=1979))
    assert [rate(hopper, dtype) for dtype in ("bfloat16", "fp8", "fp8_block")] == [989, 1979, 1979]
    assert [rate(hopper, dtype) for dtype in ("nvfp4", "int4_wo", "w4a16_mxfp4")] == [989, 989, 989]
    ampere = Hardware("a", "A", dense_flops_per_s=DenseRates(bf16=312, int8=624))
    assert rate(ampere, "fp8") == 312
    turing = Hardware("t", "T", dense_flops_per_s=DenseRates(fp32=8, fp16=65))
    assert rate(turing, "bfloat16") == 65


def test_the_rate_of_vectors_is_not_that_of_matrix_units() -> None:
    # An RTX 5090 has 105 Tflop/s in 32-bit vectors, and matrix units whose 16-bit rate its profile does not know.
    unknown = Hardware("g", "G", memory_bandwidth_bytes_per_s=5, dense_flops_per_s=DenseRates(fp32=105, fp4=1676))
    assert [rate(unknown, dtype) for dtype in ("bfloat16", "int4_wo", "fp8", "nvfp4")] == [None, None, None, 1676]
    assert rate(unknown, "float32") == 105
    with pytest.raises(InputError, match=r"g: `dense_flops_per_s\.bf16` is unknown"):
        device_of(unknown, "bfloat16")


def test_rows_stay_in_16_bit_where_the_device_multiplies_no_narrower() -> None:
    hopper = Hardware("h", "H", dense_flops_per_s=DenseRates(bf16=989, fp8=1979))
    ampere = Hardware("a", "A", dense_flops_per_s=DenseRates(bf16=312, int8=624))
    assert value_bytes(hopper, "fp8") == VALUE_BYTES["fp8"]
    assert value_bytes(ampere, "fp8") == (1, 2, 2)
    assert value_bytes(hopper, "nvfp4") == (0.5625, 2, 2)
    assert value_bytes(ampere, "float32") == (4, 4, 4)


def test_a_device_is_cold_unless_said_and_an_unknown_cache_is_none() -> None:
    known = Hardware("x", "X", memory_bandwidth_bytes_per_s=5, l2_bytes=7, dense_flops_per_s=DenseRates(bf16=3))
    assert device_of(known, "bfloat16") == Device(5, 3, 0)
    assert device_of(known, "bfloat16", warm=True) == Device(5, 3, 7)
    assert device_of(known._replace(l2_bytes=None), "bfloat16", warm=True) == Device(5, 3, 0)


@pytest.mark.parametrize("missing", ["memory_bandwidth_bytes_per_s", "dense_flops_per_s"])
def test_what_a_profile_lacks_is_named(missing: str) -> None:
    known = {"memory_bandwidth_bytes_per_s": 5, "dense_flops_per_s": DenseRates(bf16=3)}
    del known[missing]
    with pytest.raises(InputError, match=f"x: `{missing}.* is unknown"):
        device_of(Hardware("x", "X", **known), "bfloat16")  # type: ignore[arg-type]
