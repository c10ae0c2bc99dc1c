"""Prefill and decode apart: some replicas read prompts, others write answers, and the cache goes from one to the other.

    tpot = a step of decode, with no prompt beside it
    ttft = waiting + prompt + sending the cache
    rate = requests in flight / (ttft + (output - 1) tpot)

A class with limits has its own prompt and answers, as if all that are written were of its kind; it waits as all do.

Waiting is that of a queue with random arrivals and equal service at each prefill replica, load / (2 (1 - load)) x prompt
(Pollaczek-Khinchine); replicas are as many as keep the load at `MOST_LOAD`. The cache of a prompt is sent over what joins
the cards: their own link where both pools lie in its domain, else what a node has, else a network that no profile describes
(`core/network`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from math import ceil
from typing import NamedTuple

from moeplan.core.errors import InputError, UnknownError
from moeplan.core.expert_use import ExpertUse
from moeplan.core.serving_speed import Figure, ServingSpeed
from moeplan.core.workload import Workload
from moeplan.plan.cells import Cell, Speeds, written_alone
from moeplan.plan.folds import Fold

MOST_LOAD = 0.7
"""Of a prefill replica: at this load a prompt waits as long again as it takes, and above it queues grow fast. Assumed."""
SERVERS = ("vllm", "sglang", "trtllm")
"""Engines that serve prefill and decode apart."""
MOST_PREFILL_LAYOUTS = 6


class Apart(NamedTuple):
    """Two pools that keep up with each other."""

    cell: Cell
    prefill: Fold
    prefill_replicas: int
    decode: Fold
    decode_replicas: int
    sequences: int
    """Of one decode replica."""
    speed: ServingSpeed
    """Of the whole plan."""
    misses: tuple[str, ...]
    """Limits that are not kept, in the words of `cells.Speeds`."""

    @property
    def num_gpus(self) -> int:
        """Of both pools."""
        return self.prefill_replicas * self.prefill.layout.num_gpus + self.decode_replicas * self.decode.layout.num_gpus


class Prefill(NamedTuple):
    """A layout that reads prompts, one at a time."""

    fold: Fold
    reading: ServingSpeed


def prefills(cell: Cell, folds: Iterable[Fold], workload: Workload, use: ExpertUse) -> tuple[Prefill, ...]:
    """The few layouts of a card that are tried for prompts: those that fit on the fewest GPUs of one node."""
    if cell.engine not in SERVERS:
        return ()
    small = sorted(
        (fold for fold in folds if fold.layout.num_gpus <= cell.card.node_gpus),
        key=lambda fold: (fold.layout.num_gpus, fold.reads(1).total_bytes),
    )
    fitting = (
        fold
        for fold in small
        if fold.needed_bytes(1) <= cell.card.memory.high_bytes and cell.verdict(fold, 1).fits is True
    )
    found = []
    for fold in islice(fitting, MOST_PREFILL_LAYOUTS):
        try:
            reading = cell.timed(fold, 1)._replace(use=use).at(1, workload.mean_input_tokens, 1)
        except (UnknownError, InputError):
            continue
        found.append(Prefill(fold, reading))
    return tuple(found)


def apart(
    cell: Cell,
    prefill: Iterable[Prefill],
    decode: Fold,
    replicas: int,
    workload: Workload,
    concurrency: int,
    use: ExpertUse,
) -> Iterator[Apart]:
    """Pools around so many decode replicas of one layout: one for each of the layouts that read prompts."""
    sequences = -(-concurrency // replicas)
    prompt, answer = workload.mean_input_tokens, workload.mean_output_tokens
    mean = Speeds(cell.timed(decode, sequences)._replace(use=use).at(sequences, prompt, answer), (), 0.0)
    writing = written_alone(mean).speed
    for fold, reading in prefill:
        yield _joined(cell, fold, reading, decode, replicas, sequences, writing, workload, concurrency, use)


def _joined(
    cell: Cell,
    prefill: Fold,
    reading: ServingSpeed,
    decode: Fold,
    replicas: int,
    sequences: int,
    writing: ServingSpeed,
    workload: Workload,
    concurrency: int,
    use: ExpertUse,
) -> Apart:
    answer = workload.mean_output_tokens
    tpot = writing.tpot_s
    alone = reading.ttft_s
    # As many replicas as keep up with all requests at the rate that decode alone would have.
    rate = concurrency / (alone.value + max(0.0, answer - 1) * tpot.value)
    count = max(1, ceil(rate * alone.value / MOST_LOAD))
    load = rate * alone.value / count
    waiting = load / (2 * (1 - load))
    sending_s = _sending_s(cell, prefill, decode, count, replicas, workload, workload.mean_input_tokens)
    factor = 1 + waiting
    ttft = Figure(
        alone.value * factor + sending_s, alone.low * factor + sending_s, alone.high * factor + sending_s, alone.basis
    )

    def rate_at(first_s: float, each_s: float) -> float:
        return concurrency * answer / (first_s + max(0.0, answer - 1) * each_s)

    basis = writing.output_tokens_per_s.basis
    between = cell.times(decode).between_nodes(count * prefill.layout.num_gpus + replicas * decode.layout.num_gpus)
    told = dict.fromkeys((*writing.extrapolated, *((between,) if between is not None else ())))
    total = Figure(rate_at(ttft.value, tpot.value), rate_at(ttft.high, tpot.high), rate_at(ttft.low, tpot.low), basis)
    speed = writing._replace(
        ttft_s=ttft,
        tpot_s=tpot,
        output_tokens_per_s=total,
        prefill=reading.prefill,
        extrapolated=(*told, "prefill and decode apart: no run of two pools was held against this"),
    )
    found = Apart(cell, prefill, count, decode, replicas, sequences, speed, ())
    return found._replace(misses=_missed(found, workload, waiting * alone.value, use))


def _missed(found: Apart, workload: Workload, waiting_s: float, use: ExpertUse) -> tuple[str, ...]:
    """Limits that a class does not have kept."""
    misses = []
    alone = len(workload.classes) == 1
    for each in workload.classes:
        ttft_limit_s, tpot_limit_s = workload.ttft_limit_s(each), workload.tpot_limit_s(each)
        ttft_s, tpot_s = found.speed.ttft_s.value, found.speed.tpot_s.value
        if not alone and ttft_limit_s is not None:
            prompt = each.input_tokens.mean
            ttft_s = waiting_s + found.cell.timed(found.prefill, 1)._replace(use=use).at(1, prompt, 1).ttft_s.value
            ttft_s += _sending_s(
                found.cell, found.prefill, found.decode, found.prefill_replicas, found.decode_replicas, workload, prompt
            )
        if not alone and tpot_limit_s is not None:
            writing = found.cell.timed(found.decode, found.sequences)._replace(use=use)
            tpot_s = writing.at(found.sequences, each.input_tokens.mean, each.output_tokens.mean).decode.seconds
        for name, value_s, limit_s in (("ttft", ttft_s, ttft_limit_s), ("tpot", tpot_s, tpot_limit_s)):
            if limit_s is not None and value_s > limit_s:
                misses.append(name if alone else f"{each.name}: {name}")
    return tuple(misses)


def _sending_s(
    cell: Cell, prefill: Fold, decode: Fold, count: int, replicas: int, workload: Workload, prompt_tokens: float
) -> float:
    """Seconds that the cache of a prompt is on its way, each rank sending its part."""
    each = sum(place.cache_bytes for place in prefill.places) / len(prefill.places)
    share = min(1.0, prompt_tokens / workload.context_tokens)
    gpus = count * prefill.layout.num_gpus + replicas * decode.layout.num_gpus
    return each * share / cell.times(decode).send_bytes_per_s(gpus)
