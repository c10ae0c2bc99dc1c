"""torch's scaled grouped matmul: weights and rows in float8, a scale for each row of either. Letters as in `tensors`.

Rows are quantised on the way, as engines do it for checkpoints with scales per channel: the time of that is part of it.
Written for `torch._scaled_grouped_mm` (compute capability 9.0); not yet run on a GPU.
"""
# ruff: noqa: N803, N806, N815 - names end in the letters of their shapes

from typing import NamedTuple

import torch  # noqa: TID253
from torch import Tensor  # noqa: TID253

from moeplan.core.measurement import MeasuredDevice, MoeShape
from moeplan.measure.experts import capability
from moeplan.measure.experts.permutation import combine, permute
from moeplan.measure.experts.tensors import ExpertWeights, Routing, activate, input_width
from moeplan.measure.session import NotMeasuredError

FP8_MAX = 448.0
"""Largest value of float8_e4m3fn."""
_ALIGN = 16
"""Rows of float8 take whole multiples of 16 bytes."""


class Prepared(NamedTuple):
    """Quantised weights as [E, in, out] views with the inputs contiguous, and their scales."""

    w13_EDG: Tensor
    w13_scale_EG: Tensor
    w2_EFD: Tensor
    w2_scale_ED: Tensor
    gated: bool


def available(device: MeasuredDevice, dtype: str) -> str | None:
    """Float8 alone, on Hopper alone: torch has no kernel for scales by row elsewhere."""
    if dtype != "float8_e4m3fn":
        return f"torch's scaled grouped matmul is for float8_e4m3fn, not {dtype}"
    if not hasattr(torch, "_scaled_grouped_mm"):
        return f"torch {torch.__version__} has no scaled grouped matmul"
    if device.kind != "cuda":
        return "torch's scaled grouped matmul needs a CUDA device"
    if not (9, 0) <= capability(device) < (10, 0):
        return "torch's scaled grouped matmul takes scales by row on compute capability 9.0 alone"
    return None


def captures(device: MeasuredDevice, dtype: str) -> bool:
    """Nothing waits for the host."""
    return True


def workspace_bytes(shape: MoeShape, value_bytes: int, num_tokens: int, busiest: int) -> int:
    """As the grouped matmul in 16 bits, with float8 copies of the rows beside them."""
    into, width = input_width(shape), shape.expert_width
    return num_tokens * shape.experts_per_token * (2 * (2 * into + 4 * width) + 5 * (into + width) + 64)


def prepare(weights: ExpertWeights, dtype: str) -> Prepared:
    """Weights quantised by output row. Raises NotMeasuredError where 16 does not divide a width."""
    if weights.w2_EDF.shape[1] % _ALIGN or weights.w2_EDF.shape[2] % _ALIGN:
        raise NotMeasuredError(
            f"torch's scaled grouped matmul needs widths that {_ALIGN} divides: "
            f"{weights.w2_EDF.shape[1]} and {weights.w2_EDF.shape[2]}"
        )
    w13_EGD, w13_scale_EG = _quantise_each(weights.w13_EGD)
    w2_EDF, w2_scale_ED = _quantise_each(weights.w2_EDF)
    return Prepared(w13_EGD.transpose(1, 2), w13_scale_EG, w2_EDF.transpose(1, 2), w2_scale_ED, weights.gated)


def run(prepared: Prepared, x_TD: Tensor, routing: Routing) -> Tensor:
    """y_TD in the dtype of x (bfloat16): tokens quantised once, rows between the matmuls once more."""
    way = permute(routing.experts_TK, prepared.w13_EDG.shape[0])
    x8_TD, scale_T = quantise_rows(x_TD)
    rows_AD = x8_TD.view(torch.uint8)[way.token_A].view(x8_TD.dtype)  # not every device gathers float8
    up_AG = _matmul(rows_AD, scale_T[way.token_A], prepared.w13_EDG, prepared.w13_scale_EG, way.ends_E)
    h8_AF, scale_A = quantise_rows(activate(up_AG, prepared.gated))
    out_AD = _matmul(h8_AF, scale_A, prepared.w2_EFD, prepared.w2_scale_ED, way.ends_E)
    return combine(out_AD, way.row_TK, routing.gate_TK)


def quantise_rows(values: Tensor) -> tuple[Tensor, Tensor]:
    """[..., N] to float8_e4m3fn [..., N] and float32 scales [...], such that values are nearly their product."""
    scale = values.abs().amax(dim=-1).float().clamp(min=1e-12) / FP8_MAX
    return (values / scale.unsqueeze(-1)).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn), scale


def _quantise_each(w_EGD: Tensor) -> tuple[Tensor, Tensor]:
    """As `quantise_rows`, one expert after the other: all at once would take several times their memory."""
    w8_EGD = torch.empty_like(w_EGD, dtype=torch.float8_e4m3fn)
    scale_EG = w_EGD.new_empty(w_EGD.shape[:2], dtype=torch.float32)
    for expert, w_GD in enumerate(w_EGD):
        w8_EGD[expert], scale_EG[expert] = quantise_rows(w_GD)
    return w8_EGD, scale_EG


def _matmul(rows_AD: Tensor, scale_A: Tensor, w_EDG: Tensor, scale_EG: Tensor, ends_E: Tensor) -> Tensor:
    return torch._scaled_grouped_mm(  # noqa: SLF001 - the public name (torch 2.13) is younger than the kernel
        rows_AD, w_EDG, scale_A, scale_EG, offs=ends_E, out_dtype=torch.bfloat16, use_fast_accum=True
    )
