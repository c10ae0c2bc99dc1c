"""The fixed time of a layer: layers so narrow that nothing but starting their kernels takes time, one after another.

Inside a CUDA graph it is what each kernel costs the device to start; eagerly it is what it costs the host to launch it. Layers
differ in how many kernels they have, so seconds per kernel carry over to layers of other makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch  # noqa: TID253
from torch.nn import functional  # noqa: TID253
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: TID253 - documented, in spite of its name

from moeplan.core.measurement import Effort, MeasuredDevice, MoeShape, Point, Task
from moeplan.measure.session import NotMeasuredError, Session
from moeplan.measure.timing import time_calls

KINDS = ("kernel", "dense_layer", "moe_layer")
"""One kernel; norm, attention, norm, feed-forward; the same with a router and experts instead."""

HIDDEN, HEADS, CONTEXT, EXPERTS, CHOSEN = 64, 4, 16, 8, 2
"""Multiples of 16, which every kernel takes, and small enough to cost nothing."""
_TOKENS: dict[Effort, tuple[int, ...]] = {"quick": (1,), "default": (1, 16), "full": (1, 4, 16)}

Layer = Callable[[], torch.Tensor]


def plan(
    effort: Effort, shapes: tuple[MoeShape, ...], dtypes: tuple[str, ...], device: MeasuredDevice
) -> Iterator[Task]:
    """Each kind by tokens, in a graph and eagerly where there are graphs; without dtypes, bfloat16. Shapes play no part."""
    backends = ("torch.graph", "torch.eager") if device.kind in ("cuda", "rocm") else ("torch.eager",)
    for dtype in dtypes or ("bfloat16",):
        if dtype not in ("bfloat16", "float16", "float32"):
            continue
        for tokens in _TOKENS[effort]:
            for kind in KINDS:
                for backend in backends:
                    yield Task("layer", backend, dtype, {"what": kind, "tokens": tokens}, 0.4)


def measure(task: Task, session: Session) -> Point:
    """`seconds_per_operation` beside the seconds of one layer; `operations` are calls into torch that are no views."""
    return session.attempt(task, lambda: _measure(task, session))


def _measure(task: Task, session: Session) -> Point:
    layer = build_layer(str(task.case["what"]), int(task.case["tokens"] or 0), task.dtype, session)
    operations = count_operations(layer)
    spread = time_calls([layer], session, graph=task.backend == "torch.graph")
    if task.backend == "torch.graph" and session.clock != "graph":
        raise NotMeasuredError("the layer could not be captured in a CUDA graph")
    values = {"operations": float(operations), "seconds_per_operation": spread.median_s / operations}
    return Point(*task[:4], spread=spread, values=values)


def build_layer(kind: str, tokens: int, dtype: str, session: Session) -> Layer:
    """A layer over `tokens` sequences of one new token each, without a step on the host; returns [tokens, HIDDEN]."""

    def weight(name: str, *shape: int) -> torch.Tensor:
        return session.random(shape, dtype, "layer", name, scale=shape[-1] ** -0.5)

    hidden = weight("x", tokens, HIDDEN)
    if kind == "kernel":
        return lambda: hidden.mul(1.5)
    norm = weight("norm", HIDDEN)
    qkv, out = weight("qkv", 3 * HIDDEN, HIDDEN), weight("out", HIDDEN, HIDDEN)
    width = HIDDEN // HEADS
    keys, values = (weight(each, tokens, HEADS, CONTEXT, width) for each in ("keys", "values"))
    feed = _experts(weight) if kind == "moe_layer" else _dense(weight)

    def layer() -> torch.Tensor:
        query, key, value = (functional.rms_norm(hidden, (HIDDEN,), norm) @ qkv.t()).chunk(3, -1)
        keys[:, :, 0] = key.view(tokens, HEADS, width)
        values[:, :, 0] = value.view(tokens, HEADS, width)
        query = query.reshape(tokens, HEADS, 1, width)
        mixed = functional.scaled_dot_product_attention(query, keys, values).reshape(tokens, HIDDEN)
        state = hidden + mixed @ out.t()
        return state + feed(functional.rms_norm(state, (HIDDEN,), norm))

    return layer


def _dense(weight: Callable[..., torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    up, down = weight("up", 2 * HIDDEN, HIDDEN), weight("down", HIDDEN, HIDDEN)

    def feed(state: torch.Tensor) -> torch.Tensor:
        left, right = (state @ up.t()).chunk(2, -1)
        return (functional.silu(left) * right) @ down.t()

    return feed


def _experts(weight: Callable[..., torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Router, top-k, the chosen experts as batched products, and their sum."""
    gate = weight("gate", EXPERTS, HIDDEN)
    up, down = weight("ups", EXPERTS, 2 * HIDDEN, HIDDEN), weight("downs", EXPERTS, HIDDEN, HIDDEN)

    def feed(state: torch.Tensor) -> torch.Tensor:
        tokens = state.shape[0]
        shares, chosen = torch.softmax((state @ gate.t()).float(), -1).topk(CHOSEN, -1)
        shares = (shares / shares.sum(-1, keepdim=True)).to(state.dtype)
        rows = state[:, None].expand(tokens, CHOSEN, HIDDEN).reshape(-1, HIDDEN, 1)
        flat = chosen.reshape(-1)
        left, right = torch.bmm(up[flat], rows).chunk(2, 1)
        mixed = torch.bmm(down[flat], functional.silu(left) * right).view(tokens, CHOSEN, HIDDEN)
        return (mixed * shares.unsqueeze(-1)).sum(1)

    return feed


def count_operations(layer: Layer) -> int:
    """Calls into torch that make or change data: about the kernels of a layer, one or two more where torch fuses none."""
    counter = _Counter()
    with counter:
        layer()
    return max(1, counter.count)


class _Counter(TorchDispatchMode):  # type: ignore[misc]  # torch comes without types here
    """Counts operators whose results own their memory or that write in place."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        views = any(each.alias_info and not each.alias_info.is_write for each in func._schema.returns)  # noqa: SLF001
        self.count += 0 if views or "_unsafe_view" in func.__name__ else 1
        return func(*args, **(kwargs or {}))
