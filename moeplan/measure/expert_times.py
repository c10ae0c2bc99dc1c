"""The section `experts`: seconds of a layer's experts by backend, over tokens and forced routings, right before timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253

from moeplan.core.measurement import CaseValue, Effort, MeasuredDevice, MoeShape, Point, Task
from moeplan.measure import experts
from moeplan.measure.experts import reference
from moeplan.measure.experts.layer import run_layer
from moeplan.measure.experts.tensors import (
    ExpertWeights,
    Routing,
    around_params,
    copy_of,
    expert_params,
    random_weights,
    routing_of,
)  # fmt: skip
from moeplan.measure.routing_draws import draw
from moeplan.measure.session import NotMeasuredError, Session
from moeplan.measure.shapes import fitted, shape_case, shape_of
from moeplan.measure.timing import rotations, time_calls

TOLERANCES = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 2e-2, "float8_e4m3fn": 0.1}
"""Largest error relative to the norm against the loop in float32 that still counts as right. In 16 bits rows are rounded
four times on their way (bfloat16 by up to 0.4 %); float8 rounds both operands of three matmuls, each by about 2.6 % in the
mean of squares: sqrt(6) x 2.6 % = 6.4 % is what a right kernel shows."""

_CHECKED_TOKENS = 128
_MOST_CALLS = 32  # of one round: each has a routing of its own
_FEWEST_CALLS = 4
_MANY_TOKENS = 1024  # from here on one routing is much like the next

_TOKENS: dict[Effort, tuple[int, ...]] = {
    "quick": (1, 64, 4096),
    "default": (1, 4, 16, 64, 256, 1024, 4096, 16384),
    "full": tuple(2**power for power in range(15)),
}
_HOST_TOKENS: dict[Effort, tuple[int, ...]] = {
    "quick": (1, 64),
    "default": (1, 16, 256),
    "full": (1, 4, 16, 64, 256, 1024, 4096),
}
_SKEWED: dict[Effort, tuple[str, ...]] = {
    "quick": (),
    "default": ("balanced", "zipf:0.7"),
    "full": ("balanced", "zipf:0.3", "zipf:0.7", "lognormal:1.8", "power_law:1.01", "power_law:1.2"),
}
_FORCED_TOKENS = 64  # enough to reach many experts, few enough to be bound by their bytes
_HALVES: dict[Effort, int] = {"quick": 3, "default": 5, "full": 6}


def plan(
    effort: Effort, shapes: tuple[MoeShape, ...], dtypes: tuple[str, ...], device: MeasuredDevice
) -> Iterator[Task]:
    """Shapes by dtypes by backends by (tokens, routing); a backend that cannot run is one case, which will say why.

    Without dtypes: bfloat16, and float8 too on CUDA beyond the quick effort. Too large a shape gets fewer experts.
    """
    on_gpu = device.kind in ("cuda", "rocm")
    chosen = dtypes or (("bfloat16", "float8_e4m3fn") if device.kind == "cuda" and effort != "quick" else ("bfloat16",))
    for dtype in chosen:
        told: set[str] = set()
        for whole in shapes:
            shape = fitted(whole, effort, 1 if dtype.startswith("float8") else 4 if dtype == "float32" else 2, device)
            for backend in experts.BACKENDS:
                cases = list(_cases(effort, backend, shape, on_gpu, brief=dtype != chosen[0]))
                if experts.load(backend).available(device, dtype) is not None:
                    cases = [] if backend in told else cases[:1]
                    told.add(backend)
                for num_tokens, routing, part in cases:
                    case: dict[str, CaseValue] = {"tokens": num_tokens, "routing": routing, "part": part}
                    yield Task("experts", backend, dtype, {**shape_case(shape), **case}, 0.2 if on_gpu else 0.4)


def _cases(
    effort: Effort, backend: str, shape: MoeShape, on_gpu: bool, *, brief: bool
) -> Iterator[tuple[int, str, str]]:
    """(tokens, routing, part) of one backend: a few points for the plain ones, and only tokens in a second dtype."""
    tokens = _TOKENS[effort] if on_gpu else _HOST_TOKENS[effort]
    num_experts, top_k = shape.num_experts, shape.experts_per_token
    if backend in ("batched", "loop") and on_gpu:
        tokens = (64,) if effort != "full" else (1, 64, 1024) if backend == "loop" else (1, 16, 64, 256, 1024)
    yield from ((each, "uniform", "routed") for each in tokens)
    if brief or backend in ("batched", "loop"):
        return
    forced = _FORCED_TOKENS
    few = [each for each in tokens if each in (64, 256, 4096)]
    if shape.shared_width or shape.latent_size:
        yield from ((each, "uniform", "layer") for each in few)
    yield from ((each, skewed, "routed") for skewed in _SKEWED[effort] for each in few if each != 256)
    halves = {max(top_k, num_experts >> power) for power in range(_HALVES[effort])}
    reached = [each for each in sorted(halves) if each <= forced * top_k]
    yield from ((forced, f"distinct:{each}", "routed") for each in reached)  # distinct experts at fixed tokens
    if effort != "quick":
        middle = max(top_k, num_experts // 2)
        more = (16, 256, 1024) if on_gpu else (16, 256)
        yield from (
            (each, f"distinct:{middle}", "routed") for each in more if each * top_k >= middle
        )  # and the other way
        if forced * top_k >= middle > top_k:
            yield from ((forced, f"distinct:{middle}/zipf:{skew}", "routed") for skew in ("0.5", "1"))  # skew alone


def measure(task: Task, session: Session) -> Point:
    """Seconds of one call; `bytes_per_s` over the weights of the experts that were touched, `flops_per_s` over real rows.

    `distinct` and `busiest` are means over the routings that took turns, drawn with the seeds from `seed` on. A backend
    that is wrong against the loop in float32 is a problem with its `relative_error`, and is not timed.
    """
    return session.attempt(task, lambda: _measure(task, session))


def _measure(task: Task, session: Session) -> Point:
    shape, dtype = shape_of(task.case), task.dtype
    num_tokens, layer = int(task.case["tokens"] or 0), task.case["part"] == "layer"
    backend = experts.load(task.backend)
    refusal = backend.available(session.device, dtype)
    if refusal is not None:
        raise NotMeasuredError(refusal)
    value_dtype = "bfloat16" if dtype.startswith("float8") else dtype
    weight_bytes, value_bytes = session.torch_dtype(dtype).itemsize, session.torch_dtype(value_dtype).itemsize
    around = around_params(shape) if layer else 0

    drawn = _draws(task, shape, num_tokens, session.seed, 1)
    touched_bytes = (drawn[0].distinct * expert_params(shape) + around) * weight_bytes
    fewest = _FEWEST_CALLS if num_tokens < _MANY_TOKENS else 2
    num_calls = min(_MOST_CALLS, max(fewest, rotations(touched_bytes, session)))
    drawn = _draws(task, shape, num_tokens, session.seed, num_calls)
    busiest = max(each.busiest for each in drawn)
    rows_bytes = num_tokens * (shape.hidden_size + (shape.latent_size or 0)) * 4 * value_bytes
    rows_bytes += 2 * backend.workspace_bytes(shape, value_bytes, num_tokens, busiest)  # a graph has memory of its own
    stored_bytes = shape.num_experts * expert_params(shape) * weight_bytes
    made_bytes = (shape.num_experts * expert_params(shape) + around) * value_bytes
    session.need(rows_bytes + made_bytes + (stored_bytes if dtype != value_dtype else 0))

    weights = random_weights(shape, value_dtype, session, layer=layer)
    x = session.random((num_tokens, shape.hidden_size), value_dtype, "x", num_tokens, shape.hidden_size)
    routings = [routing_of(each, session) for each in drawn]
    prepared = [backend.prepare(weights, dtype)]
    call = _caller(backend.run, weights, x, layer)
    error = relative_error(call(prepared[0], routings[0]), weights, x, routings[0], layer)
    if not error <= TOLERANCES[dtype]:
        problem = f"wrong: relative error {error:.2g} against the loop in float32"
        return Point(*task[:4], values={"relative_error": error}, problem=problem)

    # Every call has a routing of its own, so copies need only be as many as keep the whole of them out of the cache.
    prepared += [
        backend.prepare(copy_of(weights), dtype) for _ in range(_copies(stored_bytes, made_bytes, session) - 1)
    ]
    calls = [_bound(call, prepared[place % len(prepared)], routing) for place, routing in enumerate(routings)]
    spread = time_calls(calls, session, budget_s=0.1, graph=backend.captures(session.device, dtype))
    distinct = sum(each.distinct for each in drawn) / len(drawn)
    touched = (distinct * expert_params(shape) + around) * weight_bytes
    flops = 2 * num_tokens * (shape.experts_per_token * expert_params(shape) + around)
    values = {
        "weight_bytes_touched": touched,
        "bytes_per_s": touched / spread.median_s,
        "flops_per_s": flops / spread.median_s,
        "relative_error": error,
        "distinct": distinct,
        "busiest": sum(each.busiest for each in drawn) / len(drawn),
        "seed": float(session.seed),
        "draws": float(len(drawn)),
        "copies": float(len(prepared)),
    }
    return Point(*task[:4], spread=spread, values=values)


def _draws(task: Task, shape: MoeShape, num_tokens: int, seed: int, count: int) -> list[Any]:
    name = str(task.case["routing"])
    return [draw(name, num_tokens, shape.num_experts, shape.experts_per_token, seed + place) for place in range(count)]


def _copies(stored_bytes: int, made_bytes: int, session: Session) -> int:
    """Copies of all experts: twice what keeps one weight of that size cold, as experts come back in no strict order."""
    fitting = 1 + session.free_bytes() // 2 // max(1, stored_bytes + made_bytes)
    return min(rotations(-(-stored_bytes // 2), session), fitting)


_Call = Callable[[Any, Routing], Tensor]


def _caller(run: Any, weights: ExpertWeights, x: Tensor, layer: bool) -> _Call:
    """The function of prepared weights and a routing: of experts alone on rows of their own width, or of a whole layer."""
    if layer:
        return lambda prepared, routing: run_layer(run, prepared, weights, x, routing)
    rows = x[:, : weights.w13_EGD.shape[2]].contiguous()
    return lambda prepared, routing: run(prepared, rows, routing)


def _bound(call: _Call, prepared: Any, routing: Routing) -> Callable[[], Tensor]:
    return lambda: call(prepared, routing)


def relative_error(got: Tensor, weights: ExpertWeights, x: Tensor, routing: Routing, layer: bool) -> float:
    """Error of a backend's output in the norm, against the loop in float32 over at most 128 tokens spread evenly.

    Infinite where any of the output, checked or not, is no number.
    """
    if not bool(got.isfinite().all()):
        return float("inf")
    checked = min(_CHECKED_TOKENS, len(x))
    tokens = torch.linspace(0, len(x) - 1, checked, device=x.device).round().long()
    some = Routing(routing.experts_TK[tokens], routing.gate_TK[tokens], routing.distinct, checked)
    want = _caller(reference.run, weights, x[tokens].float(), layer)(weights, some)
    return float((got[tokens].float() - want).norm() / want.norm())
