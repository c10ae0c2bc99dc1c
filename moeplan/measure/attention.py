"""Attention of a decode step over a cache, by torch's own kernels: grouped heads, and latents that all heads share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch  # noqa: TID253
from torch.nn import functional  # noqa: TID253

from moeplan.core.measurement import Effort, MeasuredDevice, MoeShape, Point, Task
from moeplan.measure.session import Session
from moeplan.measure.timing import rotations, time_calls

DTYPES = ("bfloat16", "float16", "float32")
"""What torch's attention takes on every device; caches of 8 bits it cannot read."""

TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 2e-2}
"""Largest error relative to the norm: weights are rounded to the dtype (bfloat16 keeps 8 bits) before they are summed."""


class CacheShape(NamedTuple):
    """What one layer keeps of a token, and the queries that read it."""

    heads: int
    kv_heads: int
    key_width: int
    value_width: int
    """Smaller than the key's where both are one latent (its first columns are the value): then nothing else is kept."""

    @property
    def latent(self) -> bool:
        """Whether keys and values are one tensor."""
        return self.value_width != self.key_width

    def entry_elements(self) -> int:
        """Elements of one token."""
        return self.kv_heads * (self.key_width if self.latent else self.key_width + self.value_width)


MIXTRAL = CacheShape(32, 8, 128, 128)
QWEN3_30B = CacheShape(32, 4, 128, 128)
GPT_OSS = CacheShape(64, 8, 64, 64)
OLMOE = CacheShape(16, 16, 128, 128)
DEEPSEEK_V2_LITE = CacheShape(16, 1, 576, 512)
DEEPSEEK_V3 = CacheShape(128, 1, 576, 512)
SMALL, SMALL_LATENT = CacheShape(8, 2, 64, 64), CacheShape(4, 1, 144, 128)

_Batches = tuple[tuple[int, int], ...]
_CASES: dict[Effort, tuple[tuple[CacheShape, ...], _Batches]] = {
    "quick": ((MIXTRAL, DEEPSEEK_V3), ((1, 8192), (64, 4096))),
    "default": (
        (MIXTRAL, QWEN3_30B, GPT_OSS, OLMOE, DEEPSEEK_V3), ((1, 4096), (1, 32768), (64, 4096), (64, 16384)),
    ),
    "full": (
        (MIXTRAL, QWEN3_30B, GPT_OSS, OLMOE, DEEPSEEK_V2_LITE, DEEPSEEK_V3),
        ((1, 1024), (1, 8192), (1, 32768), (1, 131072), (8, 1024), (8, 8192), (8, 32768), (64, 1024), (64, 4096), (64, 16384)),
    ),
}  # fmt: skip
_HOST_CASES: dict[Effort, tuple[tuple[CacheShape, ...], _Batches]] = {
    "quick": ((SMALL,), ((4, 2048),)),
    "default": ((SMALL, SMALL_LATENT), ((1, 2048), (8, 2048))),
    "full": ((SMALL, MIXTRAL, SMALL_LATENT), ((1, 2048), (8, 2048), (1, 16384))),
}


def plan(
    effort: Effort, shapes: tuple[MoeShape, ...], dtypes: tuple[str, ...], device: MeasuredDevice
) -> Iterator[Task]:
    """Every cache shape by batch and context, on each backend that suits it; without dtypes, bfloat16.

    The shapes are those of well-known models: a `MoeShape` says nothing about attention.
    """
    caches, batches = (_CASES if device.kind in ("cuda", "rocm") else _HOST_CASES)[effort]
    for dtype in dtypes or ("bfloat16",):
        if dtype not in DTYPES:
            continue
        for cache in caches:
            for batch, context in batches:
                for backend in backends(cache):
                    case = {**cache._asdict(), "batch": batch, "context": context}
                    yield Task("attention", backend, dtype, case, 0.4)


def backends(cache: CacheShape) -> tuple[str, ...]:
    """`torch.sdpa` repeats queries over key heads; `torch.sdpa_rows` makes the queries of one key head rows of one query,
    which a single token allows; `torch.matmul` is two products with a softmax between, in full."""
    return ("torch.sdpa_rows", "torch.matmul") if cache.kv_heads == 1 else ("torch.sdpa", "torch.sdpa_rows")


def measure(task: Task, session: Session) -> Point:
    """`bytes_per_s` of the cache, and its `cache_bytes`, of one attention that was right before it was timed."""
    return session.attempt(task, lambda: _measure(task, session))


def _measure(task: Task, session: Session) -> Point:
    cache = CacheShape(*(int(task.case[field] or 0) for field in CacheShape._fields))
    batch, context = int(task.case["batch"] or 0), int(task.case["context"] or 0)
    itemsize = session.torch_dtype(task.dtype).itemsize
    cache_bytes = batch * context * cache.entry_elements() * itemsize
    scores_bytes = batch * cache.heads * context * (itemsize + 8)  # the matmul way, and torch's fallback, hold them
    session.need(cache_bytes + scores_bytes)
    query = session.random((batch, cache.heads, 1, cache.key_width), task.dtype, "query", *cache)
    copies = [_random_cache(task, session, cache, batch, context, 0)]
    attend = _ATTEND[task.backend]
    error = relative_error(attend(query, *copies[0]), query, *copies[0])
    if not error <= TOLERANCES[task.dtype]:
        return session.failed(task, f"wrong: relative error {error:.2g} against float64")
    for copy in range(1, rotations(cache_bytes, session)):
        copies.append(_random_cache(task, session, cache, batch, context, copy))
    spread = time_calls([_bound(attend, query, keys, values) for keys, values in copies], session)
    values = {
        "bytes_per_s": cache_bytes / spread.median_s,
        "cache_bytes": float(cache_bytes),
        "relative_error": error,
        "copies": float(len(copies)),
    }
    return Point(*task[:4], spread=spread, values=values)


def _random_cache(
    task: Task, session: Session, cache: CacheShape, batch: int, context: int, copy: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys [batch, kv_heads, context, key_width] and values [..., value_width]."""
    shape = (batch, cache.kv_heads, context, cache.key_width)
    keys = session.random(shape, task.dtype, "keys", copy)
    if cache.latent:
        return keys, keys[..., : cache.value_width]
    return keys, session.random(shape, task.dtype, "values", copy)


_Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def _bound(attend: _Attend, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> Callable[[], object]:
    return lambda: attend(query, keys, values)


def _rows(query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """The query [batch, heads, 1, width] as [batch, kv_heads, heads per key head, width]; head h reads key head h // group."""
    batch, heads, _, width = query.shape
    return query.view(batch, keys.shape[1], heads // keys.shape[1], width)


def _sdpa(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return functional.scaled_dot_product_attention(query, keys, values, enable_gqa=True)


def _sdpa_rows(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    out = functional.scaled_dot_product_attention(_rows(query, keys), keys, values)
    return out.reshape(*query.shape[:3], values.shape[-1])


def _matmul(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    scores = (_rows(query, keys) * query.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(values.dtype)
    return (weights @ values).reshape(*query.shape[:3], values.shape[-1])


_ATTEND: dict[str, _Attend] = {"torch.sdpa": _sdpa, "torch.sdpa_rows": _sdpa_rows, "torch.matmul": _matmul}


def relative_error(out: torch.Tensor, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> float:
    """Error of `out` [batch, heads, 1, value_width] in the norm, on the last sequence and a few heads, in float64 on the host.

    Softmax of q·k / sqrt(width) over the context, times v.
    """
    heads, group = query.shape[1], query.shape[1] // keys.shape[1]
    difference, size = 0.0, 0.0
    for head in sorted({0, heads // 2, heads - 1}):
        key, value = (each[-1, head // group].cpu().double() for each in (keys, values))
        scores = key @ query[-1, head, 0].cpu().double() / math.sqrt(query.shape[-1])
        want = torch.softmax(scores, 0) @ value
        difference += float((out[-1, head, 0].cpu().double() - want).square().sum())
        size += float(want.square().sum())
    return math.sqrt(difference / size)
