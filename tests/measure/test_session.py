from __future__ import annotations

import pytest
import torch

from moeplan.core.errors import InputError, UnknownError
from moeplan.core.measurement import Point, Task
from moeplan.measure.device_facts import (
    cpu_name,
    host_free_bytes,
    host_total_bytes,
    last_level_cache_bytes,
    machine_name,
    read_smi,
)
from moeplan.measure.session import NotMeasuredError, Session, open_session, reason
from moeplan.measure.throttling import slowed

TASK = Task("matmul", "torch.matmul", "float32", {"m": 1})
HAS_CUDA = torch.cuda.is_available() and not torch.version.hip


@pytest.fixture
def session() -> Session:
    return open_session("cpu", 7)


def test_the_cpu_tells_what_it_is(session: Session) -> None:
    device = session.device
    assert device.kind == "cpu"
    assert device.name.startswith(cpu_name())
    assert device.torch_version == torch.__version__
    assert device.num_threads == torch.get_num_threads()
    assert device.total_bytes == device.host_bytes == host_total_bytes()
    assert session.has_graphs is False


@pytest.mark.parametrize(
    "model",
    [
        "AMD EPYC 9655 96-Core Processor", "AMD EPYC 7B13", "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
        "Intel(R) Xeon(R) CPU E5-2673 v4 @ 2.30GHz", "11th Gen Intel(R) Core(TM) i7-1185G7 @ 3.00GHz",
        "AMD Ryzen 9 7950X 16-Core Processor", "AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", "Apple M3 Max",
    ],
)  # fmt: skip
def test_a_models_number_tells_machines_apart(model: str) -> None:
    assert machine_name(model, 64, 2**36) == model


@pytest.mark.parametrize(
    "model",
    [
        "AMD EPYC", "AMD EPYC-Milan Processor", "Intel(R) Xeon(R) CPU @ 2.20GHz", "Intel(R) Xeon(R) Processor @ 2900MHz",
        "QEMU Virtual CPU version 2.5+", "Common 128-bit Processor", "Virtual 128-Core Processor", "x86_64", "i686",
        "aarch64", "cpu",
    ],
)  # fmt: skip
def test_a_family_alone_has_cores_and_memory_behind_it(model: str) -> None:
    gib = 2**30
    assert machine_name(model, 2, round(23.54 * gib)) == f"{model} (2 cores, 24 GiB)"
    others = {
        machine_name(model, *facts) for facts in ((2, 24 * gib), (4, 24 * gib), (2, 48 * gib), (1, None), (None, gib))
    }
    assert len(others) == 5
    assert f"{model} (1 core)" in others
    assert machine_name(model, None, None) == model


def test_host_memory_is_within_what_the_machine_has() -> None:
    total, free = host_total_bytes(), host_free_bytes()
    assert total is not None
    assert free is not None
    assert 0 < free <= total
    cache = last_level_cache_bytes()
    assert cache is None or 2**15 <= cache <= 2**32


def test_half_of_the_free_host_memory_may_be_taken(session: Session) -> None:
    free = host_free_bytes()
    assert free is not None
    assert session.free_bytes() == pytest.approx(free / 2, rel=0.2)
    with pytest.raises(NotMeasuredError, match=r"needs 1048576\.00 GiB"):
        session.need(2**50)


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1:2", "cpu:", "CPU"])
def test_a_name_that_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="none that can be measured"):
        open_session(name, 0)


@pytest.mark.parametrize("name", ["cuda", "cuda:3", "rocm", "mps"])
def test_a_device_that_is_not_there_is_said_to_be_missing(name: str) -> None:
    there = {
        "cuda": HAS_CUDA,
        "cuda:3": HAS_CUDA and torch.cuda.device_count() > 3,
        "mps": torch.backends.mps.is_available(),
    }
    if there.get(name, torch.cuda.is_available() and bool(torch.version.hip)):
        pytest.skip("this device is there")
    with pytest.raises(UnknownError, match="is not there") as caught:
        open_session(name, 0)
    assert caught.value.exit_code == 3
    assert "--device" in caught.value.hint


def test_random_data_follows_from_the_seed_and_the_purpose(session: Session) -> None:
    again, other = open_session("cpu", 7), open_session("cpu", 8)
    drawn = session.random((4, 16), "bfloat16", "weight", 3)
    torch.rand(5)
    assert torch.equal(drawn, again.random((4, 16), "bfloat16", "weight", 3))
    assert not torch.equal(drawn, session.random((4, 16), "bfloat16", "weight", 4))
    assert not torch.equal(drawn, other.random((4, 16), "bfloat16", "weight", 3))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float8_e4m3fn", "int8"])
def test_random_data_has_the_dtype_and_the_spread_that_was_asked_for(session: Session, dtype: str) -> None:
    drawn = session.random((64, 64), dtype, "x", scale=0.5)
    assert str(drawn.dtype) == f"torch.{dtype}"
    # 4,096 normal values: the standard deviation's own error is 0.5 / sqrt(2 * 4096), about 0.006.
    # Even over -127..127 is 255 values: sqrt((255**2 - 1) / 12) = 73.6.
    want, tolerance = (73.6, 2.5) if dtype == "int8" else (0.5, 0.03)
    assert float(drawn.double().std()) == pytest.approx(want, abs=tolerance)


@pytest.mark.parametrize("dtype", ["tf32", "float4", "Tensor"])
def test_a_dtype_that_the_device_lacks_is_a_reason(session: Session, dtype: str) -> None:
    with pytest.raises(NotMeasuredError, match=dtype):
        session.torch_dtype(dtype)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), "out of memory: MemoryError"),
        # Messages of torch 2.13.0: c10/core/impl/alloc_cpu.cpp and c10/cuda/CUDACachingAllocator.cpp.
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you"
            ),
            "out",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"), "out of memory: CUDA out of"),
        (NotImplementedError("no kernel\nfor this"), "NotImplementedError: no kernel"),
        (NotMeasuredError("needs 3 GiB"), "needs 3 GiB"),
        (RuntimeError(""), "RuntimeError: RuntimeError"),
    ],
)
def test_an_error_becomes_one_line(error: Exception, text: str) -> None:
    said = reason(error)
    assert said.startswith(text)
    assert "\n" not in said


def test_what_goes_wrong_with_a_case_is_its_problem_and_the_next_one_runs(session: Session) -> None:
    def too_large() -> Point:
        torch.empty(2**55, dtype=torch.uint8)
        raise AssertionError

    def done() -> Point:
        return Point(*TASK[:4], values={"bytes_per_s": 1.0})

    failed = session.attempt(TASK, too_large)
    assert failed.problem is not None
    assert failed.problem.startswith("out of memory")
    assert failed.key == done().key
    assert session.attempt(TASK, done) == done()


def test_a_broken_device_is_said_once_and_no_case_runs_any_more(session: Session) -> None:
    session.lost = "the device failed in an earlier case: illegal address"

    def never() -> Point:
        raise AssertionError

    assert session.attempt(TASK, never).problem == session.lost


def test_gradients_are_off_in_a_case(session: Session) -> None:
    def body() -> Point:
        return Point(*TASK[:4], values={"grad": float(torch.is_grad_enabled())})

    assert session.attempt(TASK, body).values == {"grad": 0.0}


def test_remarks_are_kept_once(session: Session) -> None:
    session.remark("slow")
    session.remark("slow")
    assert session.remarks == ["slow"]


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("580.65.06, 1980, 2619, 700.00\n", ["580.65.06", "1980", "2619", "700.00"]),
        ("580.65.06, [N/A], [Not Supported], 700.00\n", ["580.65.06", None, None, "700.00"]),
        ("No devices were found\n", [None] * 4),
        ("", [None] * 4),
    ],
)
def test_answers_of_nvidia_smi(text: str, cells: list[str | None]) -> None:
    assert read_smi(text, 4) == cells


@pytest.mark.parametrize(
    ("before", "after", "said"), [(1980, 1782, True), (1980, 1790, False), (1000, 1980, False), (None, 900, False)]
)
def test_a_clock_that_fell_by_a_tenth_is_told(before: int | None, after: int, said: bool) -> None:
    # 90 % of 1980 MHz is 1782 MHz.
    assert (slowed(before, after) is not None) == said


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="no CUDA device")
def test_a_cuda_device_tells_what_it_is() -> None:
    session = open_session(None, 0)
    device = session.device
    assert device.kind == "cuda"
    assert device.name == torch.cuda.get_device_name()
    assert device.total_bytes == torch.cuda.mem_get_info()[1]
    assert device.compute_capability == ".".join(map(str, torch.cuda.get_device_capability()))
    assert device.l2_bytes
    assert 0 < session.free_bytes() < (device.total_bytes or 0)

    def too_large() -> Point:
        torch.empty(2**50, dtype=torch.uint8, device="cuda")
        raise AssertionError

    problem = session.attempt(TASK, too_large).problem
    assert problem is not None
    assert problem.startswith("out of memory")
    assert session.lost is None
