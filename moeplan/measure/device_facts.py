"""What a device says of itself: through torch, nvidia-smi and the operating system. Nothing is allocated on it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

import torch  # noqa: TID253

from moeplan.core.measurement import MeasuredDevice
from moeplan.core.units import GIB, KIB

SMI_TIMEOUT_S = 20.0
_NO_LIMIT = 2**60
"""cgroup v1 writes a number near 2**63 where there is no limit."""


def describe_device(torch_device: torch.device) -> MeasuredDevice:
    """The facts of a device that torch can reach; what nobody tells is None.

    Clocks are the greatest that the driver allows, not those of an idle device. On the CPU, `l2_bytes` is the last level
    cache, which plays the same part, and total and free bytes are those of the host.
    """
    threads, host_bytes = torch.get_num_threads(), host_total_bytes()
    if torch_device.type == "cuda":
        return _describe_cuda(torch_device, host_bytes, threads)
    if torch_device.type == "mps":
        total = int(torch.mps.recommended_max_memory())
        free = total - int(torch.mps.driver_allocated_memory())
        return _described("mps", cpu_name(), total, free, None, host_bytes, threads)
    name = machine_name(cpu_name(), os.cpu_count(), host_bytes)
    return _described("cpu", name, host_bytes, host_free_bytes(), last_level_cache_bytes(), host_bytes, threads)


def _described(
    kind: str, name: str, total: int | None, free: int | None, cache: int | None, host: int | None, threads: int
) -> MeasuredDevice:
    return MeasuredDevice(
        kind="mps" if kind == "mps" else "cpu",
        name=name,
        torch_version=str(torch.__version__),
        runtime_version=None,
        driver_version=None,
        compute_capability=torch.backends.cpu.get_cpu_capability() if kind == "cpu" else None,
        total_bytes=total,
        free_bytes=free,
        l2_bytes=cache,
        multiprocessors=None,
        sm_clock_mhz=None,
        memory_clock_mhz=None,
        power_limit_w=None,
        host_bytes=host,
        num_threads=threads,
    )


def _describe_cuda(torch_device: torch.device, host_bytes: int | None, threads: int) -> MeasuredDevice:
    properties = torch.cuda.get_device_properties(torch_device)
    free, total = torch.cuda.mem_get_info(torch_device)
    hip = getattr(torch.version, "hip", None)
    if hip:  # untested: no such device was at hand
        capability, driver, sm_clock, memory_clock, power = (
            getattr(properties, "gcnArchName", None),
            None,
            None,
            None,
            None,
        )
    else:
        capability = f"{properties.major}.{properties.minor}"
        driver, *figures = ask_smi(torch_device, "driver_version", "clocks.max.sm", "clocks.max.mem", "power.limit")
        sm_clock, memory_clock, power = (_figure(each) for each in figures)
    return MeasuredDevice(
        kind="rocm" if hip else "cuda",
        name=properties.name,
        torch_version=str(torch.__version__),
        runtime_version=hip or torch.version.cuda,
        driver_version=driver,
        compute_capability=capability,
        total_bytes=int(total),
        free_bytes=int(free),
        l2_bytes=getattr(properties, "L2_cache_size", None) or None,
        multiprocessors=properties.multi_processor_count,
        sm_clock_mhz=None if sm_clock is None else round(sm_clock),
        memory_clock_mhz=None if memory_clock is None else round(memory_clock),
        power_limit_w=power,
        host_bytes=host_bytes,
        num_threads=threads,
    )


def smi_command(torch_device: torch.device, *fields: str) -> list[str]:
    """The call of nvidia-smi for one device, which CUDA_VISIBLE_DEVICES may have renumbered: so by its UUID."""
    uuid = getattr(torch.cuda.get_device_properties(torch_device), "uuid", None)
    which = (
        f"GPU-{uuid}" if uuid and not str(uuid).startswith(("GPU-", "MIG-")) else str(uuid or torch_device.index or 0)
    )
    return ["nvidia-smi", f"--id={which}", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]


def ask_smi(torch_device: torch.device, *fields: str) -> list[str | None]:
    """What nvidia-smi says, one text per field; None for each that it does not know or when it cannot be run."""
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            smi_command(torch_device, *fields), capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return [None] * len(fields)
    return read_smi(done.stdout if done.returncode == 0 else "", len(fields))


def read_smi(text: str, count: int) -> list[str | None]:
    """The first line of nvidia-smi's answer in `count` fields; `[N/A]` and the like are None."""
    cells = [cell.strip() for cell in text.strip().partition("\n")[0].split(",")]
    if len(cells) != count:
        return [None] * count
    return [None if not cell or cell.startswith("[") or cell == "N/A" else cell for cell in cells]


def _figure(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def cpu_name() -> str:
    """The model of the CPU as the system knows it."""
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        try:
            asked = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            done = subprocess.run(  # noqa: S603 - a fixed command
                asked, capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.SubprocessError):
            return platform.machine()
        return done.stdout.strip() or platform.machine()
    return platform.processor() or platform.machine() or "cpu"


def machine_name(model: str, num_cores: int | None, memory_bytes: int | None) -> str:
    """The model of a CPU where it has a number (`AMD EPYC 9655 96-Core Processor`), else with cores and memory behind it.

    Virtual machines tell families alone (`AMD EPYC`, `Intel(R) Xeon(R) CPU @ 2.20GHz`), and a profile is found by this name:
    two machines of one family must not share it. Apple's names are those of profiles.
    """
    if _has_number(model) or model.startswith("Apple "):
        return model
    cores = [f"{num_cores} {'core' if num_cores == 1 else 'cores'}"] if num_cores else []
    memory = [f"{memory_bytes / GIB:.0f} GiB"] if memory_bytes else []
    return f"{model} ({', '.join(cores + memory)})" if cores or memory else model


def _has_number(model: str) -> bool:
    """Whether a word of it has three digits, letters between them or not: 9655, 7B13, i7-1185G7. Clocks, counts of cores
    and instruction sets are no numbers of a model."""
    told = re.sub(r"@.*|\d+-(core|bit)\b|\b(x86_64|amd64|i\d86)\b", "", model, flags=re.IGNORECASE)
    return any(len(re.findall(r"\d", word)) >= 3 for word in told.split())


def last_level_cache_bytes() -> int | None:
    """The largest cache that the first core sees."""
    found = []
    for index in range(8):
        size = re.fullmatch(r"(\d+)([KM])", _read(f"/sys/devices/system/cpu/cpu0/cache/index{index}/size").strip())
        if size:
            found.append(int(size[1]) * (KIB if size[2] == "K" else KIB * KIB))
    return max(found, default=None)


def host_total_bytes() -> int | None:
    """Host memory, or the smaller limit of the container."""
    known = [each for each in (_meminfo("MemTotal"), _sysconf("SC_PHYS_PAGES"), _container_bytes()[0]) if each]
    return min(known, default=None)


def host_free_bytes() -> int | None:
    """Host memory that can be had without swapping, within the container's limit."""
    limit, used = _container_bytes()
    free = _meminfo("MemAvailable") or _sysconf("SC_AVPHYS_PAGES") or host_total_bytes()
    if limit is None or used is None or free is None:
        return free
    return max(0, min(free, limit - used))


def _container_bytes() -> tuple[int | None, int | None]:
    """Limit and use of this control group; files that the kernel can drop are not counted as used."""
    for limit_file, use_file, stat_file in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        limit, used = _read(f"/sys/fs/cgroup/{limit_file}").strip(), _read(f"/sys/fs/cgroup/{use_file}").strip()
        if limit.isdigit() and used.isdigit() and int(limit) < _NO_LIMIT:
            files = re.search(r"^(?:total_)?inactive_file (\d+)$", _read(f"/sys/fs/cgroup/{stat_file}"), re.MULTILINE)
            return int(limit), max(0, int(used) - (int(files[1]) if files else 0))
    return None, None


def _meminfo(field: str) -> int | None:
    found = re.search(rf"^{field}:\s+(\d+) kB$", _read("/proc/meminfo"), re.MULTILINE)
    return int(found[1]) * KIB if found else None


def _sysconf(name: str) -> int | None:
    try:
        pages, page_bytes = os.sysconf(name), os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None
    return pages * page_bytes if pages > 0 and page_bytes > 0 else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
