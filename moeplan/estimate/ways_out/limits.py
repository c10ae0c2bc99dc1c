"""Less memory on the same GPUs: a larger share, smaller formats, experts on the host, shorter or fewer sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from moeplan.core.quant import fold_bytes
from moeplan.estimate.question import Question
from moeplan.estimate.result import Capacity
from moeplan.estimate.ways_out.change import CACHE_TYPES, Change, asked, tried

SMALLER_CACHES = {"vllm": "fp8", "sglang": "fp8", "trtllm": "fp8", "llamacpp": "q8_0"}
"""Engines that can keep the cache in 8 bit at the flip of an option."""
SMALLER_FORMATS = ("fp8", "int4")
SMALLER_MIXES = ("q8_0", "q4_k_m")
"""The same for llama.cpp, which loads GGUF alone."""
WIDE_CACHES = ("bfloat16", "float16", "float32")
MOST_SHARES = {"vllm": 95, "sglang": 95, "trtllm": 95}
"""Percent of the memory that an engine with such a share may be given: more leaves other processes no room."""
ON_HOST = "--n-cpu-moe"


def smaller_formats(question: Question, *, any_size: bool) -> Iterator[Change]:
    """Common smaller formats, largest first; none where the checkpoint is as small already, unless size is no matter."""
    now = fold_bytes(question.held).total_bytes
    for label in SMALLER_MIXES if question.deployment.engine == "llamacpp" else SMALLER_FORMATS:
        change = Change(quant=label)
        if any_size or fold_bytes(asked(question, change).held).total_bytes < 0.95 * now:
            yield change


def smaller_caches(question: Question) -> Iterator[Change]:
    """The cache in 8 bit where it is wider; where a dtype was asked for that this card has no kernels for, another."""
    deployment = question.deployment
    smaller = SMALLER_CACHES.get(deployment.engine)
    if smaller is None:
        return
    if deployment.engine == "llamacpp":
        types = [flag for flag in CACHE_TYPES if flag in deployment.stated]
        if types and question.rules.kv_dtype in WIDE_CACHES:
            yield Change(limits={"kv_dtype": smaller}, settings=dict.fromkeys(CACHE_TYPES, smaller))
        elif question.rules.kv_dtype in WIDE_CACHES:
            yield Change(limits={"kv_dtype": smaller})
        return
    # Behind `--` SGLang's own spelling.
    typed = "fp8_e4m3" if deployment.engine == "sglang" and deployment.flags.get("kv_dtype") else smaller
    if question.rules.kv_dtype != smaller:
        yield Change(limits={"kv_dtype": typed})
    if deployment.kv_dtype is not None and question.rules.kv_dtype not in WIDE_CACHES:
        yield Change(limits={"kv_dtype": "auto"})


def larger_share(question: Question) -> Iterator[Change]:
    """The smallest larger share of the memory with which it fits; the engine takes all of it, so all of it must be there."""
    deployment = question.deployment
    most = MOST_SHARES.get(deployment.engine, 100 if deployment.utilization_fraction is not None else 0)
    share = question.engine.settle(question.serving).options[0].value
    now = int(share * 100 + 1e-6) if isinstance(share, int | float) else 100

    def change(percent: int) -> Change:
        return Change(limits={"utilization_fraction": percent / 100})

    def free_bytes(percent: int) -> int:
        trial = tried(question, change(percent))
        there = trial.question.serving.memory
        over = max(rank.budget_bytes for rank in trial.ledger.ranks) - (there.bytes if there else 0)
        return min(trial.ledger.worst.free_bytes, -1 - over if percent < 100 else 0)

    if (percent := _smallest(free_bytes, now, most)) is not None:
        yield change(percent)


def host_experts(question: Question) -> Iterator[Change]:
    """llama.cpp: experts of as few layers as will do in host memory, counted from the first layer."""
    deployment = question.deployment
    sparse = any(entry.visits is not None for entry in question.serving.owned)
    if deployment.engine != "llamacpp" or not sparse or deployment.stated.get("--cpu-moe"):
        return
    now = deployment.stated.get(ON_HOST)

    def free_bytes(count: int) -> int:  # whether the host has room for them is for the verdict
        return tried(question, Change(settings={ON_HOST: count})).ledger.worst.free_bytes

    count = _smallest(free_bytes, now if isinstance(now, int) else 0, len(question.spec.layers))
    if count is not None:
        yield Change(settings={ON_HOST: count})


def shorter_context(question: Question, capacity: Capacity) -> Iterator[Change]:
    """The longest context that fits as the rest stands."""
    longest = capacity.max_context_tokens
    if longest and longest < question.deployment.context_tokens:
        yield Change(limits={"context_tokens": longest})


def fewer_sequences(question: Question, capacity: Capacity) -> Iterator[Change]:
    """The most sequences that fit as the rest stands."""
    most = (capacity.max_concurrency or 0) * question.deployment.layout.dp
    if 0 < most < question.deployment.concurrency:
        yield Change(limits={"concurrency": most})


def _smallest(free_bytes: Callable[[int], int], now: int, most: int) -> int | None:
    """The smallest number above `now` up to `most` that leaves no rank short; None where not even `most` does.

    What is free grows with the number, mostly by as much each time: the first guess is on the straight line, the second
    beside it, and only then are halves tried.
    """
    if now >= most or (high_free := free_bytes(most)) < 0:
        return None
    low, high, low_free = now, most, free_bytes(now)
    guess = low + -(-(high - low) * -low_free // max(1, high_free - low_free))
    for step in range(2 * most):
        if high - low == 1:
            break
        middle = guess if step == 0 else guess - 1 if step == 1 and high == guess else (low + high) // 2
        middle = min(max(middle, low + 1), high - 1)
        if free_bytes(middle) >= 0:
            high = middle
        else:
            low = middle
    return high
