"""A law of the gates' weights in the place of counts, for whoever has no capture: its expected loads, layer by layer alike."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from moeplan.core.coverage import inclusion_of, zipf
from moeplan.core.errors import InputError
from moeplan.core.expert_use import MOST_SKEW
from moeplan.core.model import MoeFfn
from moeplan.routing.spare_result import SkewUsed
from moeplan.sources.loaded import LoadedModel

ORDERS = 32
"""Random orders of the experts that their balance before placing is the mean of: more of them move it by less than 0.01."""


class Law(NamedTuple):
    """Expected loads of one kind of layer."""

    experts_per_token: int
    inclusion: tuple[float, ...]
    """Share of tokens that choose each expert; the most used one first. They sum to `experts_per_token`."""
    layers: int
    """So many of the model's."""

    @property
    def orders(self) -> tuple[tuple[float, ...], ...]:
        """The same loads with experts in random orders, the same ones each time: a law does not say which expert is busy."""
        found = []
        for seed in range(ORDERS):
            mixed = list(self.inclusion)
            random.Random(seed).shuffle(mixed)  # noqa: S311 - no secret
            found.append(tuple(mixed))
        return tuple(found)


def skew_of(loaded: LoadedModel, skew: float | None, folders: Sequence[Path] = ()) -> SkewUsed:
    """The exponent that was stated, else the one that was published of the model. InputError where there is neither."""
    from moeplan.sources.expert_uses import published_of

    if skew is not None:
        if not 0 <= skew <= MOST_SKEW:
            raise InputError(f"--skew {skew:g} must be from 0 (even) to {MOST_SKEW:g}", hint="0.3 is light, 0.7 heavy")
        return SkewUsed(skew, None, None, "stated", "as stated")
    prior = published_of(loaded.spec, loaded.id, folders)
    if prior is None or prior.exponent is None:
        raise InputError(
            f"nothing was published of how unevenly {loaded.id} uses its experts",
            hint="name a FILE of its routing, or a skew: --skew 0.3 is light, --skew 0.7 heavy",
        )
    found = prior.exponent
    of = prior.model + (f", of whose base {loaded.id} is another checkpoint" if prior.is_alike(loaded.id) else "")
    why = f"published of {of}: {found.setting} ({found.source})"
    return SkewUsed(found.value, found.low, found.high, "published", why)


def laws(loaded: LoadedModel, exponent: float) -> tuple[Law, ...]:
    """The law for each kind of MoE layer that the model has. InputError for a dense model."""
    kinds = Counter(
        (ffn.num_experts, ffn.experts_per_token * ffn.num_experts // (ffn.num_experts + ffn.num_zero_experts))
        for layer in loaded.spec.layers
        for ffn in layer.ffns
        if isinstance(ffn, MoeFfn)
    )
    if not kinds:
        raise InputError(f"{loaded.id} is dense: it has no experts to place", hint="name a model with experts")
    return tuple(
        Law(chosen, tuple(inclusion_of(zipf(experts, exponent), chosen)), count)
        for (experts, chosen), count in kinds.items()
    )
