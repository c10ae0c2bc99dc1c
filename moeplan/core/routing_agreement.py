"""Two captures of the same prompts, token by token: which tokens have the same experts.

Two engines, kernels or precisions of one model choose the same experts but where the last chosen and the first refused one are
nearly tied. What follows of a token differs too, so later layers agree less.
"""

import zlib
from collections.abc import Iterable
from operator import and_, eq, or_
from typing import NamedTuple

from moeplan.core.routing_capture import CapturedPrompt, CaptureHeader, chosen_masks


class LayerAgreement(NamedTuple):
    """One layer, added up over prompts."""

    layer: int
    tokens: int
    """That chose an expert in either capture."""
    equal: int
    """Tokens whose experts are the same set."""
    chosen: int
    """Experts of all tokens in the first capture."""
    shared: int
    """Those of them that the second one has for the same token."""

    @property
    def equal_fraction(self) -> float:
        """Share of the tokens, 0 to 1."""
        return self.equal / self.tokens

    @property
    def shared_fraction(self) -> float:
        """Share of the experts, 0 to 1."""
        return self.shared / self.chosen if self.chosen else 1.0


class CaptureAgreement(NamedTuple):
    """Two captures of which some prompts are the same."""

    prompts: int
    """That both have, with as many tokens."""
    others: int
    """That one alone has, or has with another number of tokens."""
    layers: tuple[LayerAgreement, ...]
    """Those that any of these tokens came to."""


def agreement(
    header: CaptureHeader, first: Iterable[CapturedPrompt], second: Iterable[CapturedPrompt]
) -> CaptureAgreement:
    """Hold the prompts of two captures of `header`'s layers against each other, by their hashes.

    The tokens of prompts alone are compared: answers may be other texts. The first capture is kept in memory, packed. ValueError
    where a prompt's choices are not those of the header's layers.
    """
    kept = {
        each.prompt: each._replace(experts=zlib.compress(each.experts, 1))
        for each in first
        if each.problem is None and each.prefill_tokens
    }
    sums = [[0, 0, 0, 0] for _ in header.layers]
    prompts = others = 0
    for theirs in second:
        if theirs.problem is not None or not theirs.prefill_tokens:
            continue
        mine = kept.pop(theirs.prompt, None)
        if mine is None or mine.prefill_tokens != theirs.prefill_tokens:
            others += 1
            continue
        prompts += 1
        mine = mine._replace(experts=zlib.decompress(mine.experts))
        tokens = mine.prefill_tokens
        both = zip(chosen_masks(header, mine, tokens), chosen_masks(header, theirs, tokens), strict=True)
        for there, (a, b) in zip(sums, both, strict=True):
            # Tokens that chose nobody in either, or never came to the layer (a decoder's, for prompts), say nothing.
            told = sum(map(bool, map(or_, a, b)))
            there[0] += told
            there[1] += sum(map(eq, a, b)) - (tokens - told)
            there[2] += sum(map(int.bit_count, a))
            there[3] += sum(map(int.bit_count, map(and_, a, b)))
    layers = zip(header.layers, sums, strict=True)
    found = tuple(LayerAgreement(layer.layer, *there) for layer, there in layers if there[0]) if prompts else ()
    return CaptureAgreement(prompts, others + len(kept), found)
