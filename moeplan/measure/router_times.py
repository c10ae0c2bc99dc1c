"""The section `router`: seconds of what stands around a layer's experts, part by part and together, by routing function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253

from moeplan.core.measurement import CaseValue, Effort, MeasuredDevice, MoeShape, Point, Task
from moeplan.measure.experts.permutation import combine, permute
from moeplan.measure.experts.tensors import Routing, input_width, routing_of
from moeplan.measure.routers import ROUTERS, SCORES, RouterOptions
from moeplan.measure.routing_draws import draw
from moeplan.measure.session import NotMeasuredError, Session
from moeplan.measure.shapes import ROUTER_SHAPES, is_builtin, shape_case, shape_of
from moeplan.measure.timing import rotations, time_calls

PARTS = ("gate", "score", "route", "permute", "combine", "all")
"""Matmul to logits; score function alone; score function, choice and weights; sorting by expert and gathering rows; weighing and
summing rows by token; and all of that in a row, with nothing between permute and combine."""

GROUPED = ("sigmoid_bias_groups", "group_limited_greedy")
GROUPS, KEPT_GROUPS = 8, 4
"""As in DeepSeek-V3's config (V2 keeps 3), where experts can be divided like this; else one group."""

_HASH_TOKENS = 16384  # entries of the table of a hash router; the token ids of real vocabularies are ten times as many
_TOLERANCE = 2e-2  # of `all`: weights that sum to 1 give the tokens back but for roundings
_DRAWS = 4

# Every effort has a step of one token and one of 64, the two that a profile is summed up by.
_TOKENS: dict[Effort, tuple[int, ...]] = {
    "quick": (1, 64, 4096),
    "default": (1, 64, 1024, 16384),
    "full": (1, 4, 16, 64, 256, 1024, 4096, 16384),
}
_HOST_TOKENS: dict[Effort, tuple[int, ...]] = {
    "quick": (1, 64),
    "default": (1, 64, 256),
    "full": (1, 16, 64, 256, 1024),
}


def plan(
    effort: Effort, shapes: tuple[MoeShape, ...], dtypes: tuple[str, ...], device: MeasuredDevice
) -> Iterator[Task]:
    """Each part of each shape by tokens, in the first dtype that routers run in, which is bfloat16 unless another is asked.

    With the built-in shapes, and beyond the quick effort, the routing functions that those do not use follow, each with the
    sizes of a model that uses it; rows are permuted and combined the same way there, so that is left out.
    """
    on_gpu = device.kind in ("cuda", "rocm")
    tokens = _TOKENS[effort] if on_gpu else _HOST_TOKENS[effort]
    dtype = next((each for each in dtypes if each in ("bfloat16", "float16", "float32")), "bfloat16")
    seen = {shape.router for shape in shapes}
    more = (
        [shape for shape in ROUTER_SHAPES if shape.router not in seen]
        if is_builtin(shapes) and effort != "quick"
        else []
    )
    for shape in (*shapes, *more):
        for part in PARTS if shape in shapes else ("score", "route", "all"):
            if part == "score" and shape.router not in SCORES:
                continue
            for num_tokens in tokens:
                groups, kept = _groups(shape)
                case: dict[str, CaseValue] = {"part": part, "tokens": num_tokens, "groups": groups, "kept_groups": kept}
                yield Task("router", "torch", dtype, {**shape_case(shape), **case}, 0.1)


def measure(task: Task, session: Session) -> Point:
    """Seconds of one call, and `bytes_per_s` over what the part must read and write at least.

    Rows are permuted and combined by uniform draws; those of `all` come from random logits, whose skew means nothing.
    """
    return session.attempt(task, lambda: _measure(task, session))


class _Inputs(NamedTuple):
    """What the parts work on. Letters of shapes as in `experts.tensors`."""

    x: Tensor
    """[T, H]."""
    rows: Tensor
    """[T, D]: what experts take."""
    gates: list[Tensor]
    """[E, H] each: copies that take turns."""
    logits: Tensor
    """[T, E]."""
    routings: list[Routing]
    options: RouterOptions


def _measure(task: Task, session: Session) -> Point:
    shape, part, num_tokens = shape_of(task.case), str(task.case["part"]), int(task.case["tokens"] or 0)
    if shape.router not in ROUTERS:
        raise NotMeasuredError(f"routing function {shape.router!r} is not one of {', '.join(ROUTERS)}")
    width = session.torch_dtype(task.dtype).itemsize
    assigned, into = num_tokens * shape.experts_per_token, input_width(shape)
    gate_bytes = shape.num_experts * shape.hidden_size * width
    session.need(
        gate_bytes
        + num_tokens * ((shape.hidden_size + into) * width + shape.num_experts * 16)
        + assigned * (into * 8 + 64)
    )
    inputs = _inputs(task, shape, num_tokens, rotations(gate_bytes, session) if part in ("gate", "all") else 1, session)
    calls = _calls(part, shape, inputs)
    values = {"seed": float(session.seed)}
    if part == "all" and shape.router in ("softmax_topk", "topk_softmax"):  # the others' weights do not sum to 1
        error = float((calls[0]().float() - inputs.rows.float()).norm() / inputs.rows.float().norm())
        values["relative_error"] = error
        if not error <= _TOLERANCE:
            problem = f"wrong: relative error {error:.2g} against the tokens themselves"
            return Point(*task[:4], values=values, problem=problem)
    spread = time_calls(calls, session, budget_s=0.05)
    logits, chosen_bytes = num_tokens * shape.num_experts, assigned * 12  # float32 weights and int64 ids
    moved = {
        "gate": gate_bytes + num_tokens * (shape.hidden_size + shape.num_experts) * width,
        "score": logits * (width + 4),
        "route": logits * width + chosen_bytes,
        "permute": 2 * assigned * into * width,
        "combine": (assigned + num_tokens) * into * width,
    }
    moved["all"] = moved["gate"] + moved["route"] + moved["permute"] + moved["combine"]
    values |= {"bytes": float(moved[part]), "bytes_per_s": moved[part] / spread.median_s}
    return Point(*task[:4], spread=spread, values=values)


def _inputs(task: Task, shape: MoeShape, num_tokens: int, copies: int, session: Session) -> _Inputs:
    x = session.random((num_tokens, shape.hidden_size), task.dtype, "x", num_tokens, shape.hidden_size)
    size = (shape.num_experts, shape.hidden_size)
    gate = session.random(size, task.dtype, "gate", size, scale=shape.hidden_size**-0.5)
    drawn = [
        draw("uniform", num_tokens, shape.num_experts, shape.experts_per_token, session.seed + place)
        for place in range(_DRAWS)
    ]
    return _Inputs(
        x,
        x[:, : input_width(shape)].contiguous(),
        [gate, *(gate.clone() for _ in range(copies - 1))],
        x @ gate.T,
        [routing_of(each, session) for each in drawn],
        router_options(shape, num_tokens, session),
    )


def _calls(part: str, shape: MoeShape, inputs: _Inputs) -> list[Callable[[], Any]]:
    """The calls of one part, on other data each where that matters."""
    x, rows, gates, logits, routings, options = inputs
    route = ROUTERS[shape.router]
    if part == "gate":
        return [lambda gate=gate: x @ gate.T for gate in gates]  # type: ignore[misc]
    if part == "score":
        return [lambda: SCORES[shape.router](logits)]
    if part == "route":
        return [lambda: route(logits, options)]
    if part == "permute":
        return [
            lambda chosen=each.experts_TK: rows[permute(chosen, shape.num_experts).token_A]  # type: ignore[misc]
            for each in routings
        ]
    if part == "combine":
        ways = [permute(each.experts_TK, shape.num_experts) for each in routings]
        out = rows[ways[0].token_A]
        return [
            lambda way=way, weights=each.gate_TK: combine(out, way.row_TK, weights)  # type: ignore[misc]
            for way, each in zip(ways, routings, strict=True)
        ]

    def together(gate: Tensor) -> Tensor:
        weights, chosen = route(x @ gate.T, options)
        way = permute(chosen, shape.num_experts)
        return combine(rows[way.token_A], way.row_TK, weights)

    return [lambda gate=gate: together(gate) for gate in gates]  # type: ignore[misc]


def router_options(shape: MoeShape, num_tokens: int, session: Session) -> RouterOptions:
    """Options for a shape: a random bias where the function takes one, groups where experts divide, a table for hashing."""
    groups, kept = _groups(shape)
    options = RouterOptions(shape.experts_per_token, num_groups=groups, kept_groups=kept)
    if shape.router == "hash_by_token":
        table = draw("uniform", _HASH_TOKENS, shape.num_experts, shape.experts_per_token, session.seed).experts
        ids = torch.randint(_HASH_TOKENS, (num_tokens,), generator=session.generator("token ids", host=True))
        return options._replace(token_ids=ids.to(session.torch_device), expert_table=table.to(session.torch_device))
    if "bias" in shape.router or shape.router == "softmax_zero_experts":
        return options._replace(bias=session.random((shape.num_experts,), "float32", "bias", scale=0.01))
    return options


def _groups(shape: MoeShape) -> tuple[int, int]:
    """Groups, and how many of them are kept."""
    each, rest = divmod(shape.num_experts, GROUPS)
    fits = shape.router in GROUPED and not rest and each >= 2 and KEPT_GROUPS * each >= shape.experts_per_token
    return (GROUPS, KEPT_GROUPS) if fits else (1, 1)
