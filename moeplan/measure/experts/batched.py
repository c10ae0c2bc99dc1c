"""One batched matmul over all experts, each padded to the rows of the busiest. Letters as in `tensors`, C rows per expert.

It reads every expert's weights, used or not, and multiplies E x C rows however few of them are real: good where all
experts have about as many tokens, and the plain alternative where a grouped matmul is missing.
"""
# ruff: noqa: N803, N806 - names end in the letters of their shapes

from __future__ import annotations

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253

from moeplan.core.measurement import MeasuredDevice, MoeShape
from moeplan.measure.experts.permutation import combine, permute
from moeplan.measure.experts.tensors import ExpertWeights, Routing, activate, input_width


def available(device: MeasuredDevice, dtype: str) -> str | None:
    """Everywhere, in every dtype that torch multiplies in batches."""
    return None if dtype in ("bfloat16", "float16", "float32") else f"batched matmul does not take {dtype}"


def captures(device: MeasuredDevice, dtype: str) -> bool:
    """C is known to the host beforehand, so that nothing waits."""
    return True


def workspace_bytes(shape: MoeShape, value_bytes: int, num_tokens: int, busiest: int) -> int:
    """E x C rows in and out of both matmuls, and the rows on their way."""
    into, width = input_width(shape), shape.expert_width
    rows = shape.num_experts * busiest
    return rows * (2 * into + 4 * width) * value_bytes + num_tokens * shape.experts_per_token * (
        into * value_bytes + 64
    )


def prepare(weights: ExpertWeights, dtype: str) -> ExpertWeights:
    """As they are."""
    return weights


def run(prepared: ExpertWeights, x_TD: Tensor, routing: Routing) -> Tensor:
    """y_TD: rows laid into a padded block, two batched matmuls, rows weighted and summed by token."""
    (num_experts, _, width), capacity = prepared.w13_EGD.shape, routing.busiest
    way = permute(routing.experts_TK, num_experts)
    expert_A = way.expert_A.long()
    begins_E = torch.cat([way.ends_E.new_zeros(1), way.ends_E[:-1]])
    slot_A = expert_A * capacity + torch.arange(len(expert_A), device=x_TD.device) - begins_E[expert_A]
    x_ECD = x_TD.new_zeros(num_experts * capacity, width)
    x_ECD[slot_A] = x_TD[way.token_A]
    up_ECG = torch.bmm(x_ECD.view(num_experts, capacity, width), prepared.w13_EGD.transpose(1, 2))
    out_ECD = torch.bmm(activate(up_ECG, prepared.gated), prepared.w2_EDF.transpose(1, 2))
    return combine(out_ECD.view(-1, width), slot_A[way.row_TK], routing.gate_TK)
