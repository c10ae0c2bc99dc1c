"""Which share of a weight one tensor-parallel rank holds.

Source of the rules: vLLM 0.33.0 (ColumnParallelLinear, RowParallelLinear, ReplicatedLinear and QKVParallelLinear in
model_executor/layers/linear.py; vocabulary rows padded to a multiple of 64 in vocab_parallel_embedding.py).
"""

from __future__ import annotations

from fractions import Fraction

from moeplan.core.model import Weight

VOCABULARY_PADDING = 64


def rank_share(weight: Weight, num_ranks: int) -> Fraction:
    """Share of `weight` on the fullest of `num_ranks` ranks; above 1 only where padding adds to a whole table."""
    if num_ranks == 1 and weight.split != "vocabulary":
        return Fraction(1)
    match weight.split:
        case "replicated":
            return Fraction(1)
        case "column" | "row":
            # Units that do not divide evenly are refused by the engines; a planner still plans the fullest rank.
            return Fraction(-(-weight.units // num_ranks), weight.units)
        case "kv_heads":
            return Fraction(max(1, -(-weight.units // num_ranks)), weight.units)
        case "vocabulary":
            padded = -(-weight.units // VOCABULARY_PADDING) * VOCABULARY_PADDING
            return Fraction(-(-padded // num_ranks), weight.units)
