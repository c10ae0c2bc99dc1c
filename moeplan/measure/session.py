"""One device that is measured: what may be allocated on it, seeded random data, and what went wrong with a case."""

from __future__ import annotations

import gc
import os
import zlib
from collections.abc import Callable
from typing import Any, Literal

import torch  # noqa: TID253

from moeplan.core.errors import InputError, UnknownError
from moeplan.core.measurement import MeasuredDevice, Point, Task
from moeplan.core.units import GIB, MIB
from moeplan.measure.device_facts import describe_device, host_free_bytes

Clock = Literal["graph", "events", "host"]
"""Replays of a CUDA graph; eager calls between CUDA events; the host's clock."""

DTYPES = ("bfloat16", "float16", "float32", "tf32", "float8_e4m3fn", "int8")
"""Names of dtypes in tasks and points: torch's own, and `tf32`, float32 data in the GPU's short products."""

_KINDS = ("cuda", "rocm", "mps", "cpu")
_SPARE_BYTES = 512 * MIB  # libraries take workspaces of their own; cuBLAS takes 32 MiB a stream on Hopper
_CONTEXT_BYTES = 3 * GIB // 2  # a context with its kernels stays below this on every CUDA device seen so far


class NotMeasuredError(Exception):
    """Why a case gives no figure, in words for the user; `Session.attempt` turns it into the point's `problem`."""


class Session:
    """A device under measurement. Not shared between threads.

    `remarks` collects what the reader of the profile should know of the whole session, each text once.
    """

    def __init__(self, torch_device: torch.device, seed: int) -> None:
        if torch_device.type == "cuda":
            torch.cuda.set_device(torch_device)
        self.torch_device = torch_device
        self.device: MeasuredDevice = describe_device(torch_device)
        self.seed = seed
        self.budget_s = 0.3
        """Seconds that one case is timed for, about; less makes a quicker and a rougher profile."""
        self.remarks: list[str] = []
        self.clock: Clock | None = None
        """What the last timing was taken with; None before the first of a case."""
        self.lost: str | None = None
        """Why the device answers no more, once an error has broken its context."""
        self.stream: Any = torch.cuda.Stream(torch_device) if torch_device.type == "cuda" else None
        """Where graphs are captured: one for all, since libraries keep a workspace for each stream."""
        if self.stream is not None:
            self._remark_others()

    @property
    def has_graphs(self) -> bool:
        """Whether CUDA graphs can be captured (ROCm's HIP graphs go by the same calls; untested)."""
        return self.stream is not None

    def free_bytes(self) -> int:
        """What may be allocated now, with a margin left for libraries; on the host half of what is free."""
        if self.torch_device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self.torch_device)
            cached = int(torch.cuda.memory_reserved(self.torch_device))
            cached -= int(torch.cuda.memory_allocated(self.torch_device))
            return max(0, int(free) + cached - max(_SPARE_BYTES, int(total) // 50))
        if self.torch_device.type == "mps":
            taken = int(torch.mps.driver_allocated_memory())
            return max(0, (int(torch.mps.recommended_max_memory()) - taken) * 3 // 4)
        return (host_free_bytes() or GIB) // 2

    def need(self, num_bytes: int) -> None:
        """Raises NotMeasuredError when a case of this size does not fit; to be called before anything is allocated."""
        free = self.free_bytes()
        if num_bytes > free:
            raise NotMeasuredError(f"needs {num_bytes / GIB:.2f} GiB, {free / GIB:.2f} GiB are free")

    def torch_dtype(self, dtype: str) -> torch.dtype:
        """The dtype by one of the names of `DTYPES`. Raises NotMeasuredError where torch or the device lacks it."""
        found = getattr(torch, "float32" if dtype == "tf32" else dtype, None)
        if dtype not in DTYPES or not isinstance(found, torch.dtype):
            raise NotMeasuredError(f"dtype {dtype} is not known to torch {torch.__version__}")
        if dtype == "tf32" and not self.capability_at_least(8, 0):
            raise NotMeasuredError("tf32 needs a CUDA device of compute capability 8.0 or newer")
        return found

    def capability_at_least(self, major: int, minor: int) -> bool:
        """Whether this is a CUDA device of at least this compute capability; False on every other kind."""
        return self.device.kind == "cuda" and bool(
            torch.cuda.get_device_capability(self.torch_device) >= (major, minor)
        )

    def generator(self, *what: object, host: bool = False) -> torch.Generator:
        """A generator on the device (or the host) that the seed and `what` determine, whatever ran before."""
        generator = torch.Generator("cpu" if host else self.torch_device)
        generator.manual_seed(zlib.crc32(repr((self.seed, *what)).encode()))
        return generator

    def random(self, shape: tuple[int, ...], dtype: str, *what: object, scale: float = 1.0) -> torch.Tensor:
        """Normal data of standard deviation `scale` (int8: even over its range) that the seed and `what` determine.

        Random rather than constant: constants draw less power, so clocks would be too good.
        """
        wanted, generator = self.torch_dtype(dtype), self.generator(*what)
        if wanted == torch.int8:
            return torch.randint(-127, 128, shape, dtype=wanted, device=self.torch_device, generator=generator)
        made = torch.bfloat16 if wanted.itemsize == 1 else wanted
        return (
            torch.empty(shape, dtype=made, device=self.torch_device).normal_(0.0, scale, generator=generator).to(wanted)
        )

    def attempt(self, task: Task, body: Callable[[], Point]) -> Point:
        """The point of `body`, or one that says why there is none: out of memory, unsupported, or anything else.

        `body` allocates all it needs as locals, so that they are gone when it ends. A point whose calls could not be
        captured in a CUDA graph gets the value `eager` = 1: its time includes launches.
        """
        if self.lost is not None:
            return self.failed(task, self.lost)
        self.clock = None
        try:
            with torch.no_grad():
                point = body()
                self.synchronize()
        except NotMeasuredError as error:
            return self.failed(task, str(error))
        except Exception as error:  # noqa: BLE001 - any failure of a kernel is a result of this case alone
            problem = reason(error)
        else:
            eager = self.has_graphs and self.clock == "events"
            return point._replace(values={**point.values, "eager": 1.0}) if eager else point
        self.release()
        return self.failed(task, problem)

    def failed(self, task: Task, problem: str) -> Point:
        """The point of a case without a figure."""
        return Point(task.section, task.backend, task.dtype, task.case, problem=problem)

    def remark(self, text: str) -> None:
        """Keeps a remark for the reader, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def synchronize(self) -> None:
        """Waits until the device has done everything."""
        if self.torch_device.type == "cuda":
            torch.cuda.synchronize(self.torch_device)
        elif self.torch_device.type == "mps":
            torch.mps.synchronize()

    def release(self) -> None:
        """Gives cached memory back to the device; notices when an error has broken the device for good."""
        gc.collect()
        try:
            self.synchronize()
            if self.torch_device.type == "cuda":
                getattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None)()  # noqa: SLF001 - torch's own tests do
                torch.cuda.empty_cache()
            elif self.torch_device.type == "mps":
                torch.mps.empty_cache()
        except RuntimeError as error:
            self.lost = f"the device failed in an earlier case: {reason(error)}"

    def _remark_others(self) -> None:
        total, free = self.device.total_bytes or 0, self.device.free_bytes or 0
        taken = total - free - torch.cuda.memory_reserved(self.torch_device)
        if taken > _CONTEXT_BYTES:
            self.remark(
                f"others use this device: {taken / GIB:.1f} GiB of {total / GIB:.1f} GiB were taken at the start"
            )


def open_session(device: str | None, seed: int) -> Session:
    """The session of a device: `cuda`, `cuda:1`, `rocm`, `mps`, `cpu`; None takes the best that is there.

    Under torchrun a device without a number is that of the local rank. Raises InputError for a name that is none, and
    UnknownError when that device is not there.
    """
    if device is None:
        device = "rocm" if _has_rocm() else "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"
    kind, _, number = device.partition(":")
    if kind not in _KINDS or (number and not (number.isascii() and number.isdigit())) or (":" in device and not number):
        raise InputError(
            f"device {device!r} is none that can be measured", hint="--device cuda, cuda:1, rocm, mps or cpu"
        )
    there = {
        "cuda": torch.cuda.is_available() and not _has_rocm(),
        "rocm": _has_rocm(),
        "mps": _has_mps(),
        "cpu": True,
    }
    if not there[kind]:
        raise UnknownError(f"device {device} is not there for torch {torch.__version__}", hint=_way_out(kind, there))
    if kind not in ("cuda", "rocm"):
        return Session(torch.device(kind), seed)
    count = torch.cuda.device_count()
    index = int(number) if number else int(os.environ.get("LOCAL_RANK", "0")) % count
    if index >= count:
        raise UnknownError(
            f"device {device} is not there: torch sees {count}", hint=f"--device {kind}:0 to {kind}:{count - 1}"
        )
    return Session(torch.device("cuda", index), seed)


def reason(error: BaseException) -> str:
    """An error in one line for the reader: what ran out, or the error's name and its first line."""
    if isinstance(error, NotMeasuredError):
        return str(error)
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    lowered = text.lower()
    memory = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")
    oom = getattr(torch, "OutOfMemoryError", MemoryError)
    if isinstance(error, (MemoryError, oom)) or any(each in lowered for each in memory):
        return f"out of memory: {text}"
    return f"{type(error).__name__}: {text}"


def _has_rocm() -> bool:
    return bool(getattr(torch.version, "hip", None)) and torch.cuda.is_available()


def _has_mps() -> bool:
    return bool(torch.backends.mps.is_available())


def _way_out(kind: str, there: dict[str, bool]) -> str:
    others = " or ".join(f"--device {each}" for each, is_there in there.items() if is_there)
    build = {
        "cuda": "a CUDA build of torch and a driver",
        "rocm": "a ROCm build of torch",
        "mps": "torch on Apple silicon",
    }
    return f"{others}; {kind} needs {build[kind]}"
