"""Every layout of an engine that a search looks at, up to a number of GPUs of one replica."""

from __future__ import annotations

from collections.abc import Iterator

from moeplan.core.layout import AskedLayout

RANKS = (1, 2, 4, 8, 16, 32, 64)
"""Tensor- and data-parallel ranks: heads, widths and experts of nearly all models divide by powers of two."""
STAGES = (1, 2, 3, 4, 6, 8)
"""Pipeline stages; layers need not divide. More of them wait for each other longer than anybody does who serves."""
MOST_DEVICES = 16
"""Of one llama.cpp server (`llama_max_devices`)."""


def layouts(engine: str, most_gpus: int, *, sparse: bool) -> Iterator[AskedLayout]:
    """Layouts of one replica, small ones first. `sparse` for a model with routed experts."""
    match engine:
        case "vllm":
            yield from _vllm(most_gpus, sparse)
        case "sglang":
            yield from _sglang(most_gpus, sparse)
        case "trtllm":
            yield from _trtllm(most_gpus, sparse)
        case "llamacpp":
            yield from (AskedLayout(pp=stages) for stages in range(1, min(MOST_DEVICES, most_gpus) + 1))
        case _:
            yield AskedLayout()


def _vllm(most_gpus: int, sparse: bool) -> Iterator[AskedLayout]:
    # Data-parallel ranks of a dense model are copies, and copies are counted as replicas.
    groups = RANKS if sparse else (1,)
    for tp, pp, dp in _degrees(most_gpus, groups):
        yield AskedLayout(tp=tp, pp=pp, dp=dp, expert_parallel=False)
        if sparse and tp * dp > 1:
            yield AskedLayout(tp=tp, pp=pp, dp=dp, expert_parallel=True)


def _sglang(most_gpus: int, sparse: bool) -> Iterator[AskedLayout]:
    for tp, pp, _ in _degrees(most_gpus, (1,)):
        for dp in RANKS if sparse else (1,):
            if tp % dp:
                continue
            for ep in (1, tp) if sparse and tp > 1 else (1,):
                yield AskedLayout(tp=tp, pp=pp, dp=dp, ep=ep, dp_attention=dp > 1)


def _trtllm(most_gpus: int, sparse: bool) -> Iterator[AskedLayout]:
    for tp, pp, _ in _degrees(most_gpus, (1,)):
        # Experts whole on all ranks, or a part of each on every one: what lies between is between them in time, too.
        for ep in (1, tp) if sparse and tp > 1 else (1,):
            yield AskedLayout(tp=tp, pp=pp, ep=ep, dp=1)
            if sparse and tp > 1:
                yield AskedLayout(tp=tp, pp=pp, ep=ep, dp=tp, dp_attention=True)


def _degrees(most_gpus: int, groups: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Tensor-parallel ranks, stages and groups whose product is at most so many, by that product."""
    found = [(tp * pp * dp, tp, pp, dp) for tp in RANKS for pp in STAGES for dp in groups if tp * pp * dp <= most_gpus]
    for _, tp, pp, dp in sorted(found):
        yield tp, pp, dp
