"""Dense matrix products by dtype and size, as projections run them: activations [m, k] by a weight stored as [n, k]."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch  # noqa: TID253

from moeplan.core.measurement import Effort, MeasuredDevice, MoeShape, Point, Task
from moeplan.measure.session import NotMeasuredError, Session
from moeplan.measure.timing import rotations, time_calls

BACKENDS = {"float8_e4m3fn": "torch._scaled_mm", "int8": "torch._int_mm"}
"""All others: `torch.matmul`."""

TOLERANCES = {
    "float32": 1e-5, "float16": 5e-3, "bfloat16": 1e-2, "tf32": 5e-3, "float8_e4m3fn": 2e-2, "int8": 0.0,
}  # fmt: skip
"""Largest error relative to the norm that still counts as right: a few roundings of the output's dtype (bfloat16 keeps 8
bits, tf32 products 10). Float8 data is compared as it is stored, so only sums and the bfloat16 output round; Hopper's tensor
cores keep about 14 bits of such sums. Whole numbers are exact."""

_SIZES: dict[Effort, tuple[tuple[tuple[int, int], ...], tuple[int, ...]]] = {
    "quick": (((8192, 8192),), (1, 64, 1024, 8192)),
    "default": (((4096, 4096), (8192, 8192)), (1, 16, 64, 128, 256, 512, 1024, 4096, 8192)),
    "full": (
        ((1024, 1024), (2048, 2048), (4096, 4096), (8192, 8192), (28672, 8192), (8192, 28672)),
        (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192),
    ),
}
_HOST_SIZES: dict[Effort, tuple[tuple[tuple[int, int], ...], tuple[int, ...]]] = {
    "quick": (((1024, 1024),), (1, 128)),
    "default": (((2048, 2048),), (1, 16, 128, 1024)),
    "full": (((2048, 2048), (4096, 4096)), (1, 4, 16, 64, 256, 1024, 4096)),
}
_SCALED_ALIGNMENT = 16  # float8 products want k and n in sixteens
_LEAST_INT8_ROWS = 32  # torch._int_mm refuses 16 rows and fewer
_CHECKED = 16  # rows and columns that are compared with the reference


def plan(
    effort: Effort, shapes: tuple[MoeShape, ...], dtypes: tuple[str, ...], device: MeasuredDevice
) -> Iterator[Task]:
    """Every (n, k) by every m for each dtype. Without dtypes, bfloat16 (and float8 on a GPU) like this, and of the others
    the greatest rate alone, as a specification gives it."""
    on_gpu = device.kind in ("cuda", "rocm")
    weights, rows = (_SIZES if on_gpu else _HOST_SIZES)[effort]
    main = dtypes or (("bfloat16", "float8_e4m3fn") if on_gpu else ("bfloat16",))
    others = () if dtypes or effort == "quick" else ("float16", "tf32", "int8") if on_gpu else ("float32",)
    for dtype in (*main, *others):
        for n, k in weights if dtype in main else weights[-1:]:
            for m in rows if dtype in main else rows[-1:]:
                yield Task("matmul", BACKENDS.get(dtype, "torch.matmul"), dtype, {"m": m, "n": n, "k": k}, 0.35)


def measure(task: Task, session: Session) -> Point:
    """`flops_per_s`, and `bytes_per_s` over weight, input and output, of one product that was right before it was timed."""
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high" if task.dtype == "tf32" else "highest")
        return session.attempt(task, lambda: _measure(task, session))
    finally:
        torch.set_float32_matmul_precision(before)


def _measure(task: Task, session: Session) -> Point:
    m, n, k = (int(task.case[name] or 0) for name in ("m", "n", "k"))
    itemsize = session.torch_dtype(task.dtype).itemsize
    run = max(m, _LEAST_INT8_ROWS) if task.dtype == "int8" else m
    out_bytes = run * n * (4 if task.dtype in ("int8", "float32", "tf32") else 2)
    drawing = 3 if itemsize == 1 else 1  # float8 is drawn as bfloat16 first
    session.need((n * k + run * k) * itemsize * drawing + 2 * out_bytes)
    if task.dtype == "float8_e4m3fn" and (n % _SCALED_ALIGNMENT or k % _SCALED_ALIGNMENT):
        raise NotMeasuredError(f"float8 products want n and k in multiples of {_SCALED_ALIGNMENT}")
    inputs = session.random((run, k), task.dtype, "inputs", m, k)
    weight = session.random((n, k), task.dtype, "weight", n, k, scale=k**-0.5)
    multiply = _multiplier(task.dtype, session)
    error = relative_error(multiply(inputs, weight), inputs, weight)
    if not error <= TOLERANCES[task.dtype]:
        return session.failed(task, f"wrong: relative error {error:.2g} against float64")
    weights = [weight, *(weight.clone() for _ in range(rotations(n * k * itemsize, session) - 1))]
    spread = time_calls([_bound(multiply, inputs, each) for each in weights], session)
    values = {
        "flops_per_s": 2 * m * n * k / spread.median_s,
        "bytes_per_s": ((n * k + run * k) * itemsize + out_bytes) / spread.median_s,
        "relative_error": error,
        "copies": float(len(weights)),
    }
    if run != m:
        values["rows_run"] = float(run)
    return Point(*task[:4], spread=spread, values=values)


_Multiply = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _bound(multiply: _Multiply, inputs: torch.Tensor, weight: torch.Tensor) -> Callable[[], torch.Tensor]:
    return lambda: multiply(inputs, weight)


def _multiplier(dtype: str, session: Session) -> _Multiply:
    """The function of inputs [m, k] and weight [n, k] that gives [m, n]: bfloat16 from float8, int32 from int8."""
    if dtype == "int8":
        return lambda inputs, weight: torch._int_mm(inputs, weight.t())  # noqa: SLF001 - torch has no public name for it
    if dtype == "float8_e4m3fn":
        if session.device.kind == "cuda" and not session.capability_at_least(8, 9):
            raise NotMeasuredError("float8 products need compute capability 8.9 or newer")
        one = torch.ones((), device=session.torch_device)
        return lambda inputs, weight: torch._scaled_mm(  # noqa: SLF001 - as above, before torch 2.10
            inputs, weight.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16
        )
    return lambda inputs, weight: inputs @ weight.t()


def relative_error(product: torch.Tensor, inputs: torch.Tensor, weight: torch.Tensor) -> float:
    """Error of `product` [m, n] in the norm over a grid of rows and columns, against float64 on the host."""
    rows = torch.linspace(0, inputs.shape[0] - 1, min(_CHECKED, inputs.shape[0])).round().long()
    columns = torch.linspace(0, weight.shape[0] - 1, min(_CHECKED, weight.shape[0])).round().long()
    want = _on_host(inputs, rows) @ _on_host(weight, columns).t()
    got = product[rows.to(product.device)][:, columns.to(product.device)].cpu().double()
    return float((got - want).norm() / want.norm())


def _on_host(matrix: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    # Not every device gathers rows of float8, so they are sliced.
    return torch.cat([matrix[row : row + 1].cpu().double() for row in rows.tolist()])
