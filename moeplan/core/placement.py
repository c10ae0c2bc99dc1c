"""Which share of a weight one tensor-parallel rank holds.

Source of the rules: vLLM 0.33.0 (ColumnParallelLinear, RowParallelLinear, ReplicatedLinear and QKVParallelLinear in
model_executor/layers/linear.py, vocab_parallel_embedding.py).
"""

from __future__ import annotations

from moeplan.core.model import Weight


def rank_units(weight: Weight, num_ranks: int, vocabulary_padding: int = 1) -> tuple[int, int]:
    """Units of `weight` on the fullest of `num_ranks` ranks, of how many; more than all only where padding adds some.

    Vocabulary rows are first padded to a multiple of `vocabulary_padding`, an engine's own."""
    if num_ranks == 1 and weight.split != "vocabulary":
        return 1, 1
    match weight.split:
        case "replicated":
            return 1, 1
        case "column" | "row":
            # Units that do not divide evenly are refused by the engines; a planner still plans the fullest rank.
            return -(-weight.units // num_ranks), weight.units
        case "kv_heads":
            return max(1, -(-weight.units // num_ranks)), weight.units
        case "vocabulary":
            padded = -(-weight.units // vocabulary_padding) * vocabulary_padding
            return -(-padded // num_ranks), weight.units


def rank_bytes(weight: Weight, num_bytes: int, num_ranks: int, vocabulary_padding: int = 1) -> int:
    """Bytes on the fullest rank of a weight that has `num_bytes` in all, rounded up."""
    units, of_units = rank_units(weight, num_ranks, vocabulary_padding)
    return -(-num_bytes * units // of_units)
