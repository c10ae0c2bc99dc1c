"""Constants of plain operations: every one has rows, a source and an error; what is borrowed is said, and widens the band."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from moeplan.core.attention_latency import grouped, latent
from moeplan.core.errors import InputError, UnknownError
from moeplan.core.hardware import Hardware
from moeplan.core.op_set import OPERATIONS, SIZES, OpSet, choose_op
from moeplan.core.op_times import OpTime, OpTimes
from moeplan.sources.hardware_profiles import read_hardware
from moeplan.sources.op_constants import BORROWING, all_ops, op_borrowing, op_times, read_ops
from moeplan.sources.profile_folders import builtin_folder

FOLDER = builtin_folder("kernels") / "ops"
SETS = all_ops(FOLDER)
SHAPE = grouped(32, 8, 128)
MEASURED = ("nvidia-a100-sxm-80gb", "nvidia-h100-sxm", "nvidia-b200-sxm", "nvidia-l40s")


def gpu(profile: str) -> Hardware:
    return read_hardware(builtin_folder("hardware") / f"{profile}.yaml")


def times(profile: str, engine: str = "vllm", dtype: str = "bfloat16", cache_dtype: str = "bfloat16") -> OpTimes:
    found = op_times(gpu(profile), engine, dtype, cache_dtype=cache_dtype)
    assert found is not None
    return found


# The files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "each",
    SETS,
    ids=lambda each: (
        f"{each.operation}-{each.hardware}-{each.backend}-{each.dtype}-{each.operand_dtype}-{each.kernel[:12]}"
    ),
)
def test_no_constant_without_rows_source_and_error(each: OpSet) -> None:
    assert sum(each.rows.values()) >= 12
    assert all(count > 0 for count in each.rows.values())
    assert "aiconfigurator" in each.source
    assert "Apache-2.0, NVIDIA CORPORATION & AFFILIATES" in each.source
    assert each.median_error > 0
    assert 0 < each.mean_error < 1
    assert "did not see" in each.judged
    assert each.version
    assert all(value > 0 for value in each.constants)
    assert [band.most for band in each.bands] == [*SIZES[each.operation][1], math.inf]
    assert all(band.low < 1 < band.high for band in each.bands)
    assert (each.architecture, each.compute_capability) == (
        gpu(each.hardware).architecture, gpu(each.hardware).compute_capability,
    )  # fmt: skip


def test_every_device_engine_and_library_that_was_measured_is_there() -> None:
    for operation in ("matmul", "attention_decode", "attention_prefill"):
        assert {(each.hardware, each.backend) for each in SETS if each.operation == operation} == {
            (hardware, backend) for hardware in MEASURED for backend in ("vllm", "sglang", "trtllm")
        }
    assert {each.hardware for each in SETS if each.backend == "nccl"} == set(MEASURED)
    assert {each.operation for each in SETS} == set(OPERATIONS)


def test_every_way_of_borrowing_has_a_source_and_those_tried_have_rows_and_error() -> None:
    widths = yaml.safe_load((FOLDER / BORROWING).read_text(encoding="utf-8"))["widths"]
    for entry in widths:
        assert len(entry["source"]) > 40, entry
        assert bool(entry.get("rows")) == bool(entry.get("error")) == ("operation" in entry), entry
        assert entry.get("rows") or "assumed" in entry["source"], entry
    found = op_borrowing(FOLDER / BORROWING)
    for kind in ("other_architecture", "other_backend", "other_dtype", "same_architecture", "other_vendor"):
        assert (None, kind) in found
    assert ("matmul", "other_architecture") in found
    assert all(band.low < 1 < band.high for bands in found.values() for band in bands)


# The choice ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("profile", MEASURED)
def test_a_device_that_was_measured_borrows_nothing(profile: str, engine: str) -> None:
    found = times(profile, engine)
    exchange = ("expert_dispatch", "expert_combine")
    assert all(each.borrowed == () for name, each in found.resolved.items() if name not in exchange)
    assert found.matmul_s(64, 4096, 4096).basis == "measured"
    assert found.attention_decode_s(8, 4096, SHAPE).basis == "measured"
    assert found.attention_prefill_s(1, 4096, 0, SHAPE).basis == "measured"
    assert found.all_reduce_s(8, 2**20).basis == "measured"
    # DeepEP was measured on an H100 and a B200.
    deepep = profile in ("nvidia-h100-sxm", "nvidia-b200-sxm")
    assert found.expert_dispatch_s(8, 64, 7168, 256, 8).basis == ("measured" if deepep else "carried")
    assert bool(found.remarks) != deepep


def test_what_is_borrowed_is_said_and_has_a_wider_band() -> None:
    own, kin, foreign, vendor = (
        times(name)
        for name in ("nvidia-h100-sxm", "nvidia-h200-sxm", "nvidia-rtx-pro-6000-blackwell-server", "amd-mi300x")
    )
    assert own.remarks == ()
    for each, origin in ((kin, "nvidia-h100-sxm"), (foreign, "nvidia-l40s"), (vendor, "nvidia-h100-sxm")):
        assert any(origin in remark.message and "matmul" in remark.message for remark in each.remarks)
        assert each.matmul_s(64, 4096, 4096).basis == "carried"
    calls: tuple[Callable[[OpTimes], OpTime], ...] = (
        lambda each: each.matmul_s(64, 4096, 4096),
        lambda each: each.attention_decode_s(8, 4096, SHAPE),
        lambda each: each.attention_prefill_s(1, 4096, 0, SHAPE),
    )
    for call in calls:
        width = [call(each).high_s / call(each).low_s for each in (own, kin, foreign, vendor)]
        assert width == sorted(width)
        assert len(set(width)) == 4


def test_a_card_whose_matrix_units_are_not_known_has_no_times() -> None:
    # The rate of its vectors (31.2 Tflop/s) is several times lower than that of its matrix units, and is not taken for it.
    with pytest.raises(InputError, match=r"nvidia-a10: `dense_flops_per_s\.bf16` is unknown"):
        times("nvidia-a10")


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_latent_attention_of_many_heads_is_what_its_kernels_reach(engine: str) -> None:
    # deepseek-ai/FlashMLA, README: up to 580 Tflop/s where operations bind on an H800, whose rate is an H100's. All 128 heads
    # of DeepSeek-V3 on one rank: 2 (576 + 512) operations for each, of 64 sequences of 8,000 tokens.
    found = times("nvidia-h100-sxm", engine).attention_decode_s(64, 8000, latent(128, 512, 64))
    published_s = 2 * (576 + 512) * 128 * 64 * 8000 / 580e12
    assert found.low_s <= published_s <= found.high_s
    assert 0.8 * published_s < found.seconds < 1.7 * published_s


def test_a_faster_memory_is_felt_where_constants_are_carried() -> None:
    # 3.35 and 4.8 TB/s: 8 GB of cache take a share of the bandwidth of either.
    slow, fast = (
        times(name).attention_decode_s(64, 32_768, SHAPE).seconds for name in ("nvidia-h100-sxm", "nvidia-h200-sxm")
    )
    assert slow / fast == pytest.approx(4.8 / 3.35, rel=0.05)


def test_a_bus_borrows_from_a_bus() -> None:
    # A100 and H100 cards without NVLink share a bus as the L40S does, whatever their architecture.
    card = gpu("nvidia-a100-sxm-80gb")._replace(profile="nvidia-a100-on-a-bus", scale_up=None)
    found = op_times(card, "vllm", "bfloat16")
    assert found is not None
    assert found.all_reduce_s(8, 2**26).seconds > 5 * times("nvidia-a100-sxm-80gb").all_reduce_s(8, 2**26).seconds
    assert "engine_all_reduce" not in found.resolved


def test_small_messages_take_the_engines_own_kernel() -> None:
    found = times("nvidia-h100-sxm", "vllm")
    # NCCL takes 16 us for 512 bytes on 8 H100 and vLLM's own 4.7 (public rows).
    assert found.all_reduce_s(8, 512).seconds == pytest.approx(4.7e-6, rel=0.2)
    assert found.all_gather_s(8, 512).seconds == pytest.approx(10e-6, rel=0.2)
    sizes = [found.all_reduce_s(8, 2**power).seconds for power in range(8, 30)]
    assert sizes == sorted(sizes)


def test_what_was_timed_at_the_pace_of_the_host_is_lent_to_nobody() -> None:
    # Any small product took vLLM 0.24 57 us and more in block fp8; the same kernel under another engine stands in.
    slow = [each for each in SETS if each.host_bound]
    assert {(each.backend, each.dtype) for each in slow} == {("vllm", "fp8_block")}
    found = times("nvidia-h100-sxm", "vllm", "fp8_block")
    assert found.resolved["matmul"].borrowed == ("other_backend",)
    assert found.matmul_s(1, 4096, 4096).seconds < 40e-6


def test_kernels_change_with_the_size_where_the_engine_changes_them() -> None:
    wide = next(
        each
        for each in SETS
        if (each.operation, each.hardware, each.backend) == ("matmul", "nvidia-h100-sxm", "trtllm")
    )
    small = wide._replace(kernel="small", most=16.0)
    chosen = choose_op((wide, small), "matmul", gpu("nvidia-h100-sxm"), "trtllm", wide.dtype)
    assert chosen == ((small, wide), ())


def test_alone_nothing_is_exchanged_and_beyond_the_link_nothing_is_known() -> None:
    found = times("nvidia-h100-sxm")
    for each in (found.all_reduce_s(1, 2**30), found.all_to_all_s(1, 5), found.expert_combine_s(1, 5, 5, 5, 1)):
        assert each == (0, 0, 0, "measured")
    with pytest.raises(UnknownError, match="16 devices lie beyond the 8 that one link joins"):
        found.all_reduce_s(16, 2**20)
    assert found.expert_dispatch_s(32, 64, 7168, 256, 8).seconds > found.expert_dispatch_s(8, 64, 7168, 256, 8).seconds
    card = gpu("nvidia-h100-sxm")._replace(scale_up=None, pcie=None)
    lone = op_times(card, "vllm", "bfloat16")
    assert lone is not None
    assert lone.matmul_s(1, 64, 64).seconds > 0
    with pytest.raises(InputError, match="`links` name neither"):
        lone.all_reduce_s(2, 5)


def test_latent_attention_is_carried_with_a_wide_band() -> None:
    found = times("nvidia-h100-sxm").attention_decode_s(16, 8192, latent(16, 512, 64))
    assert found.basis == "carried"
    assert found.high_s / found.low_s > 4


def test_a_cpu_has_none_and_a_strange_format_moves_as_16_bit() -> None:
    assert op_times(gpu("cpu-2ch-ddr5-5600"), "vllm", "bfloat16") is None
    one, other = (times("nvidia-h100-sxm", dtype=dtype).matmul_s(64, 4096, 4096) for dtype in ("q4_k", "bfloat16"))
    assert one == other


def test_calls_are_quick() -> None:
    found = times("nvidia-h100-sxm")
    begun = time.process_time()
    for i in range(10_000):
        found.matmul_s(i + 1, 4096, 4096)
    assert time.process_time() - begun < 0.5  # 3 us each on one core


# Broken files -------------------------------------------------------------------------------------------------

GOOD = (FOLDER / "nvidia-l40s-nccl.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("schema: 1", "schema: 2", "`schema` is 2"),
        ("source: ", "sauce: ", "`source` is missing"),
        ("    rows: {gpus=2: 21, gpus=4: 21, gpus=8: 21}\n", "", "a set needs its rows, its error and a source"),
        ("gpus=2: 21", "gpus=2: 0", "is 0"),
        (', judged: "rows whose GPUs the fit did not see"', "", "needs mean, median and what it was judged on"),
        ("      growth: ", "      grow: ", "`operations.constants.grow` is not a known key"),
        ("operation: all_gather", "operation: all_smile", "`operations.operation` is all_smile"),
        ("most: 65536", "most: 4", "needs a range up to each of 65536, 4.1943e\\+06"),
        ("link: host", "link: rope", "`link` is rope"),
    ],
)
def test_a_broken_file_names_the_key(old: str, new: str, problem: str, tmp_path: Path) -> None:
    assert old in GOOD
    path = tmp_path / "file.yaml"
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=problem):
        read_ops(path)


def test_a_width_without_rows_error_or_a_word_of_doubt_is_refused(tmp_path: Path) -> None:
    path = tmp_path / BORROWING
    path.write_text(
        "schema: 1\nwidths: [{kind: other_dtype, source: somebody said so, low: 0.5, high: 2}]\n", encoding="utf-8"
    )
    with pytest.raises(InputError, match="a width that was measured needs rows and error"):
        op_borrowing(path)
