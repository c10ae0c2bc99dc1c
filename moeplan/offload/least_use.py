"""The fewest experts that tokens may touch, which bounds take: those of what was published, wherever use is assumed."""

from __future__ import annotations

from moeplan.core.expert_use import ExpertUse, GateSkew

STEEPEST_SKEW = 1.24
"""The largest exponent that was published of any model (`profiles/routing/`, the high end of gpt-oss-120b)."""
LEAST_GROWTH = 0.46
"""Exponent b of the fewest experts that were published of neighbouring tokens, k n^b: 512 tokens of code touched 72 of the 128
experts of a layer of gpt-oss-120b, ln(72 / 4) / ln 512 (ggml-org/llama.cpp pull request 15346, comment of 2025-08-16)."""


def least_use(use: ExpertUse) -> ExpertUse:
    """What is counted or stated stays; what is assumed becomes as uneven as anything that was published."""
    if not isinstance(use, GateSkew):
        return use.growing(use.growth_low)
    growth = min(use.growth_low, LEAST_GROWTH)
    exponent = max(use.exponent, STEEPEST_SKEW) if use.basis == "assumed" else use.exponent
    return use._replace(exponent=exponent, growth=growth)
