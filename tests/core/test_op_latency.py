"""Times of plain operations, part by part, against arithmetic worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.attention_latency import (
    DecodeConstants,
    PrefillConstants,
    decode_s,
    grouped,
    latent,
    prefill_s,
    seen_tokens,
)
from moeplan.core.collective_latency import (
    CollectiveConstants,
    ExchangeConstants,
    OneShotConstants,
    collective_s,
    engine_all_reduce_s,
    exchange_s,
    one_shot_s,
)
from moeplan.core.errors import InputError
from moeplan.core.hardware import DenseRates, Hardware, Pcie, ScaleUp
from moeplan.core.matmul_latency import MatmulConstants, matmul_s
from moeplan.core.op_device import OpDevice, bytes_from_memory, op_device, smooth_maximum

MATMUL = MatmulConstants(
    fixed_s=5e-6, memory_fraction=0.8, startup_bytes=1e6, cache_speedup=4.0, cache_fraction=0.8, compute_fraction=0.5,
    tile_rows=128.0, overlap=1.0, fill_tiles=10.0, cast_factor=2.0,
)  # fmt: skip
DECODE = DecodeConstants(
    fixed_s=8e-6, memory_fraction=0.8, cache_speedup=4.0, cache_fraction=0.8, compute_fraction=0.5, token_s=1e-9,
    split_tokens=1000.0, overlap=1.0, traffic_factor=3.0, group_rows=16.0, block_s=1e-8, tile_tokens=64.0, wide_factor=0.5,
)  # fmt: skip
PREFILL = PrefillConstants(
    fixed_s=10e-6, compute_fraction=0.5, fill_blocks=50.0, tile_tokens=100.0, traffic_factor=2.0, cache_speedup=4.0,
    cache_fraction=0.8, overlap=1.0, row_s=1e-10, token_s=2e-9,
)  # fmt: skip
NCCL = CollectiveConstants(
    fixed_s=5e-6, step_s=2e-6, link_fraction=0.8, growth=1.1, startup_bytes=4e6, startup_reach=0.5
)
OWN = OneShotConstants(
    fixed_s=4e-6, step_s=1e-7, one_shot_fraction=0.5, two_shot_fraction=0.5, two_shot_s=3e-6, growth=1.0, most_bytes=8e6
)
EXCHANGE = ExchangeConstants(
    fixed_s=10e-6, far_s=20e-6, expert_s=1e-8, queue_s=1e-6, link_fraction=0.5, network_bytes_per_s=50e9, overlap=1.0
)
DEVICE = OpDevice(1e12, 100e12, 0.0, 400e9)


# Devices ------------------------------------------------------------------------------------------------------


def test_a_device_is_its_profile_and_its_link_the_best_that_it_names() -> None:
    card = Hardware(
        "x", "X", memory_bandwidth_bytes_per_s=5, l2_bytes=7, dense_flops_per_s=DenseRates(bf16=3, fp8=6),
        scale_up=ScaleUp("NVLink", 11, 72), pcie=Pcie(4, 16),
    )  # fmt: skip
    assert op_device(card, "bfloat16", cached=False) == OpDevice(5, 3, 0, 11, 72)
    assert op_device(card, "fp8", cached=True) == OpDevice(5, 6, 7, 11, 72)
    # 16 GT/s x 16 lanes x 128 / 130 bits: 31.5 GB/s.
    assert op_device(card._replace(scale_up=None), "fp8", cached=False).link_bytes_per_s == pytest.approx(
        31.5e9, rel=1e-3
    )
    assert op_device(card._replace(scale_up=None, pcie=None), "fp8", cached=False).link_bytes_per_s == 0
    with pytest.raises(InputError, match="`memory_bandwidth_bytes_per_s` is unknown"):
        op_device(card._replace(memory_bandwidth_bytes_per_s=None), "fp8", cached=False)


def test_the_smooth_maximum_reaches_from_the_sum_to_the_larger() -> None:
    assert smooth_maximum(3, 4, 0) == 7
    assert smooth_maximum(3, 4, 1) == pytest.approx(5)
    assert smooth_maximum(3, 4, 100) == pytest.approx(4)
    assert smooth_maximum(0, 4, 1) == smooth_maximum(4, 0, 1) == 4


def test_bytes_come_from_the_cache_until_they_outgrow_it() -> None:
    assert bytes_from_memory(100, 0, 4, 0.8) == 100
    assert bytes_from_memory(100, 1e6, 4, 0.8) == pytest.approx(25)
    assert bytes_from_memory(1e9, 1e6, 4, 0.8) == pytest.approx(1e9)
    # At the edge half is found: 40 + 40 / 4.
    assert bytes_from_memory(80, 100, 4, 0.8) == pytest.approx(50)


# Products -----------------------------------------------------------------------------------------------------


def test_a_product_by_hand() -> None:
    # 2 x 1000 x 2000 + 2 x 10 x 2000 + 2 x 10 x 1000 bytes and 1 MB until the memory is busy, at 0.8 TB/s
    memory = (4_000_000 + 40_000 + 20_000 + 1_000_000) / 0.8e12
    # Tiles of 16 for 10 rows: (10 + 8) x (1000 + 64), and ten tiles of 16 x 128 idle; 2 x 2000 operations each, 50 Tflop/s
    compute = 2 * 2000 * (18 * 1064 + 10 * 16 * 128) / 50e12
    assert matmul_s(MATMUL, DEVICE, 2, 2, 10, 1000, 2000) == pytest.approx(5e-6 + math.hypot(memory, compute))


def test_narrow_operands_are_cast() -> None:
    overhead = matmul_s(MATMUL, DEVICE, 1, 1, 10, 1000, 2000) - matmul_s(
        MATMUL._replace(cast_factor=1e-9), DEVICE, 1, 1, 10, 1000, 2000
    )
    # Two bytes read and one written for 10 x 2000 values, twice: 120 kB at 1 TB/s
    assert overhead == pytest.approx(120e-9)


def test_rows_are_padded_by_half_a_tile() -> None:
    many = MATMUL._replace(overlap=1e9, fill_tiles=1e-9, fixed_s=1e-12)
    for rows, padded in ((1000, 1064), (10_000, 10_064)):
        found = matmul_s(many, DEVICE._replace(bandwidth_bytes_per_s=1e18), 2, 2, rows, 936, 1000)
        assert found == pytest.approx(2 * 1000 * padded * 1000 / 50e12, rel=1e-5)


# Attention ----------------------------------------------------------------------------------------------------


def test_decode_by_hand() -> None:
    # 4 sequences, 999 cached tokens and the new one; 32 heads of 8 KV heads with 128 values.
    shape = grouped(32, 8, 128)
    tokens = 1000 + 64 * 64 / 1064
    memory = 4 * 8 * 256 * 2 * tokens / 0.8e12
    # 4 heads share one, padded to 16 rows: 2 x 256 operations each
    compute = 2 * 256 * 4 * 8 * 16 * tokens / 50e12
    pieces = 1e-9 * 1000 * 1000 / 2000
    traffic = 3 * 4 * 32 * 256 * 2 / 1e12
    expected = 8e-6 + math.hypot(memory, compute) + pieces + 32 * 1e-8 + traffic
    assert decode_s(DECODE, DEVICE, 2, 4, 999, shape) == pytest.approx(expected)


def test_wide_groups_read_the_cache_for_each_head() -> None:
    narrow, wide = (
        decode_s(DECODE._replace(wide_factor=factor), DEVICE, 2, 64, 8191, grouped(96, 2, 128))
        for factor in (1e-9, 1.0)
    )
    # 64 x 96 x 512 bytes x 8192 tokens: 25.8 GB at 1 TB/s
    assert wide - narrow == pytest.approx(25.8e-3, rel=0.2)
    one, other = (
        decode_s(DECODE._replace(wide_factor=factor), DEVICE, 2, 64, 8191, grouped(64, 2, 128))
        for factor in (1e-9, 1.0)
    )
    assert one == other


def test_latent_attention_reads_one_entry_for_all_heads() -> None:
    shape = latent(16, 512, 64)
    assert (shape.kv_heads, shape.key_dim, shape.value_dim, shape.entry_values) == (1, 576, 512, 576)
    assert shape.latent
    assert not grouped(32, 8, 128).latent
    # Many tokens: 64 x 576 x 2 bytes each.
    slope = decode_s(DECODE, DEVICE, 2, 64, 200_000, shape) - decode_s(DECODE, DEVICE, 2, 64, 100_000, shape)
    memory, compute = 64 * 576 * 2 * 1e5 / 0.8e12, 2 * 1088 * 64 * 16 * 1e5 / (100e12 * 580 / 989)
    assert slope == pytest.approx(math.hypot(memory, compute), rel=0.01)


def test_prefill_by_hand() -> None:
    shape = grouped(32, 8, 128)
    row = 2 * 256 * (500 + (2000 + 100) / 2)
    compute = 3 * 32 * (2000 + 50) * row / 50e12
    fill = 50 * 128 * row / 50e12
    # Queries, keys, values, results of 6000 new tokens, and 500 old tokens of three sequences.
    traffic = 2 * (6000 * 40 * 256 * 2 + 3 * 8 * 500 * 256 * 2) / 1e12
    expected = 10e-6 + fill + math.hypot(compute, traffic) + 1e-10 * 6000 + 2e-9 * 2000
    assert prefill_s(PREFILL, DEVICE, 2, 3, 2000, 500, shape) == pytest.approx(expected)


@pytest.mark.parametrize(("new", "past", "reach"), [(300, 0, 128), (300, 100, 128), (300, 500, 128), (60, 50, 128)])
def test_a_query_within_a_window_sees_no_more(new: int, past: int, reach: int) -> None:
    # Query i comes after past + i tokens and sees half of itself, as the causal half of a product has it.
    counted = sum(min(past + i + 0.5, reach) for i in range(new)) / new
    assert seen_tokens(new, past, reach) == pytest.approx(counted, rel=1e-3)
    assert seen_tokens(new, past, math.inf) == past + new / 2


def test_a_prompt_in_a_window_takes_operations_of_the_window_alone() -> None:
    # Blocks outside of a window are not computed: 128 of 16,384 tokens, which see 8,192 on average without one.
    whole, within = (
        prefill_s(PREFILL, DEVICE, 2, 4, 16_384, 0, grouped(64, 8, 64), reach) for reach in (math.inf, 128)
    )
    assert whole > 20 * within


# Collectives --------------------------------------------------------------------------------------------------


def test_a_ring_by_hand() -> None:
    # 8 devices: 2 x 7 / 8 x 64 MB = 112 MB at 320 GB/s; the pipeline: 4 MB x 112 / (112 + 2)
    found = collective_s(NCCL, DEVICE, 8, 64e6, passes=2)
    assert found == pytest.approx(5e-6 + 7 * 2e-6 + (112e6 + 4e6 * 112 / 114) / 320e9)
    # 4 devices reach 1 / 1.1 of that share, and an all-gather passes once.
    assert collective_s(NCCL, DEVICE, 4, 64e6) == pytest.approx(11e-6 + (48e6 + 4e6 * 48 / 50) / (320e9 / 1.1))


def test_an_engines_own_all_reduce_takes_one_shot_or_two_and_leaves_large_messages() -> None:
    # 7 x 100 kB at 200 GB/s are 3.5 us; in two shots 3 us and 175 kB: 0.875 us more. 4.7 us before either.
    assert one_shot_s(OWN, DEVICE, 8, 100e3) == pytest.approx(4.7e-6 + 3.5e-6)
    assert one_shot_s(OWN, DEVICE, 8, 1e6) == pytest.approx(4.7e-6 + 3e-6 + 8.75e-6)
    assert engine_all_reduce_s(OWN, NCCL, DEVICE, 8, 100e3) == one_shot_s(OWN, DEVICE, 8, 100e3)
    assert engine_all_reduce_s(OWN, NCCL, DEVICE, 8, 8e6) == collective_s(NCCL, DEVICE, 8, 8e6, passes=2)


def test_alone_there_is_nothing_to_exchange() -> None:
    assert collective_s(NCCL, DEVICE, 1, 1e9) == one_shot_s(OWN, DEVICE, 1, 1e9) == 0
    assert exchange_s(EXCHANGE, DEVICE, 2, 1, 100, 7168, 256, 8) == 0


def test_an_exchange_by_hand() -> None:
    # 100 tokens x 8 x 1000 values x 2 bytes: 1.6 MB, of which 7 / 8 leave at 200 GB/s; 256 experts
    wire, base = 1.4e6 / 200e9, 10e-6 + 2.56e-6
    assert exchange_s(EXCHANGE, DEVICE, 2, 8, 100, 1000, 256, 8) == pytest.approx(
        math.hypot(wire, base) + 1e-6 * 100 / 256
    )
    # 16 devices: 7 / 16 by the link, 8 / 16 over the network, and half of its 20 us
    wire, base = 0.7e6 / 200e9 + 0.8e6 / 50e9, 12.56e-6 + 10e-6
    assert exchange_s(EXCHANGE, DEVICE, 2, 16, 100, 1000, 256, 8) == pytest.approx(
        math.hypot(wire, base) + 1e-6 * 100 / 256
    )


def test_no_work_takes_the_fixed_time() -> None:
    assert matmul_s(MATMUL, DEVICE, 2, 2, 0, 1000, 1000) == 5e-6
    assert decode_s(DECODE, DEVICE, 2, 0, 1000, grouped(8, 1, 128)) == 8e-6
    assert prefill_s(PREFILL, DEVICE, 2, 1, 0, 1000, grouped(8, 1, 128)) == 10e-6
    assert collective_s(NCCL, DEVICE, 8, 0) == pytest.approx(5e-6 + 14e-6)
    assert one_shot_s(OWN, DEVICE, 8, 0) == pytest.approx(4.7e-6)


# Properties ---------------------------------------------------------------------------------------------------

MORE = st.floats(1, 10)
DEVICES = st.sampled_from([DEVICE, DEVICE._replace(cache_bytes=50e6)])
LOOSE = 1 + 1e-12


@given(st.integers(1, 9000), st.integers(64, 70_000), st.integers(64, 70_000), MORE, DEVICES)
def test_a_larger_product_is_never_quicker_and_a_better_device_never_slower(
    m: int, n: int, k: int, more: float, device: OpDevice
) -> None:
    for weight, operand in ((2, 2), (0.5625, 0.5625), (0.5, 2)):
        base = matmul_s(MATMUL, device, weight, operand, m, n, k)
        assert base > MATMUL.fixed_s
        for larger in ((m * more, n, k), (m, n * more, k), (m, n, k * more)):
            assert matmul_s(MATMUL, device, weight, operand, *larger) * LOOSE >= base
        for better in _better(device, more):
            assert matmul_s(MATMUL, better, weight, operand, m, n, k) <= base * LOOSE


@given(
    st.integers(1, 2048), st.integers(0, 130_000), st.sampled_from([(8, 1), (32, 8), (96, 2), (64, 64)]), MORE, DEVICES
)
def test_more_attention_is_never_quicker_and_a_better_device_never_slower(
    batch: int, tokens: int, heads: tuple[int, int], more: float, device: OpDevice
) -> None:
    shape = grouped(*heads, 128)
    base = decode_s(DECODE, device, 2, batch, tokens, shape)
    assert decode_s(DECODE, device, 2, batch * more, tokens, shape) * LOOSE >= base
    assert decode_s(DECODE, device, 2, batch, tokens * more, shape) * LOOSE >= base
    assert (
        decode_s(DECODE, device._replace(cache_bytes=0), 1, batch, tokens, shape) <= base * LOOSE or device.cache_bytes
    )
    first = prefill_s(PREFILL, device, 2, batch, tokens, 100, shape)
    assert prefill_s(PREFILL, device, 2, batch * more, tokens, 100, shape) * LOOSE >= first
    assert prefill_s(PREFILL, device, 2, batch, tokens * more, 100, shape) * LOOSE >= first
    assert prefill_s(PREFILL, device, 2, batch, tokens, 100 * more, shape) * LOOSE >= first
    for better in _better(device, more):
        assert decode_s(DECODE, better, 2, batch, tokens, shape) <= base * LOOSE
        assert prefill_s(PREFILL, better, 2, batch, tokens, 100, shape) <= first * LOOSE


@given(st.sampled_from([2, 3, 4, 8]), st.floats(0, 1e9), MORE)
def test_more_bytes_are_never_quicker_and_a_faster_link_never_slower(gpus: int, num_bytes: float, more: float) -> None:
    faster = DEVICE._replace(link_bytes_per_s=DEVICE.link_bytes_per_s * more)
    calls: tuple[Callable[[OpDevice, float], float], ...] = (
        lambda device, size: collective_s(NCCL, device, gpus, size, passes=2),
        lambda device, size: one_shot_s(OWN, device, gpus, size),
        lambda device, size: engine_all_reduce_s(OWN, NCCL, device, gpus, size),
        lambda device, size: exchange_s(EXCHANGE, device, 2, gpus, size / 1e6, 7168, 256, 8),
    )
    for call in calls:
        base = call(DEVICE, num_bytes)
        assert call(DEVICE, num_bytes * more) * LOOSE >= base
        assert call(faster, num_bytes) <= base * LOOSE


def _better(device: OpDevice, more: float) -> tuple[OpDevice, ...]:
    return (
        device._replace(bandwidth_bytes_per_s=device.bandwidth_bytes_per_s * more),
        device._replace(flops_per_s=device.flops_per_s * more),
        device._replace(cache_bytes=1e7 * more) if not device.cache_bytes else device,
    )
