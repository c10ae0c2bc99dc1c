"""Which experts the routers of a model choose while it runs: forward hooks that keep ids and shares, and never a text.

Nothing waits for the device while the model runs. A hook keeps what a router returned; from `_READ_TOKENS` tokens on it
turns logits into ids of two bytes and a count of near ties, so that memory grows by the ids alone until `take` moves them
to the host: 2 x K bytes for each token and layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253

from moeplan.core.routing_capture import NO_EXPERT, NOT_HERE, CapturedLayer
from moeplan.measure.near_ties import Judge, judges
from moeplan.measure.router_modules import Router, Seen, as_router, candidates

PROBE_TOKENS = 64
"""Of the first run, which tells what routers return and what they compare: enough to tell wrong scores from right ones."""

_READ_TOKENS = 256
_NAMED = 12
"""Modules named in an error; the others are counted."""

_NOBODY, _ABSENT = NO_EXPERT - 65536, NOT_HERE - 65536  # the same two bytes, signed: torch has few unsigned functions


class RoutersNotFoundError(Exception):
    """The model has no router that can be read: `looked_at` names the modules, each with what is in the way."""

    def __init__(self, message: str, looked_at: tuple[str, ...]) -> None:
        super().__init__(message)
        self.looked_at = looked_at


class Choices(NamedTuple):
    """What the routers chose since the last `take`."""

    tokens: int
    """Rows: those of an encoder come before those of its decoder."""
    experts: bytes
    """uint16 little endian [tokens, layers, K]; `NO_EXPERT` where a token has fewer, or never comes to a layer."""
    margins: tuple[float | None, ...]
    """Share of a layer's tokens that are near ties; None where the router's scores could not be told."""
    dropped: tuple[int, ...] | None
    """Choices that a capacity cut, by layer; None for a model without one."""


class RoutingHooks:
    """Hooks on all routers of a model, as a context: they are gone when it ends. One sequence at a time.

    `run` runs the model once over one sequence of `num_tokens`, in encoder and decoder each, to see what its routers return.
    Raises RoutersNotFoundError for a model without routers, and for one whose routers return something else.
    """

    def __init__(self, model: Any, run: Callable[[], object], num_tokens: int = PROBE_TOKENS) -> None:
        self.routers, seen = _found(model, run, num_tokens)
        self.layers = tuple(CapturedLayer(each.layer, each.num_experts, each.top_k) for each in self.routers)
        self._records = [_Record(router, first) for router, first in zip(self.routers, seen, strict=True)]
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        self._handles = [each.router.module.register_forward_hook(each.hook) for each in self._records]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def forget(self) -> None:
        """Drops what was recorded since the last `take`: the sequence has failed."""
        for each in self._records:
            each.clear()

    def take(self) -> Choices:
        """What was recorded since the last time, moved to the host."""
        wide = max(each.router.top_k for each in self._records)
        ids = [each.ids() for each in self._records]
        first = max((len(each) for each, of in zip(ids, self._records, strict=True) if of.router.in_encoder), default=0)
        rows = max(
            len(each) + (0 if of.router.in_encoder else first) for each, of in zip(ids, self._records, strict=True)
        )
        table = torch.full((rows, len(ids), wide), _ABSENT, dtype=torch.int16)
        for place, (each, of) in enumerate(zip(ids, self._records, strict=True)):
            start = 0 if of.router.in_encoder else first
            table[start : start + len(each), place] = _NOBODY
            table[start : start + len(each), place, : each.shape[-1]] = each
        margins = tuple(each.margin() for each in self._records)
        cut = [each.dropped() for each in self._records]
        self.forget()
        dropped = tuple(each or 0 for each in cut) if any(each is not None for each in cut) else None
        return Choices(rows, table.numpy().astype("<i2", copy=False).tobytes(), margins, dropped)


class _Record:
    """What one router chose in the running sequence."""

    def __init__(self, router: Router, first: tuple[Seen, torch.dtype]) -> None:
        self.router = router
        seen, dtype = first
        self._judge = _judge_of(router, seen, dtype)
        self._waiting: list[Seen] = []
        self._waiting_tokens = 0
        self._dtype = dtype
        self.clear()

    def clear(self) -> None:
        self._waiting, self._waiting_tokens = [], 0
        self._ids: list[Tensor] = []
        self._near: Tensor | None = None
        self._wrong: Tensor | None = None
        self._cut: Tensor | None = None

    def hook(self, module: Any, given: Sequence[Any], output: Any) -> None:
        """Called by torch after the router."""
        seen = self.router.read(output)
        self._waiting.append(seen)
        self._waiting_tokens += len(seen.logits)
        if self._waiting_tokens >= _READ_TOKENS:
            self._read()

    def ids(self) -> Tensor:
        """[tokens, K] int16 on the host."""
        self._read()
        if not self._ids:
            return torch.empty((0, self.router.top_k), dtype=torch.int16)
        return torch.cat(self._ids).cpu()

    def margin(self) -> float | None:
        """Share of near ties; None where a reported choice was not the best one by the scores that were assumed."""
        if self._near is None or self._wrong is None or bool(self._wrong):
            return None
        return float(self._near) / max(1, sum(map(len, self._ids)))

    def dropped(self) -> int | None:
        return None if self._cut is None else int(self._cut)

    def _read(self) -> None:
        """Turns waiting logits into ids and counts, on the device."""
        if not self._waiting:
            return
        with torch.no_grad():
            self._count(_joined(self._waiting))
        self._waiting, self._waiting_tokens = [], 0

    def _count(self, seen: Seen) -> None:
        experts = _experts(seen, self.router.top_k)
        if self._judge is not None:
            near, wrong = self._judge(seen.logits, experts, torch.finfo(self._dtype).eps / 2)
            self._near = near.sum() if self._near is None else self._near + near.sum()
            self._wrong = wrong.any() if self._wrong is None else self._wrong | wrong.any()
        if seen.kept is not None:
            cut = experts.numel() - seen.kept.count_nonzero()
            self._cut = cut if self._cut is None else self._cut + cut
        ids = experts.to(torch.int16)
        if seen.logits.shape[-1] > self.router.num_experts:
            ids.masked_fill_(experts >= self.router.num_experts, _NOBODY)
        self._ids.append(ids)


def _found(
    model: Any, run: Callable[[], object], num_tokens: int
) -> tuple[tuple[Router, ...], list[tuple[Seen, torch.dtype]]]:
    """The routers by one run, ascending by layer, each with what it returned then and the dtype that it is fed in."""
    looked_at = candidates(model)
    if not looked_at:
        kinds = sorted({type(module).__name__ for module in model.modules()})
        raise RoutersNotFoundError(
            f"{type(model).__name__} has no routers: no module of its {_listed(kinds)} is one by its name", tuple(kinds)
        )
    returned: dict[str, tuple[Any, torch.dtype]] = {}
    handles = [each.module.register_forward_hook(partial(_remember, returned, each.name)) for each in looked_at]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    routers: list[tuple[Router, tuple[Seen, torch.dtype]]] = []
    others: list[str] = []
    for each in looked_at:
        if each.name not in returned:  # of a tower that text does not go through
            others.append(f"{each.name} ({type(each.module).__name__}) did not run")
            continue
        output, dtype = returned[each.name]
        router = as_router(each, output, num_tokens)
        if isinstance(router, str):
            raise RoutersNotFoundError(
                f"{type(model).__name__} has a router that cannot be read: {each.name} ({type(each.module).__name__}) "
                f"gave {router} for {num_tokens} tokens",
                tuple(f"{one.name} ({type(one.module).__name__})" for one in looked_at),
            )
        routers.append((router, (router.read(output), dtype)))
    if not routers:
        raise RoutersNotFoundError(
            f"{type(model).__name__} has no router that can be read: {_listed(others)}", tuple(others)
        )
    routers.sort(key=lambda each: each[0].layer)
    _check_layers([each for each, _ in routers])
    return tuple(each for each, _ in routers), [seen for _, seen in routers]


def _remember(
    returned: dict[str, tuple[Any, torch.dtype]], name: str, module: Any, given: Sequence[Any], output: Any
) -> None:
    fed = next((each.dtype for each in given if isinstance(each, Tensor) and each.is_floating_point()), torch.float32)
    returned[name] = (output, fed)


def _check_layers(routers: Sequence[Router]) -> None:
    twice = [f"{one.name} and {other.name}" for one, other in pairwise(routers) if one.layer == other.layer]
    if twice:
        raise RoutersNotFoundError(f"more than one router in a layer: {_listed(twice)}", tuple(twice))


def _judge_of(router: Router, seen: Seen, dtype: torch.dtype) -> Judge | None:
    """The scores under which every choice of the first run is the best one; None where none of those that are known."""
    experts = _experts(seen, router.top_k)
    for judge in judges(router.module, router.block):
        if not bool(judge(seen.logits, experts, torch.finfo(dtype).eps / 2).wrong.any()):
            return judge
    return None


def _experts(seen: Seen, top_k: int) -> Tensor:
    """[T, K] int64."""
    return (seen.logits.topk(top_k, dim=-1).indices if seen.experts is None else seen.experts).long()


def _joined(waiting: list[Seen]) -> Seen:
    if len(waiting) == 1:
        return waiting[0]

    def together(tensors: list[Any]) -> Any:
        return None if tensors[0] is None else torch.cat(tensors)

    return Seen(*(together([each[part] for each in waiting]) for part in range(len(Seen._fields))))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
