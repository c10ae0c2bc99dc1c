"""Section `memory`: what is taken beside weights and cache: the device's context, the allocator's waste, workspaces.

* `context`: bytes that a fresh process takes on the device before it holds a tensor. Free bytes before the process,
  less those after its steps, less what its torch has reserved. On the CPU the same question is what a process is
  resident with after importing torch, which no accelerator pays for.
* `allocator`: tensors in the shapes of a model's weights, plain or with temporaries of loading between them; what torch
  has then reserved beyond what was asked for. GPUs alone: torch keeps no such figures elsewhere.
* `workspace`: the peak while a matmul or an expert backend runs, beyond its inputs and its result, and what stays after.
  On the CPU tensors are counted, so what a kernel takes inside is missed.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch  # noqa: TID253

from moeplan.core.measurement import CaseValue, Effort, MeasuredDevice, MoeShape, Point, Task
from moeplan.core.units import GIB
from moeplan.measure import experts
from moeplan.measure.experts.tensors import expert_params, input_width, random_weights, routing_of
from moeplan.measure.live_tensors import LiveTensors
from moeplan.measure.routing_draws import draw
from moeplan.measure.session import NotMeasuredError, Session
from moeplan.measure.shapes import fitted, shape_case, shape_of

CHILD = Path(__file__).with_name("fresh_context.py")
CHILD_TIMEOUT_S = 180.0

_PLAIN = ("bfloat16", "float16", "float32")
_SIZES: dict[Effort, tuple[int, ...]] = {"quick": (4096,), "default": (1024, 8192), "full": (1024, 4096, 8192, 16_384)}
_TOKENS: dict[Effort, tuple[int, ...]] = {
    "quick": (64,),
    "default": (64, 4096),
    "full": (1, 64, 1024, 4096, 16_384),
}
_PATTERN_BYTES: dict[Effort, int] = {"quick": GIB, "default": 4 * GIB, "full": 16 * GIB}
_HOST_SIZE, _HOST_TOKENS = 512, 16


def plan(
    effort: Effort, shapes: tuple[MoeShape, ...], dtypes: tuple[str, ...], device: MeasuredDevice
) -> Iterator[Task]:
    """The context, the allocator on a GPU, matmuls by dtype, and experts by shape, dtype, backend and tokens.

    Without dtypes: bfloat16. A backend that cannot run is one case, which will say why.
    """
    on_gpu = device.kind in ("cuda", "rocm")
    chosen = dtypes or ("bfloat16",)
    some = shapes[:1] if effort == "quick" else shapes
    if device.kind != "mps":
        yield Task("memory", "torch", "any", {"what": "context"}, expected_s=8.0 if on_gpu else 4.0)
    for shape in some if on_gpu else ():
        for pattern in ("plain", "loading"):
            case: dict[str, CaseValue] = {"what": "allocator", "pattern": pattern, "most_bytes": _PATTERN_BYTES[effort]}
            yield Task("memory", "torch", "bfloat16", {**shape_case(shape), **case}, expected_s=0.3)
    for dtype in chosen:
        for size in (_SIZES[effort] if on_gpu else (_HOST_SIZE,)) if dtype in _PLAIN else ():
            yield Task("memory", "torch.matmul", dtype, {"what": "workspace", "m": size, "n": size, "k": size})
    told: set[tuple[str, str]] = set()
    for dtype in chosen:
        for whole in some:
            shape = fitted(whole, effort, 4 if dtype == "float32" else 2, device)
            for backend in experts.BACKENDS:
                tokens = _TOKENS[effort] if on_gpu else (_HOST_TOKENS,)
                if experts.load(backend).available(device, dtype) is not None:
                    tokens = () if (backend, dtype) in told else tokens[:1]
                    told.add((backend, dtype))
                for count in tokens:
                    case = {"what": "workspace", "tokens": count, "routing": "balanced"}
                    yield Task("memory", backend, dtype, {**shape_case(shape), **case}, 0.3)


def measure(task: Task, session: Session) -> Point:
    """One case; what it used is given back."""
    what = task.case.get("what")
    if what == "context":
        body: Callable[[Task, Session], dict[str, float]] = _context
    elif what == "allocator":
        body = _allocator
    else:
        body = _matmul if "m" in task.case else _experts
    point = session.attempt(task, lambda: Point(*task[:4], values=body(task, session)))
    session.release()
    return point


# The context -------------------------------------------------------------------------------------------------

_CONTEXTS: dict[tuple[str, str], Point] = {}


def context_once(session: Session) -> Point:
    """The context of the session's device, as it was measured first in this process: it takes seconds and does not change.

    A case that gave no figure is tried again.
    """
    key = session.device.name, str(session.torch_device)
    if key not in _CONTEXTS:
        point = measure(Task("memory", "torch", "any", {"what": "context"}), session)
        if point.problem is not None:
            return point
        _CONTEXTS[key] = point
    return _CONTEXTS[key]


def _context(task: Task, session: Session) -> dict[str, float]:
    device = session.torch_device
    if device.type not in ("cuda", "cpu"):
        raise NotMeasuredError(f"{device.type} does not tell what a process takes on it")
    free_before = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    told = _ask_child(str(device))
    if device.type == "cpu":
        start, imported, after = (told[f"{step}_resident_bytes"] for step in ("start", "import", "kernel"))
        return {
            "interpreter_bytes": start,
            "import_bytes": imported - start,
            "first_matmul_bytes": after - imported,
            "context_bytes": after - start,
        }
    taken = {
        step: free_before - told[f"{step}_free_bytes"] - told[f"{step}_reserved_bytes"]
        for step in ("context", "kernel", "kernels")
    }
    # The child is gone: what is still missing, or is back, is others' doing.
    drift = free_before - torch.cuda.mem_get_info(device)[0]
    if taken["context"] <= 0:
        raise NotMeasuredError("others freed memory of the device in the same seconds")
    return {
        "context_bytes": taken["kernels"],
        "before_kernels_bytes": taken["context"],
        "first_kernel_bytes": taken["kernel"] - taken["context"],
        "more_kernels_bytes": taken["kernels"] - taken["kernel"],
        "drift_bytes": drift,
    }


def _ask_child(device: str) -> dict[str, int]:
    # -P: the folder of the program holds modules whose names others might import.
    command = [sys.executable, "-P", str(CHILD), device]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program of this package
            command, capture_output=True, text=True, timeout=CHILD_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotMeasuredError(f"a fresh process did not run: {type(error).__name__}") from error
    try:
        told = json.loads(done.stdout.strip().rpartition("\n")[2]) if done.returncode == 0 else None
    except ValueError:
        told = None
    if not isinstance(told, dict):
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1][:200]
        raise NotMeasuredError(f"a fresh process failed: {last}")
    return {str(name): int(value) for name, value in told.items()}


# The allocator -----------------------------------------------------------------------------------------------


def _allocator(task: Task, session: Session) -> dict[str, float]:
    device = session.torch_device
    if device.type != "cuda":
        raise NotMeasuredError(f"torch keeps no figures of its allocator on {device.type}")
    session.release()
    most = min(int(task.case["most_bytes"] or 0), session.free_bytes() * 4 // 5)
    before, allocated = torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)
    kept, layers = _loaded_weights(task, session, most)
    asked = sum(each.nbytes for each in kept)
    reserved = torch.cuda.memory_reserved(device) - before
    allocated = torch.cuda.memory_allocated(device) - allocated
    torch.cuda.empty_cache()
    return {
        "layers": layers,
        "requested_bytes": asked,
        "allocated_bytes": allocated,
        "reserved_bytes": reserved,
        "released_bytes": reserved - (torch.cuda.memory_reserved(device) - before),
        "waste_fraction": (reserved - allocated) / allocated,
    }


def _loaded_weights(task: Task, session: Session, most_bytes: int) -> tuple[list[torch.Tensor], int]:
    """Tensors of as many layers as the bytes allow, and how many layers that are."""
    dtype, layer = session.torch_dtype(task.dtype), weight_sizes(shape_of(task.case))
    loading = task.case["pattern"] == "loading"
    layer_bytes = sum(layer) * dtype.itemsize
    layers = (most_bytes - (max(layer) * dtype.itemsize if loading else 0)) // layer_bytes
    if layers < 1:
        raise NotMeasuredError(f"one layer needs {layer_bytes / GIB:.2f} GiB, {most_bytes / GIB:.2f} GiB may be used")
    shuffled = random.Random(session.seed)  # noqa: S311 - a pattern, not a secret
    kept = []
    for elements in layer * layers:
        # Loading reads a tensor in parts, joins them in their place and drops the parts in no set order.
        cuts = shuffled.randint(1, 4) if loading else 0
        parts = [torch.empty(elements // cuts, dtype=dtype, device=session.torch_device) for _ in range(cuts)]
        kept.append(torch.empty(elements, dtype=dtype, device=session.torch_device))
        while parts:
            parts.pop(shuffled.randrange(len(parts)))
    return kept, layers


def weight_sizes(shape: MoeShape) -> list[int]:
    """Elements of each tensor of one layer in the order of a checkpoint: attention, norms, router, packed experts."""
    hidden = shape.hidden_size
    attention = [hidden * hidden, hidden * hidden // 4, hidden * hidden // 4, hidden * hidden]
    up = (2 if shape.gated else 1) * shape.num_experts * hidden * shape.expert_width
    return [hidden, *attention, hidden, shape.num_experts * hidden, up, shape.num_experts * hidden * shape.expert_width]


# Workspaces --------------------------------------------------------------------------------------------------


def _matmul(task: Task, session: Session) -> dict[str, float]:
    m, n, k = (int(task.case[name] or 0) for name in ("m", "n", "k"))
    dtype = session.torch_dtype(task.dtype)
    session.need((m * k + k * n + m * n) * dtype.itemsize)
    left, right = session.random((m, k), task.dtype, "left"), session.random((k, n), task.dtype, "right")
    return _workspace(lambda: left @ right, session)


def _experts(task: Task, session: Session) -> dict[str, float]:
    backend, shape, tokens = experts.load(task.backend), shape_of(task.case), int(task.case["tokens"] or 0)
    refusal = backend.available(session.device, task.dtype)
    if refusal is not None:
        raise NotMeasuredError(refusal)
    value_dtype = task.dtype if task.dtype in _PLAIN else "bfloat16"
    value_bytes = session.torch_dtype(value_dtype).itemsize
    drawn = draw(str(task.case["routing"]), tokens, shape.num_experts, shape.experts_per_token, session.seed)
    weights_bytes = shape.num_experts * expert_params(shape) * value_bytes
    session.need(2 * weights_bytes + 2 * backend.workspace_bytes(shape, value_bytes, tokens, drawn.busiest))
    routing = routing_of(drawn, session)
    prepared = backend.prepare(random_weights(shape, value_dtype, session, layer=False), task.dtype)
    rows = session.random((tokens, input_width(shape)), value_dtype, "x")
    return _workspace(lambda: backend.run(prepared, rows, routing), session)


def _workspace(call: Callable[[], torch.Tensor], session: Session) -> dict[str, float]:
    """`workspace_bytes`: the peak beyond inputs and result, with what a first call leaves behind (`kept_bytes`)."""
    device = session.torch_device
    if device.type == "cuda":
        session.release()
        first, kept = _peak_on_cuda(call, device)
        again, _ = _peak_on_cuda(call, device)
        return {"workspace_bytes": again + kept, "first_call_bytes": first, "kept_bytes": kept}
    if device.type == "cpu":
        return {"workspace_bytes": _peak_of_tensors(call)}
    raise NotMeasuredError(f"torch tells no peak on {device.type}")


def _peak_on_cuda(call: Callable[[], torch.Tensor], device: torch.device) -> tuple[int, int]:
    """Bytes beyond what was there and the result: at the peak of a call, and after it."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = int(torch.cuda.memory_allocated(device))
    result = call()
    torch.cuda.synchronize(device)
    before += int(result.untyped_storage().nbytes())
    peak, after = int(torch.cuda.max_memory_allocated(device)), int(torch.cuda.memory_allocated(device))
    return max(0, peak - before), max(0, after - before)


def _peak_of_tensors(call: Callable[[], torch.Tensor]) -> int:
    with LiveTensors("cpu") as live:
        result = call()
        return max(0, int(live.peak_bytes) - int(result.untyped_storage().nbytes()))
