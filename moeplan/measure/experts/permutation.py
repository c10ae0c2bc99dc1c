"""From tokens to rows sorted by expert and back, without a wait for the host. Letters as in `tensors`."""
# ruff: noqa: N803, N806, N815 - names end in the letters of their shapes

from typing import NamedTuple

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253
from torch.nn import functional as F  # noqa: N812, TID253


class Permutation(NamedTuple):
    """Where each assignment's row lies once rows are sorted by expert."""

    token_A: Tensor
    """Token of each sorted row."""
    row_TK: Tensor
    """Sorted row of each assignment: the way back."""
    expert_A: Tensor
    """Expert of each sorted row."""
    ends_E: Tensor
    """Row after the last one of each expert, int32, as grouped matmuls take offsets; empty experts repeat the one before."""


def permute(experts_TK: Tensor, num_experts: int) -> Permutation:
    """The permutation of a routing. Small keys make the sort short; `bincount` would wait for the host."""
    num_tokens, top_k = experts_TK.shape
    small = torch.int16 if num_experts < 2**15 else torch.int32
    expert_A, order_A = experts_TK.flatten().to(small).sort(stable=True)
    ids_E = torch.arange(num_experts, dtype=small, device=expert_A.device)
    ends_E = torch.searchsorted(expert_A, ids_E, right=True, out_int32=True)
    row_A = torch.empty_like(order_A)
    row_A[order_A] = torch.arange(num_tokens * top_k, device=order_A.device)
    return Permutation(order_A // top_k, row_A.view(num_tokens, top_k), expert_A, ends_E)


def combine(out_AD: Tensor, row_TK: Tensor, gate_TK: Tensor) -> Tensor:
    """y_TD = sum over k of gate_TK x out_AD[row_TK], each row read once.

    An embedding bag is just that in one kernel, summed in float32; `index_add_` would add in the dtype of the rows, in an
    order that changes from run to run.
    """
    return F.embedding_bag(row_TK, out_AD, per_sample_weights=gate_TK.to(out_AD.dtype), mode="sum")
