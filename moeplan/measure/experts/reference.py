"""The readable loop, one expert at a time: what every other backend is held against. Letters as in `tensors`."""
# ruff: noqa: N803, N806 - names end in the letters of their shapes

from __future__ import annotations

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253

from moeplan.core.measurement import MeasuredDevice, MoeShape
from moeplan.measure.experts.tensors import ExpertWeights, Routing, activate, input_width


def available(device: MeasuredDevice, dtype: str) -> str | None:
    """Everywhere, in every dtype that torch multiplies."""
    return None if dtype in ("bfloat16", "float16", "float32") else f"plain matmul does not take {dtype}"


def captures(device: MeasuredDevice, dtype: str) -> bool:
    """Never: which experts have tokens is asked of the device."""
    return False


def workspace_bytes(shape: MoeShape, value_bytes: int, num_tokens: int, busiest: int) -> int:
    """The busiest expert's rows, the sum in float32, and its cast."""
    into, width = input_width(shape), shape.expert_width
    return busiest * (3 * into + 4 * width) * max(4, value_bytes) + num_tokens * into * (4 + value_bytes)


def prepare(weights: ExpertWeights, dtype: str) -> ExpertWeights:
    """As they are."""
    return weights


def run(prepared: ExpertWeights, x_TD: Tensor, routing: Routing) -> Tensor:
    """y_TD in the dtype of x; see `loop`."""
    return loop(prepared, x_TD, routing.experts_TK, routing.gate_TK)


def loop(weights: ExpertWeights, x_TD: Tensor, experts_TK: Tensor, gate_TK: Tensor) -> Tensor:
    """y_TD = sum over k of gate_TK x expert k of x_TD, computed in the dtype of x, summed in float32.

    An expert's weights are cast to that dtype while it is at work, so that float32 takes the memory of one expert.
    """
    y_TD = torch.zeros(x_TD.shape, dtype=torch.float32, device=x_TD.device)
    for expert in experts_TK.unique().tolist():
        w13_GD, w2_DF = weights.w13_EGD[expert].to(x_TD.dtype), weights.w2_EDF[expert].to(x_TD.dtype)
        token_A, place_A = (experts_TK == expert).nonzero(as_tuple=True)
        h_AF = activate(x_TD[token_A] @ w13_GD.T, weights.gated)
        out_AD = h_AF @ w2_DF.T
        y_TD.index_add_(0, token_A, out_AD.float() * gate_TK[token_A, place_A].float().unsqueeze(-1))
    return y_TD.to(x_TD.dtype)
