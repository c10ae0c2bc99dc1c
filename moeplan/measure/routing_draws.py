"""Forced routings: which experts each token goes to, drawn from a named distribution with a seed.

Random weights say nothing of how experts are used, so what kernels are timed with is drawn here, and recorded: distinct
experts set the bytes that are read, the busiest expert sets how long the slowest one takes. No token meets an expert twice.
"""

import heapq
import re
from functools import lru_cache
from typing import NamedTuple

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253

from moeplan.core.errors import InputError

DISTRIBUTIONS: dict[str, str] = {
    "balanced": "dealt round-robin: every expert as often as any other, give or take one",
    "uniform": "each token's experts drawn evenly and independently",
    "zipf:S": "gates of weight rank^-S, hot experts placed at random; each token draws without repetition",
    "lognormal:SIGMA": "gates of log-normal weight; each token draws without repetition",
    "power_law:A": "tokens per expert from a bounded power law of density x^-A, as aiconfigurator draws them",
    "distinct:D": "exactly D experts, evenly: bytes that are read at fixed tokens",
    "distinct:D/zipf:S": "exactly D experts, tokens per expert as rank^-S: skew at fixed tokens and fixed distinct experts",
}
"""What may be asked for, and what it means."""

_NUMBER = r"(\d+(?:\.\d+)?)"
_NAME = re.compile(rf"([a-z_]+)(?::{_NUMBER})?(?:/zipf:{_NUMBER})?", re.ASCII)


class Distribution(NamedTuple):
    """A named distribution of tokens over experts."""

    kind: str
    """The part of the name before the colon."""
    value: float = 0.0
    """S, SIGMA, A or D; 0 without one."""
    skew: float = 0.0
    """S of `distinct:D/zipf:S`."""


class Draw(NamedTuple):
    """One routing of one layer, and what it asks of the device."""

    experts: Tensor
    """[tokens, experts per token] int64."""
    distribution: str
    seed: int
    num_experts: int
    distinct: int
    """Experts that got any token."""
    busiest: int
    """Tokens at the expert that got most."""

    def to(self, device: torch.device) -> "Draw":
        """The same draw with its tensor on a device."""
        return self._replace(experts=self.experts.to(device))


def parse_distribution(text: str) -> Distribution:
    """The distribution of a name such as `zipf:0.7`. Raises InputError for one that is not in `DISTRIBUTIONS`."""
    found = _NAME.fullmatch(text)
    kind, number, skew = found.groups(default="") if found else (text, "", "")
    takes_number = {name.partition(":")[0]: ":" in name for name in DISTRIBUTIONS}
    if (
        takes_number.get(kind) != bool(number)
        or (kind == "distinct") > number.isdigit()
        or (kind != "distinct" and skew)
    ):
        raise InputError(
            f"routing distribution {text!r} is not known",
            hint=f"one of {', '.join(DISTRIBUTIONS)}, with numbers of 0 or more",
        )
    return Distribution(kind, float(number or 0), float(skew or 0))


@lru_cache(maxsize=32)
def draw(distribution: str, num_tokens: int, num_experts: int, top_k: int, seed: int) -> Draw:
    """A routing on the host, the same for the same arguments on every machine with the same torch.

    Raises InputError for an unknown distribution, and where no such routing exists: more experts per token than experts,
    or a number of distinct experts that the tokens cannot reach or must exceed.
    """
    kind, value, skew = parse_distribution(distribution)
    if not 1 <= top_k <= num_experts or num_tokens < 1:
        raise InputError(
            f"{num_tokens} tokens cannot each choose {top_k} of {num_experts} experts",
            hint="one token or more, and at most as many experts per token as there are experts",
        )
    generator = torch.Generator().manual_seed(seed)
    if kind in ("uniform", "zipf", "lognormal"):
        experts = _draw_gates(_gates(kind, value, num_experts, generator), num_tokens, top_k, generator)
    else:
        total = num_tokens * top_k
        if kind == "balanced":
            counts = _even_counts(total, num_experts)
        elif kind == "power_law":
            counts = _power_law_counts(value, num_tokens, num_experts, total, generator)
        else:
            counts = _distinct_counts(int(value), skew, num_tokens, num_experts, top_k)
        experts = _deal(counts, num_tokens, num_experts, top_k, generator)
    load = torch.bincount(experts.flatten(), minlength=num_experts)
    return Draw(experts, distribution, seed, num_experts, int((load > 0).sum()), int(load.max()))


# Independent tokens --------------------------------------------------------------------------------------------


def _gates(kind: str, value: float, num_experts: int, generator: torch.Generator) -> Tensor:
    """[E] weights by which tokens draw; of any sum."""
    if kind == "lognormal":
        return (value * torch.randn(num_experts, generator=generator)).exp()
    exponent = value if kind == "zipf" else 0.0
    ranks = torch.arange(1, num_experts + 1, dtype=torch.float32)
    return ranks.pow(-exponent)[torch.randperm(num_experts, generator=generator)]


def _draw_gates(gates: Tensor, num_tokens: int, top_k: int, generator: torch.Generator) -> Tensor:
    """[T, K]: each token draws K experts without repetition, in proportion to the gates that are left.

    The K largest of log(u) / gate, u even between 0 and 1, are such a draw (Efraimidis and Spirakis 2006); between equal
    gates the largest u are. In blocks of tokens, so that 16,384 tokens of 512 experts stay in the cache.
    """
    equal = bool((gates == gates[0]).all())
    drawn = []
    for begin in range(0, num_tokens, 1024):
        keys = torch.rand(min(1024, num_tokens - begin), len(gates), generator=generator)
        drawn.append((keys if equal else keys.log() / gates).topk(top_k, dim=-1).indices)
    return torch.cat(drawn)


# Fixed tokens per expert ---------------------------------------------------------------------------------------


def _even_counts(total: int, num_experts: int) -> list[int]:
    """Tokens of each expert, at most one apart, more first."""
    each, more = divmod(total, num_experts)
    return [each + 1] * more + [each] * (num_experts - more)


def _power_law_counts(
    exponent: float, num_tokens: int, num_experts: int, total: int, generator: torch.Generator
) -> list[int]:
    """Tokens per expert by inverse CDF of a density x^-a between bounds, scaled to the total and rounded.

    Bounds are 1 and 0.8 x tokens; 0.01 and 2 where there are no more assignments than experts. No expert gets more than
    all tokens; what rounding and that cap leave over goes to the least loaded, what they add is taken from the most loaded.
    Source: ai-dynamo/aiconfigurator collector/helper.py (Apache-2.0), read as facts, for one expert-parallel rank.
    """
    low, high = (1.0, 0.8 * num_tokens) if total > num_experts else (0.01, 2.0)
    high = max(high, low)
    even = torch.rand(num_experts, generator=generator, dtype=torch.float64)
    if abs(exponent - 1.0) < 1e-9:
        shares = low * (high / low) ** even
    else:
        inverse = 1.0 - exponent
        shares = (low**inverse + even * (high**inverse - low**inverse)) ** (1.0 / inverse)
    counts = [min(num_tokens, round(each)) for each in (shares / shares.sum() * total).tolist()]
    return _settle(counts, [0.0] * num_experts, total, 0, num_tokens)


def _distinct_counts(distinct: int, skew: float, num_tokens: int, num_experts: int, top_k: int) -> list[int]:
    """Tokens of `distinct` experts as rank^-skew: one at least, all tokens at most, in sum exactly tokens x K."""
    total = num_tokens * top_k
    most = min(num_experts, total)
    if not top_k <= distinct <= most:
        raise InputError(
            f"{num_tokens} tokens of {top_k} experts each cannot touch exactly {distinct} distinct experts of {num_experts}",
            hint=f"distinct:{top_k} to distinct:{most}",
        )
    shares = [rank**-skew for rank in range(1, distinct + 1)]
    ideal = [total * share / sum(shares) for share in shares]
    counts = [min(num_tokens, max(1, int(each))) for each in ideal]
    return _settle(counts, ideal, total, 1, num_tokens)


def _settle(counts: list[int], ideal: list[float], total: int, least: int, most: int) -> list[int]:
    """Counts changed by ones, always where they lie farthest from `ideal`, until they sum to `total`, within bounds."""
    counts = list(counts)
    missing = total - sum(counts)
    step = 1 if missing > 0 else -1
    heap = [(step * (count - wanted), place) for place, (count, wanted) in enumerate(zip(counts, ideal, strict=True))]
    heapq.heapify(heap)
    while missing:
        excess, place = heapq.heappop(heap)
        if least <= counts[place] + step <= most:
            counts[place] += step
            missing -= step
            heapq.heappush(heap, (excess + 1, place))
    return counts


def _deal(counts: list[int], num_tokens: int, num_experts: int, top_k: int, generator: torch.Generator) -> Tensor:
    """[T, K] in which the experts have these counts, none above T: experts and tokens in random order, none twice in a row.

    Assignments are laid out expert by expert and cut into K columns of T; an expert of at most T tokens may run from one
    column into the next but never comes back to the same token.
    """
    ids = torch.randperm(num_experts, generator=generator)[: len(counts)]
    flat = ids.repeat_interleave(torch.tensor(counts))
    return flat.view(top_k, num_tokens).t()[torch.randperm(num_tokens, generator=generator)].contiguous()
