"""The figures that a record may hold: their names, what they are under, their unit, and which way is better.

Names carry the statistic and the unit: `ttft_p95_s`. A name that is not here is no figure of a record. Scores of quality
have names of their own, since everybody measures another one.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Head = Literal["quality", "latency", "memory", "cost"]
"""What a comparison of two records is ordered by."""
Better = Literal["higher", "lower"]
Unit = Literal["s", "per_s", "bytes", "tokens", "sequences", "fraction", "usd", "score"]

STATISTICS = ("mean", "p50", "p90", "p95", "p99")
PERCENTILES = ("p50", "p90", "p95", "p99")
"""None of them is below one before it."""
TAILS = ("p95", "p99")
"""Percentiles that fail a comparison when they get worse, whatever the mean does."""
TIMES: dict[str, str] = {
    "ttft": "time to first token",
    "tpot": "time per further token",
    "itl": "time between tokens",
    "e2e": "time of a whole request",
}
"""`tpot` is one figure per request, (its time - time to its first token) / (its tokens - 1); `itl` one per gap between two
parts of an answer, all requests together."""


class FigureKind(NamedTuple):
    """What a figure is."""

    head: Head
    label: str
    short: str
    """The same for a narrow page, at most 14 letters."""
    unit: Unit
    better: Better
    gated: bool = False
    """True where getting worse fails a comparison."""


# A label begins with what tells it apart: a narrow page cuts its end.
def _times() -> dict[str, FigureKind]:
    return {
        f"{name}_{statistic}_s": FigureKind(
            "latency", f"{statistic} {label}", f"{statistic} {name.upper()}", "s", "lower", statistic in TAILS
        )
        for name, label in TIMES.items()
        for statistic in STATISTICS
    }


FIGURES: dict[str, FigureKind] = _times() | {
    "output_tokens_per_s": FigureKind("latency", "answer tokens per second", "answer tok/s", "per_s", "higher"),
    "output_tokens_per_s_per_user": FigureKind("latency", "a user's answer tokens per second", "user's tok/s", "per_s", "higher"),
    "output_tokens_per_s_per_gpu": FigureKind("latency", "a GPU's answer tokens per second", "GPU's tok/s", "per_s", "higher"),
    "total_tokens_per_s": FigureKind("latency", "tokens per second, prompts too", "all tok/s", "per_s", "higher"),
    "prompt_tokens_per_s": FigureKind("latency", "prompt tokens per second", "prompt tok/s", "per_s", "higher"),
    "requests_per_s": FigureKind("latency", "requests per second", "requests/s", "per_s", "higher"),
    "failed_fraction": FigureKind("latency", "requests that failed", "failed", "fraction", "lower", gated=True),
    "weights_bytes": FigureKind("memory", "weights", "weights", "bytes", "lower"),
    "kv_cache_bytes": FigureKind("memory", "cache of the load", "cache of load", "bytes", "lower"),
    "needed_bytes": FigureKind("memory", "needed", "needed", "bytes", "lower"),
    "headroom_bytes": FigureKind("memory", "left", "left", "bytes", "higher"),
    "load_peak_bytes": FigureKind("memory", "peak while loading", "load peak", "bytes", "lower"),
    "host_bytes": FigureKind("memory", "host memory", "host memory", "bytes", "lower"),
    "used_bytes": FigureKind("memory", "used, as the device tells", "used", "bytes", "lower"),
    "kv_pool_bytes": FigureKind("memory", "room for the cache", "room for cache", "bytes", "higher"),
    "kv_tokens": FigureKind("memory", "tokens that the cache holds", "cached tokens", "tokens", "higher"),
    "max_concurrency": FigureKind("memory", "sequences that the cache holds", "sequences", "sequences", "higher"),
    "max_context_tokens": FigureKind("memory", "longest context", "context", "tokens", "higher"),
    "usd_per_hour": FigureKind("cost", "USD per hour", "USD/hour", "usd", "lower"),
    "usd_per_million_output_tokens": FigureKind("cost", "USD per million answer tokens", "USD/M tokens", "usd", "lower"),
}  # fmt: skip
"""By name, in the order in which reports have them. Memory is that of the fullest GPU."""

ROUNDING = 1e-9
"""Share by which two equal percentiles may differ: they are interpolated, and carried from one unit to another."""

SIGNED = ("headroom_bytes",)
"""Figures that may be below zero."""


def order_of(name: str) -> tuple[int, str]:
    """Where a figure stands in a record; unknown names last."""
    names = list(FIGURES)
    return (names.index(name) if name in FIGURES else len(names), name)


def below_a_lower_percentile(figures: Mapping[str, float]) -> tuple[str, str] | None:
    """Names of a percentile and of a lower one of the same time that is above it, which cannot be; None where there are none."""
    for time in TIMES:
        told = [name for statistic in PERCENTILES if (name := f"{time}_{statistic}_s") in figures]
        for place, name in enumerate(told[1:]):
            before = told[place]
            if figures[name] < figures[before] * (1 - ROUNDING):
                return name, before
    return None


def mean_beside(name: str) -> str | None:
    """The mean of the time that this is a percentile of; None for any other figure."""
    for statistic in TAILS:
        if name.endswith(f"_{statistic}_s"):
            return name.replace(f"_{statistic}_s", "_mean_s")
    return None


LOWER_IS_BETTER = ("perplexity", "ppl", "loss", "wer", "cer", "bpb", "error", "kl", "divergence")
"""Parts of names of scores that are better when they are lower; every other score is taken as better when higher."""


def usual_better(name: str) -> Better:
    """Which way a score of this name is usually better."""
    words = name.lower().replace("-", "_").replace(".", "_").replace("/", "_").split("_")
    return "lower" if any(word in LOWER_IS_BETTER for word in words) else "higher"
