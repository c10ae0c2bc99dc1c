"""How far two histograms of experts are apart, beyond what two samples of one distribution are."""

import math
import random
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import NamedTuple

from moeplan.core.routing_metrics import independent_tokens
from moeplan.core.routing_profile import LayerRouting

SPLITS = 64
"""Random splits of both samples together, of which the noise floor is made."""

BEYOND_NOISE = 4.0
"""Standard deviations of the splits' distances beyond their mean up to which a distance may be noise: none of 1,800 pairs of samples
of one distribution (8 to 64 experts, 150 to 600 tokens) went beyond, the farthest came to 3.5."""

SEED = 22

FEW = 32
"""Tokens up to which a split is drawn one by one; beyond them by the normal form."""


class LayerDistance(NamedTuple):
    """One layer in two samples."""

    layer: int
    distance: float
    """Jensen-Shannon distance: 0 the same shares, 1 no expert in common."""
    floor: float
    """Mean distance of random splits of both samples together, of the sizes of the two: what a still distribution has."""
    noise: float
    """The distance that such splits do not go beyond."""

    @property
    def above_noise(self) -> bool:
        """True where chance does not explain the distance."""
        return self.distance > self.noise

    def beyond(self, bound: float) -> bool | None:
        """Whether the layer moved by more than `bound`; None where noise alone may be beyond it, and does explain the distance."""
        if self.distance > bound:
            return True if self.above_noise else None
        return None if self.noise > bound else False


class Verdict(NamedTuple):
    """All layers together."""

    passed: bool | None
    """False where a layer is beyond the bound; None where none is, but of some too few tokens were seen to tell."""
    above_noise: tuple[int, ...]
    """Layers that moved at all."""
    beyond: tuple[int, ...]
    """Layers that moved by more than the bound."""
    untold: tuple[int, ...]
    """Layers of which too few tokens were seen to tell."""


def jensen_shannon(a: Sequence[float], b: Sequence[float]) -> float:
    """Square root of the Jensen-Shannon divergence in bits of two histograms, each over its sum: a metric between 0 and 1.

    ValueError where they have not the same number of experts, or one counts nothing.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} experts in one, {len(b)} in the other")
    a_total, b_total = sum(a), sum(b)
    if a_total <= 0 or b_total <= 0:
        raise ValueError("nothing was counted")
    divergence = 0.0
    for mine, theirs in zip(a, b, strict=True):
        p, q = mine / a_total, theirs / b_total
        middle = (p + q) / 2
        if p > 0:
            divergence += p * math.log2(p / middle) / 2
        if q > 0:
            divergence += q * math.log2(q / middle) / 2
    return math.sqrt(min(1.0, max(0.0, divergence)))


def split_distances(
    pooled: Sequence[float], a_tokens: float, b_tokens: float, splits: int = SPLITS, seed: int = SEED
) -> list[float]:
    """Distances of random splits of a sample: a share of its tokens to one side, the others to the other side.

    `pooled` are choices by expert of all tokens. Of an expert's tokens, those of the first side are hypergeometric: a token
    chooses an expert once. Experts are drawn apart, so the sums of both sides vary, which takes one of E degrees of freedom that
    real splits keep: sqrt(E / (E-1)) gives it back. Means are then within 4 % of those of real samples.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    tokens = a_tokens + b_tokens
    share = a_tokens / tokens
    kept = math.sqrt(len(pooled) / max(1, len(pooled) - 1))
    found = []
    for _ in range(splits):
        first = [_drawn(chance, count, share, tokens) for count in pooled]
        second = [count - taken for count, taken in zip(pooled, first, strict=True)]
        if sum(first) > 0 and sum(second) > 0:
            found.append(min(1.0, kept * jensen_shannon(first, second)))
    return found


def layer_distance(a: LayerRouting, b: LayerRouting) -> LayerDistance:
    """The distance of two samples of one layer, with its noise.

    Neighbouring tokens that share experts are worth fewer independent ones: the overlap curves say how many, and the floor is
    that of samples so much smaller. Prompts of one kind are more alike than that; the floor of two halves of one set of
    prompts is best taken from captures of the halves. ValueError where the layers are not the same.
    """
    if (a.layer, a.num_experts) != (b.layer, b.num_experts):
        raise ValueError(
            f"layer {a.layer} of {a.num_experts} experts in one, layer {b.layer} of {b.num_experts} in the other"
        )
    distance = jensen_shannon(a.counts, b.counts)
    a_worth, b_worth = _worth(a), _worth(b)
    # Both samples count alike in the middle, however many tokens they have.
    a_total, b_total = sum(a.counts), sum(b.counts)
    a_choices, b_choices = a_total * a_worth / a.tokens, b_total * b_worth / b.tokens
    together = a_choices + b_choices
    pooled = [
        round((mine / a_total + theirs / b_total) / 2 * together)
        for mine, theirs in zip(a.counts, b.counts, strict=True)
    ]
    distances = split_distances(pooled, a_worth, b_worth)
    if not distances:
        return LayerDistance(a.layer, distance, 1.0, 1.0)
    floor = fmean(distances)
    return LayerDistance(a.layer, distance, floor, min(1.0, floor + BEYOND_NOISE * pstdev(distances)))


def drift(a: Sequence[LayerRouting], b: Sequence[LayerRouting]) -> tuple[LayerDistance, ...]:
    """Each layer's distance. ValueError where the two have not the same layers and experts."""
    if [layer.layer for layer in a] != [layer.layer for layer in b]:
        raise ValueError(f"{len(a)} layers in one, {len(b)} in the other, or other ones")
    return tuple(layer_distance(mine, theirs) for mine, theirs in zip(a, b, strict=True))


def verdict(layers: Sequence[LayerDistance], bound: float | None) -> Verdict:
    """Whether layers stayed within a bound on the distance; without a bound everything passes."""
    told = {layer.layer: False if bound is None else layer.beyond(bound) for layer in layers}
    beyond = tuple(layer for layer, answer in told.items() if answer)
    untold = tuple(layer for layer, answer in told.items() if answer is None)
    passed = False if beyond else None if untold else True
    return Verdict(passed, tuple(layer.layer for layer in layers if layer.above_noise), beyond, untold)


def _worth(layer: LayerRouting) -> float:
    return independent_tokens(layer.tokens, layer.overlap, sum(layer.counts) / layer.tokens / layer.num_experts)


def _drawn(chance: random.Random, count: float, share: float, tokens: float) -> float:
    """Of an expert's tokens, those of the first side."""
    if count <= FEW:
        return float(sum(chance.random() < share for _ in range(round(count))))
    deviation = math.sqrt(count * share * (1 - share) * max(0.0, tokens - count) / max(1.0, tokens - 1))
    return min(count, max(0.0, chance.gauss(count * share, deviation)))
