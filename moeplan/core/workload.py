"""What a service is asked for: classes of requests with their lengths, how many at once, how soon they want their answers."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from moeplan.core.deployment import Origin

NORMAL_P95, NORMAL_P99 = 1.6449, 2.3263
"""Quantiles of the standard normal law."""


class Lengths(NamedTuple):
    """Tokens of a prompt or of an answer: half of all requests have at most `p50`, and so on."""

    p50: int
    p95: int
    p99: int

    @property
    def mean(self) -> float:
        """The mean of a log-normal law with median `p50`, cut off at `p99`.

        Its width is the least-squares fit of the two upper percentiles, s = (z95 ln(p95/p50) + z99 ln(p99/p50)) /
        (z95^2 + z99^2); what would be longer than `p99` counts as `p99`, so that a tail that nobody stated adds nothing:
        E min(X, u) = e^(m + s^2/2) N((ln u - m - s^2) / s) + u (1 - N((ln u - m) / s)). Equal percentiles are one length.
        """
        rise95, rise99 = math.log(self.p95 / self.p50), math.log(self.p99 / self.p50)
        width = (NORMAL_P95 * rise95 + NORMAL_P99 * rise99) / (NORMAL_P95**2 + NORMAL_P99**2)
        if width == 0:
            return float(self.p50)
        below = math.exp(width**2 / 2) * _normal((rise99 - width**2) / width)
        return self.p50 * below + self.p99 * (1 - _normal(rise99 / width))


class RequestClass(NamedTuple):
    """Requests that are alike."""

    name: str
    share_fraction: float
    """Of all requests; the shares of a workload sum to 1."""
    input_tokens: Lengths
    output_tokens: Lengths
    ttft_s: float | None
    """Longest time to the first token; None is the workload's own limit."""
    tpot_s: float | None
    """Longest time per further token; None is the workload's own limit."""


class Workload(NamedTuple):
    """What is asked of a service."""

    classes: tuple[RequestClass, ...]
    """At least one."""
    context_tokens: int
    """The longest sequence to hold, prompt and answer together."""
    concurrency: int | None
    """Requests at the same time, over all data-parallel ranks; None where a rate alone was stated."""
    arrival_per_s: float | None
    """Requests that come in each second; None where nobody said. Beside a concurrency, that is the most in flight."""
    ttft_s: float | None
    tpot_s: float | None
    origins: Mapping[str, Origin]
    """Where each value comes from, by its name in JSON; without those that nobody stated and that have no default."""

    @property
    def mean_input_tokens(self) -> float:
        """Of all classes by their shares."""
        return sum(each.share_fraction * each.input_tokens.mean for each in self.classes)

    @property
    def mean_output_tokens(self) -> float:
        """Of all classes by their shares."""
        return sum(each.share_fraction * each.output_tokens.mean for each in self.classes)

    @property
    def context_p99_tokens(self) -> int:
        """The longest class where prompt and answer both are at their 99th percentile; at most the context."""
        longest = max(each.input_tokens.p99 + each.output_tokens.p99 for each in self.classes)
        return min(self.context_tokens, longest)

    def echo(self) -> "LoadAsked":
        """The workload as results repeat it: with the means that were computed with."""
        return LoadAsked(
            context_tokens=self.context_tokens,
            concurrency=self.concurrency,
            arrival_per_s=self.arrival_per_s,
            ttft_s=self.ttft_s,
            tpot_s=self.tpot_s,
            classes=self.classes,
            input_tokens=self.mean_input_tokens,
            output_tokens=self.mean_output_tokens,
            origins=self.origins,
        )

    def ttft_limit_s(self, of: RequestClass) -> float | None:
        """The class's own limit, else the workload's."""
        return self.ttft_s if of.ttft_s is None else of.ttft_s

    def tpot_limit_s(self, of: RequestClass) -> float | None:
        """The class's own limit, else the workload's."""
        return self.tpot_s if of.tpot_s is None else of.tpot_s


class LoadAsked(NamedTuple):
    """A workload in the names of JSON (`moeplan.workload/1`)."""

    context_tokens: int
    concurrency: int | None
    arrival_per_s: float | None
    ttft_s: float | None
    tpot_s: float | None
    classes: tuple[RequestClass, ...]
    input_tokens: float
    """Mean over all classes."""
    output_tokens: float
    origins: Mapping[str, Origin]


def _normal(score: float) -> float:
    """Share of the standard normal law below `score`."""
    return 0.5 * math.erfc(-score / math.sqrt(2))
