"""Constants of kernels: every one has rows, a source and an error; what is borrowed is said, and widens the band."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from moeplan.core.errors import InputError
from moeplan.core.hardware import Hardware
from moeplan.core.kernel_set import ALIKE, NEAREST, KernelSet
from moeplan.core.latency import KernelConstants
from moeplan.sources.hardware_profiles import read_hardware
from moeplan.sources.kernel_constants import BORROWING, Chosen, all_sets, borrowing, kernel_set, read_sets
from moeplan.sources.profile_folders import builtin_folder

FOLDER = builtin_folder("kernels")
SETS = all_sets(FOLDER)


def gpu(profile: str) -> Hardware:
    return read_hardware(builtin_folder("hardware") / f"{profile}.yaml")


def chosen(
    profile: str, backend: str, dtype: str, *, expert_parallel: bool = False, version: str | None = None
) -> Chosen:
    found = kernel_set(gpu(profile), backend, dtype, expert_parallel=expert_parallel, version=version)
    assert found is not None
    return found


def width(found: Chosen) -> list[float]:
    return [band.high / band.low for band in found.kernel.bands]


# The files ----------------------------------------------------------------------------------------------------


def test_every_device_backend_and_format_that_was_measured_is_there() -> None:
    assert {(each.hardware, each.backend) for each in SETS} == {
        (hardware, backend)
        for hardware in ("nvidia-a100-sxm-80gb", "nvidia-h100-sxm", "nvidia-b200-sxm", "nvidia-l40s")
        for backend in ("vllm", "sglang", "trtllm")
    }
    assert {each.dtype for each in SETS} == set(ALIKE)


@pytest.mark.parametrize(
    "each", SETS, ids=lambda each: f"{each.hardware}-{each.backend}-{each.dtype}-{each.kernel[-20:]}"
)
def test_no_constant_without_rows_source_and_error(each: KernelSet) -> None:
    assert sum(each.rows.values()) >= 40
    assert all(count > 0 for count in each.rows.values())
    assert "aiconfigurator" in each.source
    assert "Apache-2.0, NVIDIA CORPORATION & AFFILIATES" in each.source
    assert 0 < each.median_error <= each.mean_error < 0.5
    assert ("did not see" in each.judged) == (len(each.rows) > 1)
    assert each.version
    assert all(value > 0 for value in each.constants)
    assert each.constants.memory_fraction <= 1
    assert each.constants.compute_fraction <= 1


@pytest.mark.parametrize(
    "each", SETS, ids=lambda each: f"{each.hardware}-{each.backend}-{each.dtype}-{each.kernel[-20:]}"
)
def test_every_band_has_five_ranges_that_hold_the_prediction(each: KernelSet) -> None:
    assert [band.most_tokens for band in each.bands] == [8, 64, 512, 4096, float("inf")]
    assert all(band.low < 1 < band.high for band in each.bands)


def test_sets_name_the_device_as_its_profile_does() -> None:
    for each in SETS:
        hardware = gpu(each.hardware)
        assert (each.architecture, each.compute_capability) == (hardware.architecture, hardware.compute_capability)


def test_every_way_of_borrowing_has_a_source_and_those_tried_have_rows_and_error() -> None:
    kinds = yaml.safe_load((FOLDER / BORROWING).read_text(encoding="utf-8"))["kinds"]
    assert set(kinds) == {
        "same_architecture", "other_architecture", "other_backend", "other_dtype", "other_version", "other_vendor",
    }  # fmt: skip
    for kind, entry in kinds.items():
        assert len(entry["source"]) > 40, kind
        assert bool(entry.get("rows")) == bool(entry.get("error")), kind
        assert entry.get("rows") or "assumed" in entry["source"], kind
    assert all(band.low < 1 < band.high for bands in borrowing(FOLDER / BORROWING).values() for band in bands)


def test_every_capability_of_the_profiles_knows_its_nearest() -> None:
    measured = {each.compute_capability for each in SETS}
    assert {near for order in NEAREST.values() for near in order} == measured
    for path in builtin_folder("hardware").glob("*.yaml"):
        capability = read_hardware(path).compute_capability
        if capability is not None:
            assert capability in NEAREST or capability.partition(".")[0] in NEAREST, path.name


# The choice ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("profile", ["nvidia-a100-sxm-80gb", "nvidia-h100-sxm", "nvidia-b200-sxm", "nvidia-l40s"])
def test_a_device_that_was_measured_borrows_nothing(profile: str, backend: str) -> None:
    found = chosen(profile, backend, "bfloat16")
    assert (found.borrowed, found.remarks) == ((), ())
    assert (found.kernel.hardware, found.kernel.backend, found.kernel.dtype) == (profile, backend, "bfloat16")


def test_the_kernel_is_that_of_the_layout() -> None:
    # vLLM 0.24 runs block fp8 on an H100 through Triton, and with expert parallelism through FlashInfer.
    assert "triton" in chosen("nvidia-h100-sxm", "vllm", "fp8_block").kernel.kernel
    assert "flashinfer" in chosen("nvidia-h100-sxm", "vllm", "fp8_block", expert_parallel=True).kernel.kernel
    one, many = (chosen("nvidia-h100-sxm", "vllm", "bfloat16", expert_parallel=each) for each in (False, True))
    assert one == many


@pytest.mark.parametrize(
    ("profile", "backend", "dtype", "hardware", "borrowed"),
    [
        ("nvidia-h200-sxm", "vllm", "fp8_block", "nvidia-h100-sxm", ("same_architecture",)),
        ("nvidia-h100-sxm-mig-3g-40gb", "trtllm", "fp8", "nvidia-h100-sxm", ("same_architecture",)),
        ("nvidia-gb300", "sglang", "nvfp4", "nvidia-b200-sxm", ("same_architecture",)),
        ("nvidia-rtx-4090", "vllm", "fp8", "nvidia-l40s", ("same_architecture",)),
        ("nvidia-rtx-5090", "vllm", "bfloat16", "nvidia-l40s", ("other_architecture",)),
        ("nvidia-rtx-3090", "sglang", "bfloat16", "nvidia-l40s", ("other_architecture",)),
        ("nvidia-t4", "vllm", "bfloat16", "nvidia-a100-sxm-80gb", ("other_architecture",)),
        ("nvidia-a100-sxm-80gb", "trtllm", "fp8", "nvidia-h100-sxm", ("other_architecture",)),
        ("nvidia-h100-sxm", "sglang", "fp8", "nvidia-h100-sxm", ("other_backend",)),
        ("nvidia-l40s", "llamacpp", "bfloat16", "nvidia-l40s", ("other_backend",)),
        ("amd-mi300x", "vllm", "bfloat16", "nvidia-h100-sxm", ("other_vendor",)),
    ],
)
def test_the_nearest_is_borrowed_and_said(
    profile: str, backend: str, dtype: str, hardware: str, borrowed: tuple[str, ...]
) -> None:
    found = chosen(profile, backend, dtype)
    assert (found.kernel.hardware, found.borrowed) == (hardware, borrowed)
    (remark,) = found.remarks
    assert remark.severity == "warning"
    for told in (profile, hardware, dtype):
        assert told in remark.message


def test_what_is_borrowed_has_a_wider_band() -> None:
    own = width(chosen("nvidia-h100-sxm", "vllm", "bfloat16"))
    kin = width(chosen("nvidia-h200-sxm", "vllm", "bfloat16"))
    foreign = width(chosen("nvidia-rtx-5090", "vllm", "bfloat16"))
    vendor = width(chosen("amd-mi300x", "vllm", "bfloat16"))
    for narrow, wide in ((own, kin), (kin, foreign), (foreign, vendor)):
        assert all(a < b for a, b in zip(narrow, wide, strict=True))


def test_constants_are_scaled_by_the_specification_alone() -> None:
    lent, own = chosen("nvidia-h200-sxm", "vllm", "bfloat16"), chosen("nvidia-h100-sxm", "vllm", "bfloat16")
    assert lent.kernel.constants == own.kernel.constants


def test_another_version_is_said_and_widens_the_band() -> None:
    known = chosen("nvidia-h100-sxm", "vllm", "bfloat16", version="0.24")
    assert known.borrowed == ()
    newer = chosen("nvidia-h100-sxm", "vllm", "bfloat16", version="0.33.0")
    assert newer.borrowed == ("other_version",)
    assert newer.remarks[0].message == "times of experts were measured with vllm 0.24.0, not with 0.33.0"
    assert all(a < b for a, b in zip(width(known), width(newer), strict=True))


def test_a_format_that_nobody_measured_is_taken_as_bfloat16_and_a_cpu_has_none() -> None:
    assert chosen("nvidia-h100-sxm", "vllm", "q4_k").kernel.dtype == "bfloat16"
    assert kernel_set(gpu("cpu-2ch-ddr5-5600"), "vllm", "bfloat16") is None


def test_a_format_that_is_missing_everywhere_gives_way_to_one_like_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nvidia-l40s-trtllm.yaml", BORROWING):
        (tmp_path / name).write_text((FOLDER / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr("moeplan.sources.kernel_constants.builtin_folder", lambda _: tmp_path)
    found = chosen("nvidia-l40s", "trtllm", "nvfp4")
    assert (found.kernel.dtype, found.borrowed) == ("fp8", ("other_dtype",))


# Broken files -------------------------------------------------------------------------------------------------

GOOD = """schema: 1
hardware: x
architecture: X
compute_capability: "9.0"
backend: vllm
version: "1.0"
source: somebody
kernels:
  - kernel: k
    dtype: fp8
    rows: {Mixtral: 3}
    error: {mean: 0.1, median: 0.1, judged: unseen}
    constants: {CONSTANTS}
    band:
      - {most_tokens: 8, low: 0.5, high: 2}
      - {most_tokens: null, low: 0.5, high: 2}
""".replace("CONSTANTS", ", ".join(f"{name}: 0.5" for name in KernelConstants._fields))


def read(text: str, folder: Path) -> tuple[KernelSet, ...]:
    path = folder / f"file-{abs(hash(text))}.yaml"
    path.write_text(text, encoding="utf-8")
    return read_sets(path)


def test_the_smallest_file_that_is_right(tmp_path: Path) -> None:
    (found,) = read(GOOD, tmp_path)
    assert found.constants == KernelConstants(*(0.5,) * 12)
    assert found.rows == {"Mixtral": 3}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("schema: 1", "schema: 2", "`schema` is 2"),
        ("source: somebody\n", "", "`source` is missing"),
        ("    rows: {Mixtral: 3}\n", "", r"`kernels.rows` is missing: a set needs its rows, its error and a source"),
        ("{Mixtral: 3}", "{Mixtral: 0}", "`kernels.rows.Mixtral` is 0"),
        ("    error: {mean: 0.1, median: 0.1, judged: unseen}\n", "", "needs its rows, its error and a source"),
        ("judged: unseen", "judged: null", "`kernels.error` needs mean, median and what it was judged on"),
        ("overlap: 0.5, ", "", "`kernels.constants.overlap` must be a number above zero"),
        ("overlap: 0.5", "overlap: 0", "`kernels.constants.overlap` must be a number above zero"),
        ("overlap: 0.5", "overlap: -1", "`kernels.constants.overlap` is -1"),
        ("overlap: 0.5", "overlap: 0.5, magic: 3", "`kernels.constants.magic` is not a known key"),
        ("{most_tokens: null, low: 0.5, high: 2}", "{most_tokens: 4, low: 0.5, high: 2}", "ranges that rise"),
        ("low: 0.5, high: 2", "low: 3, high: 2", "low and high above zero"),
        ("dtype: fp8", "dtype: 8", "`kernels.dtype` is 8, not text"),
    ],
)
def test_a_broken_file_names_the_key(old: str, new: str, problem: str, tmp_path: Path) -> None:
    assert old in GOOD
    with pytest.raises(InputError, match=problem):
        read(GOOD.replace(old, new, 1), tmp_path)


def test_a_width_without_rows_error_or_a_word_of_doubt_is_refused(tmp_path: Path) -> None:
    path = tmp_path / BORROWING
    band = "band: [{most_tokens: null, low: 0.5, high: 2}]"
    path.write_text(f'schema: 1\nkinds:\n  other_dtype: {{source: "somebody said so", {band}}}\n', encoding="utf-8")
    with pytest.raises(InputError, match="a width that was measured needs rows and error"):
        borrowing(path)
