"""torch's grouped matmul: all experts in two kernels, and no wait for the host. Letters as in `tensors`."""
# ruff: noqa: N803, N806, N815 - names end in the letters of their shapes

from collections.abc import Callable
from typing import Any, NamedTuple

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253
from torch.nn import functional as F  # noqa: N812, TID253

from moeplan.core.measurement import MeasuredDevice, MoeShape
from moeplan.measure.experts import capability
from moeplan.measure.experts.permutation import combine, permute
from moeplan.measure.experts.tensors import ExpertWeights, Routing, activate, input_width

_ALIGN_BYTES = 16
"""Strides that the kernel takes are multiples of this (`GroupedMMUtils.h` of torch 2.13); others are padded with zeros."""


class Prepared(NamedTuple):
    """Weights as the fast path wants them: [E, in, out] views with the inputs contiguous."""

    w13_EDG: Tensor
    w2_EFD: Tensor
    gated: bool


def available(device: MeasuredDevice, dtype: str) -> str | None:
    """torch 2.9 has it on CUDA from 8.0 and on the CPU, 2.8 on 9.0 alone."""
    if _grouped_mm() is None:
        return f"torch {torch.__version__} has no grouped matmul; 2.9 has"
    if dtype not in ("bfloat16", "float16", "float32"):
        return f"torch's grouped matmul does not take {dtype}"
    if device.kind == "cuda" and capability(device) < (8, 0):
        return "torch's grouped matmul needs compute capability 8.0"
    return None


def captures(device: MeasuredDevice, dtype: str) -> bool:
    """On a GPU only the fast path does: bfloat16 on 9.0 or newer. Elsewhere torch loops over experts on the host."""
    return device.kind == "cpu" or (dtype == "bfloat16" and capability(device) >= (9, 0))


def workspace_bytes(shape: MoeShape, value_bytes: int, num_tokens: int, busiest: int) -> int:
    """Rows in and out of both matmuls for every assignment, wherever it goes."""
    into, width = input_width(shape), shape.expert_width
    return num_tokens * shape.experts_per_token * ((2 * into + 4 * width) * value_bytes + 64)


def prepare(weights: ExpertWeights, dtype: str) -> Prepared:
    """Views of the weights; copies with zeros in both widths where 16 bytes do not divide a stride."""
    multiple = _ALIGN_BYTES // weights.w2_EDF.element_size()
    more_d, more_f = -weights.w2_EDF.shape[1] % multiple, -weights.w2_EDF.shape[2] % multiple
    w13_EGD, w2_EDF = weights.w13_EGD, weights.w2_EDF
    if more_d or more_f:
        halves = (weights.w1_EFD, weights.w3_EFD) if weights.gated else (weights.w1_EFD,)
        w13_EGD = torch.cat([F.pad(half, (0, more_d, 0, more_f)) for half in halves], dim=1)
        w2_EDF = F.pad(w2_EDF, (0, more_f, 0, more_d))
    return Prepared(w13_EGD.transpose(1, 2), w2_EDF.transpose(1, 2), weights.gated)


def run(prepared: Prepared, x_TD: Tensor, routing: Routing) -> Tensor:
    """y_TD: rows sorted by expert, two grouped matmuls, rows weighted and summed by token."""
    grouped_mm: Any = _grouped_mm()
    width = x_TD.shape[1]
    x_TD = F.pad(x_TD, (0, prepared.w13_EDG.shape[1] - width)) if prepared.w13_EDG.shape[1] != width else x_TD
    way = permute(routing.experts_TK, prepared.w13_EDG.shape[0])
    up_AG = grouped_mm(x_TD[way.token_A], prepared.w13_EDG, offs=way.ends_E)
    out_AD = grouped_mm(activate(up_AG, prepared.gated), prepared.w2_EFD, offs=way.ends_E)
    return combine(out_AD, way.row_TK, routing.gate_TK)[:, :width]


def _grouped_mm() -> Callable[..., Tensor] | None:
    """Public since torch 2.10, under another name before."""
    return getattr(F, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)
