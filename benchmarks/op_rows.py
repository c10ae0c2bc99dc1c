"""The public rows of plain operations that their formulas are fitted to and judged on, as a lone clone holds them.

`data/ops-latency.txt.gz` lists measured times by kernel; `fit_ops.py rows` writes it from the shared table where that lies
beside the checkout. The figures are those of ai-dynamo/aiconfigurator (Apache-2.0, NVIDIA CORPORATION & AFFILIATES):
data/ops-latency.md.
"""

from __future__ import annotations

import csv
import gzip
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, cast

from benchmarks.latency_rows import DATA, hardware_of
from moeplan.core.attention_latency import grouped
from moeplan.core.latency import VALUE_BYTES, value_bytes
from moeplan.core.op_device import OpDevice, op_device
from moeplan.core.op_fit import OpPoint
from moeplan.core.op_set import ALONE, SIZES, Operation, link_of

ROWS = DATA / "ops-latency.txt.gz"

CELLS: dict[Operation, tuple[str, ...]] = {
    "matmul": ("m", "n", "k"),
    "attention_decode": ("batch", "past", "heads", "kv_heads", "head_dim"),
    "attention_prefill": ("batch", "isl", "past", "heads", "kv_heads", "head_dim"),
    "all_reduce": ("gpus", "message_elements"),
    "all_gather": ("gpus", "message_elements"),
    "reduce_scatter": ("gpus", "message_elements"),
    "all_to_all": ("gpus", "message_elements"),
    "engine_all_reduce": ("gpus", "message_elements"),
    "expert_dispatch": ("gpus", "tokens", "hidden", "experts", "topk"),
    "expert_combine": ("gpus", "tokens", "hidden", "experts", "topk"),
}
"""Columns of the table that tell a call of an operation."""

NAMES: dict[str, Operation] = {
    "gemm": "matmul",
    "attention_decode": "attention_decode",
    "attention_prefill": "attention_prefill",
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
    "all_reduce_custom": "engine_all_reduce",
    "deepep_ll_dispatch": "expert_dispatch",
    "deepep_ll_combine": "expert_combine",
}
"""The collector's name of an operation."""

LEFT_OUT: dict[Operation, str] = {
    "matmul": "n x k",
    "attention_decode": "heads / KV heads",
    "attention_prefill": "heads / KV heads",
    "all_reduce": "GPUs",
    "all_gather": "GPUs",
    "reduce_scatter": "GPUs",
    "all_to_all": "GPUs",
    "engine_all_reduce": "GPUs",
    "expert_dispatch": "hidden, experts, top-k, GPUs",
    "expert_combine": "hidden, experts, top-k, GPUs",
}
"""What rows of one shape share: a fold leaves shapes out whole."""

MOST_FOLDS = 6
"""Shapes are dealt in their order into so many folds, fewer where there are fewer shapes."""

LEAST_ROWS = 8
"""Kernels of fewer rows are fitted to nothing."""

SWITCHED = {"FlashInferFp8BlockScaledMMKernel": 16.0}
"""Largest size at which an engine takes a kernel before another one: vLLM 0.24 multiplies up to 16 rows of the table, and
64 and more in DeepGEMM (it changes between them)."""


class OpGroup(NamedTuple):
    """Rows of one kernel."""

    operation: Operation
    system: str
    backend: str
    version: str
    kernel: str
    dtype: str
    operand_dtype: str

    @property
    def name(self) -> str:
        """As tables print it."""
        return f"{self.system} {self.backend} {self.version} {self.kernel} {self.dtype}"


class OpRow(NamedTuple):
    """One measurement."""

    group: OpGroup
    point: OpPoint
    shape: tuple[int, ...]
    """What is left out together."""
    size: float
    """As `op_set.SIZES` counts it."""

    @property
    def range(self) -> int:
        """Number of its band."""
        return sum(self.size > most for most in SIZES[self.group.operation][1])


def range_names(operation: Operation) -> list[str]:
    """Names of the ranges of sizes of an operation."""
    what, ends = SIZES[operation]
    return [*(f"up to {end:,.0f} {what}" for end in ends), f"more than {ends[-1]:,.0f} {what}"]


@lru_cache(maxsize=1)
def op_groups() -> dict[OpGroup, list[OpRow]]:
    """Rows by kernel, in the order of the file."""
    found: dict[OpGroup, list[OpRow]] = {}
    group: OpGroup | None = None
    for line in gzip.decompress(ROWS.read_bytes()).decode().splitlines():
        if line.startswith("group\t"):
            operation, *rest = line.split("\t")[1:]
            group = OpGroup(cast(Operation, operation), *rest)
            found[group] = []
            continue
        assert group is not None
        *call, micros = line.split(" ")
        found[group].append(_row(group, tuple(map(int, call)), float(micros) * 1e-6))
    return found


def device_of(group: OpGroup) -> OpDevice:
    """The card by its profile; the collector replays an operation without a flush, so its operands are in the cache."""
    return _device(group.system, group.operand_dtype)


@lru_cache(maxsize=64)
def _device(system: str, dtype: str) -> OpDevice:
    return op_device(hardware_of(system), dtype, cached=True)


def _row(group: OpGroup, call: tuple[int, ...], seconds: float) -> OpRow:
    operation = group.operation
    hardware = hardware_of(group.system)
    device = device_of(group)
    if operation == "matmul":
        m, n, k = call
        value = value_bytes(hardware, group.dtype)
        return OpRow(group, OpPoint(device, (value.weight, value.operand, m, n, k), seconds), (n, k), m)
    if operation in ALONE:
        *load, heads, kv_heads, head_dim = call
        asked = (VALUE_BYTES[group.dtype].weight, *load, grouped(heads, kv_heads, head_dim))
        size = load[0] * (load[1] + 1) if operation == "attention_decode" else load[0] * load[1]
        return OpRow(group, OpPoint(device, asked, seconds), (heads, kv_heads, head_dim), size)
    if operation in ("expert_dispatch", "expert_combine"):
        gpus, tokens, hidden, experts, chosen = call
        point = OpPoint(device, (exchanged_bytes(operation), *call), seconds)
        return OpRow(group, point, (hidden, experts, chosen, gpus), tokens)
    gpus, elements = call
    return OpRow(group, OpPoint(device, (gpus, 2 * elements), seconds), (gpus,), 2 * elements)


def exchanged_bytes(operation: str) -> float:
    """Bytes of a value on its way: DeepEP sends fp8 with a scale for 128 values, and brings bfloat16 back."""
    return 2.0 if operation == "expert_combine" else VALUE_BYTES["fp8_block"].operand


def folds_of(rows: list[OpRow]) -> list[frozenset[tuple[int, ...]]]:
    """Shapes that are left out together."""
    shapes = sorted({row.shape for row in rows})
    count = min(MOST_FOLDS, len(shapes))
    return [frozenset(shapes[i::count]) for i in range(count)]


# The shared table ---------------------------------------------------------------------------------------------


def compact(table: Iterable[dict[str, str]]) -> bytes:
    """The compact table of the rows of the shared one."""
    found: dict[OpGroup, list[tuple[tuple[int, ...], str]]] = defaultdict(list)
    for row in table:
        operation = NAMES[row["op"]]
        if row["kernel"].endswith("_eager"):
            continue
        call = tuple(int(float(row[name])) for name in CELLS[operation])
        found[_group(operation, row)].append((call, f"{float(row['latency_ms']) * 1e3:.5g}"))
    lines = []
    for group, rows in _merged(found).items():
        if len(rows) >= LEAST_ROWS:
            lines.append("\t".join(("group", *group)))
            lines += [" ".join((*map(str, call), micros)) for call, micros in sorted(rows)]
    return gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0)


def _group(operation: Operation, row: dict[str, str]) -> OpGroup:
    backend, dtype, operand = row["backend"], row["dtype"], row["dtype"]
    if operation == "engine_all_reduce" and link_of(hardware_of(row["system"])) == "host":
        operation = (
            "all_reduce"  # without a link of their own devices do not read each other: NCCL, called by the engine
        )
    if operation.startswith("attention"):
        dtype = row["kv_dtype"]
    elif operation != "matmul":
        dtype = operand = "bfloat16"
    if operation.startswith("expert"):
        backend = "deepep"
    version = f"of sglang {row['backend_version']}" if backend == "deepep" else row["backend_version"]
    return OpGroup(operation, row["system"], backend, version, row["kernel"], dtype, operand)


def _merged(
    found: dict[OpGroup, list[tuple[tuple[int, ...], str]]],
) -> dict[OpGroup, list[tuple[tuple[int, ...], str]]]:
    """Few rows that an engine runs in its decode kernel count with the kernel that prefills all else."""
    total: dict[OpGroup, list[tuple[tuple[int, ...], str]]] = defaultdict(list)
    sizes = Counter({group: len(rows) for group, rows in found.items()})
    for group, rows in sorted(found.items()):
        if group.operation == "attention_prefill" and group.kernel.endswith("decode"):
            kin = [
                each
                for each in sizes
                if each != group and each._replace(kernel="") == group._replace(kernel="") and sizes[each] > len(rows)
            ]
            total[kin[0] if kin else group] += rows
        else:
            total[group] += rows
    return dict(sorted(total.items()))


def read_shared(path: object) -> list[dict[str, str]]:
    """Rows of the shared table."""
    with open(str(path), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
