"""Choices of experts for dumps that tests write, and what any reader must find in them. Nothing here knows moeplan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


def draw(layers: int, experts: int, chosen: int, tokens: int, seed: int, exponent: float = 0.8) -> Ids:
    """Top-k by noisy gates of a Zipf law, in another order in each layer: [tokens, layers, k]."""
    chance = np.random.default_rng(seed)
    weights = np.log(1 / np.arange(1, experts + 1) ** exponent)
    order = np.array([chance.permutation(experts) for _ in range(layers)])
    scores = weights[order] + chance.gumbel(size=(tokens, layers, experts))
    return np.argsort(-scores, axis=-1)[:, :, :chosen]


def counts(ids: Ids, experts: int) -> Ids:
    """How often each expert was chosen: [layers, experts]."""
    return np.array([np.bincount(ids[:, layer].ravel(), minlength=experts) for layer in range(ids.shape[1])])


def distinct(ids: Ids, layer: int, size: int) -> float:
    """Mean distinct experts of `size` neighbouring tokens in one layer, in windows that do not overlap."""
    windows = [ids[start : start + size, layer] for start in range(0, len(ids) - size + 1, size)]
    return float(np.mean([len(np.unique(window)) for window in windows]))


def kept(ids: Ids, layer: int, distance: int) -> float:
    """Share of a token's experts that the token `distance` later has too."""
    shares = [
        len(set(ids[at, layer]) & set(ids[at + distance, layer])) / ids.shape[2] for at in range(len(ids) - distance)
    ]
    return float(np.mean(shares))


def slots(ids: Ids, homes: Sequence[Sequence[int]], seed: int = 0) -> Ids:
    """The same choices as slots of physical experts: any copy of each. `homes` [layers][slots] has logical experts."""
    chance = np.random.default_rng(seed)
    found = np.empty_like(ids)
    for layer, of_layer in enumerate(homes):
        there = np.array(of_layer)
        for expert in range(int(there.max()) + 1):
            places = np.flatnonzero(there == expert)
            mine = ids[:, layer] == expert
            found[:, layer][mine] = places[chance.integers(len(places), size=int(mine.sum()))]
    return found
